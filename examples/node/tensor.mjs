// A tensor library in one file: float32 values, reverse-mode differentiation. Scalars have the shape [], all else is
// flat. Values are rounded to float32 after every operation; sums and gradients are accumulated in float64.

let made = 0;

export class Tensor {
  // `parents` gave this tensor, `backward(gradient)` adds to their gradients. A leaf has neither.
  constructor(data, { shape = [data.length], requiresGrad = false, parents = [], backward = null } = {}) {
    this.data = data instanceof Float32Array ? data : Float32Array.from(data);
    this.shape = shape;
    this.parents = parents.filter((parent) => parent.requiresGrad);
    this.requiresGrad = requiresGrad || this.parents.length > 0;
    this.run = this.parents.length > 0 ? backward : null;
    this.number = made++;
    this.sum = null;
  }

  get size() {
    return this.data.length;
  }

  get isScalar() {
    return this.shape.length === 0;
  }

  get isLeaf() {
    return this.run === null;
  }

  // The gradient of the last `backward` in float32, or null where none arrived.
  get grad() {
    return this.sum === null ? null : Float32Array.from(this.sum);
  }

  // Where gradients are added up; nothing is kept for what needs none.
  accumulate(add) {
    if (!this.requiresGrad) return;
    this.sum ??= new Float64Array(this.size);
    add(this.sum);
  }

  backward() {
    if (!this.requiresGrad) throw new Error("the value does not depend on anything that has a gradient");
    if (this.size !== 1) throw new Error(`a gradient needs a scalar, not ${this.size} elements`);
    const found = new Map();
    const stack = [this];
    while (stack.length > 0) {
      const tensor = stack.pop();
      if (found.has(tensor.number)) continue;
      found.set(tensor.number, tensor);
      stack.push(...tensor.parents);
    }
    this.accumulate((sum) => (sum[0] += 1));
    // A tensor is younger than all it was made of.
    for (const tensor of [...found.values()].sort((one, other) => other.number - one.number)) {
      if (tensor.run !== null && tensor.sum !== null) tensor.run(tensor.sum);
    }
  }
}

export const scalar = (value) => new Tensor([value], { shape: [] });

const result = (length, like, parents, value, backward) =>
  new Tensor(
    Float32Array.from({ length }, (_, index) => value(index)),
    { shape: like.shape, parents, backward },
  );

// --- elementwise -----------------------------------------------------------------------------------------------------

// `slope(x, y)` is the derivative at x, where the value is y.
export const unary = (value, slope) => (a) => {
  const made = result(
    a.size,
    a,
    [a],
    (index) => value(a.data[index]),
    (gradient) =>
      a.accumulate((sum) => gradient.forEach((g, index) => (sum[index] += g * slope(a.data[index], made.data[index])))),
  );
  return made;
};

// Equal lengths, or one scalar. `slopes(x, y)` is the pair of derivatives.
export const binary = (value, slopes) => (a, b) => {
  const at = pairing([a, b]);
  const wide = a.isScalar ? b : a;
  return result(
    wide.size,
    wide,
    [a, b],
    (index) => value(at(a, index), at(b, index)),
    (gradient) => {
      [a, b].forEach((side, which) =>
        side.accumulate((sum) =>
          gradient.forEach((g, index) => {
            sum[side.isScalar ? 0 : index] += g * slopes(at(a, index), at(b, index))[which];
          }),
        ),
      );
    },
  );
};

// a where the condition is not 0, else b.
export const where = (condition, a, b) => {
  const at = pairing([condition, a, b]);
  const wide = [condition, a, b].find((each) => !each.isScalar) ?? a;
  const takes = (index) => at(condition, index) !== 0;
  return result(
    wide.size,
    wide,
    [a, b],
    (index) => at(takes(index) ? a : b, index),
    (gradient) =>
      gradient.forEach((g, index) => {
        const side = takes(index) ? a : b;
        side.accumulate((sum) => (sum[side.isScalar ? 0 : index] += g));
      }),
  );
};

function pairing(operands) {
  const lengths = new Set(operands.filter((each) => !each.isScalar).map((each) => each.size));
  if (lengths.size > 1) throw new Error(`operands of ${[...lengths].join(" and ")} elements`);
  return (operand, index) => operand.data[operand.isScalar ? 0 : index];
}

// --- shape -----------------------------------------------------------------------------------------------------------

export const detach = (a) => new Tensor(a.data, { shape: a.shape });

