/** Show what the socket says of itself in the pill at the top right. */
export function showConnection({ level, words }) {
  const pill = document.querySelector("[data-connection]");
  if (!pill) return;
  pill.hidden = false;
  const text = pill.querySelector("[data-words]");
  if (text.textContent !== words) text.textContent = words;
  pill.querySelector(".dot").dataset.level = level;
}
