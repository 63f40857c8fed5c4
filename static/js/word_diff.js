/** Which words of two texts differ: a longest common subsequence of words and spaces. */
const MOST = 1500;

/** Words, runs of space and single other characters, in order. */
export const words = (text) => text.match(/\p{L}+|\p{N}+|\s+|[^\p{L}\p{N}\s]/gu) ?? [];

/**
 * Parts of `other` as seen from `one`: [{text, kind}], kind is same, added (in `other` alone) or removed (in `one`
 * alone). Null for texts of so many words that nobody would wait for it.
 */
export function wordDiff(one, other) {
  const [a, b] = [words(one), words(other)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  if (left.length > MOST || right.length > MOST) return null;
  const parts = [];
  for (const word of a.slice(0, start)) push(parts, word, "same");
  middle(left, right, parts);
  for (const word of a.slice(a.length - end)) push(parts, word, "same");
  return parts;
}

function middle(a, b, parts) {
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      longest[i * width + j] = a[i] === b[j] ? longest[(i + 1) * width + j + 1] + 1 : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { push(parts, a[i], "same"); i += 1; j += 1; }
    else if (j === b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) { push(parts, a[i], "removed"); i += 1; }
    else { push(parts, b[j], "added"); j += 1; }
  }
}

function push(parts, text, kind) {
  const last = parts.at(-1);
  if (last?.kind === kind) last.text += text;
  else parts.push({ text, kind });
}
