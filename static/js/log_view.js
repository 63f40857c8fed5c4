/** The log: lines are added at the end; it follows until its reader scrolls up. */
import { clock } from "./clock.js";

const MOST = 5000;

export function logView(element) {
  if (!element) return null;
  const list = element.querySelector("[data-lines]");
  const follow = element.querySelector("[data-follow]");
  const toEnd = () => { if (follow.checked) list.scrollTop = list.scrollHeight; };
  let seen = Number(list.dataset.last || 0);

  list.addEventListener("wheel", (event) => { if (event.deltaY < 0) follow.checked = false; }, { passive: true });
  list.addEventListener("scroll", () => {
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 8) follow.checked = true;
  }, { passive: true });
  follow.addEventListener("change", toEnd);
  element.querySelector("[data-find]")?.addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const line of list.children) line.hidden = wanted !== "" && !line.textContent.toLowerCase().includes(wanted);
  });
  toEnd();

  return {
    append(lines) {
      element.querySelector("[data-none]")?.remove();
      for (const line of lines) {
        if (line.id !== undefined && line.id <= seen) continue;
        seen = line.id ?? seen;
        list.append(row(line, Number(list.dataset.offset)));
      }
      while (list.children.length > MOST) list.firstElementChild.remove();
      toEnd();
    },
  };
}

function row({ time, text }, offset) {
  const line = document.createElement("div");
  const when = document.createElement("time");
  when.textContent = clock(time + offset);
  const words = document.createElement("span");
  words.textContent = text;
  line.append(when, words);
  return line;
}
