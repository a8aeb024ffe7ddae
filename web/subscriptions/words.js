// @ts-check
/** What a subscription's figures mean, in words. */
import { count } from "../page/words.js";
import { narrowed } from "./api.js";

/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./lag-history.js").Rates} Rates */
/** @typedef {import("./lag-history.js").LagHistory} LagHistory */
/** @typedef {"good" | "warn" | "bad" | "idle"} Grade */
/** @typedef {{grade: Grade, title: string, says: string}} Condition */

/** What is less behind than that keeps up. */
const FRESH_SECONDS = 10;
/** What stands still for longer is more than a slow event. */
const STUCK_SECONDS = 60;
/** Longer than that nobody can tell in advance. */
const FORESEEABLE_SECONDS = 2 * 86_400;

export { count };

/**
 * @param {number} n
 * @param {string} one
 * @param {string} [more]
 */
export const counted = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

/** @param {number} n */
export const events = (n) => counted(n, "event");

/**
 * A length of time, as exactly as it matters.
 * @param {number} seconds
 */
export function lasting(seconds) {
  const s = Math.max(0, seconds);
  if (s < 0.05) return "0 s";
  if (s < 9.95) return `${Number(s.toFixed(1))} s`;
  const whole = Math.round(s);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3600), "h");
}

/**
 * @param {number} large
 * @param {string} unit
 * @param {number} small
 * @param {string} smaller
 */
