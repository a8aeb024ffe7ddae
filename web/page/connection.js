// @ts-check
/** What the connection went through: state, rate, outages, and a journal of it. */
import { count, duration } from "./words.js";

/** @typedef {import("../client/eventissuer.js").State} State */
/** @typedef {import("../client/eventissuer.js").Control} Control */

/** @typedef {{at: number, kind: "good" | "bad" | "note", text: string}} Note */
/** @typedef {{lost: number, back: number, came: number, told: number, settled: boolean}} Outage times in milliseconds of the epoch; told is the centre's */
/** @typedef {{live: number, late: number}} Second events of one second, late those that were read after an interruption */

/** Seconds of the chart. */
export const WINDOW = 90;
const NOTES = 40;

export class Connection {
  /** @type {State} */ state = { phase: "connecting", since: Date.now(), attempt: 0 };
  cursor = "";
  lastEvent = 0;
  /** @type {Outage | undefined} */ outage;
  /** @type {Outage[]} those of the chart's time, the current one last */ outages = [];
  /** @type {Note[]} newest first */ notes = [];
  draining = false;
  /** @type {Set<string>} streams that the server cannot reach at the moment */ stalled = new Set();
  /** Events that are none of the centre's, or that no one can believe. */ ignored = 0;
  /** @type {Map<number, Second>} by the second in which they happened, the centre's */ #seconds = new Map();
  #newest = 0;
  #opened = false;
  #lostBefore = 0;

  /** @param {import("./continuity.js").Continuity} continuity */
  constructor(continuity) {
    this.continuity = continuity;
  }

