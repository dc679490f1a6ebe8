// Losses as data (docs/losses.md): evaluates a graph with the tensors of this client.

import * as t from "./tensor.mjs";

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const compare = (holds) => (a, b) =>
  t.binary(
    (x, y) => Number(holds(x, y)),
    () => [0, 0],
  )(t.detach(a), t.detach(b));
// Of the derivative of a choice between two: 1 for what is taken, half where both are.
const share = (better, x, y) => (x === y ? 0.5 : Number(better));

const NUMERIC = {
  neg: t.unary(
    (x) => -x,
    () => -1,
  ),
  abs: t.unary(Math.abs, (x) => Math.sign(x)),
  exp: t.unary(Math.exp, (_, y) => y),
  log: t.unary(Math.log, (x) => 1 / x),
  log1p: t.unary(Math.log1p, (x) => 1 / (1 + x)),
  expm1: t.unary(Math.expm1, (x) => Math.exp(x)),
  sqrt: t.unary(Math.sqrt, (_, y) => 0.5 / y),
  square: t.unary(
    (x) => x * x,
    (x) => 2 * x,
  ),
  recip: t.unary(
    (x) => 1 / x,
    (x) => -1 / (x * x),
  ),
  sigmoid: t.unary(sigmoid, (x) => sigmoid(x) * sigmoid(-x)),
  tanh: t.unary(Math.tanh, (x) => 1 - Math.tanh(x) ** 2),
  sin: t.unary(Math.sin, Math.cos),
  cos: t.unary(Math.cos, (x) => -Math.sin(x)),
  softplus: t.unary(softplus, sigmoid),
  logsigmoid: t.unary(
    (x) => -softplus(-x),
    (x) => sigmoid(-x),
  ),
  relu: t.unary(
    (x) => Math.max(x, 0),
    (x) => share(x > 0, x, 0),
  ),
  add: t.binary(
    (x, y) => x + y,
    () => [1, 1],
  ),
  sub: t.binary(
    (x, y) => x - y,
    () => [1, -1],
  ),
  mul: t.binary(
    (x, y) => x * y,
    (x, y) => [y, x],
  ),
  div: t.binary(
    (x, y) => x / y,
    (x, y) => [1 / y, -x / (y * y)],
  ),
  max: t.binary(Math.max, (x, y) => [share(x > y, x, y), share(y > x, x, y)]),
  min: t.binary(Math.min, (x, y) => [share(x < y, x, y), share(y < x, x, y)]),
  gt: compare((x, y) => x > y),
  ge: compare((x, y) => x >= y),
  lt: compare((x, y) => x < y),
  le: compare((x, y) => x <= y),
  where: t.where,
  stop_grad: t.detach,
  sum: t.sum,
  mean: t.mean,
  rmax: t.extreme(Math.max),
  rmin: t.extreme(Math.min),
  logsumexp: t.logSumExp,
  var: t.variance,
  dot: (a, b) => t.sum(NUMERIC.mul(a, b)),
  softmax: t.softmax,
  log_softmax: t.logSoftmax,
  cumsum: t.cumulativeSum,
};

// Returns the loss and the metrics, as tensors. `fields[i](key)` gives an input of a datum as numbers.
export function evaluate(loss, logprobs, fields) {
  if (loss.fail !== undefined && loss.fail !== null) throw new Error(loss.fail);
  const lengths = logprobs.map((each) => each.size);
  const segments = lengths.flatMap((length, datum) => Array(length).fill(datum));
  const input = (datum, key) => {
    if (fields[datum] === undefined) throw new Error(`there is no datum ${datum}`);
    return fields[datum](key);
  };
  const leaf = (datum) => {
    if (logprobs[datum] === undefined) throw new Error(`there are no logprobs of datum ${datum}`);
    return t.concatenate([logprobs[datum]]);
  };
  const nodes = [];
  const node = (index) => {
    if (!(Number.isInteger(index) && index >= 0 && index < nodes.length))
      throw new Error(`there is no earlier node ${index}`);
    return nodes[index];
  };
  const special = {
    lps: () => t.concatenate(logprobs),
    fields: (key) => {
      const values = logprobs.map((_, datum) => input(datum, key));
      values.forEach((each, datum) => {
        if (each.length !== lengths[datum])
          throw new Error(`${key} of datum ${datum} has ${each.length} values for ${lengths[datum]} logprobs`);
      });
      return new t.Tensor(values.flatMap((each) => [...each]));
    },
    lens: () => new t.Tensor(lengths),
    lp: leaf,
    field: (datum, key) => new t.Tensor([...input(datum, key)]),
    const: t.scalar,
    seg_sum: (a) => t.segmentSum(node(a), segments, lengths.length, () => 1),
    seg_mean: (a) => t.segmentSum(node(a), segments, lengths.length, (datum) => 1 / Math.max(lengths[datum], 1)),
    expand: (a) => t.gather(node(a), segments),
    take: (a, positions) => t.gather(node(a), positions),
    pow: (a, power) =>
      t.unary(
        (x) => x ** power,
        (x) => power * x ** (power - 1),
      )(node(a)),
    clip: (a, low, high) => NUMERIC.min(NUMERIC.max(node(a), t.scalar(low)), t.scalar(high)),
  };
  for (const [operation, ...operands] of loss.nodes) {
    if (Object.hasOwn(special, operation)) nodes.push(special[operation](...operands));
    else if (Object.hasOwn(NUMERIC, operation)) nodes.push(NUMERIC[operation](...operands.map(node)));
    else throw new Error(`unknown operation ${JSON.stringify(operation)}`);
  }
  const metrics = Object.entries(loss.metrics ?? {}).map(([name, index]) => [name, node(index).data[0]]);
  return { loss: node(loss.loss), metrics: Object.fromEntries(metrics) };
}
