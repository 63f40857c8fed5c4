/** The curves of one run: a snapshot by REST, then deltas by socket; on a gap the snapshot again. */
import { createLineage } from "./lineage.js";
import { curve, extend, keysQuery } from "./series.js";

const POINTS = 1500;
const AGAIN = 2000;
const KEYS_MOST = 300;

/** Of `attempt` alone, as it is stored, or of the run as it goes on. `changed(keys)` is called after every change, `failed(error)` when the server does not answer. */
export function createFeed({ run, attempt = null, url, lineageUrl, send, changed, failed }) {
  const lineage = createLineage(lineageUrl, POINTS);
  const wanted = new Set();
  let snapshot = { upto: null, curves: {} };
  let view = { axis: "step", range: null };
  let pending = null;
  let loading = null;
  let loadedAt = 0;

  function want(keys) {
    const before = wanted.size;
    for (const key of keys) wanted.add(key);
    if (wanted.size === before) return;
    // Of a page with very many charts only those seen last are kept fresh.
    for (const key of [...wanted].slice(0, Math.max(0, wanted.size - KEYS_MOST))) wanted.delete(key);
    later(30);
  }

  function later(delay) {
    pending ??= setTimeout(load, delay);
  }

  async function load() {
    clearTimeout(pending);
    pending = null;
    if (!wanted.size) return;
    loading?.abort();
    loading = new AbortController();
    const query = keysQuery([...wanted], { x: view.axis, points: POINTS });
    if (attempt) query.set("attempt", attempt);
    if (view.range) [query.set("from", view.range[0]), query.set("to", view.range[1])];
    try {
      const { signal } = loading;
      const [answer] = await Promise.all([fetch(`${url}?${query}`, { signal, headers: { Accept: "application/json" } }), lineage.fetchMissing([...wanted], view.axis, signal)]);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const shapes = await answer.json();
      const curves = Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, curve(shape)]));
      snapshot = { upto: JSON.parse(answer.headers.get("X-Anneal-Cursor") ?? "null"), curves };
      loadedAt = Date.now();
      changed([...wanted]);
      send(watch());
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    }
  }

  /** What to send when the socket opens. */
  function watch() {
    return { op: "watch", topic: "run", run, keys: [...wanted], ...(snapshot.upto ? { after: snapshot.upto } : {}) };
  }

  function heard(delta) {
    if (attempt) return;
    const next = extend(snapshot, delta, view.axis);
    if (!next) return later(Math.max(0, loadedAt + AGAIN - Date.now()));
    snapshot = next;
    const keys = Object.keys(delta.points);
    if (keys.length) changed(keys);
  }

  return {
    want, watch, heard, load,
    curves: () => snapshot.curves,
    before: () => lineage.before(view.axis),
    look(next) { view = { ...view, ...next }; return load(); },
  };
}
