// @ts-check
/**
 * <dead-letters>: events that were given up, each to be opened. The list grows at its end, and nothing in it moves. Where
 * the subscription has a sink, they can be sent there once more.
 */
import { coloured, copyButton } from "../catalog/code-block.js";
import { pretty } from "../catalog/json-text.js";
import { make, write } from "../page/dom.js";
import { listDeadLetters } from "./api.js";
import { ConfirmDialog } from "./confirm-dialog.js";
import { redeliver } from "./webhook-api.js";
import { count, counted, deadWords, moment } from "./words.js";

/** @typedef {import("./api.js").DeadLetter} DeadLetter */

/** The server looks through a bounded part of its log for a page, in which there may be none: so often it is asked to go on. */
const EMPTY_PAGES = 16;
/** As many as the server sends again at a time. */
const MOST_AT_ONCE = 100;
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
  #sends;
  /** Those that can be chosen, by their ids. @type {Map<string, HTMLInputElement>} */ #boxes = new Map();
  #chosen = make("span", { class: "quiet", role: "status" });
  #sendChosen = make("button", { type: "button", class: "button", disabled: true }, "Send chosen again");
  #sendAll = make("button", { type: "button", class: "button" }, "Send all again…");
  #choosing = make("div", { class: "tools choosing", hidden: true }, this.#sendChosen, this.#sendAll, this.#chosen);
  #told = make("p", { class: "notice told", role: "status", hidden: true });
  #note = make("p", { class: "note", role: "status" });
  #more = make("button", { type: "button", class: "plainly", hidden: true }, "Show more");

  /** @param {boolean} [sends] whether they can be sent again */
  constructor(sends = false) {
    super();
    this.#sends = sends;
    this.#list.addEventListener("change", () => this.#choices());
    this.#sendChosen.addEventListener("click", () => void this.#send());
    this.#sendAll.addEventListener("click", () => this.#askAll());
    this.#more.addEventListener("click", () => void this.#load(this.#next, true));
  }

  connectedCallback() {
    if (!this.childElementCount) this.append(this.#choosing, this.#told, this.#none, this.#list, this.#more, this.#note);
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

  /** There may be another. */
  look() {
    if (this.#seen && !this.#asking && !this.#next) void this.#load(this.#page, false);
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
      this.#choices();
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
      make("span", { class: "brief" }, [letter.redelivered ? "delivered since" : "", deadWords(letter), event?.type, where].filter(Boolean).join(" · ")),
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
    if (!this.#sends) return make("li", {}, details);
    const box = make("input", { type: "checkbox", "aria-label": `Choose ${event?.subject ?? event?.id ?? where}` });
    if (letter.id && !letter.redelivered) this.#boxes.set(letter.id, box);
    else box.disabled = true;
    return make("li", { class: "with-box" }, make("label", { class: "box" }, box), details);
  }

  #choices() {
    const n = this.#ids().length;
    this.#choosing.hidden = this.#boxes.size === 0;
    this.#sendChosen.disabled = n === 0 || n > MOST_AT_ONCE;
    write(this.#chosen, n > MOST_AT_ONCE ? `${count(n)} chosen: ${MOST_AT_ONCE} at most at a time` : n ? `${count(n)} chosen` : "");
  }

  #ids() {
    return [...this.#boxes].flatMap(([id, box]) => (box.checked ? [id] : []));
  }

  async #send() {
    this.#sendChosen.disabled = true;
    try {
      this.#tell(await redeliver(this.#id, { ids: this.#ids() }));
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error), false);
    }
    this.#restart();
  }

  #askAll() {
    const dialog = new ConfirmDialog("Send all dead letters again", [make("p", {}, "Each that was not delivered since is sent to the endpoint once, out of order and beside what is sent otherwise.")], "Send all", async () => {
      /** @type {{redelivered: number, failed: {reason: string}[]}} */
      const sum = { redelivered: 0, failed: [] };
      let next = "";
      do {
        const done = await redeliver(this.#id, { all: true, ...(next ? { next } : {}) });
        sum.redelivered += done.redelivered;
        sum.failed.push(...done.failed);
        next = done.next ?? "";
      } while (next && dialog.open);
      this.#tell(sum);
      this.#restart();
    });
    dialog.demand({ can: true, type: "" });
    dialog.show();
  }

  /** @param {{redelivered: number, failed: {reason: string}[]}} done */
  #tell({ redelivered, failed }) {
    const [first] = failed;
    this.#say(`${counted(redelivered, "was", "were")} delivered.${first ? ` ${counted(failed.length, "was", "were")} not: ${first.reason}.` : ""}`, !first);
    this.dispatchEvent(new CustomEvent("sent"));
  }

  /**
   * @param {string} text
   * @param {boolean} good
   */
  #say(text, good) {
    this.#told.hidden = false;
    this.#told.classList.toggle("bad", !good);
    write(this.#told, text);
  }

  /** Lists them from the beginning: some were delivered since. */
  #restart() {
    this.#shown.clear();
    this.#boxes.clear();
    this.#list.replaceChildren();
    this.#seen = undefined;
    void this.#load("", false);
  }
}
