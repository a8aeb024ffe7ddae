// @ts-check
/** <event-picker>: which events: of which types that are in the catalogue, or of which whole streams. */
import { listTypes } from "../catalog/api.js";
import { make, write } from "../page/dom.js";
import { listStreams } from "./api.js";
import { counted } from "./words.js";

/** @typedef {"types" | "streams"} Kind */
/** @typedef {{value: string, says: string}} Option */

/** What can be chosen from that is shown at once. */
const MOST = 200;

export class EventPicker extends HTMLElement {
  /** @type {Kind} */ #of = "types";
  /** @type {Record<Kind, Option[]>} */ #options = { types: [], streams: [] };
  /** @type {Record<Kind, Set<string>>} */ #chosen = { types: new Set(), streams: new Set() };
  #find = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  #kinds = make("div", { class: "tabs", role: "group", "aria-label": "Of what" });
  #list = make("ul", { class: "choose" });
  #count = make("span", { class: "quiet", role: "status" });

  constructor() {
    super();
    for (const [of, title] of /** @type {[Kind, string][]} */ ([["types", "Event types"], ["streams", "Whole streams"]])) {
      const button = make("button", { type: "button", "data-of": of }, title);
      button.addEventListener("click", () => {
        this.#of = of;
        this.#update();
      });
      this.#kinds.append(button);
    }
    this.#find.addEventListener("input", () => this.#update());
    // Enter in the search is no answer to the whole form.
    this.#find.addEventListener("keydown", (e) => {
      if (e.key === "Enter") e.preventDefault();
    });
  }

  connectedCallback() {
    if (!this.childElementCount) {
      this.append(make("fieldset", {}, make("legend", {}, "Events of"), make("div", { class: "tools" }, this.#kinds, make("span", { class: "spring" }), this.#count), make("label", { class: "find" }, this.#find), this.#list));
    }
    this.#update();
  }

  /**
   * Asks what there is to choose from.
   * @param {{stream: string, type: string}} wanted what is chosen already
   * @param {AbortSignal} signal
   */
  async load({ stream, type }, signal) {
    const [streams, { types }] = await Promise.all([listStreams(signal), listTypes(signal)]);
    this.#options = {
      streams: streams.map((s) => ({ value: s.name, says: s.description ?? "" })),
      types: types.map((t) => ({ value: t.type, says: t.description ?? "" })),
    };
    if (stream) {
      this.#of = "streams";
      this.#chosen.streams.add(stream);
    } else if (types.length === 0) this.#of = "streams";
    if (type) this.#chosen.types.add(type);
  }

  /** What is chosen, as a subscription has it. @returns {{types?: string[], streams?: string[]}} */
  get value() {
    return { [this.#of]: [...this.#chosen[this.#of]] };
  }

  /** How many are chosen. */
  get size() {
    return this.#chosen[this.#of].size;
  }

  /** What the keyboard is led to. */
  get search() {
    return this.#find;
  }

  #update() {
    const of = this.#of;
    for (const b of this.#kinds.children) b.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (b).dataset["of"] === of));
    this.#find.placeholder = of === "types" ? "Find types" : "Find streams";
    this.#find.setAttribute("aria-label", this.#find.placeholder);
    const chosen = this.#chosen[of];
    const words = this.#find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = this.#options[of].filter(({ value, says }) => words.every((w) => `${value}\n${says}`.toLowerCase().includes(w)));
    this.#list.replaceChildren(
      ...fitting.slice(0, MOST).map(({ value, says }) => {
        const box = make("input", { type: "checkbox", value });
        box.checked = chosen.has(value);
        box.addEventListener("change", () => {
          if (box.checked) chosen.add(value);
          else chosen.delete(value);
          this.#tell();
        });
        return make("li", {}, make("label", {}, box, make("span", {}, make("code", {}, value), make("span", { class: "quiet" }, says))));
      }),
    );
    if (fitting.length === 0) this.#list.append(make("li", { class: "nothing" }, words.length ? "Nothing fits." : "There are none yet."));
    if (fitting.length > MOST) this.#list.append(make("li", { class: "nothing" }, `${fitting.length - MOST} more: search to narrow the list.`));
    this.#tell();
  }

  #tell() {
    write(this.#count, this.size ? `${counted(this.size, this.#of.slice(0, -1))} chosen` : "none chosen");
    this.dispatchEvent(new CustomEvent("picked"));
  }
}
