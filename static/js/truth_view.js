/** The truth panel, asked again every two seconds; what did not change stays, so that a help text stays open. */
import { duration } from "./format.js";

const EVERY = 2000;
const SLOW = 700;
const LONGEST = 8000;
const OLD = 5000;

export function truthView(element) {
  if (!element) return;
  const holder = element.querySelector("[data-truth-figures]");
  const note = element.querySelector("[data-truth-note]");
  let asked = Date.now();

  async function turn() {
    if (!document.hidden) await ask();
    // Nothing more can change once all of an ended run has arrived.
    if (holder.querySelector("[data-settled]")) return say("The run has ended and all of its data has arrived.");
    setTimeout(turn, EVERY);
  }

  async function ask() {
    const slow = setTimeout(() => { holder.setAttribute("aria-busy", "true"); say(waiting()); }, SLOW);
    try {
      const answer = await fetch(element.dataset.url, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(LONGEST) });
      if (answer.redirected || answer.status === 401) throw new Error("you are signed out; load the page again");
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      merge(holder, await answer.text());
      asked = Date.now();
      delete element.dataset.failed;
      say("Asked again every 2 s.");
    } catch (error) {
      element.dataset.failed = "";
      const why = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
      say(`These figures are ${duration((Date.now() - asked) / 1000)} old: ${why}.`);
    } finally {
      clearTimeout(slow);
      holder.removeAttribute("aria-busy");
    }
  }

  /** While an answer is awaited: from when the figures are, once that is not a moment ago. */
  function waiting() {
    const age = (Date.now() - asked) / 1000;
    return age * 1000 < OLD ? "Asking the server…" : `These figures are ${duration(age)} old: asking the server again…`;
  }

  function say(words) {
    if (note.textContent !== words) note.textContent = words;
  }

  setTimeout(turn, EVERY);
}

/** Put new figures in the place of old ones; a panel of another shape is replaced as a whole. */
export function merge(holder, text) {
  const fresh = document.createElement("template");
  fresh.innerHTML = text;
  const [old, now] = [holder, fresh.content].map((root) => [...root.querySelectorAll("[data-figure]")]);
  const same = old.length === now.length && old.every((part, at) => part.dataset.figure === now[at].dataset.figure);
  if (!same || fresh.content.querySelector("[data-settled]")) return holder.replaceChildren(fresh.content);
  old.forEach((part, at) => { if (part.outerHTML !== now[at].outerHTML) part.replaceWith(now[at]); });
}
