/** What a form's text fields held when a request left, and what was typed since. */

const TEXTS = "input:not([type]), input[type=text], textarea";

/** Values of the text fields by name. */
export function keepTyped(form) {
  return new Map([...form.querySelectorAll(TEXTS)].map((field) => [field.name, field.value]));
}

/** Name -> value of the text fields that changed since `before`. */
export function typedSince(form, before) {
  if (!before) return new Map();
  const now = keepTyped(form);
  return new Map([...now].filter(([name, value]) => before.has(name) && before.get(name) !== value));
}
