/** The pages of a comparison: progress that keeps itself fresh, forms that send themselves, figures. */
import { confirmForms } from "./confirm.js";
import { CONFIG, look } from "./look.js";
import { partView } from "./part_view.js";

const EVERY = 3000;
/** Colours of the server's figures, in the order of the page's own. */
const SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B58900", "#56B4E9"];

confirmForms(document);
keepProgress(document.querySelector("[data-progress]"));
keepJudges(document.querySelector("[data-judges]"));
for (const form of document.querySelectorAll("form[data-auto]")) form.addEventListener("change", () => form.requestSubmit());
for (const bar of document.querySelectorAll("[data-width]")) bar.style.width = `${bar.dataset.width}%`;
addEventListener("DOMContentLoaded", drawFigures);
if (document.readyState !== "loading") drawFigures();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);
document.querySelector("[data-theme-switch]")?.addEventListener("click", () => setTimeout(drawFigures));
chooseRows(document.querySelector("[data-keep-form]"));

function keepProgress(element) {
  if (!element || !("live" in element.dataset)) return;
  const before = element.querySelector("[data-comparison-state]").dataset.comparisonState;
  const part = partView(element, () => {
    for (const bar of element.querySelectorAll("[data-width]")) bar.style.width = `${bar.dataset.width}%`;
    const state = element.querySelector("[data-comparison-state]");
    if (state.dataset.comparisonState !== before && "resting" in state.dataset) location.reload();
  });
  setInterval(part.refresh, EVERY);
}

/** While a judge works or waits, what it has said so far. */
function keepJudges(element) {
  const alive = () => element.querySelector('[data-judge-live], [data-judge-state="waiting"], [data-judge-state="running"]');
  if (!element || !alive()) return;
  const part = partView(element, () => {
    confirmForms(element);
    if (!alive()) clearInterval(timer);
  });
  const timer = setInterval(part.refresh, EVERY);
}

function drawFigures() {
  if (!globalThis.Plotly) return;
  const colours = look();
  const axis = { gridcolor: colours.line, linecolor: colours.strong, zerolinecolor: colours.ink, tickfont: { color: colours.faint, size: 11 } };
  for (const place of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    Plotly.react(place, data.map((trace) => coloured(trace, colours)), {
      ...layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colours.sans, size: 12, color: colours.ink },
      hoverlabel: { bgcolor: colours.raised, bordercolor: colours.strong, font: { size: 11, color: colours.ink, family: colours.mono } },
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    }, CONFIG);
  }
}

/** The page's own colours in the places of the file's. */
function coloured(trace, colours) {
  const swap = new Map(SERIES.map((from, at) => [from, colours.series[at]]));
  if (trace.error_x) return { ...trace, error_x: { ...trace.error_x, color: colours.ink } };
  return trace.line ? { ...trace, line: { ...trace.line, color: swap.get(trace.line.color) ?? trace.line.color } } : trace;
}

function chooseRows(form) {
  if (!form) return;
  const boxes = [...form.querySelectorAll('input[name="item"]')];
  const all = form.querySelector("[data-all]");
  const count = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    const word = form.querySelector("[data-chosen]");
    if (word) word.textContent = chosen;
    if (all) all.checked = chosen === boxes.length;
  };
  all?.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; count(); });
  const set = form.querySelector('select[name="dataset"]');
  set?.addEventListener("change", () => { form.querySelector("[data-new-name]").hidden = set.value !== ""; });
  form.addEventListener("change", count);
  count();
}
