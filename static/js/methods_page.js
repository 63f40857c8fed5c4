/** The filter of the methods page: hides cards and what is left empty, and keeps itself in the URL. */
const root = document.querySelector("[data-methods]");
const input = root.querySelector("[data-method-filter]");
const items = [...root.querySelectorAll("[data-item]")].map((card) => ({ card, words: card.textContent.toLowerCase() }));
const entries = new Map([...root.querySelectorAll("[data-index]")].map((link) => [link.dataset.index, link]));

function apply() {
  const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { card, words } of items) {
    card.hidden = !wanted.every((word) => words.includes(word));
    entries.get(card.id).hidden = card.hidden;
  }
  for (const group of root.querySelectorAll("[data-group]")) group.hidden = !group.querySelector("[data-item]:not([hidden])");
  for (const group of root.querySelectorAll("[data-index-group]")) group.hidden = !group.querySelector("[data-index]:not([hidden])");
  root.querySelector("[data-nothing]").hidden = items.some(({ card }) => !card.hidden);
}

function remember() {
  const query = new URLSearchParams(location.search);
  if (input.value.trim()) query.set("q", input.value.trim());
  else query.delete("q");
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
}

function clear() {
  input.value = "";
  apply();
  remember();
}

/** A link to a card that the filter hides shows everything again, then goes there. */
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target?.closest("[hidden]")) return;
  clear();
  target.scrollIntoView();
}

input.value = new URLSearchParams(location.search).get("q") ?? "";
input.addEventListener("input", () => { apply(); remember(); });
root.querySelector("[data-clear]").addEventListener("click", clear);
addEventListener("hashchange", follow);
apply();
follow();
