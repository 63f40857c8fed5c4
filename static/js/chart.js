/** One chart on the page: a figure with data-chart becomes a Plotly plot that can be redrawn cheaply. */
import { CONFIG, layout } from "./look.js";
import { noteDrawn } from "./drawn.js";
import { figure as words } from "./format.js";
import { places, unitOf, valueAt } from "./axis.js";
import { traces } from "./traces.js";

const LARGE = 0.05;

/** Make a chart of `element`; `zoomed(range | null)` is called when its reader zooms. */
export function createChart(element, zoomed) {
  const plot = element.querySelector("[data-plot]");
  const keys = JSON.parse(element.dataset.chart);
  const options = { stacked: "stacked" in element.dataset, names: JSON.parse(element.dataset.names || "{}") };
  let made = false;
  let back = (place) => place;

  function draw(curves, view) {
    // Not asked for yet: the skeleton stays, since "no value" would not be true.
    if (!keys.some((key) => curves[key])) return;
    const { axis } = view;
    const since = { origin: view.origin, unit: unitOf(view.range ?? view.domain) };
    back = (place) => valueAt(place, axis, since);
    const built = traces(keys, curves, view.look, { ...options, axis, since, smoothing: view.smoothing, range: view.range, before: view.before });
    describe(element, keys, curves);
    if (!built.data.length) return waitingFor(element, view);
    element.dataset.status = "drawn";
    const shape = layout(view.look, axis, since);
    shape.annotations = built.annotations;
    shape.shapes = seams(view, since, shape.annotations);
    // One range for all charts of the page, so that a spike stands at the same place in each.
    shape.xaxis.range = places(view.range ?? view.domain, axis, since);
    if (built.range && !options.stacked) shape.yaxis = { ...shape.yaxis, range: built.range, autorange: false };
    shape.uirevision = `${axis} ${view.range ?? "whole"}`;
    if (made) Plotly.react(plot, built.data, shape, CONFIG);
    else {
      plot.replaceChildren();
      Plotly.newPlot(plot, built.data, shape, CONFIG);
      made = true;
      plot.on("plotly_relayout", relayout);
      plot.on("plotly_doubleclick", () => zoomed(null));
    }
    noteDrawn(keys, curves);
  }

  function relayout(change) {
    const [low, high] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (low !== undefined && high !== undefined) zoomed([low, high].map(back));
  }

  return { element, keys, draw };
}

/** The badges: how many points became how many, and how many are not a number. */
function describe(element, keys, curves) {
  const missing = keys.reduce((sum, key) => sum + (curves[key]?.nan ?? 0), 0);
  const count = element.querySelector("[data-nan]");
  count.hidden = missing === 0;
  count.textContent = `${words(missing)} NaN`;
  const reduced = keys.map((key) => curves[key]).filter((curve) => curve?.reduced);
  if ("stacked" in element.dataset) nameLarge(element, keys.map((key) => curves[key]));
  const badge = element.querySelector("[data-reduced]");
  badge.hidden = reduced.length === 0;
  if (reduced.length) {
    const stored = Math.max(...reduced.map((curve) => curve.total));
    const shown = Math.max(...reduced.map((curve) => curve.x.length));
    badge.textContent = `${words(stored)} → ${words(shown)}`;
  }
}

/** A stack names its large parts; the hover names all. */
function nameLarge(element, curves) {
  const sums = curves.map((curve) => (curve?.y ?? []).reduce((sum, value) => sum + (value > 0 ? value : 0), 0));
  const all = sums.reduce((sum, part) => sum + part, 0);
  element.querySelectorAll(".legend [data-series]").forEach((name, at) => { name.hidden = !(sums[at] > all * LARGE); });
}

function waitingFor(element, view) {
  element.dataset.status = "empty";
  element.querySelector("[data-empty]").textContent = view.ended
    ? "This run has no value of it."
    : element.dataset.evaluation !== undefined ? "No value yet: evaluation comes at the start, at its steps and at the end." : "No value yet: the first step has not ended.";
}

function seams(view, since, annotations) {
  // Along tokens a seam's place is not known, but that a run began at 0 is.
  const all = [...view.seams, ...(view.marks ?? [])];
  const known = view.axis === "tokens" ? all.filter(({ kind }) => kind === "fork") : all;
  return known.map(({ step, time, label, text, kind }) => {
    const [x] = view.axis === "step" || view.axis === "tokens" ? [step] : places([time], view.axis, since);
    const colour = { knob: view.look.violet, fork: view.look.ink, signal: view.look.bad }[kind] ?? view.look.faint;
    // Along the line: two seams may stand close together.
    annotations.push({ x, xanchor: "left", xshift: 1, y: 1, yref: "paper", yanchor: "top", textangle: -90, showarrow: false, text: escaped(label), hovertext: escaped(text ?? label), font: { size: 10, color: colour } });
    return { type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: colour, width: 1, dash: "dot" } };
  });
}

/** Plotly reads a little HTML in texts, and a run's name is anybody's. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
