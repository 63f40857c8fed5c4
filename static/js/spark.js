/** Draw the small line of a row from the values in its data-values; the same box as selectors/run_rows.py. */
const WIDTH = 96;
const HEIGHT = 20;
const MOST = 96;

export function sparkPush(svg, value) {
  if (!svg || !Number.isFinite(value)) return;
  const values = (svg.dataset.values ?? "").split(" ").filter(Boolean).map(Number);
  values.push(value);
  while (values.length > MOST) values.shift();
  svg.dataset.values = values.join(" ");
  svg.querySelector("polyline").setAttribute("points", path(values));
}

export function path(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const step = (WIDTH - 4) / Math.max(1, values.length - 1);
  return values.map((value, at) => {
    const y = high === low ? HEIGHT / 2 : HEIGHT - 2 - ((value - low) / (high - low)) * (HEIGHT - 4);
    return `${(2 + at * step).toFixed(1)},${y.toFixed(1)}`;
  }).join(" ");
}
