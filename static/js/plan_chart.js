/** The plan of a run as bars: pure functions from its lines to a Plotly figure. */
import { duration } from "./format.js";

const ROW = 22;
const FRAME = 40;
const SERIES = ["data", "rollout", "reward", "logprob", "update", "sync", "eval", "checkpoint"];
/** An estimate far beyond everything measured would leave no room for the measured. */
const BEYOND = 1.5;
/** Neither would a step with a long evaluation leave any for the usual ones: it is cut, and says how long it is. */
const CUT = 4;
export const ESTIMATE = "estimate";

/** Colour of a phase: as in the chart of the time in a step. */
export function colourOf(look, phase) {
  const place = SERIES.indexOf(phase);
  return place === -1 ? (phase === "other" ? look.strong : look.faint) : look.series[place % look.series.length];
}

/** What stands beside a bar. */
export function rowName({ step, steps, process }, several) {
  const name = steps ? String(step) : "end";
  return several ? `${name} · ${process}` : name;
}

/** Seconds, also of what takes far less than one. */
export const seconds = (value) => (value < 0.9995 ? `${Number((value * 1000).toPrecision(3))} ms` : value < 60 ? `${Number(value.toPrecision(3))} s` : duration(value));

/**
 * Every bar of the plan: {row, phase, from, length, estimated}. All processes of a step count from where the first
 * process began it.
 */
export function bars({ lines, phases, processes, seldom }) {
  const several = processes.length > 1;
  const began = new Map();
  for (const line of lines) if (line.process === processes[0] && line.steps) began.set(line.step, line.start);
  const measured = lines.flatMap((line) => {
    const ahead = line.start - ((line.steps ? began.get(line.step) : null) ?? line.start);
    return line.spans.map(({ phase, start, end }) => ({ row: rowName(line, several), phase, from: ahead + start, length: end - start, estimated: false }));
  });
  let at = 0;
  const estimated = phases.filter((one) => one.estimated_s !== null && !seldom.includes(one.phase)).map((one) => {
    const bar = { row: ESTIMATE, phase: one.phase, from: at, length: one.estimated_s, estimated: true };
    at += one.estimated_s;
    return bar;
  });
  return [...estimated, ...measured];
}

/** The figure: {data, layout}. */
export function planFigure(plan, look) {
  const all = bars(plan);
  const rows = [...new Set(all.map((bar) => bar.row))];
  const ends = new Map(rows.map((row) => [row, Math.max(...all.filter((bar) => bar.row === row).map((bar) => bar.from + bar.length))]));
  const [first, last] = reach(ends, all, plan);
  const axis = { gridcolor: look.line, zeroline: false, linecolor: look.strong, tickfont: { color: look.faint, size: 11 }, fixedrange: true };
  return {
    data: traces(all, plan.labels, look),
    layout: {
      autosize: true, height: rows.length * ROW + FRAME, barmode: "overlay", bargap: 0.28, showlegend: false, hovermode: "closest", dragmode: false,
      margin: { l: 8, r: 16, t: 4, b: 30 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: look.sans, size: 11, color: look.ink },
      hoverlabel: { bgcolor: look.raised, bordercolor: look.strong, font: { size: 11, color: look.ink, family: look.mono } },
      xaxis: { ...axis, range: [first, last * 1.02 || 1], nticks: 6, ticksuffix: " s", showline: true },
      yaxis: { ...axis, type: "category", categoryorder: "array", categoryarray: rows, range: [rows.length - 0.5, -0.5], automargin: true, showgrid: false, ticksuffix: " " },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look.faint, activecolor: look.ink },
      annotations: [...ends].filter(([, end]) => end > last * 1.001).map(([row, end]) => beyond(row, end, look)),
    },
  };
}

/** One trace for each phase, and one for what of it was estimated. */
function traces(all, labels, look) {
  const found = new Map();
  for (const bar of all) {
    const key = `${bar.estimated} ${bar.phase}`;
    if (!found.has(key)) found.set(key, { ...empty(), name: labels[bar.phase] ?? bar.phase, marker: marker(bar, look) });
    const trace = found.get(key);
    trace.y.push(bar.row);
    trace.base.push(bar.from);
    trace.x.push(bar.length);
    trace.customdata.push(bar.estimated ? `estimated ${seconds(bar.length)}` : seconds(bar.length));
  }
  return [...found.values()];
}

const empty = () => ({ type: "bar", orientation: "h", x: [], y: [], base: [], customdata: [], hovertemplate: "%{y}: %{fullData.name} %{customdata}<extra></extra>" });

function marker({ phase, estimated }, look) {
  const colour = colourOf(look, phase);
  if (estimated) return { color: "rgba(0,0,0,0)", line: { color: colour, width: 1.5 } };
  if (phase === "wait") return { color: "rgba(0,0,0,0)", pattern: { shape: "/", fgcolor: look.faint, size: 5, solidity: 0.3 }, line: { width: 0 } };
  return { color: colour, line: { width: 0 } };
}

/** From where to where the axis goes: as far as what was measured, unless that is far beyond a usual step. */
function reach(ends, all, { lines, processes }) {
  const lengths = lines.filter((line) => line.process === processes[0] && line.steps).map((line) => Math.max(0, ...line.spans.map((span) => span.end)));
  const usual = lengths.sort((one, other) => one - other)[Math.floor((lengths.length - 1) / 2)];
  const measured = Math.max(0, ...[...ends].filter(([row]) => row !== ESTIMATE).map(([, end]) => end));
  const shown = usual > 0 ? Math.min(measured, CUT * usual) : measured;
  return [Math.min(0, ...all.map((bar) => bar.from)), Math.min(Math.max(shown, ends.get(ESTIMATE) ?? 0), shown * BEYOND)];
}

/** Says how long a row is that does not fit. */
function beyond(row, end, look) {
  return { xref: "paper", x: 1, xanchor: "right", yref: "y", y: row, text: `to ${seconds(end)} →`, showarrow: false, font: { size: 11, color: look.ink }, bgcolor: look.surface };
}
