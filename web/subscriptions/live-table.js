// @ts-check
/** A table whose figures change: its rows stay where they are, and only what has changed is written. */
import { make, write } from "../page/dom.js";

/**
 * @template T
 * @typedef {object} Column
 * @property {string} title
 * @property {(row: T) => string} says
 * @property {"number" | "code" | "name"} [kind]
 * @property {(row: T) => string} [whole] all of what is shown shortened
 * @property {(row: T) => number} [share] of the greatest, 0 to 1: drawn under the figure
 */

/** Rows that are shown before one asks for more. */
const FEW = 48;

/** @template T */
export class LiveTable {
  #columns;
  #key;
  /** @type {Map<string, HTMLTableRowElement>} */ #rows = new Map();
  /** @type {T[]} */ #shown = [];
  #all = false;
  #body = make("tbody", { role: "rowgroup" });
  #more = make("button", { type: "button", class: "plainly", hidden: true });

  /**
   * @param {string} label
   * @param {Column<T>[]} columns
   * @param {(row: T) => string} key
   */
  constructor(label, columns, key) {
    this.#columns = columns;
    this.#key = key;
    // On a phone rows become blocks; the roles keep it a table for who cannot see it.
    const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...columns.map((c) => make("th", { role: "columnheader", scope: "col", class: c.kind }, c.title))));
    this.element = make("div", { class: "table" }, make("table", { role: "table", "aria-label": label }, head, this.#body), this.#more);
    this.#more.addEventListener("click", () => {
      this.#all = true;
      this.show(this.#shown);
    });
  }

  /** @param {T[]} rows */
  show(rows) {
    this.#shown = rows;
    const some = this.#all ? rows : rows.slice(0, FEW);
    this.#more.hidden = some.length === rows.length;
    write(this.#more, `${rows.length - some.length} more`);
    const keys = new Set(some.map(this.#key));
    for (const [key, tr] of this.#rows) {
      if (keys.has(key)) continue;
      tr.remove();
      this.#rows.delete(key);
    }
    some.forEach((row, i) => {
      const key = this.#key(row);
      let tr = this.#rows.get(key);
      if (!tr) {
        tr = make("tr", { role: "row" }, ...this.#columns.map((c) => make("td", { role: "cell", class: c.kind, "data-title": c.title })));
        this.#rows.set(key, tr);
      }
      if (this.#body.children[i] !== tr) this.#body.insertBefore(tr, this.#body.children[i] ?? null);
      this.#columns.forEach((c, n) => this.#fill(/** @type {HTMLElement} */ (tr.children[n]), c, row));
    });
  }

  /**
   * @param {HTMLElement} cell
   * @param {Column<T>} column
   * @param {T} row
   */
  #fill(cell, { says, whole, share }, row) {
    const text = says(row);
    write(cell, text);
    cell.toggleAttribute("data-empty", text === "");
    if (whole) cell.title = whole(row);
    if (share) cell.style.setProperty("--share", String(share(row)));
  }
}
