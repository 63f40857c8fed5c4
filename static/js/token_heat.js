/** Tokens of an answer by how much likelier its author finds them than a reader: the cells of a heat map. */
const FULL = 4;

/** {text, title, strength, side, apart} for each token of a reading; strength from 0 to 1, `side` who finds it likelier. */
export function cells(reading) {
  return reading.tokens.map(({ text, id, own, other }, at) => {
    const gap = own - other;
    return {
      text: shown(text, id),
      title: `token ${at + 1} (id ${id}): ${own.toFixed(2)} under its author, ${other.toFixed(2)} under the reader`,
      strength: Math.min(1, Math.abs(gap) / FULL),
      side: gap > 0 ? "author" : "reader",
      apart: at === reading.apart,
    };
  });
}

/** A token as text where that is known, its id where not; space and line ends made visible. */
export const shown = (text, id) => (text === "" ? `#${id}` : text.replaceAll("\n", "↵").replaceAll(" ", "·"));

/** What is said of a reading above its cells. */
export function headline(reading) {
  if (reading.problem) return `Read by ${reading.reader}: ${reading.problem}`;
  const first = reading.apart === null ? "nowhere apart by more than 1 nat" : `apart first at token ${reading.apart + 1}`;
  return `Read by ${reading.reader}: ${first}; ${reading.kl.toFixed(2)} nats over ${reading.tokens.length} tokens`;
}
