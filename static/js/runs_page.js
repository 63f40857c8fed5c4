/** The run list: rows keep themselves fresh and never move under the pointer. */
import { confirmForms } from "./confirm.js";
import { showConnection } from "./connection.js";
import { watchRemovals } from "./removals.js";
import { showRun, showWidths } from "./run_fields.js";
import { connect } from "./socket.js";

watchRemovals(document.querySelector("[data-removals]"));

const form = document.querySelector("[data-runs]");

if (form) {
  const body = form.querySelector("[data-rows]");
  const fresh = form.querySelector("[data-new-runs]");
  const rowOf = (id) => body.querySelector(`[data-run="${CSS.escape(id)}"]`);
  let waiting = new Set();

  const heard = (message) => {
    if (message.op === "gap") return load();
    if (message.op !== "run") return;
    const row = rowOf(message.run.id);
    if (row) return showRun(row, message.run);
    if (new URLSearchParams(location.search).has("page")) return;
    waiting.add(message.run.id);
    announce();
  };

  let asked = null;
  const announce = () => {
    clearTimeout(asked);
    asked = setTimeout(async () => {
      // Rows come in by themselves only where nobody is about to click one.
      if (!form.matches(":hover") && !form.contains(document.activeElement)) return load();
      fresh.hidden = false;
      fresh.textContent = waiting.size === 1 ? "1 new run: show" : `${waiting.size} new runs: show`;
    }, 300);
  };

  const load = async () => {
    const answer = await fetch(form.dataset.rowsUrl, { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    const chosen = new Set([...form.querySelectorAll("input[name=run]:checked")].map((box) => box.value));
    const known = new Set([...body.children].map((row) => row.dataset.run));
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    for (const row of holder.content.querySelectorAll("tr")) {
      row.classList.toggle("appear", !known.has(row.dataset.run));
      row.querySelector("input[name=run]").checked = chosen.has(row.dataset.run);
    }
    body.replaceChildren(holder.content);
    waiting = new Set();
    fresh.hidden = true;
    showWidths(body);
    count();
  };

  const bulk = form.querySelector("[data-bulk]");
  const count = () => {
    const boxes = [...form.querySelectorAll("input[name=run]")];
    for (const box of boxes) box.closest("tr").setAttribute("aria-selected", String(box.checked));
    const chosen = boxes.filter((box) => box.checked).length;
    bulk.hidden = chosen === 0;
    bulk.querySelector("[data-count]").textContent = chosen;
  };

  form.addEventListener("change", count);
  fresh.addEventListener("click", load);
  bulk.querySelector("[data-clear]").addEventListener("click", () => {
    for (const box of form.querySelectorAll("input[name=run]")) box.checked = false;
    count();
  });
  confirmForms(document);
  showWidths(body);
  count();
  connect(document.body.dataset.socket, { watches: () => [{ op: "watch", topic: "runs" }], heard, told: showConnection });
}
