/** Buttons with data-copy="ID" copy the text of that element, and say so for a moment. */
export function copyButtons(root) {
  root.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      say(button, "Copied");
    } catch {
      // Without a secure origin there is no clipboard: select it for Ctrl-C.
      const fold = source.closest("details");
      if (fold) [fold.hidden, fold.open] = [false, true];
      getSelection().selectAllChildren(source);
      say(button, "Selected");
    }
  });
}

function say(button, word) {
  const label = button.lastChild;
  button.dataset.words ??= label.textContent;
  label.textContent = word;
  setTimeout(() => (label.textContent = button.dataset.words), 1500);
}
