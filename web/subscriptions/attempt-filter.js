// @ts-check
/**
 * <attempt-filter>: which attempts are to be shown: by what became of them, their event, and their time. It says "filtering"
 * when another choice is made, and "filtered" when that is to be looked for.
 */
import { make } from "../page/dom.js";
import { localTime } from "./from-choice.js";
import { OUTCOMES } from "./webhook-words.js";

/** @typedef {import("./webhook-api.js").AttemptQuery} AttemptQuery */

const BAD = Object.keys(OUTCOMES).filter((o) => o !== "delivered");
const SPANS = /** @type {[string, string][]} */ ([["", "Any time"], ["15", "Last 15 minutes"], ["60", "Last hour"], ["1440", "Last 24 hours"], ["own", "From … to …"]]);
/** While somebody types, nothing is asked: milliseconds. */
const TYPING = 300;

export class AttemptFilter extends HTMLElement {
  #state = make("select", { "aria-label": "State" }, make("option", { value: "" }, "All states"), make("option", { value: BAD.join(" ") }, "Not delivered"), ...Object.entries(OUTCOMES).map(([value, { title }]) => make("option", { value }, title)));
  #event = make("input", { type: "search", placeholder: "Event id", "aria-label": "Event id", autocomplete: "off", spellcheck: "false" });
  #span = make("select", { "aria-label": "Time" }, ...SPANS.map(([value, title]) => make("option", { value }, title)));
  #since = make("input", { type: "datetime-local", step: 1, "aria-label": "From", max: "9999-12-31T23:59:59" });
  #until = make("input", { type: "datetime-local", step: 1, "aria-label": "Until", max: "9999-12-31T23:59:59" });
  #own = make("span", { class: "own", hidden: true }, this.#since, " to ", this.#until);
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  connectedCallback() {
    if (this.childElementCount) return;
    this.append(make("div", { class: "tools" }, this.#state, make("label", { class: "find" }, this.#event), this.#span, this.#own));
    this.#since.value = localTime(Date.now() - 3_600_000);
    this.#state.addEventListener("change", () => this.#say(0));
    this.#event.addEventListener("input", () => this.#say(TYPING));
    this.#span.addEventListener("change", () => {
      this.#own.hidden = this.#span.value !== "own";
      this.#say(0);
    });
    for (const field of [this.#since, this.#until]) field.addEventListener("change", () => this.#say(0));
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
  }

  /** @returns {AttemptQuery} */
  get query() {
    const span = this.#span.value;
    const since = span === "own" ? time(this.#since.value) : span ? new Date(Date.now() - Number(span) * 60_000).toISOString() : "";
    return { states: this.#state.value.split(" ").filter(Boolean), event: this.#event.value.trim(), since, until: span === "own" ? time(this.#until.value) : "" };
  }

  /** Whether anything is left out. */
  get narrows() {
    const { states, event, since, until } = this.query;
    return states.length > 0 || event !== "" || since !== "" || until !== "";
  }

  /** @param {number} wait */
  #say(wait) {
    clearTimeout(this.#timer);
    this.dispatchEvent(new CustomEvent("filtering"));
    this.#timer = setTimeout(() => this.dispatchEvent(new CustomEvent("filtered")), wait);
  }
}

/** @param {string} local */
function time(local) {
  const t = new Date(local);
  return Number.isNaN(t.getTime()) ? "" : t.toISOString();
}
