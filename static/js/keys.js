/** The keyboard: j k x Enter in lists, / and Ctrl-K to search, [ ] for tabs, ? for help. */

const TYPING = "input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable]";

export function listenKeys() {
  document.addEventListener("keydown", (event) => {
    const search = document.querySelector("[data-search]");
    if (event.key === "k" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      return search?.focus();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPING) || event.target.closest("dialog")) return;
    const act = KEYS[event.key];
    if (!act) return;
    if (act(event) !== false) event.preventDefault();
  });
}

const rows = () => [...document.querySelectorAll("tr[data-href]")];
const current = () => document.querySelector("tr.cursor");

function move(by) {
  const all = rows();
  if (!all.length) return false;
  const at = all.indexOf(current());
  const next = all[Math.max(0, Math.min(all.length - 1, at === -1 ? 0 : at + by))];
  current()?.classList.remove("cursor");
  next.classList.add("cursor");
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function tab(by) {
  const all = [...document.querySelectorAll(".tabs a")];
  const at = all.findIndex((link) => link.hasAttribute("aria-current"));
  const next = all[at + by];
  if (at === -1 || !next) return false;
  next.click();
  return true;
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  x: () => { current()?.querySelector("input[type=checkbox]")?.click(); },
  Enter: () => {
    if (document.activeElement !== document.body || !current()) return false;
    location.assign(current().dataset.href);
    return true;
  },
  "[": () => tab(-1),
  "]": () => tab(1),
  "/": () => { document.querySelector("[data-search]")?.focus(); },
  "?": () => { document.querySelector("[data-keys-help]")?.showModal(); },
};