  /**
   * @param {State} state
   * @param {number} centre the centre's time, milliseconds of the epoch
   */
  onState(state, centre) {
    const before = this.state;
    this.state = state;
    const now = Date.now();
    if (state.phase === "open" && before.phase !== "open") {
      if (!this.#opened) this.note("good", "Connected.");
      else if (this.outage && !this.outage.back) {
        this.outage.back = now;
        this.outage.told = centre;
      }
      this.#opened = true;
      this.draining = false;
    } else if (state.phase === "reconnecting" && before.phase === "open") {
      this.outage = { lost: now, back: 0, came: 0, told: 0, settled: false };
      this.outages = [...this.outages.filter((o) => o.back > now - WINDOW * 1000), this.outage];
      this.#lostBefore = this.continuity.lost;
      this.stalled.clear();
      this.note(this.draining ? "note" : "bad", this.draining ? "The server sent us away; the cursor is kept." : "Connection lost; the cursor is kept.");
    } else if (state.phase === "closed") {
      this.note("bad", `The stream has ended: ${state.reason ?? "closed"}.`);
    }
  }

  /**
   * @param {string} cursor
   * @param {number} time of the event, the centre's
   */
  onEvent(cursor, time) {
    this.cursor = cursor;
    this.lastEvent = Date.now();
    const second = Math.floor(time / 1000);
    if (second < this.#newest - 15) {
      // The centre's clock was set back: what was told of these seconds was of another run.
      this.#seconds.clear();
      if (this.outage) this.outage.told = 0;
      this.#newest = second;
    }
    this.#newest = Math.max(this.#newest, second);
    // What happened before the connection was back came meanwhile.
    const late = this.outage !== undefined && this.outage.back > 0 && !this.outage.settled && time <= this.outage.told;
    if (this.outage && late) this.outage.came++;
    // By the time at which they happened: what is read from the log at the beginning is no burst of events.
    const events = this.#seconds.get(second) ?? { live: 0, late: 0 };
    events[late ? "late" : "live"]++;
    this.#seconds.set(second, events);
    if (this.#seconds.size > 2 * WINDOW) {
      for (const s of this.#seconds.keys()) if (s < second - WINDOW - 10) this.#seconds.delete(s);
    }
  }

  /**
   * An event that is not used: the place is kept all the same.
   * @param {string} cursor
   */
  onIgnored(cursor) {
    this.cursor = cursor;
    this.ignored++;
  }

  /**
   * Called now and then.
   * @returns {boolean} whether an outage has just been settled: what came meanwhile is read
   */
  settle() {
    const { outage } = this;
    if (!outage?.back || outage.settled || Date.now() - outage.back < 4000) return false;
    outage.settled = true;
    this.note(this.lostInOutage ? "bad" : "good", this.recovery());
    return true;
  }

  /** Events that the numbering shows to be missing since the connection was lost. */
  get lostInOutage() {
    return this.continuity.lost - this.#lostBefore;
  }

  recovery() {
    const { outage } = this;
    if (!outage) return "";
    return `Back after ${duration(outage.back - outage.lost)}: ${count(outage.came)} events came meanwhile, ${this.lostInOutage} lost.`;
  }

  /** @param {Control} control */
  onControl({ name, payload }) {
    switch (name) {
      case "gap":
        this.note("bad", `Gap in ${payload["stream"]}: ${gapReason(payload["reason"])}; reading goes on at ${payload["to"]}.`);
        break;
      case "skipped":
        this.note("note", `A record of ${payload["stream"]} is no event and was passed.`);
        break;
      case "stalled":
        this.stalled.add(payload["stream"]);
        this.note("bad", `The log of ${payload["stream"]} cannot be reached; waiting.`);
        break;
      case "resumed":
        this.stalled.delete(payload["stream"]);
        this.note("good", `The log of ${payload["stream"]} is there again.`);
        break;
      case "drain":
        this.draining = true;
        this.note("note", `The server is going away; coming back in ${Number(payload["retryAfter"] ?? 0).toFixed(1)} s.`);
        break;
      case "problem":
        this.note("bad", `${payload["title"] ?? "Problem"}. ${payload["detail"] ?? ""}`.trim());
        break;
      default:
        this.note("note", `${name} ${JSON.stringify(payload)}`);
    }
  }

  /**
   * @param {Note["kind"]} kind
   * @param {string} text
   */
  note(kind, text) {
    this.notes = [{ at: Date.now(), kind, text }, ...this.notes].slice(0, NOTES);
  }

  /**
   * Events a second over five full seconds, those of the last one not counted: they may be on their way.
   * @param {number} centre the centre's time
   */
  rate(centre) {
    const second = Math.floor(centre / 1000) - 1;
    /** @type {number[]} */
    const known = [];
    for (let s = second - 5; s < second; s++) {
      const events = this.#seconds.get(s);
      if (events || known.length) known.push((events?.live ?? 0) + (events?.late ?? 0));
    }
    // Just after the first event there are fewer seconds; the first of them is not whole.
    const whole = known.length < 5 ? known.slice(1) : known;
    return whole.reduce((a, b) => a + b, 0) / Math.max(whole.length, 1);
  }

  /**
   * @param {number} second of the centre's epoch
   * @returns {Second}
   */
  inSecond(second) {
    return this.#seconds.get(second) ?? { live: 0, late: 0 };
  }

  /** In a few words, for the header. */
  summary() {
    const { phase, since, attempt, retryAt } = this.state;
    const now = Date.now();
    if (phase === "open" && this.stalled.size) return { grade: "warn", text: "Log stalled", more: [...this.stalled].join(", ") };
    if (phase === "open") return { grade: "good", text: "Live", more: `for ${duration(now - since)}` };
    if (phase === "closed") return { grade: "bad", text: "Ended", more: this.state.reason ?? "" };
    if (phase === "connecting") return { grade: "warn", text: "Connecting", more: "" };
    const next = retryAt && retryAt > now ? `, next in ${Math.ceil((retryAt - now) / 1000)} s` : "";
    return {
      grade: this.draining ? "warn" : "bad",
      text: "Reconnecting",
      more: `${duration(now - (this.outage?.lost ?? since))}${attempt > 1 ? `, try ${attempt}` : ""}${next}`,
    };
  }
}

/** @param {string} reason */
function gapReason(reason) {
  /** @type {Record<string, string>} */
  const words = {
    retention: "those events are no longer kept",
    truncated: "the log lost its end",
    recreated: "the stream was made anew",
  };
  return words[reason] ?? reason;
}
