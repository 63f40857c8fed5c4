/** Which key does what on the vote page; null where it is none of ours. */

const OUTCOMES = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", t: "tie", b: "both-bad" };
const TYPING = "input, textarea, select, [contenteditable], dialog";
const CLICKED = "button, a, summary";

/** @returns {{act: "vote", outcome: string} | {act: "undo"} | {act: "next"} | null} */
export function keyAct(event) {
  const { key, target } = event;
  // A key that is held down must not vote on what comes next.
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || target.closest(TYPING)) return null;
  if (OUTCOMES[key]) return { act: "vote", outcome: OUTCOMES[key] };
  if (key === "u") return { act: "undo" };
  // On a button the space bar presses it.
  return key === " " && !target.closest(CLICKED) ? { act: "next" } : null;
}
