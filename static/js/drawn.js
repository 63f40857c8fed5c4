/** Say when a point became a pixel, for the latency bench and the browser's own profiler. */
export function noteDrawn(keys, curves) {
  const newest = keys.flatMap((key) => (curves[key]?.newest ? [{ key, ...curves[key].newest }] : []));
  if (!newest.length) return;
  const { key, step, time } = newest.reduce((one, other) => (other.time > one.time ? other : one));
  requestAnimationFrame(() => {
    performance.mark("anneal-point", { detail: { key, step } });
    window.__anneal = { ...window.__anneal, lastPoint: { key, step, emitted: time * 1000, drawn: Date.now() } };
  });
}
