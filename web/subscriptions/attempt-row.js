// @ts-check
/** An attempt in a table, and below it, unfolded, all that is known of it. */
import { nameParts } from "../catalog/catalog-words.js";
import { copyButton } from "../catalog/code-block.js";
import { make } from "../page/dom.js";
import { OUTCOMES, latency, milliseconds } from "./webhook-words.js";
import { count, lasting, moment, upper } from "./words.js";

/** @typedef {import("./webhook-api.js").Attempt} Attempt */

let made = 0;

export class AttemptRow {
  #attempt;
  #box;
  #opener;
  #row;
  #below;

  /** @param {Attempt} a */
  constructor(a) {
    this.#attempt = a;
    const id = `attempt-${++made}`;
    const at = Date.parse(a.time);
    const { grade, title } = OUTCOMES[a.state] ?? { grade: "idle", title: upper(a.state) };
    const when = moment(at, Date.now());
    this.#box = make("input", { type: "checkbox", disabled: !a.id || !a.offsets?.length, "aria-label": `Choose the attempt of ${when}` });
    this.#opener = make("button", { type: "button", class: "opener", "aria-expanded": "false", "aria-controls": id }, make("time", { datetime: a.time }, when));
    const next = Date.parse(a.nextAttempt ?? "");
    const cell = (/** @type {string} */ name, /** @type {string} */ kind, /** @type {string} */ whole, /** @type {(Node | string)[]} */ ...content) => make("td", { role: "cell", class: kind, "data-title": name, title: whole || undefined, "data-empty": content.join("") === "" }, ...content);
    this.#row = make("tr", { role: "row", "data-grade": grade },
      cell("", "box", "", this.#box),
      cell("Time", "", "", this.#opener),
      cell("Event", "code", a.event ?? "", `${a.event ?? ""}${(a.offsets?.length ?? 0) > 1 ? ` and ${count((a.offsets?.length ?? 0) - 1)} more` : ""}`),
      cell("Type", "code", a.type ?? "", nameParts(a.type ?? "").slice(1).join("")),
      cell("State", "", OUTCOMES[a.state]?.says ?? "", make("span", { class: "state" }, make("span", { class: "dot" }), make("span", {}, `${title}${a.status ? ` ${a.status}` : ""}`))),
      cell("Took", "number", "", latency(milliseconds(a.took))),
      cell("Reason", "reason", a.reason ?? "", a.reason ?? ""),
      cell("Next try", "", "", a.deadLetter ? "none: a dead letter" : Number.isNaN(next) ? "" : moment(next, Date.now())),
    );
    this.#below = make("tr", { role: "row", class: "below", id, hidden: true });
    this.#opener.addEventListener("click", () => this.#toggle());
    this.#row.addEventListener("click", (e) => {
      if (e.target instanceof Element && !e.target.closest("button, input, .box") && getSelection()?.isCollapsed !== false) this.#toggle();
    });
  }

  get elements() {
    return [this.#row, this.#below];
  }

  get open() {
    return !this.#below.hidden;
  }

  /** Whether it can be chosen: it is of an event that a stream has. */
  get can() {
    return !this.#box.disabled;
  }

  get chosen() {
    return this.#box.checked;
  }

  /** @param {boolean} on */
  choose(on) {
    this.#box.checked = on && this.can;
  }

  focus() {
    this.#opener.focus();
  }

  remove() {
    this.#row.remove();
    this.#below.remove();
  }

  #toggle() {
    this.#below.hidden = !this.#below.hidden;
    this.#opener.setAttribute("aria-expanded", String(this.open));
    if (!this.#below.childElementCount) this.#below.append(this.#all());
  }

  #all() {
    const a = this.#attempt;
    const list = make("dl", { class: "rules" });
    const rule = (/** @type {string} */ name, /** @type {(Node | string)[]} */ ...value) => list.append(make("dt", {}, name), make("dd", {}, ...value));
    const code = (/** @type {string} */ text, /** @type {string} */ label) => [make("code", {}, text), " ", copyButton(() => text, `Copy ${label}`)];
    if (a.reason) rule("Reason", `${upper(a.reason)}.`);
    if (a.event) rule("Event", ...code(a.event, "the event’s id"));
    if (a.type) rule("Type", make("code", {}, a.type));
    const offsets = a.offsets ?? [];
    if (a.stream && offsets.length) rule("In the log", `${a.stream}/${a.partition ?? 0}, ${offsets.length === 1 ? "offset" : "offsets"} ${offsets.slice(0, 20).join(", ")}${offsets.length > 20 ? " …" : ""}`);
    if (a.message) rule("webhook-id", ...code(a.message, "the webhook-id"));
    rule("Attempt", [a.attempt ? `number ${a.attempt}` : "", a.manual ? "somebody asked for it" : "", a.replay ? "of a replay" : "", a.deadLetter ? "the last: its events are dead letters" : ""].filter(Boolean).join(", ") || "not counted");
    const until = (Date.parse(a.nextAttempt ?? "") - Date.parse(a.time)) / 1000;
    if (until > 0) rule("Next try", `${lasting(until)} after this one`);
    const answer = a.answer ?? "";
    rule("Answer", ...(answer ? [make("div", { class: "code" }, make("pre", { tabindex: 0, role: "region", "aria-label": "The first bytes of the answer" }, answer), copyButton(() => answer, "Copy the answer"))] : [a.status ? "Without a body." : "None came."]));
    return make("td", { role: "cell", colspan: 8 }, list);
  }
}
