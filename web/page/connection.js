// @ts-check
/** What the page's connections went through, as one: state, rate, outages, the picture, and a journal of it. */
import { INTERVAL } from "./fleet.js";
import { MOVEMENTS, POSITIONS } from "./news.js";
import { count, duration } from "./words.js";

/** @typedef {import("../client/eventissuer.js").State} State */
/** @typedef {import("../client/eventissuer.js").Control} Control */
/** @typedef {import("./news.js").News} News */

/** @typedef {{at: number, kind: "good" | "bad" | "note", text: string}} Note */
/** @typedef {{live: number, late: number}} Second events of one second, late those that were read after an interruption */
/**
 * @typedef {object} Outage
 * @property {number} lost milliseconds of the epoch
 * @property {number} back milliseconds of the epoch; 0: not yet
 * @property {number} told the centre's time when it was back: what happened before came meanwhile
 * @property {number} came movements that came meanwhile
 * @property {Set<string>} placed trains whose latest position came meanwhile
 * @property {boolean} settled what came meanwhile is read
 */
/**
 * @typedef {object} Picture
 * @property {number} trains that it began with
 * @property {number} since positions since then
 */

/** Seconds of the chart. */
export const WINDOW = 90;
const NOTES = 40;
/** The worst of several is what all are. */
const PHASES = ["open", "connecting", "reconnecting", "closed"];

export class Connection {
  /** @type {Map<string, State>} by stream */ #states;
  /** @type {State} of all */ state = { phase: "connecting", since: Date.now(), attempt: 0 };
  /** @type {Map<string, string>} by stream */ cursors = new Map();
  lastEvent = 0;
  /** @type {Outage | undefined} */ outage;
  /** @type {Outage[]} those of the chart's time, the current one last */ outages = [];
  /** @type {Note[]} newest first */ notes = [];
  draining = false;
  /** @type {Set<string>} streams that the server cannot reach at the moment */ stalled = new Set();
  /** Events that are none of the centre's, or that no one can believe. */ ignored = 0;
  /** @type {Picture | undefined} the last one that is whole */ picture;
  /** @type {Picture | undefined} what is coming */ #coming;
  /** @type {Map<number, Second>} by the second in which they happened, the centre's */ #seconds = new Map();
  #centre = 0;
  #opened = false;
  #lostBefore = 0;

  /**
   * @param {string[]} streams a connection each
   * @param {import("./continuity.js").Continuity} continuity
   */
  constructor(streams, continuity) {
    this.#states = new Map(streams.map((stream) => [stream, this.state]));
    this.continuity = continuity;
  }

  /**
   * @param {string} stream
   * @returns {boolean} whether it is being read
   */
  open(stream) {
    return this.#states.get(stream)?.phase === "open";
  }

