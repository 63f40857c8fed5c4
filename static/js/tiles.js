/** Health tiles: the newest value, and whether it is within its bounds. */
import { figure } from "./format.js";
import { number } from "./series.js";

const WORDS = { good: "", warning: "watch: ", bad: "bad: ", "": "" };

export function showTiles(root, latest) {
  for (const tile of root.querySelectorAll("[data-tile]")) {
    const value = latest[tile.dataset.tile];
    const level = value === undefined || value === null ? "" : judge(number(value), tile.dataset);
    tile.dataset.level = level;
    tile.querySelector("[data-value]").textContent = figure(value);
    tile.querySelector("[data-judgement]").textContent = WORDS[level];
  }
}

/** The level of a value by the bounds of its tile. */
export function judge(value, { badAbove, warnAbove, warnBelow, badBelow }) {
  const past = (bound, over) => bound !== undefined && bound !== "" && (over ? value > Number(bound) : value < Number(bound));
  if (!Number.isFinite(value) || past(badAbove, true) || past(badBelow, false)) return "bad";
  if (past(warnAbove, true) || past(warnBelow, false)) return "warning";
  return "good";
}
