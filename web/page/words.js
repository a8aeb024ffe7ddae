// @ts-check
/** Times, delays and numbers in words. */

const TIME = new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/Oslo", hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/Oslo", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-CA", { timeZone: "Europe/Oslo", year: "numeric", month: "2-digit", day: "2-digit" });
const NUMBER = new Intl.NumberFormat("en-GB");

/** @param {number} t milliseconds of the epoch; dashes where it is no time */
export const clockTime = (t) => (Number.isFinite(t) ? TIME.format(t) : "––:––");
/** @param {number} t milliseconds of the epoch; dashes where it is no time */
export const clockSeconds = (t) => (Number.isFinite(t) ? SECONDS.format(t) : "––:––:––");
/** @param {number} t milliseconds of the epoch */
export const isoDate = (t) => DATE.format(t);
/** @param {number} n */
export const count = (n) => NUMBER.format(n);

/**
 * The milliseconds since midnight in Oslo.
 * @param {number} t milliseconds of the epoch
 */
export function sinceMidnight(t) {
  const [h = 0, m = 0, s = 0] = SECONDS.format(t).split(":").map(Number);
  return ((h * 60 + m) * 60 + s) * 1000 + (t % 1000);
}

/** How late is late: the four steps of the colours. */
/** @typedef {"ontime" | "slight" | "late" | "verylate"} Grade */

/**
 * @param {number} seconds
 * @returns {Grade}
 */
export function grade(seconds) {
  if (seconds < 180) return "ontime";
  if (seconds < 300) return "slight";
  return seconds < 600 ? "late" : "verylate";
}

/**
 * @param {number} seconds
 */
export function delayText(seconds) {
  const minutes = Math.floor(seconds / 60);
  return seconds < 180 ? "on time" : `+${minutes} min`;
}

/**
 * @param {number} ms
 */
export function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}
