/** The form of a comparison: beside each model's id stands what it is called. */
const names = new Map([...document.querySelectorAll("#models option")].map((option) => [option.value, option.label || option.textContent]));

for (const field of document.querySelectorAll('input[list="models"]')) {
  const means = field.parentElement.querySelector("[data-means]");
  field.addEventListener("input", () => { means.textContent = names.get(field.value.trim()) ?? ""; });
}
