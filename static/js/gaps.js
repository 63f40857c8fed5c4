/** Where a line must break because nothing was stored, and the points that then stand alone. */

const TIMES = 8;
const FEWEST = 8;
const NARROW = 0.02;

/** The distance between neighbours from which on there is a gap; `grain` is the least for a reduced curve. */
export function gapWidth(x, { grain = 0, axis = "step" } = {}) {
  if (x.length < FEWEST) return Infinity;
  const steps = x.slice(1).map((value, at) => value - x[at]).filter((step) => step > 0).sort((one, other) => one - other);
  if (!steps.length) return Infinity;
  // Steps come evenly and moments do not: a slow step is no gap, a pause that can be seen is one.
  const narrowest = axis === "step" ? 0 : (x.at(-1) - x[0]) * NARROW;
  return Math.max(TIMES * steps[Math.floor(steps.length / 2)], grain, narrowest);
}

/** Places in front of which the line breaks. */
export function gapsOf(x, width) {
  return x.flatMap((value, at) => (at > 0 && value - x[at - 1] > width ? [at] : []));
}

/** Values with a break put in at each gap. */
export function withBreaks(values, gaps, filler) {
  if (!gaps.length) return values;
  const whole = [];
  let from = 0;
  for (const at of gaps) {
    whole.push(...values.slice(from, at), filler(at));
    from = at;
  }
  whole.push(...values.slice(from));
  return whole;
}

/** Places of points without a neighbour that a line could lead to. */
export function lonely(y) {
  return y.flatMap((value, at) => (Number.isFinite(value) && !Number.isFinite(y[at - 1]) && !Number.isFinite(y[at + 1]) ? [at] : []));
}
