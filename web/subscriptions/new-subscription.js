// @ts-check
/** <new-subscription>: making one, of streams or of types that are in the catalogue. */
import { Unanswered, listTypes } from "../catalog/api.js";
import { make, write } from "../page/dom.js";
import { createSubscription, listStreams } from "./api.js";
import { format } from "./route.js";
import { counted } from "./words.js";

/** @typedef {import("./route.js").NewRoute} NewRoute */
/** @typedef {{value: string, says: string}} Option */

/** What can be chosen from that is shown at once. */
const MOST = 200;

export class NewSubscription extends HTMLElement {
  #signal;
  /** @type {"types" | "streams"} */ #of = "types";
  /** @type {Record<"types" | "streams", Option[]>} */ #options = { types: [], streams: [] };
  /** @type {Record<"types" | "streams", Set<string>>} */ #chosen = { types: new Set(), streams: new Set() };
  #name = make("input", { autocomplete: "off", spellcheck: "false", maxlength: 200, pattern: "[A-Za-z0-9._\\-]*", placeholder: "billing" });
  #description = make("input", { autocomplete: "off" });
  #find = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  #kinds = make("div", { class: "tabs", role: "group", "aria-label": "Of what" });
  #list = make("ul", { class: "choose" });
  #count = make("span", { class: "quiet", role: "status" });
  #ordering = make("select", {}, make("option", { value: "key" }, "by key: events with the same key in order"), make("option", { value: "none" }, "none: whoever is free gets the next"));
  #from = make("select", {}, make("option", { value: "latest" }, "the end: what is published from now on"), make("option", { value: "oldest" }, "the oldest event that is kept"));
  #problem = make("div", { class: "notice bad", role: "alert", hidden: true });
  #make = make("button", { type: "submit", class: "button strong" }, "Make it");

  /** @param {AbortSignal} signal */
  constructor(signal) {
    super();
    this.#signal = signal;
    for (const [of, title] of /** @type {["types" | "streams", string][]} */ ([["types", "Event types"], ["streams", "Whole streams"]])) {
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

  /** @param {NewRoute} route */
  async load(route) {
    const [streams, { types }] = await Promise.all([listStreams(this.#signal), listTypes(this.#signal)]);
    if (this.#signal.aborted) return;
    this.#options = {
      streams: streams.map((s) => ({ value: s.name, says: s.description ?? "" })),
      types: types.map((t) => ({ value: t.type, says: t.description ?? "" })),
    };
    if (route.stream) {
      this.#of = "streams";
      this.#chosen.streams.add(route.stream);
    } else if (types.length === 0) this.#of = "streams";
    if (route.type) this.#chosen.types.add(route.type);
    this.#build();
    this.#update();
  }

  #build() {
    const field = (/** @type {string} */ title, /** @type {HTMLElement} */ input, says = "") => make("label", { class: "field" }, make("span", {}, title), input, ...(says ? [make("span", { class: "quiet" }, says)] : []));
    const form = make("form", { class: "card", novalidate: true },
      field("Name", this.#name, "Letters, digits, and . _ - in it. Whoever asks for one of the same name and content gets this one."),
      field("Description", this.#description),
      make("fieldset", {}, make("legend", {}, "Events of"), make("div", { class: "tools" }, this.#kinds, make("span", { class: "spring" }), this.#count), make("label", { class: "find" }, this.#find), this.#list),
      make("div", { class: "two" }, field("Order", this.#ordering), field("Begins at", this.#from)),
      this.#problem,
      make("div", { class: "answers" }, make("a", { class: "button", href: "#/" }, "Cancel"), this.#make),
    );
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      void this.#go();
    });
    this.replaceChildren(make("a", { class: "back", href: "#/" }, "← All subscriptions"), make("h1", { tabindex: -1 }, "New subscription"), make("p", { class: "lead quiet" }, "Its events are dealt out to whoever joins it, and each is given until somebody acknowledges it."), form);
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
    const n = this.#chosen[this.#of].size;
    write(this.#count, n ? `${counted(n, this.#of.slice(0, -1))} chosen` : "none chosen");
    this.#make.disabled = n === 0;
  }

  async #go() {
    if (this.#make.disabled) return;
    this.#make.disabled = true;
    this.#problem.hidden = true;
    const [name, description] = [this.#name.value.trim(), this.#description.value.trim()];
    try {
      const { subscription, made } = await createSubscription({
        ...(name ? { name } : {}),
        ...(description ? { description } : {}),
        [this.#of]: [...this.#chosen[this.#of]],
        config: { ordering: this.#ordering.value === "none" ? "none" : "key", from: this.#from.value },
      });
      this.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: made ? "It was made." : "There is one like it already." }));
      location.hash = format({ page: "subscription", id: subscription.id });
    } catch (error) {
      const wrong = error instanceof Unanswered ? error.errors : [];
      this.#problem.hidden = false;
      if (wrong.length) this.#problem.replaceChildren(make("ul", {}, ...wrong.map(({ pointer = "", message = "" }) => make("li", {}, make("code", {}, pointer), " ", message))));
      else this.#problem.replaceChildren(make("p", {}, error instanceof Error ? error.message : String(error)));
    } finally {
      this.#tell();
    }
  }
}
