/** The curves of the runs that a run was forked from, each up to its fork. They are history: fetched once. */
import { curve, keysQuery } from "./series.js";

/** `fetchMissing(keys, axis)` gets what is not there yet; `before(axis)` gives segments by metric, youngest first. */
export function createLineage(url, points) {
  const known = {};
  const draws = (axis) => Boolean(url) && (axis === "step" || axis === "tokens");

  async function fetchMissing(keys, axis, signal) {
    if (!draws(axis)) return;
    const segments = (known[axis] ??= {});
    const missing = keys.filter((key) => !(key in segments));
    if (!missing.length) return;
    const query = keysQuery(missing, { x: axis, points });
    const answer = await fetch(`${url}?${query}`, { signal, headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    Object.assign(segments, byKey(missing, await answer.json()));
  }

  return { fetchMissing, before: (axis) => (draws(axis) && known[axis]) || {} };
}

/** Segments by metric, without those that have no point of it. */
export function byKey(keys, segments) {
  return Object.fromEntries(keys.map((key) => [key, segments.flatMap(({ name, curves }) => (curves[key]?.x.length ? [{ name, curve: curve(curves[key]) }] : []))]));
}
