// stdin and stdout belong to the protocol. Import this before the SDK: what it prints goes to stderr from then on.
// (A native addon that writes to descriptor 1 itself needs more: start the driver as sh -c 'exec node ... 3>&1 1>&2'.)

import { writeSync } from "node:fs";

Object.defineProperty(process, "stdout", { get: () => process.stderr });

// Writes one answer, whole, before anything else runs.
export function write(answer) {
  const bytes = Buffer.from(`${JSON.stringify(answer)}\n`);
  for (let written = 0; written < bytes.length;) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // the runner reads more slowly than this writes
    }
  }
}

// Calls `take` with each command. A line that is no command is said on stderr: there is no id to answer.
export function read(take, { ended }) {
  let parts = [];
  process.stdin.on("data", (data) => {
    let start = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, start)) {
      parts.push(data.subarray(start, end));
      const line = Buffer.concat(parts).toString("utf8");
      parts = [];
      start = end + 1;
      const command = parsed(line);
      if (command !== null) take(command);
    }
    parts.push(data.subarray(start));
  });
  process.stdin.on("end", ended);
  process.stdin.on("error", ended);
}

function parsed(line) {
  try {
    const command = JSON.parse(line);
    if (Number.isInteger(command?.id)) return command;
    console.error(`a command without an id: ${line.slice(0, 200)}`);
  } catch (error) {
    console.error(`a line that is no JSON (${error.message}): ${line.slice(0, 200)}`);
  }
  return null;
}