const two = (large, unit, small, smaller) => (small && large < 20 ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`);

/**
 * Events a second.
 * @param {number} n
 */
export const rate = (n) => (n >= 9.95 ? count(Math.round(n)) : String(Number(n.toFixed(1))));

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY_CLOCK = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** @param {number} t milliseconds of the epoch */
export const clock = (t) => CLOCK.format(t);

/**
 * A moment: of today its time is enough.
 * @param {number} t milliseconds of the epoch
 * @param {number} now
 */
export const moment = (t, now) => (new Date(t).toDateString() === new Date(now).toDateString() ? CLOCK : DAY_CLOCK).format(t);

/**
 * What it is called: the id where it has no name.
 * @param {{id: string, name?: string}} subscription
 */
export const called = ({ id, name }) => name || id;

/**
 * How it stands with a subscription, and what to make of that.
 * @param {Stats} stats
 * @param {Rates | undefined} rates
 * @param {Pick<Subscription, "sink" | "types" | "filters">} [about]
 * @returns {Condition}
 */
export function condition(stats, rates, about = {}) {
  const { lag, undone = 0, state = "active", reason = "" } = stats;
  const seconds = stats.lagSeconds ?? ageOf(lag, rates);
  const sessions = stats.sessions?.length ?? 0;
  const pushed = about.sink !== undefined;
  if (state === "pending") return { grade: "warn", title: "Not proven", says: reason ? `${upper(reason)}.` : "" };
  if (state === "disabled") return { grade: "bad", title: "Disabled", says: reason ? `${upper(reason)}.` : "" };
  if (state === "failing") return { grade: "bad", title: "Failing", says: reason ? `${upper(reason)}.` : `It cannot be ${pushed ? "delivered" : "read"} at present.` };
  if (state !== "active") return { grade: "idle", title: upper(state), says: reason ? `${upper(reason)}.` : "" };
  if (sessions === 0 && !pushed) {
    if (lag === 0) return { grade: "idle", title: "Nobody reads it", says: "No event waits." };
    return { grade: "warn", title: "Nobody reads it", says: `${narrowed(about) ? "Up to " : ""}${events(lag)} ${lag === 1 ? "waits" : "wait"}, the oldest for ${lasting(seconds)}.` };
  }
  if (pushed && lag > 0 && lag === undone && rates && rates.done < 0.05) return { grade: "warn", title: "Tries again", says: `${events(undone)} ${undone === 1 ? "waits" : "wait"} for the next try.` };
  if (lag === 0) return { grade: "good", title: "Caught up", says: rates && rates.incoming >= 0.05 ? `${rate(rates.incoming)} events a second come and are done.` : "No event waits." };
  if (!rates && stats.lagSeconds === undefined) return { grade: "good", title: "Delivers", says: "" };
  if (!rates) return seconds < FRESH_SECONDS ? { grade: "good", title: "Keeps up", says: "" } : { grade: "warn", title: "Behind", says: `The oldest event waits for ${lasting(seconds)}.` };
  const { incoming, done, span } = rates;
  const flow = `${rate(incoming)} events a second come, ${rate(done)} are done`;
  if (done < 0.01 && seconds >= Math.max(FRESH_SECONDS, span)) {
    return { grade: seconds >= STUCK_SECONDS ? "bad" : "warn", title: "Stands still", says: `Nothing has been ${pushed ? "delivered" : "acknowledged"} for ${lasting(span)}${stats.lagSeconds === undefined ? "" : `; the oldest event waits for ${lasting(seconds)}`}.` };
  }
  if (seconds < FRESH_SECONDS) return { grade: "good", title: "Keeps up", says: `${flow}.` };
  const left = lag / (done - incoming);
  if (done > incoming && left < FORESEEABLE_SECONDS) return { grade: "warn", title: "Catching up", says: `${flow}: caught up in about ${lasting(left < 60 ? Math.ceil(left) : left < 3600 ? Math.ceil(left / 60) * 60 : left)}.` };
  if (incoming - done < Math.max(0.05, done / 20)) return { grade: "warn", title: "Stays behind", says: `${flow}: at this pace it does not catch up.` };
  return { grade: "bad", title: "Falling behind", says: `${flow}.` };
}

/**
 * About how many seconds the oldest event waits, where that is not told: as long as it takes to go through what is there.
 * @param {number} lag
 * @param {Rates | undefined} rates
 */
function ageOf(lag, rates) {
  if (!rates || lag === 0) return 0;
  if (rates.done >= 0.01) return lag / rates.done;
  return lag <= rates.incoming * rates.span + 0.5 ? 0 : rates.span; // all of it may have come just now
}

/** How bad is bad: what needs to be looked at first has the lowest. */
export const GRADES = /** @type {Grade[]} */ (["bad", "warn", "good", "idle"]);

/** @param {string} text */
export const upper = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

/**
 * What a session is fed from, those of a stream together: orders/0–3, 7.
 * @param {string[]} groups
 */
export function groupsWords(groups) {
  /** @type {Map<string, number[]>} */
  const streams = new Map();
  for (const g of groups) {
    const cut = g.lastIndexOf("/");
    const stream = g.slice(0, cut);
    streams.set(stream, [...(streams.get(stream) ?? []), Number(g.slice(cut + 1))]);
  }
  return [...streams].map(([stream, numbers]) => `${stream}/${runs(numbers.sort((a, b) => a - b))}`).join(", ");
}

/** @param {number[]} numbers in order */
function runs(numbers) {
  /** @type {[number, number][]} */
  const out = [];
  for (const n of numbers) {
    const last = out.at(-1);
    if (last && n <= last[1] + 1) last[1] = n;
    else out.push([n, n]);
  }
  return out.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a}, ${b}` : `${a}–${b}`)).join(", ");
}

const WAITING = /** @type {Record<string, string>} */ ({
  partitions: "Waits for a partition: there are more sessions than partitions",
  ackTimeout: "Waits: it did not acknowledge in time, and others go on in its place",
  rebalance: "Waits while the partitions are dealt out",
});

/** @param {string} reason */
export const waitingWords = (reason) => WAITING[reason] ?? `Waits: ${reason}`;

const DEAD = /** @type {Record<string, string>} */ ({
  timeout: "was not acknowledged in time",
  nack: "was given back",
  sessionEnded: "its sessions ended before they acknowledged it",
  taken: "its partition changed hands before it was acknowledged",
});

/**
 * @param {{attempts?: number, reason?: string}} letter
 */
