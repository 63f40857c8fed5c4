/** Tokens of a playground's answers: how much likelier B finds each than A, and where two answers come apart. */
import { shown } from "./token_heat.js";

const FULL = 4;
const APART = 1;
const NAMES = { a: "A", b: "B", base: "base", blend: "blend" };

/** {text, title, strength, side, apart} for each token; strength from 0 to 1, `side` who finds it likelier, "" where one did not read it. */
export function playCells(tokens) {
  const first = firstApart(tokens);
  return tokens.map((token, at) => {
    const gap = gapOf(token);
    return {
      text: shown(token.text, token.id),
      title: [`token ${at + 1} (id ${token.id}) ${JSON.stringify(token.text)}`, ...told(token.logps), ...difference(gap)].join("\n"),
      strength: gap === null ? 0 : Math.min(1, Math.abs(gap) / FULL),
      side: !gap ? "" : gap > 0 ? "b" : "a",
      apart: at === first,
    };
  });
}

/** The first token that one model finds e times as likely as the other, or null. */
export function firstApart(tokens) {
  const at = tokens.findIndex((token) => Math.abs(gapOf(token) ?? 0) > APART);
  return at === -1 ? null : at;
}

const finite = (value) => typeof value === "number" && Number.isFinite(value);

/** Log-probability under B minus under A; null where one of them is not known. */
function gapOf({ logps }) {
  return finite(logps.a) && finite(logps.b) ? logps.b - logps.a : null;
}

function told(logps) {
  return Object.keys(NAMES).filter((name) => finite(logps[name])).map((name) => `log p under ${NAMES[name]}: ${logps[name].toFixed(3)} (${percent(logps[name])})`);
}

function difference(gap) {
  if (gap === null) return ["one of the two models cannot read it"];
  return [`B minus A: ${gap > 0 ? "+" : ""}${gap.toFixed(3)} nats`];
}

function percent(logp) {
  const share = 100 * Math.exp(logp);
  return share >= 0.1 ? `${share.toFixed(1)} %` : "under 0.1 %";
}

/** What is said of an answer's tokens: where A and B first disagree about them. */
export function tokensHeadline(tokens) {
  if (!tokens.length) return "no token";
  const count = `${tokens.length} token${tokens.length === 1 ? "" : "s"}`;
  if (tokens.every((token) => gapOf(token) === null)) return `${count}; A and B did not both read them`;
  const first = firstApart(tokens);
  return `${count}; A and B ${first === null ? "nowhere apart by more than 1 nat" : `apart first at token ${first + 1}`}`;
}

/** The first place where two answers have different tokens: their number before it; null where they are the same. */
export function partingOf(one, other) {
  const most = Math.max(one.length, other.length);
  for (let at = 0; at < most; at += 1) if (one[at]?.id !== other[at]?.id) return at;
  return null;
}

/** How two answers part, in words; `name` is what the second one is called. */
export function partingWords(one, other, name = "B") {
  const at = partingOf(one, other);
  if (at === null) return `the same ${one.length} tokens as A`;
  const said = (token) => (token ? `“${shown(token.text, token.id)}”` : "ends");
  return `${at === 0 ? "parts from A at its first token" : `as A for ${at} token${at === 1 ? "" : "s"}`}: A ${said(one[at])}, ${name} ${said(other[at])}`;
}
