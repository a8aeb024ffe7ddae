// @ts-check
/** <new-subscription>: making one that sessions read. */
import { Unanswered } from "../catalog/api.js";
import { make } from "../page/dom.js";
import { createSubscription } from "./api.js";
import { EventPicker } from "./event-picker.js";
import { FormFields, sayRest } from "./form-fields.js";
import { format } from "./route.js";

/** @typedef {import("./route.js").NewRoute} NewRoute */

export class NewSubscription extends HTMLElement {
  #signal;
  #picker = new EventPicker();
  #fields = new FormFields();
  #name = make("input", { autocomplete: "off", spellcheck: "false", maxlength: 200, placeholder: "billing" });
  #description = make("input", { autocomplete: "off" });
  #ordering = make("select", {}, make("option", { value: "key" }, "by key: events with the same key in order"), make("option", { value: "none" }, "none: whoever is free gets the next"));
  #from = make("select", {}, make("option", { value: "latest" }, "the end: what is published from now on"), make("option", { value: "oldest" }, "the oldest event that is kept"));
  #problem = make("div", { class: "notice bad", role: "alert", hidden: true });
  #make = make("button", { type: "submit", class: "button strong" }, "Make it");

  /** @param {AbortSignal} signal */
  constructor(signal) {
    super();
    this.#signal = signal;
    this.#picker.addEventListener("picked", () => this.#update());
  }

  /** @param {NewRoute} route */
  async load(route) {
    await this.#picker.load(route, this.#signal);
    if (!this.#signal.aborted) this.#build();
  }

  #build() {
    const f = this.#fields;
    const form = make("form", { class: "card", novalidate: true },
      f.field("/name", "Name", this.#name, "Letters, digits, and . _ - in it. Whoever asks for one of the same name and content gets this one."),
      f.field("/description", "Description", this.#description),
      this.#picker, f.place("/types", this.#picker.search), f.place("/streams", this.#picker.search),
      make("div", { class: "two" }, f.field("/config/ordering", "Order", this.#ordering), f.field("/config/from", "Begins at", this.#from)),
      this.#problem,
      make("div", { class: "answers" }, make("a", { class: "button", href: "#/" }, "Cancel"), this.#make),
    );
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      void this.#go();
    });
    this.replaceChildren(
      make("a", { class: "back", href: "#/" }, "← All subscriptions"), make("h1", { tabindex: -1 }, "New subscription"),
      make("p", { class: "lead quiet" }, "Its events are dealt out to whoever joins it, and each is given until somebody acknowledges it. To have them sent to an address, make a ", make("a", { href: format({ page: "new-webhook", stream: "", type: "" }) }, "webhook"), "."),
      form,
    );
  }

  #update() {
    this.#make.disabled = this.#picker.size === 0;
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
        ...this.#picker.value,
        config: { ordering: this.#ordering.value === "none" ? "none" : "key", from: this.#from.value },
      });
      this.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: made ? "It was made." : "There is one like it already." }));
      location.hash = format({ page: "subscription", id: subscription.id });
    } catch (error) {
      const wrong = error instanceof Unanswered ? error.errors : [];
      sayRest(this.#problem, this.#fields.wrong(wrong), wrong.length ? "" : error instanceof Error ? error.message : String(error));
    } finally {
      this.#update();
    }
  }
}
