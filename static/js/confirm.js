/** Ask before a form with data-confirm is sent. */
export function confirmForms(root) {
  for (const form of root.querySelectorAll("form[data-confirm]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sure) return;
      event.preventDefault();
      ask(form, event.submitter);
    });
  }
}

function ask(form, button) {
  const dialog = document.createElement("dialog");
  const question = document.createElement("p");
  question.textContent = form.dataset.confirm;
  const choices = document.createElement("form");
  choices.method = "dialog";
  choices.className = "row";
  choices.append(choice(form.dataset.keep ?? "Keep going", "button"), choice(button?.textContent.trim() || "Yes", "button danger push", "yes"));
  const inside = document.createElement("div");
  inside.className = "stack";
  inside.append(question, choices);
  dialog.append(inside);
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue !== "yes") return button?.focus();
    form.dataset.sure = "1";
    form.requestSubmit(button);
  });
  dialog.showModal();
}

function choice(words, className, value = "") {
  const button = document.createElement("button");
  button.className = className;
  button.value = value;
  button.textContent = words;
  return button;
}
