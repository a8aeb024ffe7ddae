// @ts-check
/** <type-rail>: all types beside the one that is shown, by stream. */
import { make } from "../page/dom.js";
import { fitness } from "./catalog-words.js";
import { format } from "./route.js";
import { typeName } from "./type-badges.js";

/** @typedef {import("./api.js").EventType} EventType */

/** Rows that are shown at most: what is beyond them is searched for. */
const MOST = 400;

export class TypeRail extends HTMLElement {
  /** @type {EventType[]} */ #types = [];
  #current = "";
  #input = make("input", { type: "search", placeholder: "Find a type", "aria-label": "Find an event type", autocomplete: "off", spellcheck: "false" });
  #list = make("div", { class: "groups" });

  constructor() {
    super();
    this.#input.addEventListener("input", () => this.#update());
    this.addEventListener("keydown", (e) => {
      const links = [...this.#list.querySelectorAll("a")];
      const at = links.findIndex((l) => l === document.activeElement);
      const typing = document.activeElement === this.#input;
      if (e.key === "ArrowDown" && (typing || at >= 0)) links[Math.min(at + 1, links.length - 1)]?.focus();
      else if (e.key === "ArrowUp" && at >= 0) (at === 0 ? this.#input : links[at - 1])?.focus();
      else if (e.key === "Enter" && typing && this.#input.value) links[0]?.click();
      else return;
      e.preventDefault();
    });
  }

  connectedCallback() {
    if (this.childElementCount) return;
    this.append(make("a", { class: "back", href: "#/" }, "← All event types"), make("label", { class: "find" }, this.#input, make("kbd", { "aria-hidden": "true" }, "/")), make("nav", { "aria-label": "Event types" }, this.#list));
  }

  get search() {
    return this.#input;
  }

  /**
   * @param {EventType[]} types
   * @param {string} current
   */
  show(types, current) {
    this.#types = types;
    this.#current = current;
    this.#update();
    this.#list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  #update() {
    const words = this.#input.value.toLowerCase().split(/\s+/).filter(Boolean);
    /** @type {Map<string, EventType[]>} */
    const streams = new Map();
    for (const t of this.#types.filter((t) => fitness(t, words)).slice(0, MOST)) streams.set(t.stream, [...(streams.get(t.stream) ?? []), t]);
    this.#list.replaceChildren(
      ...[...streams].sort(([a], [b]) => (a < b ? -1 : 1)).map(([stream, types]) =>
        make("div", {}, make("h2", {}, stream),
          make("ul", {}, ...types.map((t) => make("li", {}, make("a", { href: format({ page: "type", type: t.type }), "aria-current": t.type === this.#current ? "page" : undefined, "data-deprecated": t.deprecation !== undefined, title: t.type }, ...typeName(t.type, words))))),
        ),
      ),
    );
    if (streams.size === 0) this.#list.append(make("p", { class: "quiet" }, "Nothing fits."));
  }
}
