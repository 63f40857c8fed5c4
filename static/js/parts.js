/** Parts that the server draws again: each [data-part] by its id, but never under a hand. */

/**
 * A part with forms stays while it is pointed at or typed into, or while a dialog asks about one of them: a form that
 * was replaced is not sent. Any part stays while it is being clicked.
 */
function inHand(part) {
  if (!part.querySelector("form")) return part.matches(":active");
  return part.matches(":hover, :focus-within") || document.querySelector("dialog[open]") !== null;
}

/** Put the parts of `next` into `root`; `drawn` is called with what is new. Cards that come or go redraw everything. */
export function redrawParts(root, next, drawn) {
  const list = (of) => [...of.querySelectorAll("[data-node]")].map((card) => card.id).join(" ");
  if (list(root) !== list(next)) return void (inHandAnywhere(root) || redrawAll(root, next, drawn));
  for (const part of next.querySelectorAll("[data-part]")) {
    const old = document.getElementById(part.id);
    if (!old || inHand(old)) continue;
    old.replaceWith(part);
    drawn(part);
  }
  for (const card of next.querySelectorAll("[data-node]")) document.getElementById(card.id).className = card.className;
}

const inHandAnywhere = (root) => [...root.querySelectorAll("[data-part]")].some((part) => part.querySelector("form") && inHand(part));

function redrawAll(root, next, drawn) {
  const open = [...root.querySelectorAll("details[open]")].map((part) => part.id);
  root.replaceChildren(next);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  drawn(root);
}
