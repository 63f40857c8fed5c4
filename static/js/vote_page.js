/** The vote page: one pair at a time, by button or key. It learns who wrote what from the answer to the vote. */
import { ballotBox } from "./ballots.js";
import { figure } from "./format.js";
import { csrfToken } from "./rest.js";
import { keyAct } from "./vote_keys.js";

const SIDES = ["left", "right"];
const CHOSEN = { left: "You chose answer 1", right: "You chose answer 2", tie: "You called it a tie", "both-bad": "You called both bad" };

const root = document.querySelector("[data-vote]");
const part = (name, within = root) => within.querySelector(`[data-${name}]`);
const box = ballotBox(root.dataset, csrfToken());
const buttons = [...root.querySelectorAll("[data-outcome]")];
let ballot = null;
let vote = null;
let shown = 0;

/** loading, voting, sending, told or stuck. */
function turn(state) {
  root.dataset.state = state;
  for (const button of buttons) button.disabled = state !== "voting";
  part("ask").hidden = state === "told" || state === "stuck";
  part("after").hidden = !part("ask").hidden;
  part("undo").hidden = !vote;
  const mark = part("mark");
  if (mark) mark.hidden = !vote || !SIDES.includes(vote.outcome);
}

function complain(words) {
  part("problem").textContent = words;
  part("problem").hidden = !words;
}

function write(element, text) {
  element.classList.toggle("nothing", !text.trim());
  element.textContent = text.trim() ? text : "(empty answer)";
  element.scrollTop = 0;
}

function say(words) {
  part("told").textContent = words;
}

async function next() {
  if (root.dataset.state === "sending") return;
  [ballot, vote] = [null, null];
  turn("loading");
  complain("");
  say("");
  for (const side of root.querySelectorAll("[data-side]")) {
    delete side.dataset.chosen;
    part("name", side).replaceChildren();
  }
  try {
    ballot = await box.take();
  } catch (error) {
    if (error.status === 409) return nothing(error.message);
    turn("stuck");
    return complain(error.message);
  }
  write(part("prompt"), ballot.prompt);
  for (const side of SIDES) write(part("text", root.querySelector(`[data-side="${side}"]`)), ballot[side]);
  part("left").textContent = ballot.left_words;
  part("voted").textContent = figure(ballot.voted);
  shown = performance.now();
  turn("voting");
}

function nothing(words) {
  root.hidden = true;
  const card = document.querySelector("[data-nothing]");
  part("nothing-title", card).textContent = "Nothing left to vote on";
  part("nothing-words", card).textContent = words;
  card.hidden = false;
}

async function cast(outcome) {
  if (root.dataset.state !== "voting") return;
  turn("sending");
  complain("");
  const seconds = (performance.now() - shown) / 1000;
  try {
    vote = await box.cast(ballot.ballot, outcome, Number(seconds.toFixed(3)));
  } catch (error) {
    // 409: this pair is settled. Anything else may be tried again with the same pair.
    turn(error.status === 409 ? "stuck" : "voting");
    return complain(error.message);
  }
  reveal();
}

function reveal() {
  for (const side of SIDES) {
    const card = root.querySelector(`[data-side="${side}"]`);
    part("name", card).replaceChildren(named(vote[side]));
    if (vote.outcome === side) card.dataset.chosen = "";
  }
  part("voted").textContent = figure(vote.voted);
  say(SIDES.includes(vote.outcome) ? `${CHOSEN[vote.outcome]}: ${vote[vote.outcome].name}.` : `${CHOSEN[vote.outcome]}.`);
  turn("told");
}

function named({ name, checkpoint }) {
  const element = document.createElement(checkpoint ? "a" : "span");
  element.textContent = name;
  element.title = name;
  if (checkpoint) element.href = `/checkpoints/${checkpoint}/`;
  return element;
}

/** What comes after the vote; `done` is what to say of it. */
async function afterwards(act, done) {
  if (!vote || root.dataset.state !== "told") return;
  turn("sending");
  complain("");
  try {
    await act(vote.id);
    vote = null;
    say(done);
  } catch (error) {
    complain(error.message);
  }
  turn("told");
}

const undo = () => afterwards(box.undo, "Taken back: it does not count, and this pair does not come again, since you know the names.");
const mark = () => afterwards(box.mark, "A test item now: others are shown it now and then, and it rates no model.");

const ACTS = { vote: ({ outcome }) => cast(outcome), undo, next: () => ["told", "stuck"].includes(root.dataset.state) && next() };

for (const button of buttons) button.addEventListener("click", () => cast(button.dataset.outcome));
part("undo").addEventListener("click", undo);
part("mark")?.addEventListener("click", mark);
part("next").addEventListener("click", next);
document.addEventListener("keydown", (event) => {
  const found = keyAct(event);
  if (!found) return;
  event.preventDefault();
  ACTS[found.act](found);
});
next();
