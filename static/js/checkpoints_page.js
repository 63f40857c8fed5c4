/** The list of checkpoints: how many are selected, and the button that compares them. */
const form = document.querySelector("[data-select]");

if (form) {
  const bulk = form.querySelector("[data-bulk]");
  const boxes = () => [...form.querySelectorAll("input[name=with]")];
  const count = () => {
    for (const box of boxes()) box.closest("tr").setAttribute("aria-selected", String(box.checked));
    const chosen = boxes().filter((box) => box.checked).length;
    bulk.hidden = chosen === 0;
    bulk.querySelector("[data-count]").textContent = chosen;
    bulk.querySelector("[data-compare]").disabled = chosen < 2;
  };
  form.addEventListener("change", count);
  bulk.querySelector("[data-clear]").addEventListener("click", () => {
    for (const box of boxes()) box.checked = false;
    count();
  });
  count();
}
