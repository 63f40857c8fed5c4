/** Put a run's newest shape into the elements that show it: pills, progress, figures, actions. */
import { duration, figure } from "./format.js";
import { sparkPush } from "./spark.js";

/** Write `run` below `root`. Text only; nothing from a run is ever read as HTML. */
export function showRun(root, run) {
  for (const pill of root.querySelectorAll("[data-pill]")) showState(pill, run);
  for (const part of root.querySelectorAll("[data-pill-state]")) part.dataset.state = run.state;
  for (const part of root.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").includes(run.state);
  for (const part of root.querySelectorAll("[data-field]")) FIELDS[part.dataset.field]?.(part, run);
}

function showState(pill, run) {
  pill.title = run.reason ?? "";
  if (pill.dataset.state === run.state) return;
  pill.dataset.state = run.state;
  pill.querySelector("use").setAttribute("href", `#i-${run.state}`);
  pill.querySelector("[data-word]").textContent = run.state;
}

const text = (part, value) => {
  if (part.textContent !== value) part.textContent = value;
};

const FIELDS = {
  name: (part, run) => text(part, run.name || run.id),
  reason: (part, run) => { text(part, run.reason ?? ""); part.title = run.reason ?? ""; },
  place: (part, run) => { part.hidden = !run.place; text(part, run.place ? `${part.dataset.before ?? "#"}${run.place}` : ""); },
  phase: (part, run) => text(part, run.phase || ""),
  step: (part, run) => text(part, figure(run.step)),
  total: (part, run) => text(part, run.total_steps ? figure(run.total_steps) : "–"),
  node: (part, run) => { text(part, run.node || "–"); part.title = run.node || ""; },
  nodes: (part, run) => { text(part, run.nodes?.join(", ") || "–"); part.title = run.nodes?.join(", ") || ""; },
  attempt: (part, run) => text(part, figure(run.attempt)),
  eta: (part, run) => text(part, run.eta_seconds ? `${part.dataset.before ?? " · "}${duration(run.eta_seconds)} left` : ""),
  bar: (part, run) => { part.style.width = `${run.total_steps ? Math.min(100, (100 * run.step) / run.total_steps) : 0}%`; },
  latest: (part, run) => text(part, figure(run.latest?.[part.dataset.key])),
  primary: (part, run) => {
    const value = figure(run.primary?.value);
    if (part.textContent === value) return;
    text(part, value);
    sparkPush(part.parentElement.querySelector(".spark"), run.primary.value);
  },
};

/** Set the width of bars that the server drew: inline styles stay out of the HTML. */
export function showWidths(root) {
  for (const part of root.querySelectorAll("[data-width]")) part.style.width = `${part.dataset.width}%`;
}
