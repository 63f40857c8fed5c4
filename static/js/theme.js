/** The theme: system, light or dark, kept in a cookie so that the server draws the page right at once. */

const ORDER = ["", "light", "dark"];
const WORDS = { "": "System", light: "Light", dark: "Dark" };
const YEAR = 31_536_000;

/** Make `button` step through the themes; says "themechange" on the document. */
export function themeSwitch(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => document.dispatchEvent(new Event("themechange"));
  system.addEventListener("change", changed);
  if (!button) return;
  const root = document.documentElement;
  const word = button.querySelector("[data-theme-word]");
  const show = () => { word.textContent = WORDS[root.dataset.theme] ?? WORDS[""]; };
  show();
  button.addEventListener("click", () => {
    const next = ORDER[(ORDER.indexOf(root.dataset.theme) + 1) % ORDER.length];
    root.dataset.theme = next;
    document.cookie = `anneal_theme=${next}; path=/; max-age=${YEAR}; samesite=lax`;
    show();
    changed();
  });
}
