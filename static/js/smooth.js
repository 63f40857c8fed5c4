/** Exponential moving average without a start bias; gaps stay gaps. */
export function smooth(values, weight) {
  if (!(weight > 0)) return values;
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return NaN;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}
