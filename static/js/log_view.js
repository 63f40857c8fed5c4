/** The log: lines are added at the end; it follows until its reader scrolls up. */
import { clock } from "./clock.js";

const MOST = 5000;
const CAUGHT_UP = 1000;

export function logView(element) {
  if (!element) return null;
  const list = element.querySelector("[data-lines]");
  const find = element.querySelector("[data-find]");
  const follow = element.querySelector("[data-follow]");
  const toEnd = () => { if (follow.checked) list.scrollTop = list.scrollHeight; };
  let seen = Number(list.dataset.last || 0);

  list.addEventListener("wheel", (event) => { if (event.deltaY < 0) follow.checked = false; }, { passive: true });
  list.addEventListener("scroll", () => {
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 8) follow.checked = true;
  }, { passive: true });
  follow.addEventListener("change", toEnd);
  find.addEventListener("input", () => {
    for (const line of list.children) line.hidden = !holds(line, find.value.toLowerCase());
  });
  toEnd();

  function append(lines) {
    const wanted = find.value.toLowerCase();
    if (lines.length) element.querySelector("[data-none]")?.remove();
    for (const line of lines) {
      if (line.id <= seen) continue;
      seen = line.id;
      const added = row(line, Number(list.dataset.offset));
      added.hidden = !holds(added, wanted);
      list.append(added);
    }
    while (list.children.length > MOST) list.firstElementChild.remove();
    toEnd();
  }

  /** Lines that came while no socket was open. */
  async function catchUp() {
    const answer = await fetch(`${list.dataset.url}?lines=${CAUGHT_UP}`, { headers: { Accept: "application/json" } }).catch(() => null);
    if (answer?.ok) append((await answer.json()).items);
  }

  return { append, catchUp };
}

const holds = (line, wanted) => wanted === "" || line.textContent.toLowerCase().includes(wanted);

function row({ time, text }, offset) {
  const line = document.createElement("div");
  const when = document.createElement("time");
  when.textContent = clock(time + offset);
  const words = document.createElement("span");
  words.textContent = text;
  line.append(when, words);
  return line;
}
