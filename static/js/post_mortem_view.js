/** The post-mortem, asked for again while words, lines and points of the attempt still arrive. */
import { duration } from "./format.js";

const EVERY = 1500;
const LONGEST = 8000;

export function postMortemView(element) {
  if (!element) return { refresh() {} };
  const note = document.createElement("p");
  note.className = "small stale";
  note.setAttribute("role", "status");
  note.hidden = true;
  element.before(note);
  let asked = Date.now();
  let timer = null;

  const inHand = () => document.hidden || element.contains(document.activeElement) || reading();
  /** Somebody selects text in it. */
  function reading() {
    const selection = getSelection();
    return !selection.isCollapsed && element.contains(selection.anchorNode);
  }

  async function load() {
    timer = null;
    if (inHand()) return refresh();
    try {
      const answer = await fetch(element.dataset.url, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(LONGEST) });
      if (answer.redirected || answer.status === 401) throw new Error("you are signed out; load the page again");
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      put(element, await answer.text());
      asked = Date.now();
      delete element.dataset.failed;
      note.hidden = true;
    } catch (error) {
      const why = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
      element.dataset.failed = "";
      note.hidden = false;
      note.textContent = `This is ${duration((Date.now() - asked) / 1000)} old: ${why}. It is asked for again.`;
      refresh();
    }
  }

  function refresh() {
    if (!element.querySelector("[data-settled]")) timer ??= setTimeout(load, EVERY);
  }
  showEnds(element);
  return { refresh };
}

/** Put it in the place of the old one; what was open stays open, and where its reader was. */
export function put(element, text) {
  const fresh = document.createElement("template");
  fresh.innerHTML = text;
  for (const part of fresh.content.querySelectorAll("details[id]")) {
    const old = document.getElementById(part.id);
    if (old) [part.open, part.hidden] = [old.open, old.hidden];
  }
  const places = [...element.querySelectorAll("pre")].map((pre) => pre.scrollTop + pre.clientHeight < pre.scrollHeight - 4 ? pre.scrollTop : null);
  element.replaceChildren(fresh.content);
  showEnds(element);
  element.querySelectorAll("pre").forEach((pre, at) => { if (places[at]) pre.scrollTop = places[at]; });
}

/** A log is read from its end. */
function showEnds(element) {
  for (const text of element.querySelectorAll("[data-end]")) text.scrollTop = text.scrollHeight;
}
