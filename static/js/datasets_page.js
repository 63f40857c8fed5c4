/** The list of datasets: upload by button or drop, with progress. Without this module the form works by itself. */
import { copyButtons } from "./copy.js";
import { upload } from "./upload.js";

copyButtons(document);
const form = document.querySelector("[data-upload]");
if (form) uploads(form);

function uploads(form) {
  const part = (name) => form.querySelector(`[data-${name}]`);
  const input = form.elements.file;
  const bar = part("progress").querySelector("progress");
  let running = null;

  const complain = (text) => {
    part("problem").textContent = text;
    part("problem").hidden = !text;
    input.setAttribute("aria-invalid", String(Boolean(text)));
  };

  const show = (sent, total) => {
    bar.value = total ? sent / total : 0;
    const percent = Math.floor(100 * bar.value);
    part("progress-words").textContent = percent < 100 ? `${percent} % of ${input.files[0].name}` : "sent; the server reads every row";
    if (percent === 100) bar.removeAttribute("value");
  };

  const send = async () => {
    const file = input.files[0];
    const wrong = refusal(file, form.dataset);
    complain(wrong);
    if (wrong || running) return;
    part("progress").hidden = false;
    part("send").disabled = true;
    show(0, file.size);
    running = upload(form.dataset.api, new FormData(form), show);
    try {
      const made = await running.done;
      running = null;
      location.assign(`${form.dataset.pages}${made.id}/`);
    } catch (error) {
      complain(error.message);
      part("progress").hidden = true;
      part("send").disabled = false;
      running = null;
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  part("cancel").addEventListener("click", () => running?.cancel());
  input.addEventListener("change", () => complain(refusal(input.files[0], form.dataset)));
  dropping(document.body, (files) => {
    input.files = files;
    send();
  });
  part("drop-words").hidden = false;
  window.addEventListener("beforeunload", (event) => running && event.preventDefault());
}

/** Why this file need not be sent at all; "" when it may. */
function refusal(file, { most, mostWords, endings }) {
  if (!file) return "Choose a file first.";
  const name = file.name.toLowerCase().replace(/\.gz$/, "");
  const known = endings.split(",").filter((ending) => ending !== ".gz");
  if (!known.some((ending) => name.endsWith(ending))) return `${file.name}: not a kind of file that can be read; use ${known.join(", ")}, plain or .gz`;
  if (file.size > Number(most)) return `${file.name}: larger than ${mostWords}; pack it with gzip, or split it`;
  return file.size ? "" : `${file.name}: the file is empty`;
}

/** Files that are dropped anywhere on the page; only the first is taken. */
function dropping(page, take) {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  page.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    page.classList.add("dropping");
  });
  page.addEventListener("dragleave", (event) => event.relatedTarget === null && page.classList.remove("dropping"));
  page.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    page.classList.remove("dropping");
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    take(one.files);
  });
}
