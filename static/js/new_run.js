/** The new-run page: picks, folds, problems at their fields, the text tab. The server draws the form. */

import { keepTyped, typedSince } from "./form_typed.js";
import { textTab } from "./form_text.js";
import { placeProblems, goTo } from "./form_problems.js";

const form = document.getElementById("new-run");
const byId = (id) => document.getElementById(id);
const readJson = (id) => JSON.parse(byId(id)?.textContent || "{}");

/** Mark a field as changed when what it shows is not its default, and count in folds and index. */
function recount() {
  for (const row of form.querySelectorAll(".nr-field")) {
    const control = row.querySelector(".nr-control [data-default]");
    if (!control) continue;
    const value = control.type === "checkbox" ? String(control.checked) : control.value.trim();
    row.classList.toggle("changed", value !== "" && !same(value, control.dataset.default));
  }
  for (const fold of form.querySelectorAll(".nr-more")) {
    show(fold.querySelector("[data-fold-count]"), fold.querySelectorAll(".nr-field.changed").length, "b");
  }
  for (const link of document.querySelectorAll("[data-index]")) {
    const section = byId(`s-${link.dataset.index}`);
    if (!section) continue;
    show(link.querySelector("[data-changed-count]"), section.querySelectorAll(".nr-field.changed").length);
    link.querySelector("[data-wrong-dot]").hidden = !section.querySelector(".nr-errors li:not(.doubt)");
  }
}

/** "0.0" is the default "0", as for the server. */
function same(value, standard) {
  return value === standard || (standard !== "" && Number(value) === Number(standard));
}

function show(badge, count, inner) {
  if (!badge) return;
  badge.hidden = count === 0;
  (inner ? badge.querySelector(inner) : badge).textContent = count;
}

function place() {
  placeProblems(form, readJson("nr-places"), readJson("nr-doubts"));
  recount();
}

function selectTab(tab) {
  for (const other of form.querySelectorAll("[role=tab]")) other.setAttribute("aria-selected", String(other === tab));
  for (const pane of form.querySelectorAll("[data-pane-of]")) pane.hidden = pane.dataset.paneOf !== tab.dataset.pane;
  byId("nr-source").value = "form";
  if (tab.dataset.format && tab.dataset.format !== byId("nr-format").value) {
    byId("nr-format").value = tab.dataset.format;
    form.dispatchEvent(new Event("review"));
  }
}

form.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) selectTab(tab);
  const link = event.target.closest("[data-go]");
  if (link) {
    event.preventDefault();
    selectTab(form.querySelector("[role=tab][data-pane=form]"));
    goTo(form, link.dataset.go);
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    event.preventDefault();
    navigator.clipboard?.writeText(byId(copy.dataset.copy).textContent);
  }
});

form.addEventListener("input", (event) => {
  byId("nr-source").value = event.target.id === "nr-text" ? "text" : "form";
  recount();
});

form.addEventListener("change", (event) => {
  const target = event.target;
  if (target.dataset.pick && target.value) {
    const input = byId(target.dataset.pick);
    input.value = target.value;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  if (target.dataset.pick) target.value = "";
});

// Enter in a field means "done with this field", never "launch".
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("input:not([type=checkbox])")) event.preventDefault();
});

form.addEventListener("submit", () => {
  const button = form.querySelector("[data-launch]");
  if (button) button.disabled = true;
});

// A page that comes back from the browser's memory may launch again, and that is another launch.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  form.elements.namedItem("_key").value = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
  form.dispatchEvent(new Event("review"));
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.nr-menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// Between asking for new fields and getting them, people go on typing: that must survive the swap.
document.body.addEventListener("htmx:configRequest", (event) => {
  if (form.contains(event.target)) event.detail.elt.sentValues = keepTyped(form);
});
let openFolds = new Set();
let typedMeanwhile = new Map();
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id !== "nr-form") return;
  openFolds = new Set([...form.querySelectorAll("#nr-form .nr-more[open]")].map((fold) => fold.dataset.more));
  typedMeanwhile = typedSince(form, event.detail.requestConfig.elt.sentValues);
});
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target.id === "nr-form") {
    for (const fold of form.querySelectorAll("#nr-form .nr-more")) if (openFolds.has(fold.dataset.more)) fold.open = true;
    for (const [name, value] of typedMeanwhile) {
      const control = form.elements.namedItem(name);
      if (control && "value" in control && !(control instanceof RadioNodeList)) control.value = value;
    }
    if (typedMeanwhile.size) form.dispatchEvent(new Event("review"));
    typedMeanwhile = new Map();
  }
  place();
});

textTab(form);
place();
