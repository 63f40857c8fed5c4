/** What the form of a playground asks, and which questions belong together. No page is needed here. */

export const OPEN = ["waiting", "answering"];
/** States after which the same may be asked again. */
const FAILED = ["failed", "lost"];
const WHOLE = ["samples", "top_k", "max_new_tokens", "seed"];
const BROKEN = ["temperature", "top_p", "min_p"];

/** A question of the API from the fields' texts; a field that is no number raises an Error that names it. */
export function questionOf(fields) {
  const asked = { prompt: fields.prompt, chat: fields.chat === true };
  for (const name of WHOLE) asked[name] = number(fields[name], name, /^\d+$/, "a whole number");
  for (const name of BROKEN) asked[name] = number(fields[name], name, /^\d*\.?\d+$/, "a number, like 0.7");
  if (!asked.prompt.trim()) throw wrong("prompt", "write something to ask");
  const voices = fields.base ? ["a", "b", "base"] : ["a", "b"];
  if (fields.mode === "none") return { ...asked, voices };
  const weight = number(fields.weight, "weight", /^[-−]?\d*\.?\d+$/, "a number from -1 to 3");
  if (weight < -1 || weight > 3) throw wrong("weight", "must be from -1 to 3");
  return { ...asked, voices: [...voices, "blend"], blend: { mode: fields.mode, weight } };
}

function number(text, name, form, words) {
  const typed = String(text ?? "").trim();
  if (!form.test(typed)) throw wrong(name, `must be ${words}`);
  return Number(typed.replace("−", "-"));
}

const wrong = (path, words) => Object.assign(new Error(`${path}: ${words}`), { path });

/** Questions that differ by who answers and by the blend's weight alone have one key: all else is the same for them. */
export function keyOf(question) {
  const { prompt, chat, samples, temperature, top_p, top_k, min_p, max_new_tokens, seed } = question;
  return JSON.stringify([prompt, Boolean(chat), samples, temperature, top_p, top_k, min_p, max_new_tokens, seed]);
}

/**
 * What is left to ask, because a question draws the same from the same seed however often it is asked: the voices that
 * no earlier question has, or null where all were asked.
 */
export function missingOf(question, asked) {
  const same = asked.filter((one) => !FAILED.includes(one.state) && keyOf(one.question) === keyOf(question));
  const there = (voice) => same.some((one) => one.question.voices.includes(voice) && (voice !== "blend" || sameBlend(one.question.blend, question.blend)));
  const voices = question.voices.filter((voice) => !there(voice));
  if (!voices.length) return null;
  const { blend, ...rest } = question;
  return voices.includes("blend") ? { ...rest, voices, blend } : { ...rest, voices };
}

const sameBlend = (one, other) => one?.mode === other?.mode && one?.weight === other?.weight;

/**
 * Questions as they are shown, the one that was asked last first: {key, id, question, asked, by, voices: [{voice, blend,
 * state, problem, answers, id}]}. Blends are in the order of their weights.
 */
export function groupsOf(questions) {
  const groups = new Map();
  for (const one of questions) {
    const key = keyOf(one.question);
    const group = groups.get(key) ?? { key, question: one.question, voices: [] };
    Object.assign(group, { id: one.id, asked: one.asked, by: one.by });
    groups.set(key, group);
    for (const voice of one.question.voices) place(group.voices, voiceOf(one, voice));
  }
  for (const group of groups.values()) group.voices.sort((one, other) => rank(one) - rank(other));
  return [...groups.values()].sort((one, other) => other.id - one.id);
}

function voiceOf(one, voice) {
  const answers = one.answers.filter((answer) => answer.voice === voice);
  return { voice, id: one.id, blend: voice === "blend" ? one.question.blend : null, state: one.state, problem: one.problem, answers };
}

/** What was asked again takes the place of what failed. */
function place(voices, found) {
  const at = voices.findIndex((one) => one.voice === found.voice && (found.voice !== "blend" || sameBlend(one.blend, found.blend)));
  if (at === -1) voices.push(found);
  else if (!voices[at].answers.some((answer) => !answer.problem)) voices[at] = found;
}

const ORDER = { a: 0, b: 1, base: 2 };
const rank = ({ voice, blend }) => ORDER[voice] ?? (blend.mode === "mix" ? 10 : 20) + blend.weight;

/** The last question's id from which on nothing is settled: what comes behind it is asked for again. */
export function settledUpto(questions) {
  const open = questions.filter((one) => OPEN.includes(one.state)).map((one) => one.id);
  if (open.length) return Math.min(...open) - 1;
  return Math.max(0, ...questions.map((one) => one.id));
}

/** `known` with what came in the place of what it had. */
export function merged(known, came) {
  const ids = new Set(came.map((one) => one.id));
  return [...known.filter((one) => !ids.has(one.id)), ...came].sort((one, other) => one.id - other.id);
}

/** What a weight does, in words. */
export function weightWords(mode, weight) {
  if (mode === "none") return "A and B answer alone.";
  const base = mode === "proxy";
  if (weight === 0) return base ? "0: the base alone" : "0: A alone";
  if (weight === 1) return base ? "1: the base with the whole difference of B to A" : "1: B alone";
  if (weight < 0) return `${shown(weight)}: ${base ? "the base, away from where B went" : "A, away from B"}`;
  if (weight > 1) return `${shown(weight)}: ${base ? "the difference of B to A, exaggerated" : "what sets B apart from A, exaggerated"}`;
  return `${shown(weight)}: ${base ? "the base with a part of B's difference to A" : "between A and B"}`;
}

/** A weight as a short figure, with a true minus. */
export const shown = (weight) => String(Number(weight.toFixed(2))).replace("-", "−");

/** What a blend is called. */
export const blendName = ({ mode, weight }) => `${mode === "mix" ? "Mix" : "Proxy"} w = ${shown(weight)}`;
