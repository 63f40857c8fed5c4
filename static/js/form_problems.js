/** Problems of a spec at their fields: at the exact path, or at the nearest part above it. */

/** The element whose `data-path` is `path` or the nearest above it; null when there is none. */
export function nearest(form, path) {
  for (let place = path; place; place = place.slice(0, Math.max(0, place.lastIndexOf(".")))) {
    const found = form.querySelector(`[data-path="${CSS.escape(place)}"]`);
    if (found) return found;
  }
  return null;
}

/** Replace the problems that are shown; open folds that hide one. */
export function placeProblems(form, problems, doubts) {
  for (const list of form.querySelectorAll("[data-errors]")) list.replaceChildren();
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  write(form, doubts, "doubt");
  write(form, problems, "");
}

function write(form, places, kind) {
  for (const [path, messages] of Object.entries(places)) {
    const part = nearest(form, path);
    const list = part?.querySelector("[data-errors]");
    if (!list) continue;
    for (const message of messages) {
      const item = document.createElement("li");
      item.className = kind;
      item.textContent = message;
      list.append(item);
    }
    if (kind) continue;
    if (part.classList.contains("nr-field")) part.querySelector(".nr-control [name]:not([type=hidden])")?.setAttribute("aria-invalid", "true");
    open(part);
  }
}

function open(part) {
  for (let fold = part.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

/** Show and focus the field at a path. */
export function goTo(form, path) {
  const part = nearest(form, path);
  if (!part) return;
  open(part);
  part.scrollIntoView({ block: "center" });
  part.querySelector("input:not([type=hidden]), select, textarea")?.focus({ preventScroll: true });
}
