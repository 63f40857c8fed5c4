/** The horizontal axes: what the server is asked for, and how its values become places on a chart and back. */

export const AXES = ["step", "time", "relative", "tokens"];

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const LEAST = 3;

/** The axis by which the server gives a curve: relative time is wall time, counted from the run's start. */
export const served = (axis) => (axis === "relative" ? "time" : axis);

/** How relative times between two moments are written: [seconds in a unit, its name], at least three units wide. */
export function unitOf([low, high]) {
  return UNITS.find(([size]) => high - low >= LEAST * size) ?? UNITS.at(-1);
}

/** Values as Plotly takes them: wall time in the browser's zone, relative time in its unit. `since` is {origin, unit}. */
export function places(x, axis, since) {
  if (axis === "relative") return x.map((seconds) => (seconds - since.origin) / since.unit[0]);
  if (axis !== "time") return x;
  const shift = new Date().getTimezoneOffset() * 60_000;
  return x.map((seconds) => seconds * 1000 - shift);
}

/** A place on the axis as a value again: Plotly gives times as local text. */
export function valueAt(place, axis, since) {
  if (axis === "relative") return place * since.unit[0] + since.origin;
  return typeof place === "string" ? new Date(place.replace(" ", "T")).getTime() / 1000 : place;
}
