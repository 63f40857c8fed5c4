/** What every page does: theme, search, keyboard, times, toasts. */
import { keepTimes } from "./times.js";
import { listenKeys } from "./keys.js";
import { searchBox } from "./search.js";
import { themeSwitch } from "./theme.js";

themeSwitch(document.querySelector("[data-theme-switch]"));
searchBox(document.querySelector("[data-search]"));
listenKeys();
keepTimes();

for (const toast of document.querySelectorAll("[data-toasts] > *")) {
  if (toast.dataset.level !== "error") setTimeout(() => toast.remove(), 8000);
  toast.addEventListener("click", () => toast.remove());
}