export function deadWords({ attempts, reason = "" }) {
  const why = DEAD[reason] ?? reason;
  const tries = attempts ? `${counted(attempts, "attempt")}` : "";
  return [why, tries].filter(Boolean).join(", ");
}

/**
 * How well a subscription fits what is searched for.
 * @param {Subscription} subscription
 * @param {string[]} words in lower case
 */
export function fits(subscription, words) {
  const { id, name = "", description = "", streams = [], types = [], owner = "", sink = "" } = subscription;
  const text = [name, description, owner, id, sink, ...streams, ...types].join("\n").toLowerCase();
  return words.every((w) => text.includes(w));
}

/**
 * What a reset will do, before it is done.
 * @param {{choice: "oldest" | "latest" | "time", at: number, stats: Stats, history: LagHistory, now: number, some?: boolean}} about at: the chosen time, milliseconds of the epoch, NaN where it is none; some: it gives only some of the events of its streams
 * @returns {{can: boolean, says: string[]}}
 */
export function resetWords({ choice, at, stats, history, now, some = false }) {
  const parts = stats.partitions ?? [];
  const above = parts.reduce((n, p) => n + (p.acknowledgedAbove ?? 0), 0);
  const kept = parts.reduce((n, p) => n + Math.max(0, p.end - (p.begin ?? 0)), 0);
  const open = Math.max(0, stats.lag - above);
  const done = Math.max(0, kept - open);
  const held = stats.uncommitted ?? 0;
  const them = `${events(open)} that ${open === 1 ? "is" : "are"} not acknowledged`;
  /** @type {string[]} */
  const says = [];
  if (choice === "latest") {
    says.push(open ? `${upper(them)} ${open === 1 ? "is" : "are"} skipped, for good. It goes on with what is published from now on.` : "Nothing is skipped: all events are acknowledged. It goes on with what is published from now on.");
  } else if (choice === "oldest") {
    if (done) says.push(`${events(done)} that ${done === 1 ? "is" : "are"} acknowledged already ${done === 1 ? "comes" : "come"} again, from the oldest on that its streams still keep${open ? `; with ${them} that makes ${count(kept)}` : ""}.`);
    else says.push("Nothing comes again: of what its streams still keep nothing is acknowledged.");
  } else if (Number.isNaN(at)) {
    return { can: false, says: ["Say which time."] };
  } else if (at > now) {
    return { can: false, says: ["That time is still to come. To go on with what is published from now on, choose the end."] };
  } else {
    const end = parts.reduce((n, p) => n + p.end, 0);
    const then = history.endAt(at);
    const oldest = now - (stats.lagSeconds ?? 0) * 1000;
    if (then !== undefined) {
      const again = Math.round(end - then) - open;
      if (again > 0) says.push(`About ${events(again)} that ${again === 1 ? "has" : "have"} been acknowledged since then ${again === 1 ? "comes" : "come"} again${open ? `, and with them ${them}` : ""}.`);
      else if (again < 0) says.push(`About ${events(-again)} of the ${count(open)} that are not acknowledged ${again === -1 ? "is" : "are"} skipped, for good; the ${count(open + again)} since then stay.`);
      else says.push("It begins about where it is now.");
    } else if (open && at > oldest) {
      says.push(`What is not acknowledged and older than that is skipped, for good. ${upper(them)}; the oldest is from ${moment(oldest, now)}.`);
    } else if (done) {
      says.push(`Everything since then comes again: ${open ? `${them}, and before them ` : ""}all that have been acknowledged since that time, ${count(done)} at most. How many those are is not known here: the page has not seen that time.`);
    } else {
      says.push("Nothing comes again: of what its streams still keep nothing is acknowledged.");
    }
  }
  const numbers = { latest: open, oldest: done, time: open + done }[choice];
  if (some && numbers) says.push("These are all events of its streams; its filters let fewer through.");
  if (held && choice !== "latest") says.push(`${held === 1 ? "One event that a session holds" : `${count(held)} events that sessions hold`} now may come twice.`);
  return { can: true, says };
}
