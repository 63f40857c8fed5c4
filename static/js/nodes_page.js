/** The nodes page: bars take their width, and the cards are drawn again every few seconds while they are seen. */
import { confirmForms } from "./confirm.js";
import { showConnection } from "./connection.js";

const EVERY = 4000;
const root = document.querySelector("[data-nodes]");
let fresh = Date.now();

function drawn() {
  for (const bar of root.querySelectorAll("[data-width]")) bar.style.width = `${bar.dataset.width}%`;
  confirmForms(root);
}

/** Never under a hand: a form that is pointed at or typed into keeps what it holds. */
const inUse = () => root.querySelector("form:hover, form:focus-within") !== null;

async function load() {
  if (document.hidden || inUse()) return;
  try {
    const answer = await fetch(root.dataset.url);
    if (!answer.ok || answer.redirected) throw new Error(answer.redirected ? "signed out" : `error ${answer.status}`);
    const text = await answer.text();
    if (!inUse()) replace(text);
    fresh = Date.now();
    showConnection({ level: "live", words: "live" });
  } catch (error) {
    const words = error instanceof TypeError ? "no answer" : error.message;
    showConnection({ level: "bad", words: `${words}, not refreshed for ${Math.round((Date.now() - fresh) / 1000)} s` });
  }
}

function replace(text) {
  const open = [...root.querySelectorAll("details[open]")].map((part) => part.id);
  const holder = document.createElement("template");
  holder.innerHTML = text;
  root.replaceChildren(holder.content);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  drawn();
}

drawn();
setInterval(load, EVERY);
document.addEventListener("visibilitychange", load);
