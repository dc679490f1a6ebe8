// JSON as this API's servers and clients in Python write it: NaN and infinities in answers, a decimal point in floats.

const TOKENS = /"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g;
const NOT_A_NUMBER = "\u0000NaN";

// Reads JSON in which NaN and infinities may stand bare.
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    const spelled = { NaN: JSON.stringify(NOT_A_NUMBER), Infinity: "1e999", "-Infinity": "-1e999" };
    const replaced = text.replace(TOKENS, (token) => spelled[token] ?? token);
    if (replaced === text) throw error;
    return JSON.parse(replaced, (_, value) => (value === NOT_A_NUMBER ? NaN : value));
  }
}

// A float32 as Python writes it: with a decimal point, and the sign of zero. The caller has refused what is not finite.
export function floatText(value) {
  if (Object.is(value, -0)) return "-0.0";
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value);
}
