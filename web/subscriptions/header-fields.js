// @ts-check
/** More headers of each request: rows of names and values. */
import { make } from "../page/dom.js";

/** @typedef {import("./form-fields.js").FormFields} FormFields */
/** @typedef {{name: HTMLInputElement, value: HTMLInputElement, row: HTMLElement}} Row */

const AT = "/protocolsettings/headers";
/** As many as the server takes. */
const MOST = 20;

/** @param {string} name as a part of a JSON Pointer (RFC 6901) */
const escaped = (name) => name.replaceAll("~", "~0").replaceAll("/", "~1");

export class HeaderFields {
  /** @type {Row[]} */ #rows = [];
  #fields;
  #list = make("div", { class: "header-rows" });
  #add = make("button", { type: "button", class: "plainly" }, "Add a header");

  /** @param {FormFields} fields */
  constructor(fields) {
    this.#fields = fields;
    this.#add.addEventListener("click", () => this.#more().focus());
    this.element = make("fieldset", { class: "group" }, make("legend", {}, "More headers"), make("p", { class: "note" }, "Of each request. Their values are secrets: they are not shown again."), this.#list, this.#add, fields.place(AT, this.#add));
  }

  /** @returns {Record<string, string> | undefined} */
  get value() {
    const given = this.#rows.map(({ name, value }) => /** @type {const} */ ([name.value.trim(), value.value])).filter(([name, value]) => name || value);
    return given.length ? Object.fromEntries(given) : undefined;
  }

  /** Has what is wrong of a header told at its row. To be called before anything is. */
  place() {
    this.#fields.forget(AT);
    this.element.querySelectorAll(".wrong").forEach((e) => e.remove());
    this.element.append(this.#fields.place(AT, this.#add));
    for (const { name, row } of this.#rows) row.append(this.#fields.place(`${AT}/${escaped(name.value.trim())}`, name));
  }

  #more() {
    const n = this.#rows.length + 1;
    const name = make("input", { autocomplete: "off", spellcheck: "false", placeholder: "X-Tenant", "aria-label": `Name of header ${n}` });
    const value = make("input", { autocomplete: "off", spellcheck: "false", "aria-label": `Value of header ${n}` });
    const away = make("button", { type: "button", class: "button", "aria-label": `Take header ${n} away` }, "✕");
    const row = { name, value, row: make("div", { class: "header-row" }, name, value, away) };
    away.addEventListener("click", () => {
      this.#rows = this.#rows.filter((r) => r !== row);
      row.row.remove();
      this.#add.hidden = false;
      this.#add.focus();
    });
    this.#rows.push(row);
    this.#list.append(row.row);
    this.#add.hidden = this.#rows.length >= MOST;
    return name;
  }
}
