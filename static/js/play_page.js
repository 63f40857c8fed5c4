/** The page of a playground: asks, and keeps the answers and the playground's state fresh without a reload. */
import { confirmForms } from "./confirm.js";
import { showConnection } from "./connection.js";
import { merged, missingOf, OPEN, questionOf, settledUpto, weightWords } from "./play_question.js";
import { playView } from "./play_view.js";
import { ask, csrfToken } from "./rest.js";

const SOON = 400;
const LATER = 3000;
const SEED_END = 2 ** 31;
const ENDED = ["stopped", "finished", "failed"];

const root = document.querySelector("[data-play]");
const part = (name) => root.querySelector(`[data-${name}]`);
const form = part("form");
const field = (name) => form.elements.namedItem(name);
const csrf = csrfToken();
const urls = root.dataset;
let shape = JSON.parse(document.getElementById("playground").textContent);
let questions = JSON.parse(document.getElementById("questions").textContent);
let timer = null;
let failures = 0;
/** Whether the slider moved while a question was on its way. */
let again = false;

const names = Object.fromEntries(shape.models.map((model) => [model.voice, model.label]));
const view = playView(part("asked"), names, useAgain);

function draw() {
  view.draw(questions);
  part("nothing").hidden = questions.length > 0;
  const open = questions.filter((one) => OPEN.includes(one.state)).length;
  say(part("status"), open ? `${open} question${open === 1 ? "" : "s"} open${shape.ready ? "" : shape.state === "queued" ? "; the playground waits for a place" : "; the models are loading"}` : "");
}

function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function complain(words) {
  part("problem").hidden = !words;
  say(part("problem"), words);
}

/** State and reason; what the page says beside them depends on it. */
function told(now) {
  const before = `${shape.state} ${shape.ready}`;
  shape = now;
  const ended = ENDED.includes(shape.state);
  root.dataset.playState = shape.state;
  const pill = part("pill");
  pill.dataset.state = shape.state;
  pill.title = shape.reason;
  say(pill.querySelector("[data-word]"), shape.ready && !ended ? "ready" : shape.state);
  pill.querySelector("use").setAttribute("href", `#i-${shape.state}`);
  for (const reason of root.querySelectorAll("[data-reason]")) say(reason, shape.reason);
  part("waits").hidden = shape.ready || ended;
  part("loads").hidden = shape.state === "queued";
  part("ended").hidden = !ended;
  part("stop")?.toggleAttribute("hidden", ended);
  part("ask").disabled = ended || !form.dataset.may;
  if (before !== `${shape.state} ${shape.ready}`) draw();
}

async function send() {
  again = false;
  complain("");
  for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  let asked;
  try {
    asked = missingOf(questionOf(values()), questions);
  } catch (error) {
    return wrong(error);
  }
  if (!asked) return complain("That was asked: the same seed gives the same answers. Move the slider, or change the seed or the prompt.");
  part("ask").disabled = true;
  try {
    const made = await ask("POST", urls.questions, csrf, asked);
    questions = merged(questions, [{ by: "", problem: "", answers: [], state: "waiting", question: asked, ...made }]);
    draw();
    soon();
  } catch (error) {
    wrong(error);
  }
  part("ask").disabled = ENDED.includes(shape.state);
  if (again && !part("ask").disabled) send();
}

function wrong(error) {
  complain(error.message);
  const found = error.path && field(error.path.split(".").at(-1));
  if (!found?.setAttribute) return;
  found.setAttribute("aria-invalid", "true");
  found.closest("details")?.setAttribute("open", "");
  found.focus();
}

function values() {
  const found = Object.fromEntries(new FormData(form));
  return { ...found, chat: field("chat").checked, base: Boolean(field("base")?.checked) };
}

/** Put a question back into the form. */
function useAgain(question) {
  for (const name of ["prompt", "samples", "temperature", "top_p", "top_k", "min_p", "max_new_tokens", "seed"]) field(name).value = question[name];
  field("chat").checked = Boolean(question.chat);
  field("prompt").focus();
  form.scrollIntoView({ block: "start" });
}

function soon(wait = SOON) {
  clearTimeout(timer);
  timer = setTimeout(look, wait);
}

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const after = settledUpto(questions);
    const [now, came] = await Promise.all([ask("GET", urls.state, csrf), ask("GET", `${urls.questions}?after=${after}`, csrf)]);
    questions = merged(questions, came.questions);
    failures = 0;
    showConnection({ level: "live", words: "live" });
    part("lost").hidden = true;
    told(now);
    draw();
  } catch (error) {
    failures += 1;
    showConnection({ level: "warning", words: "reconnecting" });
    part("lost").hidden = failures < 2;
    say(part("lost-why"), error.status === 0 ? "The server does not answer. What was asked stays here; the page goes on trying." : error.message);
    return error.status === 401 ? undefined : soon(Math.min(15_000, LATER * failures));
  }
  const open = questions.some((one) => OPEN.includes(one.state));
  if (ENDED.includes(shape.state) && !open) return;
  soon(open || !shape.ready ? SOON : LATER);
}

function showWeight(source) {
  const mode = field("mode").value;
  const [slider, box] = [field("slider"), field("weight")];
  if (source === slider) box.value = slider.value;
  const weight = Number(box.value.replace("−", "-"));
  if (source === box && Number.isFinite(weight)) slider.value = weight;
  part("weight-row").hidden = mode === "none";
  const words = weightWords(mode, Number.isFinite(weight) ? weight : 0);
  say(part("weight-words"), words);
  slider.setAttribute("aria-valuetext", words);
  for (const end of root.querySelectorAll("[data-zero]")) say(end, mode === "proxy" ? "base" : "A");
  for (const end of root.querySelectorAll("[data-one]")) say(end, mode === "proxy" ? "+ B − A" : "B");
}

function showAs(mode) {
  for (const button of root.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", String(button.dataset.show === mode));
  part("legend").hidden = mode !== "tokens";
  view.show(mode);
  draw();
  const url = new URL(location.href);
  if (mode === "diff") url.searchParams.delete("show");
  else url.searchParams.set("show", mode);
  history.replaceState(null, "", url);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || part("ask").disabled) return;
  event.preventDefault();
  send();
});
form.addEventListener("input", ({ target }) => showWeight(target));
field("slider").addEventListener("change", () => {
  if (!field("follow").checked || !field("prompt").value.trim()) return;
  if (part("ask").disabled) again = true;
  else send();
});
part("new-seed").addEventListener("click", () => { field("seed").value = Math.floor(Math.random() * SEED_END); });
for (const mark of root.querySelectorAll("[data-weight]")) mark.addEventListener("click", () => {
  field("slider").value = mark.dataset.weight;
  showWeight(field("slider"));
  field("slider").dispatchEvent(new Event("change"));
});
for (const button of root.querySelectorAll("[data-show]")) button.addEventListener("click", () => showAs(button.dataset.show));
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
confirmForms(root);
const wanted = new URLSearchParams(location.search).get("show");
showWeight(null);
showAs(root.querySelector(`[data-show="${CSS.escape(wanted ?? "")}"]`) ? wanted : "diff");
told(shape);
look();
