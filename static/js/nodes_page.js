/** The nodes page: the socket says that nodes changed, and the cards are drawn again where no hand is at work. */
import { confirmForms } from "./confirm.js";
import { showConnection } from "./connection.js";
import { copyButtons } from "./copy.js";
import { ago } from "./format.js";
import { redrawParts } from "./parts.js";
import { connect } from "./socket.js";

const root = document.querySelector("[data-nodes]");
const trouble = document.querySelector("[data-trouble]");
const OLD = 20_000;
let fresh = Date.now();
let words = "";
let loading = false;
let again = false;

function drawn(part) {
  for (const bar of part.querySelectorAll("[data-width]")) bar.style.width = `${bar.dataset.width}%`;
  confirmForms(part);
}

async function load() {
  if (document.hidden) return;
  if (loading) return void (again = true);
  loading = true;
  try {
    const answer = await fetch(root.dataset.url);
    if (!answer.ok || answer.redirected) throw new Error(answer.redirected ? "you are signed out" : `the server answered ${answer.status}`);
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    redrawParts(root, holder.content, drawn);
    fresh = Date.now();
    words = "";
  } catch (error) {
    words = error instanceof TypeError ? "the server does not answer" : error.message;
  }
  loading = false;
  tell();
  if (!again) return;
  again = false;
  load();
}

/** Old figures are never shown as new ones. */
function tell() {
  const age = Date.now() - fresh;
  const old = Boolean(words) || age > OLD;
  root.classList.toggle("old", old);
  trouble.hidden = !old;
  trouble.querySelector("[data-age]").textContent = `These figures are ${Math.round(age / 1000)} s old:`;
  trouble.querySelector("[data-words]").textContent = `${words || "the server says nothing"}. They are read again by themselves.`;
}

function tick() {
  for (const part of root.querySelectorAll("time[data-ago]")) part.textContent = ago((Date.now() - Date.parse(part.dateTime)) / 1000);
  if (document.hidden) return;
  if (words || Date.now() - fresh > OLD) load();
  tell();
}

drawn(root);
copyButtons(document);
setInterval(tick, 1000);
document.addEventListener("visibilitychange", load);
connect(document.body.dataset.socket, {
  watches: () => [{ op: "watch", topic: "nodes" }],
  heard: ({ op }) => op === "nodes" && load(),
  told: showConnection,
});
