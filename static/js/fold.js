/** Fold long texts at twelve lines, with a button that opens them. */
export function foldLong(root) {
  for (const text of root.querySelectorAll("[data-fold]")) {
    if (text.scrollHeight <= text.clientHeight + 4) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button quiet small";
    const show = (open) => {
      text.classList.toggle("open", open);
      button.textContent = open ? "Fold" : "Show all";
      button.setAttribute("aria-expanded", String(open));
    };
    button.addEventListener("click", () => show(!text.classList.contains("open")));
    show(false);
    text.after(button);
  }
}