// Elements by position, of one vector.
export const gather = (a, positions) =>
  new Tensor(
    positions.map((position) => element(a, position)),
    {
      parents: [a],
      backward: (gradient) => a.accumulate((sum) => gradient.forEach((g, index) => (sum[positions[index]] += g))),
    },
  );

function element(a, position) {
  if (!(position >= 0 && position < a.size)) throw new Error(`there is no element ${position} of ${a.size}`);
  return a.data[position];
}

// All elements of several tensors, one after the other. Every one of them gets a gradient, if only zeros.
export const concatenate = (tensors) => {
  const data = new Float32Array(tensors.reduce((total, each) => total + each.size, 0));
  let offset = 0;
  const starts = tensors.map((each) => {
    data.set(each.data, offset);
    return (offset += each.size) - each.size;
  });
  return new Tensor(data, {
    parents: tensors,
    backward: (gradient) =>
      tensors.forEach((each, which) =>
        each.accumulate((sum) => sum.forEach((_, index) => (sum[index] += gradient[starts[which] + index]))),
      ),
  });
};

// `segments[k]` is the group of element k; the value of a group is the sum over it times its scale.
export const segmentSum = (a, segments, count, scale) => {
  const totals = new Float64Array(count);
  a.data.forEach((value, index) => (totals[segments[index]] += value));
  return new Tensor(
    totals.map((total, group) => total * scale(group)),
    {
      parents: [a],
      backward: (gradient) =>
        a.accumulate((sum) =>
          sum.forEach((_, index) => (sum[index] += gradient[segments[index]] * scale(segments[index]))),
        ),
    },
  );
};

// --- reductions ------------------------------------------------------------------------------------------------------

const toScalar = (a, value, slope) =>
  new Tensor([value], {
    shape: [],
    parents: [a],
    backward: ([gradient]) => a.accumulate((sum) => sum.forEach((_, index) => (sum[index] += gradient * slope(index)))),
  });

const needSome = (a) => {
  if (a.size === 0) throw new Error("a reduction of no elements");
};

export const total = (data) => data.reduce((sum, value) => sum + value, 0);

export const sum = (a) => toScalar(a, total(a.data), () => 1);

export const mean = (a) => {
  needSome(a);
  return toScalar(a, total(a.data) / a.size, () => 1 / a.size);
};

export const variance = (a) => {
  needSome(a);
  const middle = total(a.data) / a.size;
  const spread = a.data.reduce((sum, value) => sum + (value - middle) ** 2, 0) / a.size;
  return toScalar(a, spread, (index) => (2 * (a.data[index] - middle)) / a.size);
};

// The largest or smallest element; those that tie share the gradient.
export const extreme = (pick) => (a) => {
  needSome(a);
  const value = a.data.reduce((best, each) => pick(best, each));
  const ties = a.data.filter((each) => each === value).length;
  return toScalar(a, value, (index) => (a.data[index] === value ? 1 / ties : 0));
};

export const logSumExp = (a) => {
  const value = logOfSum(a);
  return toScalar(a, value, (index) => Math.exp(a.data[index] - value));
};

function logOfSum(a) {
  needSome(a);
  const top = a.data.reduce((best, each) => Math.max(best, each));
  return top + Math.log(a.data.reduce((sum, each) => sum + Math.exp(each - top), 0));
}

// --- along a vector --------------------------------------------------------------------------------------------------

export const logSoftmax = (a) => {
  const whole = logOfSum(a);
  return result(
    a.size,
    a,
    [a],
    (index) => a.data[index] - whole,
    (gradient) => {
      const all = total(gradient);
      a.accumulate((sum) =>
        sum.forEach((_, index) => (sum[index] += gradient[index] - Math.exp(a.data[index] - whole) * all)),
      );
    },
  );
};

export const softmax = (a) => {
  const whole = logOfSum(a);
  const share = (index) => Math.exp(a.data[index] - whole);
  return result(a.size, a, [a], share, (gradient) => {
    const all = gradient.reduce((sum, g, index) => sum + g * share(index), 0);
    a.accumulate((sum) => sum.forEach((_, index) => (sum[index] += share(index) * (gradient[index] - all))));
  });
};

export const cumulativeSum = (a) => {
  let running = 0;
  return new Tensor(
    Float64Array.from(a.data, (value) => (running += value)),
    {
      parents: [a],
      backward: (gradient) => {
        let after = 0;
        a.accumulate((sum) => {
          for (let index = a.size - 1; index >= 0; index--) sum[index] += after += gradient[index];
        });
      },
    },
  );
};
