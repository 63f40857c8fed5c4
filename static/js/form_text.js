/** The text tab: open a file, drop one, and find the line that a mistake is on. */

/** Wire the text tab of the form. */
export function textTab(form) {
  form.addEventListener("change", (event) => {
    const picker = event.target;
    if (!picker.matches("[data-open-file]") || !picker.files[0]) return;
    read(form, picker.files[0]);
    picker.value = "";
  });
  form.addEventListener("dragover", (event) => {
    if (event.target.id === "nr-text") event.preventDefault();
  });
  form.addEventListener("drop", (event) => {
    const file = event.target.id === "nr-text" && event.dataTransfer.files[0];
    if (!file) return;
    event.preventDefault();
    read(form, file);
  });
  form.addEventListener("click", (event) => {
    const error = event.target.closest("#nr-text-error");
    if (error) markLine(form.querySelector("#nr-text"), Number(error.dataset.line));
  });
}

async function read(form, file) {
  const area = form.querySelector("#nr-text");
  area.value = await file.text();
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Select a line, counted from 1, and scroll it into view. */
function markLine(area, line) {
  const lines = area.value.split("\n");
  if (!(line >= 1 && line <= lines.length)) return;
  const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + lines[line - 1].length);
  area.scrollTop = (area.scrollHeight / lines.length) * Math.max(0, line - 4);
}
