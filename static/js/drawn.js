/** Say when a point became a pixel: `__anneal.lastPoint`, and every one where a bench has put a list. */
export function noteDrawn(keys, curves) {
  const newest = keys.flatMap((key) => (curves[key]?.newest ? [{ key, ...curves[key].newest }] : []));
  if (!newest.length) return;
  const { key, step, time } = newest.reduce((one, other) => (other.time > one.time ? other : one));
  requestAnimationFrame(() => {
    const point = { key, step, emitted: time * 1000, drawn: Date.now() };
    window.__anneal = { ...window.__anneal, lastPoint: point };
    window.__anneal.points?.push(point);
  });
}
