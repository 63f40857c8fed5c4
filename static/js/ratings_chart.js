/** Ratings as dots with their intervals, the best on top: a pure function to a Plotly figure. */

const ROW = 34;
const FRAME = 44;
const NARROW = 480;

/** @param {{arm: string, rating: number, interval: [number, number]}[]} rows the best first; `width` in pixels */
export function ratingFigure(rows, look, width) {
  const longest = width < NARROW ? 15 : 26;
  const grid = { gridcolor: look.line, zeroline: false, linecolor: look.strong, tickfont: { color: look.faint, size: 11 }, fixedrange: true };
  const points = [...rows].reverse();
  return {
    data: [{
      type: "scatter", mode: "markers", x: points.map((one) => one.rating), y: points.map((_, at) => at),
      text: points.map((one) => escaped(one.arm)),
      customdata: points.map((one) => one.interval),
      marker: { size: 9, color: look.series[0] },
      error_x: {
        type: "data", symmetric: false, thickness: 1.5, width: 4, color: look.series[0],
        array: points.map((one) => one.interval[1] - one.rating), arrayminus: points.map((one) => one.rating - one.interval[0]),
      },
      hovertemplate: "%{text}<br>%{x:.0f} (%{customdata[0]:.0f} to %{customdata[1]:.0f})<extra></extra>",
    }],
    layout: {
      autosize: true, height: rows.length * ROW + FRAME, showlegend: false, hovermode: "closest", dragmode: false,
      margin: { l: 8, r: 12, t: 6, b: 28 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: look.sans, size: 11, color: look.ink },
      hoverlabel: { bgcolor: look.raised, bordercolor: look.strong, font: { size: 11, color: look.ink, family: look.mono } },
      xaxis: { ...grid, nticks: width < NARROW ? 4 : 7, tickangle: 0, automargin: true },
      yaxis: {
        ...grid, automargin: true, range: [-0.6, rows.length - 0.4], showgrid: false, tickfont: { color: look.ink, size: 12 },
        tickvals: points.map((_, at) => at), ticktext: points.map((one) => escaped(short(one.arm, longest))),
      },
      shapes: [{ type: "line", x0: 1000, x1: 1000, y0: 0, y1: 1, yref: "paper", layer: "below", line: { color: look.strong, width: 1, dash: "dot" } }],
    },
  };
}

const short = (name, longest) => (name.length > longest ? `${name.slice(0, longest - 1)}…` : name);
/** Plotly reads a little HTML in texts, and a model's name is anybody's. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
