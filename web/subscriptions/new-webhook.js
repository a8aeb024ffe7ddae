// @ts-check
/** <new-webhook>: making a subscription whose events are sent to an endpoint, and showing its secret, once. */
import { Unanswered } from "../catalog/api.js";
import { codeTabs } from "../page/code-tabs.js";
import { make } from "../page/dom.js";
import { createSubscription } from "./api.js";
import { CredentialFields } from "./credential-fields.js";
import { EventPicker } from "./event-picker.js";
import { FormFields, sayRest } from "./form-fields.js";
import { HeaderFields } from "./header-fields.js";
import { receiverCode } from "./receiver-code.js";
import { format } from "./route.js";
import { secretBox } from "./secret-dialog.js";
import { called } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./route.js").NewRoute} NewRoute */

/** @param {[value: string, title: string][]} options */
const choice = (options) => make("select", {}, ...options.map(([value, title]) => make("option", { value }, title)));

/**
 * @param {number} value
 * @param {number} min
 * @param {number} max
 */
const number = (value, min, max) => make("input", { type: "number", value, min, max, inputmode: "numeric" });

export class NewWebhook extends HTMLElement {
  #signal;
  #picker = new EventPicker();
  #fields = new FormFields();
  #headers = new HeaderFields(this.#fields);
  #credential = new CredentialFields(this.#fields);
  #name = make("input", { autocomplete: "off", spellcheck: "false", maxlength: 200, placeholder: "billing" });
  #description = make("input", { autocomplete: "off" });
  #sink = make("input", { type: "url", autocomplete: "off", spellcheck: "false", placeholder: "https://example.com/events", required: true });
  #filter = make("textarea", { rows: 2, spellcheck: "false", autocomplete: "off", placeholder: "subject LIKE '/order/%' AND amount > 100" });
  #mode = choice([["structured", "structured: each is an event as JSON, signed whole"], ["binary", "binary: the attributes are headers, which are not signed"]]);
  #ordering = choice([["none", "none: one that fails holds up no other"], ["key", "by key: the next of a key when the one before it is done"]]);
  #from = choice([["latest", "the end: what is published from now on"], ["oldest", "the oldest event that is kept"]]);
  #exhausted = choice([["deadLetter", "an event becomes a dead letter"], ["block", "it is tried on, and what is behind waits"]]);
  #concurrency = number(8, 1, 64);
  #rate = number(0, 0, 10_000);
  #batch = number(1, 1, 100);
  #timeout = make("input", { autocomplete: "off", spellcheck: "false", value: "15s" });
  #problem = make("div", { class: "notice bad", role: "alert", hidden: true });
  #make = make("button", { type: "submit", class: "button strong" }, "Make it");

  /** @param {AbortSignal} signal */
  constructor(signal) {
    super();
    this.#signal = signal;
    this.#picker.addEventListener("picked", () => this.#update());
    this.#sink.addEventListener("input", () => this.#update());
  }

