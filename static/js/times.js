/** Keep relative times fresh. */
import { ago } from "./format.js";

export function keepTimes() {
  setInterval(() => {
    for (const part of document.querySelectorAll("time[data-ago]")) {
      part.textContent = ago((Date.now() - Date.parse(part.dateTime)) / 1000);
    }
  }, 10_000);
}
