// @ts-check
/** <dead-letters>: events that were given up, each to be opened. */
import { coloured, copyButton } from "../catalog/code-block.js";
import { pretty } from "../catalog/json-text.js";
import { make, write } from "../page/dom.js";
import { listDeadLetters } from "./api.js";
import { counted, deadWords, moment } from "./words.js";

/** @typedef {import("./api.js").DeadLetter} DeadLetter */

export class DeadLetters extends HTMLElement {
  #id = "";
  #next = "";
  /** How many there were when they were listed. */
  #listed = -1;
  #there = 0;
  /** @type {AbortController | undefined} */ #asking;
  #list = make("ol", { class: "events", "aria-label": "Dead letters" });
  #none = make("p", { class: "nothing" }, "None. An event becomes one when it has been tried as often as the subscription allows.");
  #note = make("p", { class: "note", role: "status" });
  #more = make("button", { type: "button", class: "plainly", hidden: true }, "Show more");
  #fresh = make("button", { type: "button", class: "held", hidden: true });

  constructor() {
    super();
    this.#more.addEventListener("click", () => void this.#load(this.#next));
    this.#fresh.addEventListener("click", () => void this.#load(""));
  }

  connectedCallback() {
    if (!this.childElementCount) this.append(this.#fresh, this.#none, this.#list, this.#more, this.#note);
  }

  disconnectedCallback() {
    this.#asking?.abort();
  }

  /**
   * @param {string} id
   * @param {number} there how many the stats tell of
   */
  show(id, there) {
    this.#id = id;
    this.#there = there;
    this.#none.hidden = there > 0;
    if (there === 0) {
      this.#list.replaceChildren();
      this.#more.hidden = true;
    }
    const others = there !== this.#listed;
    const reading = this.#list.querySelector("details[open]") !== null || this.#list.contains(document.activeElement);
    this.#fresh.hidden = !(others && reading && there > this.#listed);
    write(this.#fresh, `${counted(there - this.#listed, "more has", "more have")} come. Show them`);
    // What is being read must not move away.
    if (others && there > 0 && !reading && !this.#asking) void this.#load("");
  }

  /** @param {string} next "" for the first page */
  async #load(next) {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const there = this.#there;
    try {
      const page = await listDeadLetters(this.#id, asking.signal, next);
      if (asking.signal.aborted) return;
      this.#listed = there;
      this.#fresh.hidden = true;
      this.#next = page.next ?? "";
      this.#more.hidden = this.#next === "";
      const items = page.items.map((l) => this.#item(l));
      if (next) this.#list.append(...items);
      else this.#list.replaceChildren(...items);
      write(this.#note, "");
      if (next) items[0]?.querySelector("summary")?.focus();
    } catch (error) {
      if (!asking.signal.aborted) write(this.#note, error instanceof Error ? error.message : String(error));
    } finally {
      if (this.#asking === asking) this.#asking = undefined;
    }
  }

  /** @param {DeadLetter} letter */
  #item(letter) {
    const { event, stream, partition, offset, at } = letter;
    const t = Date.parse(at ?? "");
    const head = make("summary", {},
      make("time", { datetime: at }, Number.isNaN(t) ? "" : moment(t, Date.now())),
      make("span", { class: "subject" }, event?.subject ?? event?.id ?? ""),
      make("span", { class: "brief" }, `${deadWords(letter)} · ${event?.type ?? ""} · ${stream}/${partition}, offset ${offset}`),
    );
    const details = make("details", {}, head);
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      const text = pretty(JSON.stringify(event), 72);
      const pre = make("pre", { tabindex: 0, role: "region", "aria-label": "The event" });
      pre.append(coloured(text));
      details.append(make("div", { class: "code" }, pre, copyButton(() => text, "Copy the event")));
    });
    return make("li", {}, details);
  }
}