  /** @param {NewRoute} route */
  async load(route) {
    await this.#picker.load(route, this.#signal);
    if (!this.#signal.aborted) this.#build();
  }

  #build() {
    const f = this.#fields;
    const form = make("form", { class: "card", novalidate: true },
      f.field("/sink", "Endpoint", this.#sink, "An https address. It is sent nothing before it has proven that it wants the events."),
      make("div", { class: "two" }, f.field("/name", "Name", this.#name, "Letters, digits, and . _ - in it."), f.field("/description", "Description", this.#description)),
      this.#picker, f.place("/types", this.#picker.search), f.place("/streams", this.#picker.search),
      f.field("/filters", "Filter, CESQL", this.#filter, "Only events of which it is true. Without one, all of them."),
      make("div", { class: "two" }, f.field("/config/ordering", "Order", this.#ordering), f.field("/config/from", "Begins at", this.#from)),
      f.field("/protocolsettings/mode", "Mode", this.#mode),
      this.#credential.element,
      this.#headers.element,
      make("details", { class: "more-settings" }, make("summary", {}, "Pace and patience"),
        make("div", { class: "two" },
          f.field("/config/concurrency", "Requests at a time", this.#concurrency), f.field("/config/ratePerSecond", "Requests a second", this.#rate, "0: as many as it takes."),
          f.field("/config/timeout", "Time to answer", this.#timeout, "Such as 15s; a minute at most."), f.field("/config/batch/max", "Events in a request", this.#batch, "More than one are sent as an array."),
        ),
        f.field("/config/onExhausted", "When its tries are used up", this.#exhausted),
      ),
      this.#problem,
      make("div", { class: "answers" }, make("a", { class: "button", href: "#/" }, "Cancel"), this.#make),
    );
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      void this.#go();
    });
    this.replaceChildren(make("a", { class: "back", href: "#/" }, "← All subscriptions"), make("h1", { tabindex: -1 }, "New webhook"), make("p", { class: "lead quiet" }, "Its events are sent to an endpoint, each in a signed request, until that answers 2xx."), form);
  }

  #update() {
    this.#make.disabled = this.#picker.size === 0 || this.#sink.value.trim() === "";
  }

  /** @returns {Partial<Subscription>} */
  get #wanted() {
    const text = (/** @type {"name" | "description"} */ member, /** @type {HTMLInputElement} */ input) => (input.value.trim() ? { [member]: input.value.trim() } : {});
    const [filter, headers, credential] = [this.#filter.value.trim(), this.#headers.value, this.#credential.value];
    const max = Number(this.#batch.value);
    return {
      ...text("name", this.#name),
      ...text("description", this.#description),
      ...this.#picker.value,
      ...(filter ? { filters: [{ sql: filter }] } : {}),
      sink: this.#sink.value.trim(),
      protocolsettings: { mode: this.#mode.value === "binary" ? "binary" : "structured", ...(headers ? { headers } : {}) },
      ...(credential ? { sinkcredential: credential } : {}),
      config: {
        from: this.#from.value,
        ordering: this.#ordering.value === "key" ? "key" : "none",
        concurrency: Number(this.#concurrency.value),
        ratePerSecond: Number(this.#rate.value),
        timeout: this.#timeout.value.trim(),
        onExhausted: this.#exhausted.value === "block" ? "block" : "deadLetter",
        ...(max === 1 ? {} : { batch: { max } }),
      },
    };
  }

  async #go() {
    if (this.#make.disabled) return;
    this.#make.disabled = true;
    this.#problem.hidden = true;
    this.#headers.place();
    this.#fields.right();
    try {
      const { subscription, made } = await createSubscription(this.#wanted);
      if (made && subscription.secret) this.#made(subscription, subscription.secret);
      else {
        this.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: "There is one like it already." }));
        location.hash = format({ page: "subscription", id: subscription.id });
      }
    } catch (error) {
      const wrong = error instanceof Unanswered ? error.errors : [];
      sayRest(this.#problem, this.#fields.wrong(wrong), wrong.length ? "" : error instanceof Error ? error.message : String(error));
    } finally {
      this.#update();
    }
  }

  /**
   * @param {Subscription} about
   * @param {string} secret
   */
  #made(about, secret) {
    const title = make("h1", { tabindex: -1 }, `${called(about)} is made`);
    this.replaceChildren(
      title,
      make("section", { class: "card", "aria-labelledby": "secret-title" },
        make("h2", { id: "secret-title" }, "Its secret"),
        make("p", {}, "It is shown now, and never again. The endpoint needs it to prove itself and to verify what it is sent."),
        secretBox(secret),
        make("p", { class: "answers" }, make("a", { class: "button strong", href: format({ page: "subscription", id: about.id }) }, "I have kept it: to the webhook")),
      ),
      codeTabs(make("h2", {}, "Receive it"), receiverCode(about), "node", () => {}),
    );
    title.focus();
    scrollTo({ top: 0 });
    this.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: "It was made. Its secret is shown once." }));
  }
}
