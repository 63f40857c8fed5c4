/** A part of the page that the server draws again, but never under the pointer or over a selection. */
const EVERY = 1000;

export function partView(element, drawn = () => {}) {
  if (!element) return { refresh() {} };
  let timer = null;
  let stale = false;

  async function load() {
    timer = null;
    if (element.matches(":hover") || element.contains(document.activeElement) || document.hidden) {
      stale = true;
      return;
    }
    stale = false;
    const answer = await fetch(element.dataset.url, { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    element.replaceChildren(holder.content);
    drawn(element);
  }

  const refresh = () => { timer ??= setTimeout(load, EVERY); };
  element.addEventListener("pointerleave", () => stale && refresh());
  document.addEventListener("visibilitychange", () => stale && refresh());
  return { refresh };
}