  /**
   * @param {string} stream
   * @param {State} state
   * @param {number} centre the centre's time, milliseconds of the epoch
   */
  onState(stream, state, centre) {
    const before = this.state.phase;
    this.#states.set(stream, state);
    const worst = (/** @type {State} */ s) => PHASES.indexOf(s.phase);
    this.state = [...this.#states.values()].toSorted((a, b) => worst(b) - worst(a) || b.since - a.since)[0] ?? state;
    const { phase } = this.state;
    const now = Date.now();
    if (phase === "open" && before !== "open") {
      if (!this.#opened) this.note("good", "Connected.");
      else if (this.outage && !this.outage.back) {
        this.outage.back = now;
        this.outage.told = centre;
      }
      this.#opened = true;
      this.draining = false;
    } else if (phase === "reconnecting" && before === "open") {
      this.outage = { lost: now, back: 0, came: 0, placed: new Set(), told: 0, settled: false };
      this.outages = [...this.outages.filter((o) => o.back > now - WINDOW * 1000), this.outage];
      this.#lostBefore = this.continuity.lost;
      this.stalled.clear();
      this.note(this.draining ? "note" : "bad", this.draining ? "The server sent us away; the cursors are kept." : "Connection lost; the cursors are kept.");
    } else if (state.phase === "closed") {
      this.note("bad", `The reading of ${stream} has ended: ${state.reason ?? "closed"}.`);
    }
  }

  /**
   * @param {string} cursor
   * @param {News} news
   */
  onPosition(cursor, news) {
    if (this.#coming) this.#coming.trains++;
    else if (this.picture) this.picture.since++;
    if (this.#event(POSITIONS, cursor, news.time)) this.outage?.placed.add(news.train);
  }

  /**
   * @param {string} cursor
   * @param {News} news
   */
  onMovement(cursor, news) {
    if (this.#event(MOVEMENTS, cursor, news.time) && this.outage) this.outage.came++;
  }

  /**
   * @param {string} stream
   * @param {string} cursor
   * @param {number} time of the event, the centre's
   * @returns {boolean} whether it came meanwhile: it happened before the connection was back
   */
  #event(stream, cursor, time) {
    this.cursors.set(stream, cursor);
    this.lastEvent = Date.now();
    // One of the connections may be back before the outage is over.
    const { outage } = this;
    const late = outage !== undefined && !outage.settled && (outage.back === 0 || time <= outage.told);
    // By the time at which they happened: what is read from the log at the beginning is no burst of events.
    const second = Math.floor(time / 1000);
    const events = this.#seconds.get(second) ?? { live: 0, late: 0 };
    events[late ? "late" : "live"]++;
    this.#seconds.set(second, events);
    return late;
  }

  /**
   * An event that is not used: the place is kept all the same.
   * @param {string} stream
   * @param {string} cursor
   */
  onIgnored(stream, cursor) {
    this.cursors.set(stream, cursor);
    this.ignored++;
  }

  /**
   * Called now and then.
   * @param {number} centre the centre's time
   */
  settle(centre) {
    if (centre < this.#centre - 15_000) {
      // The centre's clock was set back: what was told of these seconds was of another run.
      this.#seconds.clear();
      if (this.outage) this.outage.told = 0;
    }
    this.#centre = centre;
    for (const second of this.#seconds.keys()) if (second < centre / 1000 - WINDOW - 10) this.#seconds.delete(second);
    const { outage } = this;
    if (!outage?.back || outage.settled || Date.now() - outage.back < 4000) return;
    outage.settled = true;
    this.note(this.lostInOutage ? "bad" : "good", this.recovery());
  }

  /** Events that the numbering shows to be missing since the connection was lost. */
  get lostInOutage() {
    return this.continuity.lost - this.#lostBefore;
  }

  recovery() {
    const { outage } = this;
    if (!outage) return "";
    const { came, placed } = outage;
    return `Back after ${duration(outage.back - outage.lost)}: ${count(came)} movements came meanwhile, ${this.lostInOutage} lost, and the latest of ${count(placed.size)} trains.`;
  }

  /**
   * @param {string} stream
   * @param {Control} control
   */
  onControl(stream, { name, payload }) {
    switch (name) {
      case "snapshot":
        this.#coming = { trains: 0, since: 0 };
        if (payload["dropped"]) this.note("note", `The server had no room for ${count(payload["dropped"])} keys: those are missing.`);
        break;
      case "live":
        this.note("good", `${this.picture ? "A new picture" : "The picture"}: ${count(this.#coming?.trains ?? 0)} trains at once.`);
        this.picture = this.#coming ?? this.picture;
        this.#coming = undefined;
        break;
      case "removed":
        break; // a train less: the map shows it
      case "waiting":
        this.note("note", "The server reads where the trains are.");
        break;
      case "gap":
        this.note("bad", `Gap in ${stream}: ${gapReason(payload["reason"])}; reading goes on at ${payload["to"]}.`);
        break;
      case "skipped":
        this.note("note", `A record of ${stream} is no event and was passed.`);
        break;
      case "stalled":
        this.stalled.add(stream);
        this.note("bad", `The log of ${stream} cannot be reached; waiting.`);
        break;
      case "resumed":
        this.stalled.delete(stream);
        this.note("good", `The log of ${stream} is there again.`);
        break;
      case "drain":
        if (!this.draining) this.note("note", `The server is going away; coming back in ${Number(payload["retryAfter"] ?? 0).toFixed(1)} s.`);
        this.draining = true;
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
   * Events a second over five full seconds, the last ones not counted: what happened in them may be on its way.
   * @param {number} centre the centre's time
   */
  rate(centre) {
    const second = Math.floor((centre - INTERVAL) / 1000) - 1;
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
