// Numbers and tensors as the driver protocol spells them (docs/driver-protocol.md, 4).

import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";

const SPECIAL = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity, "-0.0": -0 };

export function spell(value) {
  if (Number.isNaN(value)) return "NaN";
  if (Object.is(value, -0)) return "-0.0";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value; // every number is a float64 here, and none an integer beyond 2^53
}

export function unspell(value) {
  if (typeof value === "number") return value;
  if (Object.hasOwn(SPECIAL, value)) return SPECIAL[value];
  const number = Number(value);
  if (value.trim() === "" || Number.isNaN(number)) throw new Error(`${JSON.stringify(value)} is no number`);
  return number;
}

// A tensor of the line, or a plain list of numbers: {dtype, shape, data, container}, data being plain numbers.
export function readTensor(wire) {
  if (Array.isArray(wire))
    return { dtype: "float32", shape: [wire.length], data: wire.map(unspell), container: "tensor" };
  const count = wire.shape.reduce((product, size) => product * size, 1);
  const data = wire.file === undefined || wire.file === null ? wire.data.map(unspell) : fromFile(wire, count);
  if (data.length !== count) throw new Error(`${data.length} elements do not fill the shape [${wire.shape}]`);
  if (wire.dtype === "int64" && !data.every(Number.isSafeInteger))
    throw new Error("an int64 that JavaScript numbers cannot hold");
  return { dtype: wire.dtype, shape: wire.shape, data, container: wire.container ?? "tensor" };
}

function fromFile({ file, offset = 0, dtype }, count) {
  const width = { float32: 4, int64: 8 }[dtype];
  if (width === undefined) throw new Error(`unknown dtype ${dtype}`);
  const bytes = Buffer.alloc(count * width);
  const descriptor = openSync(file, "r");
  try {
    let read = 0;
    while (read < bytes.length) {
      const more = readSync(descriptor, bytes, read, bytes.length - read, offset + read);
      if (more === 0) throw new Error(`${file} ends early`);
      read += more;
    }
  } finally {
    closeSync(descriptor);
  }
  return Array.from({ length: count }, (_, index) =>
    dtype === "float32" ? bytes.readFloatLE(index * 4) : Number(bytes.readBigInt64LE(index * 8)),
  );
}

// Little-endian bytes of the values in their dtype; every NaN is the positive quiet one.
export function bytesOf(data, dtype) {
  const bytes = Buffer.alloc(data.length * (dtype === "int64" ? 8 : 4));
  data.forEach((value, index) => {
    if (dtype === "int64") bytes.writeBigInt64LE(BigInt(value), index * 8);
    else if (Number.isNaN(value)) bytes.writeUInt32LE(0x7fc00000, index * 4);
    else bytes.writeFloatLE(value, index * 4);
  });
  return bytes;
}

export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");

export function summarise({ dtype, shape, data }) {
  const converted = dtype === "float32" ? Float32Array.from(data) : data;
  return {
    dtype,
    shape: shape ?? [data.length],
    digest: sha256(bytesOf(converted, dtype)),
    first: Array.from(converted.slice(0, 8), spell),
  };
}
