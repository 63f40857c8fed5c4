/** The page of a dataset: long cells unfold, suggestions fill the selects, deleting asks first. */
import { confirmForms } from "./confirm.js";

confirmForms(document);

for (const cell of document.querySelectorAll("[data-long]")) {
  // What fits needs no button: lengths are guessed on the server.
  if (cell.scrollHeight <= cell.clientHeight) continue;
  cell.classList.add("clipped");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button quiet more-of-cell";
  const show = (open) => {
    cell.classList.toggle("open", open);
    cell.classList.toggle("clipped", !open);
    button.textContent = open ? "Show less" : "Show all";
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => show(!cell.classList.contains("open")));
  show(false);
  cell.after(button);
}

const take = document.querySelector("[data-take-suggestions]");
if (take) {
  const selects = [...document.querySelectorAll("select[data-suggested]")];
  take.hidden = selects.length === 0;
  take.addEventListener("click", () => {
    for (const select of selects) select.value = select.dataset.suggested;
    take.hidden = true;
  });
}
