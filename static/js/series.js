/** Curves as data: from REST, and longer by what a socket brings. Knows nothing of the page. */

const NUMBERS = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };

/** More live points than this, and the caller fetches a thinned curve again. */
export const CAP = 6000;

/** A number as it travels: non-finite ones are strings. */
export const number = (value) => (typeof value === "string" ? NUMBERS[value] ?? NaN : value);

/** What asks for the curves of metrics: each name in a parameter of its own, for it may hold a comma. */
export function keysQuery(keys, rest) {
  const query = new URLSearchParams(rest);
  for (const key of keys) query.append("key", key);
  return query;
}

/** A curve from its REST shape. */
export function curve(shape) {
  const { x, total } = shape;
  const reduced = Boolean(shape.reduced);
  // Six points are kept of a bucket: what is wider than three buckets is a gap, and not the reduction.
  const grain = reduced ? (18 * (x[x.length - 1] - x[0])) / x.length : 0;
  return { x: [...x], y: shape.y.map(number), total, nan: shape.nan ?? 0, reduced, grain, newest: null };
}

/** A curve without points. */
export const nothing = () => ({ x: [], y: [], total: 0, nan: 0, reduced: false, grain: 0, newest: null });

/**
 * Merge a delta into a snapshot { upto, curves } along an axis; null means a gap: the caller must refetch.
 * A step that a resumed attempt logs again supersedes the older point, which only the step axis can tell.
 */
export function extend(snapshot, delta, axis = "step") {
  if (!same(delta.after, snapshot.upto)) return null;
  if (axis === "tokens" || (axis === "time" && delta.after.attempt !== delta.upto.attempt)) return null;
  const curves = { ...snapshot.curves };
  for (const [key, points] of Object.entries(delta.points)) {
    const longer = copy(curves[key] ?? nothing());
    for (const [step, value, time] of points) place(longer, axis === "time" ? time : step, number(value), { step, time });
    if (longer.x.length > CAP) return null;
    curves[key] = longer;
  }
  return { upto: delta.upto, curves };
}

/** Whether two cursors are equal. */
export function same(one, other) {
  return one?.attempt === other?.attempt && one?.seq === other?.seq;
}

function copy(old) {
  return { ...old, x: [...old.x], y: [...old.y] };
}

function place(into, x, y, newest) {
  let at = into.x.length;
  while (at > 0 && into.x[at - 1] > x) at -= 1;
  const replaced = at > 0 && into.x[at - 1] === x ? into.y[at - 1] : 0;
  into.nan = (into.nan ?? 0) + Number.isNaN(y) - Number.isNaN(replaced);
  if (at > 0 && into.x[at - 1] === x) into.y[at - 1] = y;
  else {
    into.x.splice(at, 0, x);
    into.y.splice(at, 0, y);
    into.total += 1;
  }
  into.newest = newest;
}
