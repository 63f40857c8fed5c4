/** Answers side by side: word differences between A and B, tokens as others read them, j and k from prompt to prompt. */
import { cells, headline } from "./token_heat.js";
import { wordDiff } from "./word_diff.js";

const TYPING = "input, textarea, select, dialog, [contenteditable]";
const KIND = { added: "ins", removed: "del" };
const readings = JSON.parse(document.getElementById("readings")?.textContent ?? "{}");
const button = document.querySelector("[data-diff]");

for (const item of document.querySelectorAll("[data-item]")) showReadings(item);
button?.addEventListener("click", () => {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  mark();
});
mark();

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPING)) return;
  const link = { j: "[data-after]", k: "[data-before]" }[event.key];
  const found = link && document.querySelector(link);
  if (!found) return;
  event.preventDefault();
  location.assign(found.href);
});

/** In B's answers the words that A's answer of the same sample has not, and those that it lacks. */
function mark() {
  const on = button?.getAttribute("aria-pressed") === "true";
  for (const item of document.querySelectorAll("[data-item]")) {
    for (const answer of item.querySelectorAll('[data-side="b"] [data-answer]')) {
      const text = answer.querySelector("[data-text]");
      const other = item.querySelector(`[data-side="a"] [data-index="${answer.dataset.index}"] [data-text]`);
      if (!text) continue;
      text.dataset.plain ??= text.textContent;
      const parts = on && other ? wordDiff(other.dataset.plain ?? other.textContent, text.dataset.plain) : null;
      text.replaceChildren(...(parts ? parts.map(part) : [text.dataset.plain]));
    }
  }
}

/** Text of models only ever becomes text. */
function part({ text, kind }) {
  if (kind === "same") return text;
  const node = document.createElement(KIND[kind]);
  node.textContent = text;
  return node;
}

function showReadings(item) {
  for (const answer of item.querySelectorAll("[data-answer]")) {
    const told = readings[answer.dataset.answer];
    if (!told) continue;
    const place = answer.querySelector("[data-reading]");
    place.hidden = false;
    place.replaceChildren(...told.flatMap((reading) => [title(reading), ...(reading.problem ? [] : [strip(reading)])]));
  }
}

function title(reading) {
  const head = document.createElement("h4");
  head.textContent = headline(reading);
  return head;
}

function strip(reading) {
  const row = document.createElement("div");
  row.className = "cells";
  row.append(...cells(reading).map((cell) => {
    const node = document.createElement("span");
    node.className = "cell";
    node.textContent = cell.text;
    node.title = cell.title;
    node.style.setProperty("--cell", cell.side === "author" ? "var(--series-2)" : "var(--series-1)");
    node.style.setProperty("--strength", `${Math.round(cell.strength * 80)}%`);
    if (cell.apart) node.dataset.apart = "";
    return node;
  }));
  return row;
}
