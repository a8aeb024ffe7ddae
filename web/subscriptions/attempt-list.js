// @ts-check
/**
 * <attempt-list>: the attempts at deliveries, newest first, as somebody wants to see them. What comes meanwhile is put
 * before them, unless somebody reads or chooses: what moves under the pointer cannot be used. It says "given-up" when one
 * comes that was the last.
 */
import { make, write } from "../page/dom.js";
import { Again } from "./again.js";
import { AttemptFilter } from "./attempt-filter.js";
import { AttemptRow } from "./attempt-row.js";
import { ATTEMPTS, listAttempts, resend } from "./webhook-api.js";
import { attemptsWords } from "./webhook-words.js";
import { count, counted } from "./words.js";

/** @typedef {import("./webhook-api.js").Attempt} Attempt */

/** How often it is asked for new ones: milliseconds. */
const EVERY = 4000;
/** The same while they cannot be had. */
const PAUSE = 10_000;
/** For so long what comes is what somebody has just had made: milliseconds. */
const EXPECTED = 15_000;
/** As many as the server sends again at a time. */
const MOST_AT_ONCE = 100;

/** Which it is: one that was not read back has no id, and is none of these. */
const key = (/** @type {Attempt} */ a) => a.id ?? "";

export class AttemptList extends HTMLElement {
  #id = "";
  #next = "";
  /** @type {Map<string, AttemptRow>} */ #rows = new Map();
  /** Those that have come while somebody reads. @type {Attempt[]} */ #held = [];
  /** There are more new ones than a page has: what is shown is not what they follow. */
  #apart = false;
  #expected = 0;
  #begun = false;
  /** @type {AbortController | undefined} */ #asking;
  #looks = new Again(() => void this.#look());
  #filter = new AttemptFilter();
  #body = make("tbody", { role: "rowgroup" });
  #all = make("input", { type: "checkbox", "aria-label": "Choose all that are shown" });
  #chosen = make("span", { class: "quiet", role: "status" });
  #again = make("button", { type: "button", class: "button", disabled: true }, "Send again");
  #fresh = make("button", { type: "button", class: "button fresh", hidden: true });
  #choosing = make("div", { class: "tools choosing", hidden: true }, this.#again, this.#chosen, make("span", { class: "spring" }), this.#fresh);
  #told = make("p", { class: "notice told", role: "status", hidden: true });
  #none = make("p", { class: "nothing", hidden: true });
  #table;
  #more = make("button", { type: "button", class: "plainly", hidden: true }, "Show older ones");
  #note = make("p", { class: "note", role: "status" });

  constructor() {
    super();
    const head = make("tr", { role: "row" },
      make("th", { role: "columnheader", scope: "col", class: "box" }, this.#all),
      ...["Time", "Event", "Type", "State", "Took", "Reason", "Next try"].map((title) => make("th", { role: "columnheader", scope: "col", class: title === "Took" ? "number" : undefined }, title)),
    );
    this.#table = make("div", { class: "table attempts" }, make("table", { role: "table", "aria-label": "Attempts" }, make("thead", { role: "rowgroup" }, head), this.#body));
    this.#filter.addEventListener("filtering", () => this.#table.setAttribute("aria-busy", "true"));
    this.#filter.addEventListener("filtered", () => void this.#restart());
    this.#all.addEventListener("change", () => {
      for (const row of this.#rows.values()) row.choose(this.#all.checked);
      this.#choices();
    });
    this.#body.addEventListener("change", () => this.#choices());
    this.#again.addEventListener("click", () => void this.#resend());
    this.#fresh.addEventListener("click", () => this.#showHeld());
    this.#more.addEventListener("click", () => void this.#load(this.#next));
  }

  connectedCallback() {
    if (!this.childElementCount) {
      this.append(this.#filter, this.#choosing, this.#told, this.#none, this.#table, this.#more, this.#note);
    }
    if (this.#id) this.#looks.start();
  }

  disconnectedCallback() {
    this.#looks.stop();
    this.#asking?.abort();
  }

  /** @param {string} id of the subscription */
  show(id) {
    this.#id = id;
    if (this.isConnected) this.#looks.start();
  }

  /** Somebody has had one made, and waits to see it. */
  expect() {
    this.#expected = Date.now() + EXPECTED;
    this.#looks.plan(500);
  }

  /** Asks for what is new. */
  async #look() {
    if (this.#asking) return;
    await this.#load("");
  }

  /** Lists them from the newest on. What is shown stays until that is known. */
  async #restart() {
    this.#begun = false;
    await this.#load("");
  }

  #clear() {
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.#held = [];
    this.#apart = false;
  }

