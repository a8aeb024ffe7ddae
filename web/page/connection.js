// @ts-check
/** What the connection went through: state, rate, outages, and a journal of it. */
import { clockSeconds, count, duration } from "./words.js";

/** @typedef {import("../client/eventissuer.js").State} State */
/** @typedef {import("../client/eventissuer.js").Control} Control */

/** @typedef {{at: number, kind: "good" | "bad" | "note", text: string}} Note */
/** @typedef {{lost: number, back: number, came: number, told: number, settled: boolean}} Outage times in milliseconds of the epoch */

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
  /** @type {Map<number, number>} events by second */ #seconds = new Map();
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
    const now = Date.now();
    this.cursor = cursor;
    this.lastEvent = now;
    const second = Math.floor(now / 1000);
    this.#seconds.set(second, (this.#seconds.get(second) ?? 0) + 1);
    for (const old of this.#seconds.keys()) {
      if (old >= second - WINDOW - 1) break;
      this.#seconds.delete(old);
    }
    // What happened before the connection was back came meanwhile.
    if (this.outage?.back && !this.outage.settled && time <= this.outage.told) this.outage.came++;
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

  /** Events a second over the last five full seconds. */
  rate() {
    const second = Math.floor(Date.now() / 1000);
    let sum = 0;
    for (let s = second - 5; s < second; s++) sum += this.#seconds.get(s) ?? 0;
    return sum / 5;
  }

  /** @param {number} second of the epoch */
  inSecond(second) {
    return this.#seconds.get(second) ?? 0;
  }

  /** In a few words, for the header. */
  summary() {
    const { phase, since, attempt, retryAt } = this.state;
    const now = Date.now();
    if (phase === "open" && this.stalled.size) return { grade: "warn", text: "Log stalled", more: [...this.stalled].join(", ") };
    if (phase === "open") return { grade: "good", text: "Live", more: `since ${clockSeconds(since)}` };
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
