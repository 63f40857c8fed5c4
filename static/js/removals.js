/** Runs that are being deleted, above the list: kept fresh until the last one is gone. */

const EVERY = 1500;

/** Ask for the words again while `holder` names something that is still going. */
export function watchRemovals(holder) {
  if (!holder?.querySelector("[data-going-on]")) return;
  setTimeout(async () => {
    try {
      const answer = await fetch(holder.dataset.removals, { headers: { "HX-Request": "true" } });
      if (answer.ok) {
        const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
        holder.replaceChildren(...parsed.body.childNodes);
      }
    } catch {
      // The connection pill says so; the next round asks again.
    }
    watchRemovals(holder);
  }, EVERY);
}
