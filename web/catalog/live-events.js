// @ts-check
/**
 * <live-events>: a type's last events, and those that come, the newest first. It begins a little back: as far as it takes
 * to have something to show. At most 50 are kept; while it is paused, or one is being read, those that come are counted.
 */
import { EventIssuer } from "../client/eventissuer.js";
import { make, write } from "../page/dom.js";
import { Unanswered, readPage } from "./api.js";
import { coloured, copyButton } from "./code-block.js";
import { pretty } from "./json-text.js";

/** @typedef {import("./api.js").EventType} EventType */
/** @typedef {import("./api.js").CloudEvent} CloudEvent */

const MOST = 50;
/** Fewer than that of one look back, and the next looks further. */
const ENOUGH = 5;
const LOOKS = [15_000, 10 * 60_000, 24 * 3_600_000];
/** How often the list changes: faster cannot be read. */
const BEAT = 400;

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class LiveEvents extends HTMLElement {
  /** @type {import("../client/eventissuer.js").Subscription | undefined} */ #reading;
  /** @type {AbortController | undefined} */ #begun;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #drawing;
  /** @type {CloudEvent[]} */ #waiting = [];
  /** Milliseconds at which events came of late. @type {number[]} */ #came = [];
  /** When the first of them came. */ #since = 0;
  #missed = 0;
  #total = 0;
  #paused = false;
  #cursor = "";
  #state = make("span", { class: "state", "data-grade": "warn" }, make("span", { class: "dot" }), make("span", {}, "Connecting"));
  #rate = make("span", { class: "quiet" });
  #pause = make("button", { type: "button", class: "plainly", "aria-pressed": "false" }, "Pause");
  #list = make("ol", { class: "events", "aria-label": "Events, the newest first" });
  #empty = make("p", { class: "nothing", hidden: true });
  #held = make("button", { type: "button", class: "held", hidden: true });
  #at = make("code", {}, "none yet");
  #note = make("p", { class: "note", role: "status" });

  constructor() {
    super();
    this.#pause.addEventListener("click", () => this.#setPaused(!this.#paused));
    this.#held.addEventListener("click", () => this.#setPaused(false));
  }

  /** @type {EventType | undefined} */
  type;

  connectedCallback() {
    const { type } = this;
    if (!type) return;
    const go = copyButton(() => this.#cursor, "Copy the cursor", "Copy");
    this.replaceChildren(
      make("div", { class: "bar" }, this.#state, this.#rate, this.#pause),
      this.#held, this.#empty, this.#list,
      make("p", { class: "at" }, make("span", { class: "quiet" }, "Cursor"), " ", this.#at, go),
      this.#note,
    );
    void this.#begin(type);
  }

  disconnectedCallback() {
    this.#begun?.abort();
    this.#reading?.close();
    clearTimeout(this.#drawing);
  }

  /** @param {EventType} type */
  async #begin(type) {
    this.#begun = new AbortController();
    const { signal } = this.#begun;
    /** @type {{events: CloudEvent[], cursor: string}} */
    let page = { events: [], cursor: "" };
    for (;;) {
      try {
        for (const back of LOOKS) {
          page = await readPage(type, new Date(Date.now() - back), MOST, signal);
          if (page.events.length >= ENOUGH) break;
        }
        break;
      } catch (error) {
        if (signal.aborted) return;
        const gone = error instanceof Unanswered && error.soon;
        this.#say(gone ? "warn" : "bad", gone ? "Connecting" : "Not there");
        write(this.#note, error instanceof Error ? error.message : String(error));
        if (!gone) return;
        await new Promise((resolve) => setTimeout(resolve, 3000));
        if (signal.aborted) return;
      }
    }
    write(this.#note, "");
    this.#take(page.events, page.cursor, false);
    this.#reading = new EventIssuer().subscribe({
      streams: [type.stream],
      filter: { type: type.type },
      after: page.cursor,
      onEvent: (event, cursor) => this.#take([event], cursor, true),
      onControl: ({ name, payload }) => {
        const words = /** @type {Record<string, string>} */ ({
          gap: `A gap: events are gone (${payload["reason"] ?? "unknown"}).`, skipped: "A record that is no event was passed.",
          stalled: "The log cannot be reached at the moment.", resumed: "", drain: "The server hands over to another.", problem: payload["title"] ?? "",
        });
        write(this.#note, words[name] ?? "");
      },
      onState: ({ phase, reason }) => {
        if (phase === "open") this.#say("good", "Live");
        else if (phase === "closed") this.#say("bad", "Ended");
        else this.#say("warn", phase === "connecting" ? "Connecting" : "Reconnecting");
        if (phase === "closed" && reason) write(this.#note, reason);
        if (phase === "open") write(this.#note, "");
      },
    });
    this.#draw();
  }

  /**
   * @param {string} grade
   * @param {string} text
   */
  #say(grade, text) {
    this.#state.dataset["grade"] = grade;
    write(/** @type {Element} */ (this.#state.lastElementChild), text);
  }

  /**
   * @param {CloudEvent[]} events
   * @param {string} cursor
   * @param {boolean} live
   */
  #take(events, cursor, live) {
    this.#cursor = cursor || this.#cursor;
    this.#waiting.push(...events);
    this.#total += events.length;
    if (live) this.#since ||= Date.now();
    if (live) this.#came.push(...events.map(() => Date.now()));
    if (this.#came.length > 2000) this.#came.splice(0, 1000);
    const over = this.#waiting.length - MOST;
    if (over > 0) {
      this.#waiting.splice(0, over);
      if (this.#paused) this.#missed += over;
    }
    this.#drawing ??= setTimeout(() => this.#draw(), BEAT);
  }

  #draw() {
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    write(this.#at, this.#cursor || "none yet");
    this.#at.title = this.#cursor;
    const since = Math.max(Date.now() - 5000, this.#since);
    this.#came = this.#came.filter((t) => t > since);
    const rate = this.#came.length / Math.max(1, (Date.now() - since) / 1000);
    write(this.#rate, rate ? `${rate.toFixed(rate > 10 ? 0 : 1)} a second` : "");
    this.#empty.hidden = this.#total > 0;
    write(this.#empty, "None in the last 24 hours. What is published is shown here as it comes.");
    const held = this.#paused ? this.#waiting.length + this.#missed : 0;
    this.#held.hidden = held === 0;
    write(this.#held, `${held} more ${held === 1 ? "has" : "have"} come. Go on`);
    if (!this.#paused) {
      const fresh = this.#waiting.splice(0).reverse().map((e) => this.#item(e));
      this.#list.prepend(...fresh);
      while (this.#list.childElementCount > MOST) this.#list.lastElementChild?.remove();
    }
    // The rate falls also when nothing comes.
    if (this.#came.length && this.isConnected) this.#drawing = setTimeout(() => this.#draw(), 1000);
  }

  /** @param {CloudEvent} event */
  #item(event) {
    const time = Date.parse(event.time ?? "");
    const head = make("summary", {},
      make("time", { datetime: event.time }, Number.isNaN(time) ? "––:––:––" : TIME.format(time)),
      make("span", { class: "subject" }, event.subject ?? event.id),
      make("span", { class: "brief" }, brief(event.data, event.subject ?? "")),
    );
    const details = make("details", {}, head);
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      const text = pretty(JSON.stringify(event), 48);
      const pre = make("pre", { tabindex: 0 });
      pre.append(coloured(text));
      details.append(make("div", { class: "code" }, pre, copyButton(() => text, "Copy the event")));
    });
    // What is being read must not move away.
    head.addEventListener("click", () => {
      if (!details.open) this.#setPaused(true);
    });
    return make("li", {}, details);
  }

  /** @param {boolean} paused */
  #setPaused(paused) {
    this.#paused = paused;
    if (!paused) this.#missed = 0;
    this.#pause.setAttribute("aria-pressed", String(paused));
    write(this.#pause, paused ? "Go on" : "Pause");
    this.#draw();
  }
}

/**
 * A few of the data's values, in one line: plain ones first, and neither dates nor what the subject tells already.
 * @param {any} data
 * @param {string} subject
 * @returns {string}
 */
function brief(data, subject) {
  if (data === undefined || data === null) return "";
  if (typeof data !== "object") return String(data).slice(0, 120);
  const known = subject.split(/[/:]/);
  const entries = Object.entries(data).filter(([, v]) => v !== null && !known.includes(String(v)));
  const plain = entries.filter(([, v]) => typeof v !== "object" && !/^\d{4}-\d\d-\d\d/.test(String(v))).map(([name, v]) => `${name} ${v}`);
  const rest = entries.filter(([, v]) => typeof v === "object").map(([name, v]) => `${name} ${Array.isArray(v) ? `[${v.length}]` : "{…}"}`);
  return [...plain, ...rest].slice(0, 6).join(" · ").slice(0, 160);
}
