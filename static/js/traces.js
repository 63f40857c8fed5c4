/** From curves to Plotly traces, edge labels and seams. No DOM: everything comes in, plain objects go out. */
import { places } from "./axis.js";
import { figure, shortFigure } from "./format.js";
import { gapWidth, gapsOf, lonely, withBreaks } from "./gaps.js";
import { smooth } from "./smooth.js";

const DASHES = ["solid", "dash", "dot"];

/** Traces and annotations of one chart. `look` has the colours; `options` axis, smoothing, stacked, names. */
export function traces(keys, curves, look, options) {
  const drawn = keys.flatMap((key, at) => {
    const curve = curves[key];
    if (!curve?.x.length) return [];
    const pen = penOf(look, at);
    const shown = within(curve, options);
    return shown.x.length ? [{ key, at, curve: shown, pen, x: places(shown.x, options.axis, options.since), gaps: gapsOf(shown.x, gapWidth(shown.x, { ...options, grain: curve.grain })), name: options.names?.[key] ?? key }] : [];
  });
  const past = options.stacked ? [] : keys.flatMap((key, at) => (options.before?.[key] ?? []).map((segment) => ancestor(segment, penOf(look, at), options)));
  return {
    data: past.concat(drawn.flatMap((line) => (options.stacked ? area(line) : lines(line, options)))).concat(drawn.flatMap((line) => missing(line, look))),
    range: past.length ? null : flat(drawn),
    annotations: options.stacked ? [] : edgeLabels(drawn, look),
  };
}

const penOf = (look, at) => ({ colour: look.series[at % look.series.length], dash: DASHES[Math.floor(at / look.series.length) % DASHES.length] });

/** What a run that this one was forked from did before the fork: faint and dashed. */
function ancestor({ name, curve }, pen, { axis, since, smoothing }) {
  const y = smooth(finite(curve.y), smoothing);
  return { ...SCATTER, x: places(curve.x, axis, since), y, name, mode: "lines", opacity: 0.55, line: { color: pen.colour, width: 1.5, dash: "dash" }, hovertemplate: "%{y:.4~g}", meta: "ancestor" };
}

/** The part of a curve inside the zoom, one point beyond each end, with its average over all that came before. */
function within({ x, y }, { range, smoothing }) {
  const even = smooth(y.map((value) => (Number.isFinite(value) ? value : NaN)), smoothing);
  if (!range) return { x, y, even };
  const first = x.findIndex((value) => value >= range[0]);
  const from = Math.max(0, (first === -1 ? x.length : first) - 1);
  const after = x.findIndex((value) => value > range[1]);
  const to = after === -1 ? x.length : after + 1;
  return { x: x.slice(from, to), y: y.slice(from, to), even: even.slice(from, to) };
}

function lines({ key, curve, pen, x, name, gaps }, { smoothing }) {
  const hover = { hovertemplate: "%{y:.4~g}", name };
  const line = { color: pen.colour, width: 1.5, dash: pen.dash };
  const y = finite(curve.y);
  // A line over steps of which nothing is stored would say what nobody knows.
  const xs = withBreaks(x, gaps, (at) => x[at - 1]);
  const broken = (values) => withBreaks(values, gaps, () => NaN);
  if (isEvaluation(key)) {
    return [{ ...SCATTER, ...hover, x, y, mode: "lines+markers", line: { ...line, width: 1, dash: "dot" }, marker: { size: 6, color: pen.colour } }];
  }
  // A single point has no line: it would be there and not be seen.
  if (x.length === 1) return [{ ...SCATTER, ...hover, x, y, mode: "markers", marker: { size: 6, color: pen.colour } }];
  const raw = broken(y);
  const alone = single(xs, raw, pen);
  if (!(smoothing > 0)) return [{ ...SCATTER, ...hover, x: xs, y: raw, mode: "lines", line }, ...alone];
  return [
    { ...SCATTER, x: xs, y: raw, name, mode: "lines", line: { ...line, width: 1 }, opacity: 0.3, hovertemplate: "%{y:.4~g} raw<extra></extra>" },
    { ...SCATTER, ...hover, x: xs, y: broken(curve.even), mode: "lines", line: { ...line, width: 2 } },
    ...alone,
  ];
}

/** Points between two breaks: a line alone would hide them. */
function single(x, y, pen) {
  const spots = lonely(y);
  if (!spots.length) return [];
  return [{ ...SCATTER, x: spots.map((at) => x[at]), y: spots.map((at) => y[at]), mode: "markers", hoverinfo: "skip", marker: { size: 4, color: pen.colour } }];
}

function area({ curve, pen, x, name }) {
  return [{ ...SCATTER, x, y: finite(curve.y), name, mode: "lines", stackgroup: "parts", line: { width: 0 }, fillcolor: pen.colour, opacity: 1, hovertemplate: "%{y:.3~g} s" }];
}

/** Values that no line can show stand as ticks on the axis: NaN and −∞ below, ∞ above. */
function missing({ curve, x, name }, look) {
  const spots = curve.y.flatMap((value, at) => (Number.isFinite(value) ? [] : [{ x: x[at], top: value === Infinity, word: figure(value) }]));
  if (!spots.length) return [];
  return [{
    ...SCATTER, x: spots.map((spot) => spot.x), y: spots.map((spot) => (spot.top ? 1 : 0)), yaxis: "y2", mode: "markers", name,
    text: spots.map((spot) => spot.word), hovertemplate: "%{text}", cliponaxis: false,
    marker: { symbol: "line-ns", size: 9, color: look.bad, line: { width: 1.5, color: look.bad } },
  }];
}

function edgeLabels(drawn, look) {
  const labels = drawn.flatMap(({ curve, pen }) => {
    const at = curve.y.findLastIndex((value) => !Number.isNaN(value));
    return at === -1 || !Number.isFinite(curve.y[at]) ? [] : [{ y: curve.y[at], pen }];
  });
  const values = drawn.flatMap(({ curve }) => curve.y.filter(Number.isFinite));
  const span = Math.max(...values) - Math.min(...values) || 1;
  const close = labels.length === 2 && Math.abs(labels[0].y - labels[1].y) < span * 0.1;
  return labels.slice(0, 4).map(({ y, pen }, at) => ({
    xref: "paper", x: 1, xanchor: "left", y, yanchor: "middle", showarrow: false, text: shortFigure(y), xshift: 4,
    yshift: close ? (labels[at].y > labels[1 - at].y || (at === 0 && labels[0].y === labels[1].y) ? 6 : -6) : 0,
    font: { size: 11, color: pen.colour, family: look.mono },
  }));
}

/** A range for curves that do not move: Plotly would magnify the rounding error of an average. */
function flat(drawn) {
  const values = drawn.flatMap(({ curve }) => curve.y.filter(Number.isFinite));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (!values.length || high - low > 1e-6 * Math.max(Math.abs(low), Math.abs(high))) return null;
  if (high === 0) return [-0.05, 1];
  const room = Math.abs(high) * 0.1;
  return [low - room, high + room];
}

const SCATTER = { type: "scatter" };
const isEvaluation = (key) => /(^|\/)eval\//.test(key);
const finite = (values) => values.map((value) => (Number.isFinite(value) ? value : NaN));
