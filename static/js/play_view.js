/** Draws questions and answers of a playground. Text of models only ever becomes text. */
import { figure } from "./format.js";
import { blendName, groupsOf, OPEN } from "./play_question.js";
import { partingWords, playCells, tokensHeadline } from "./play_tokens.js";
import { wordDiff } from "./word_diff.js";

const KIND = { added: "ins", removed: "del" };
const WAITS = { waiting: "waits for its turn", answering: "is being answered" };
const SIDES = { a: "var(--series-1)", b: "var(--series-2)" };

/** @param {HTMLElement} place @param {{a: string, b: string, base?: string}} names @param {(group) => void} again */
export function playView(place, names, again) {
  const cards = new Map();
  let show = "diff";

  function draw(questions) {
    const groups = groupsOf(questions);
    const wanted = groups.map((group) => card(group));
    for (const [key, one] of cards) if (!groups.some((group) => group.key === key)) cards.delete(key) && one.node.remove();
    wanted.forEach((node, at) => { if (place.children[at] !== node) place.insertBefore(node, place.children[at] ?? null); });
  }

  /** The card of a group, drawn again only where something of it changed. */
  function card(group) {
    const known = cards.get(group.key);
    const told = JSON.stringify([show, group]);
    if (known?.told === told) return known.node;
    const node = drawn(group);
    known?.node.replaceWith(node);
    cards.set(group.key, { node, told });
    return node;
  }

  function drawn(group) {
    const node = element("article", { className: "card asked", ariaLabel: `Asked: ${group.question.prompt.slice(0, 80)}` });
    const open = group.voices.some((one) => OPEN.includes(one.state));
    if (open) node.setAttribute("aria-busy", "true");
    const reuse = element("button", { type: "button", className: "button quiet push", title: "Put this prompt and its knobs back into the form" }, "Use again");
    reuse.addEventListener("click", () => again(group.question));
    const head = element("header", {}, element("span", { className: "small muted knobs-said" }, knobs(group)), reuse);
    const inside = element("div", { className: "inside stack" }, element("pre", { className: "prompt" }, group.question.prompt), element("div", { className: "answers" }, ...group.voices.map((one) => voice(one, group))));
    node.append(head, inside);
    return node;
  }

  function voice(one, group) {
    const node = element("section", { className: "answer-arm" });
    node.dataset.voice = one.voice;
    if (one.voice === "a" || one.voice === "b") node.dataset.side = one.voice;
    const name = one.voice === "blend" ? blendName(one.blend) : names[one.voice] ?? one.voice;
    const chip = { a: "A", b: "B", base: "base", blend: "blend" }[one.voice];
    node.append(element("h3", { className: "row tight" }, element("span", { className: "fold", title: name }, name), element("span", { className: "chip" }, chip)));
    const first = group.voices.find((other) => other.voice === "a");
    if (one.answers.length) node.append(...one.answers.map((answer) => given(answer, one, first)));
    else node.append(missing(one));
    return node;
  }

  function missing(one) {
    if (OPEN.includes(one.state)) {
      const wait = element("div", { className: "stack waits-answer" }, element("div", { className: "skeleton" }), element("p", { className: "small muted" }, `It ${WAITS[one.state]}.`));
      return wait;
    }
    return problem(one.problem || (one.state === "lost" ? "The playground ended before it answered." : "No answer came."));
  }

  function given(answer, one, first) {
    const node = element("div", { className: "given" });
    if (answer.problem) {
      node.append(problem(answer.problem));
      return node;
    }
    const other = one.voice === "a" ? null : first?.answers.find((found) => found.index === answer.index && !found.problem);
    if (show === "tokens") node.append(strip(answer.tokens));
    else node.append(text(answer, show === "diff" ? other : null));
    const facts = [show === "tokens" ? tokensHeadline(answer.tokens) : `${figure(answer.tokens.length)} tokens`];
    if (answer.finish_reason === "length") facts.push("cut off");
    if (one.answers.length > 1) facts.push(`sample ${answer.index + 1}`);
    if (other && answer.tokens.length && other.tokens.length) facts.push(partingWords(other.tokens, answer.tokens, { b: "B", base: "the base", blend: "the blend" }[one.voice]));
    node.append(element("p", { className: "small muted facts-said" }, facts.join(" · ")));
    return node;
  }

  return {
    draw,
    show: (mode) => { show = mode; },
  };
}

function text(answer, other) {
  if (!answer.text) return element("p", { className: "small faint" }, "(an empty answer)");
  const parts = other ? wordDiff(other.text, answer.text) : null;
  return element("pre", { className: "text" }, ...(parts ? parts.map(part) : [answer.text]));
}

const part = ({ text: words, kind }) => (kind === "same" ? words : element(KIND[kind], {}, words));

function strip(tokens) {
  const row = element("div", { className: "cells play-cells" });
  row.append(...playCells(tokens).map((cell) => {
    const node = element("span", { className: "cell", title: cell.title }, cell.text);
    if (cell.side) {
      node.style.setProperty("--cell", SIDES[cell.side]);
      node.style.setProperty("--strength", `${Math.round(cell.strength * 80)}%`);
    }
    if (cell.apart) node.dataset.apart = "";
    return node;
  }));
  return row;
}

function problem(words) {
  const note = element("p", { className: "note small" }, element("span", {}, words));
  note.dataset.level = "warning";
  return note;
}

function knobs({ question, voices, by }) {
  const said = [`temperature ${question.temperature}`, `seed ${question.seed}`, `up to ${question.max_new_tokens} tokens`];
  if (question.top_p < 1) said.push(`top_p ${question.top_p}`);
  if (question.top_k > 0) said.push(`top_k ${question.top_k}`);
  if (question.min_p > 0) said.push(`min_p ${question.min_p}`);
  if (question.chat) said.unshift("chat");
  const weights = voices.filter((one) => one.voice === "blend").map((one) => blendName(one.blend));
  return [by, ...weights, ...said].filter(Boolean).join(" · ");
}

/** An element with properties and children; a text child is text. */
function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
