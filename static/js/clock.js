/** The time of day of Unix seconds; add the offset of a time zone to get its clock. */
export function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}