  /** @param {string} page "" for the first */
  async #load(page) {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    let wait = EVERY;
    try {
      const { items, next = "" } = await listAttempts(this.#id, this.#filter.query, asking.signal, page);
      if (asking.signal.aborted) return;
      if (page || !this.#begun) {
        if (!page) this.#clear();
        this.#next = next;
        this.#append(items, page !== "");
      } else this.#prepend(items);
      this.#begun = true;
      this.#table.removeAttribute("aria-busy");
      write(this.#note, "");
      this.#update();
    } catch (error) {
      if (asking.signal.aborted) return;
      write(this.#note, error instanceof Error ? error.message : String(error));
      wait = PAUSE;
    } finally {
      if (this.#asking === asking) {
        this.#asking = undefined;
        this.#looks.plan(Date.now() < this.#expected ? Math.min(wait, 1000) : wait);
      }
    }
  }

  /**
   * @param {Attempt[]} items
   * @param {boolean} wanted somebody asked for them
   */
  #append(items, wanted) {
    const rows = items.filter((a) => !this.#rows.has(key(a))).map((a) => this.#row(a));
    for (const row of rows) this.#body.append(...row.elements);
    if (wanted) rows[0]?.focus();
  }

  /** @param {Attempt[]} items the newest */
  #prepend(items) {
    const fresh = items.filter((a) => !this.#rows.has(key(a)));
    if (!fresh.length) return;
    this.#apart = this.#rows.size > 0 && fresh.length === items.length && items.length >= ATTEMPTS;
    this.#held = fresh;
    if (fresh.some((a) => a.deadLetter)) this.dispatchEvent(new CustomEvent("given-up"));
    if (Date.now() < this.#expected || !this.#read) this.#showHeld();
  }

  #showHeld() {
    if (this.#apart) {
      void this.#restart();
      return;
    }
    const focused = this.#fresh === document.activeElement;
    const rows = this.#held.map((a) => this.#row(a));
    this.#body.prepend(...rows.flatMap((row) => row.elements));
    this.#held = [];
    this.#update();
    if (focused) rows[0]?.focus();
  }

  /** Whether somebody reads it, or chooses. */
  get #read() {
    return this.#chosenIds().length > 0 || [...this.#rows.values()].some((row) => row.open) || this.#table.matches(":hover") || this.#table.contains(document.activeElement);
  }

  /** @param {Attempt} a */
  #row(a) {
    const row = new AttemptRow(a);
    this.#rows.set(key(a), row);
    return row;
  }

  #update() {
    const n = this.#rows.size;
    this.#table.hidden = this.#choosing.hidden = n === 0;
    this.#none.hidden = n > 0;
    write(this.#none, this.#filter.narrows ? "None fits." : "None yet. All failures are kept here for some days, and some of the successes.");
    this.#more.hidden = this.#next === "";
    this.#fresh.hidden = this.#held.length === 0;
    write(this.#fresh, this.#apart ? "Show the newest" : `Show ${count(this.#held.length)} new`);
    this.#choices();
  }

  #chosenIds() {
    return [...this.#rows].flatMap(([id, row]) => (row.chosen ? [id] : []));
  }

  #choices() {
    const n = this.#chosenIds().length;
    const can = [...this.#rows.values()].filter((row) => row.can).length;
    this.#again.disabled = n === 0 || n > MOST_AT_ONCE;
    write(this.#chosen, n > MOST_AT_ONCE ? `${counted(n, "attempt")} chosen: ${MOST_AT_ONCE} at most at a time` : n ? `${counted(n, "attempt")} chosen` : "");
    this.#all.checked = n > 0 && n === can;
    this.#all.indeterminate = n > 0 && n < can;
    this.#all.disabled = can === 0;
  }

  async #resend() {
    const ids = this.#chosenIds();
    this.#again.disabled = true;
    write(this.#again, "Sending");
    try {
      const made = await resend(this.#id, ids);
      this.#tell(attemptsWords(made), made.every((a) => a.state === "delivered"));
      for (const row of this.#rows.values()) row.choose(false);
    } catch (error) {
      this.#tell(error instanceof Error ? error.message : String(error), false);
    } finally {
      write(this.#again, "Send again");
      this.#choices();
      this.expect();
    }
  }

  /**
   * @param {string} text
   * @param {boolean} good
   */
  #tell(text, good) {
    this.#told.hidden = false;
    this.#told.classList.toggle("bad", !good);
    write(this.#told, text);
  }
}
