// @ts-check
/** <dead-letters>: events that were given up, each to be opened. The list grows at its end, and nothing in it moves. */
import { coloured, copyButton } from "../catalog/code-block.js";
import { pretty } from "../catalog/json-text.js";
import { make, write } from "../page/dom.js";
import { listDeadLetters } from "./api.js";
import { count, counted, deadWords, moment } from "./words.js";

/** @typedef {import("./api.js").DeadLetter} DeadLetter */

/** The server looks through a bounded part of its log for a page, in which there may be none: so often it is asked to go on. */
const EMPTY_PAGES = 16;
/** How often the end of the list is looked at while events are done with, whatever the stats tell: milliseconds. */
const LOOK = 15_000;

/** Which it is: an event can be given up again after a reset. */
const key = (/** @type {DeadLetter} */ l) => `${l.stream}/${l.partition}/${l.offset}/${l.at}`;

export class DeadLetters extends HTMLElement {
  #id = "";
  /** The page that was asked for last, "" for the first. */
  #page = "";
  /** The one after it, "" where there is none yet. */
  #next = "";
  /** @type {Set<string>} */ #shown = new Set();
  #now = { told: 0, done: 0 };
  /** What the stats told when the end of the list was looked at. @type {{told: number, done: number} | undefined} */ #seen;
  #looked = 0;
  /** @type {AbortController | undefined} */ #asking;
  #list = make("ol", { class: "events", "aria-label": "Dead letters" });
  #none = make("p", { class: "nothing", hidden: true }, "None. An event becomes one when it has been tried as often as the subscription allows.");
  #note = make("p", { class: "note", role: "status" });
  #more = make("button", { type: "button", class: "plainly", hidden: true }, "Show more");

  constructor() {
    super();
    this.#more.addEventListener("click", () => void this.#load(this.#next, true));
  }

  connectedCallback() {
    if (!this.childElementCount) this.append(this.#none, this.#list, this.#more, this.#note);
  }

  disconnectedCallback() {
    this.#asking?.abort();
  }

  /** How many there are, as far as that is known: "–", "7", or "50+". */
  get total() {
    if (!this.#seen) return "–";
    return this.#next ? `${count(Math.max(this.#shown.size, this.#now.told))}+` : count(this.#shown.size);
  }

  /** Whether any is known of. */
  get some() {
    return this.#shown.size > 0;
  }

  /**
   * The stats tell only of those since the partitions have been where they are. So a change of the number says that the
   * list is to be looked at, and no number that there is nothing to be seen.
   * @param {string} id
   * @param {number} told of how many the stats tell
   * @param {number} done how many events are done with: an event that is given up is one of them
   */
  show(id, told, done) {
    this.#id = id;
    this.#now = { told, done };
    if (this.#asking) return;
    if (!this.#seen) void this.#load("", false);
    else if (this.#next) this.#seen = this.#now; // what has come is beyond what is shown
    else if (told !== this.#seen.told || (done !== this.#seen.done && Date.now() - this.#looked >= LOOK)) void this.#load(this.#page, false);
  }

  /**
   * @param {string} page
   * @param {boolean} wanted somebody asked for it
   */
  async #load(page, wanted) {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const now = this.#now;
    const first = !this.#seen;
    try {
      /** @type {DeadLetter[]} */
      let letters = [];
      for (let i = 0; i < EMPTY_PAGES; i++) {
        const { items, next = "" } = await listDeadLetters(this.#id, asking.signal, page);
        if (asking.signal.aborted) return;
        [this.#page, this.#next] = [page, next];
        letters = items.filter((l) => !this.#shown.has(key(l)));
        if (letters.length || !next) break;
        page = next;
      }
      this.#seen = now;
      this.#looked = Date.now();
      for (const l of letters) this.#shown.add(key(l));
      const items = letters.map((l) => this.#item(l));
      this.#list.append(...items);
      this.#none.hidden = this.#shown.size > 0 || this.#next !== "";
      this.#more.hidden = this.#next === "";
      write(this.#note, "");
      if (wanted) items[0]?.querySelector("summary")?.focus();
      else if (!first && items.length) this.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: `${counted(items.length, "dead letter has", "dead letters have")} come.` }));
      this.dispatchEvent(new CustomEvent("counted"));
    } catch (error) {
      if (!asking.signal.aborted) write(this.#note, error instanceof Error ? error.message : String(error));
    } finally {
      if (this.#asking === asking) this.#asking = undefined;
    }
  }

  /** @param {DeadLetter} letter */
  #item(letter) {
    const { event, stream, partition, offset, at } = letter;
    const where = `${stream}/${partition}, offset ${offset}`;
    const t = Date.parse(at ?? "");
    const head = make("summary", {},
      make("time", { datetime: at }, Number.isNaN(t) ? "" : moment(t, Date.now())),
      make("span", { class: "subject" }, event ? (event.subject ?? event.id) : "A large event"),
      make("span", { class: "brief" }, [deadWords(letter), event?.type, where].filter(Boolean).join(" · ")),
    );
    const details = make("details", {}, head);
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      if (!event) {
        details.append(make("p", { class: "note" }, `It is too large to be kept here once more. Its stream has it: ${where}.`));
        return;
      }
      const text = pretty(JSON.stringify(event), 72);
      const pre = make("pre", { tabindex: 0, role: "region", "aria-label": "The event" });
      pre.append(coloured(text));
      details.append(make("div", { class: "code" }, pre, copyButton(() => text, "Copy the event")));
    });
    return make("li", {}, details);
  }
}
