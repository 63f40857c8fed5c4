/** The time of day of Unix seconds, as the server writes it: in UTC unless the page says otherwise. */
export function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}
