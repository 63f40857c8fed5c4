/** The theme's colours as Plotly needs them, and the one template of all charts. */

/** Read the tokens as they are now, resolved for light or dark. */
export function look() {
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  const resolve = (token) => {
    probe.style.color = `var(${token})`;
    return getComputedStyle(probe).color;
  };
  const style = getComputedStyle(document.documentElement);
  const found = {
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((at) => resolve(`--series-${at}`)),
    ink: resolve("--ink"), faint: resolve("--ink-3"), line: resolve("--line"), strong: resolve("--line-strong"),
    surface: resolve("--surface"), raised: resolve("--raised"), bad: resolve("--red"), violet: resolve("--violet"),
    sans: style.getPropertyValue("--sans").trim(), mono: style.getPropertyValue("--mono").trim(),
  };
  probe.remove();
  return found;
}

/** On a touch screen a finger scrolls the page. */
const COARSE = matchMedia("(pointer: coarse)").matches;

const CLOCKS = [
  { dtickrange: [null, 59_999], value: "%H:%M:%S" },
  { dtickrange: [60_000, 86_399_999], value: "%H:%M" },
  { dtickrange: [86_400_000, null], value: "%e %b" },
];

const HOVER = { time: "%H:%M:%S", relative: ".5~g" };

/** Layout shared by every chart. `axis` is step, time, relative or tokens; `since` has the unit of relative times. */
export function layout(look, axis, since) {
  const grid = { gridcolor: look.line, zeroline: false, linecolor: look.strong, tickfont: { color: look.faint, size: 11 }, automargin: false };
  return {
    autosize: true, uirevision: axis, showlegend: false, dragmode: COARSE ? false : "zoom", hovermode: "x unified",
    margin: { l: 46, r: 62, t: 8, b: 24 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: look.sans, size: 11, color: look.ink },
    hoverlabel: { bgcolor: look.raised, bordercolor: look.strong, font: { size: 11, color: look.ink, family: look.mono }, namelength: 28 },
    xaxis: { ...grid, type: axis === "time" ? "date" : "linear", showline: true, nticks: axis === "time" ? 4 : 6, tickangle: 0, tickformatstops: axis === "time" ? CLOCKS : undefined, hoverformat: HOVER[axis] ?? ",d", tickformat: axis === "tokens" ? "~s" : undefined, ticksuffix: axis === "relative" ? ` ${since.unit[1]}` : "", fixedrange: false, separatethousands: true, rangemode: "normal" },
    yaxis: { ...grid, nticks: 5, tickformat: "~g", exponentformat: "e", fixedrange: true, automargin: true },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: look.faint, activecolor: look.ink },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
  };
}

/** Plotly's own settings. */
export const CONFIG = {
  displaylogo: false, responsive: true, doubleClick: false, scrollZoom: false, showTips: false, modeBarButtons: [["toImage"]],
};
