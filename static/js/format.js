/** Numbers, durations and times as people read them; the same rules as templatetags/figures.py. */

const NONE = "–";
const WORDS = { NaN: "NaN", Infinity: "∞", "-Infinity": "−∞" };
const SIZES = [[1e12, "T"], [1e9, "G"], [1e6, "M"]];
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Three significant digits; whole numbers in full with thin spaces. */
export function figure(value) {
  if (value === null || value === undefined || value === "") return NONE;
  if (typeof value === "string") return WORDS[value] ?? value;
  if (!Number.isFinite(value)) return WORDS[String(value)];
  return decimal(value).replace(/^-|(?<=e)-/g, (sign, at) => (at === 0 ? "−" : sign));
}

function decimal(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (Number.isInteger(value) && size < 1e15) return spaced(value.toFixed(0));
  if (size >= 999.5) return size < 1e9 ? spaced(value.toFixed(0)) : value.toExponential(2).replace("+", "");
  if (size < 1e-3) return value.toExponential(2);
  const digits = 2 - Math.floor(Math.log10(size));
  return value.toFixed(Math.max(0, Math.min(digits, 5)));
}

function spaced(text) {
  return text.replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
}

/** As `figure`, where there is room for seven characters: from a million on with a letter for the size. */
export function shortFigure(value) {
  const large = Math.abs(value);
  if (!Number.isFinite(value) || large < 999_950 || large >= 1e15) return figure(value);
  const [size, letter] = SIZES.find(([least]) => large >= least * 0.99995);
  return figure(Number((value / size).toPrecision(4))) + letter;
}

/** Seconds as at most two units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !(seconds >= 0) || !Number.isFinite(seconds)) return NONE;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  let left = Math.round(seconds);
  const parts = [];
  for (const [length, unit] of UNITS) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count) parts.push(`${count} ${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

/** How long ago a moment was, in one unit. */
export function ago(seconds) {
  if (seconds < 5) return "now";
  const [length, unit] = UNITS.find(([size]) => seconds >= size);
  return `${Math.floor(seconds / length)} ${unit} ago`;
}
