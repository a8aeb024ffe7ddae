// @ts-check
/** <train-list>: every train on the map, for those who read or use the keyboard. */
import { make, write } from "./dom.js";
import { delayText, grade } from "./words.js";

/** @typedef {import("./fleet.js").Fleet} Fleet */
/** @typedef {import("./fleet.js").Train} Train */

/** @type {Record<string, (a: Train, b: Train) => number>} */
const ORDERS = {
  delay: (a, b) => Math.floor(b.delay / 60) - Math.floor(a.delay / 60) || byNumber(a, b),
  line: (a, b) => a.line.localeCompare(b.line, "nb", { numeric: true }) || byNumber(a, b),
  number: byNumber,
};

export class TrainList extends HTMLElement {
  /** @type {Fleet | undefined} */ fleet;
  selected = "";
  #title = make("h2", { id: "trains-title" }, "Trains");
  #search = make("input", { type: "search", placeholder: "Line, number or station", "aria-label": "Search trains", autocomplete: "off", spellcheck: "false" });
  #order = make("select", { "aria-label": "Order" }, make("option", { value: "delay" }, "most delayed first"), make("option", { value: "line" }, "by line"), make("option", { value: "number" }, "by number"));
  #list = make("ul", { role: "listbox", "aria-labelledby": "trains-title", tabindex: 0 });
  /** On a narrow screen the page scrolls, not the list in it: there it begins with its first rows. */
  #more = make("button", { type: "button", class: "more" });
  #active = "";

  connectedCallback() {
    this.append(make("div", { class: "head" }, this.#title, this.#order), this.#search, this.#list, this.#more);
    this.#search.addEventListener("input", () => this.update());
    this.#search.addEventListener("keydown", (e) => {
      if (e.key === "ArrowDown") {
        e.preventDefault();
        this.#list.focus();
      }
    });
    this.#order.addEventListener("change", () => this.update());
    this.#more.addEventListener("click", () => {
      this.classList.toggle("all");
      this.update();
    });
    this.#list.addEventListener("click", (e) => {
      const row = e.target instanceof Element ? e.target.closest("li") : undefined;
      if (row) this.#choose(row.dataset["train"] ?? "");
    });
    this.#list.addEventListener("keydown", (e) => this.#key(e));
    this.#list.addEventListener("focus", () => this.#activate(this.#active || this.selected || this.#numbers()[0] || ""));
  }

  #numbers() {
    return [...this.#list.children].map((row) => /** @type {HTMLElement} */ (row).dataset["train"] ?? "");
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    const numbers = this.#numbers();
    const at = Math.max(numbers.indexOf(this.#active), 0);
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: numbers.length - 1, PageDown: at + 8, PageUp: at - 8 };
    const to = steps[e.key];
    if (to !== undefined) this.#activate(numbers[Math.min(Math.max(to, 0), numbers.length - 1)] ?? "");
    else if (e.key === "Enter" || e.key === " ") this.#choose(this.#active);
    else if (e.key === "Escape") this.#choose("");
    else return;
    e.preventDefault();
  }

  /** @param {string} number */
  #choose(number) {
    this.#activate(number);
    this.dispatchEvent(new CustomEvent("choose", { detail: number, bubbles: true }));
  }

  /** @param {string} number */
  #activate(number) {
    this.#active = number;
    for (const row of this.#list.children) row.classList.toggle("active", /** @type {HTMLElement} */ (row).dataset["train"] === number);
    const row = [...this.#list.children].find((r) => /** @type {HTMLElement} */ (r).dataset["train"] === number);
    if (!row) {
      this.#list.removeAttribute("aria-activedescendant");
      return;
    }
    this.#list.setAttribute("aria-activedescendant", row.id);
    row.scrollIntoView({ block: "nearest" });
  }

  update() {
    const all = [...(this.fleet?.trains.values() ?? [])].filter((t) => t.line);
    const want = this.#search.value.trim().toLocaleLowerCase("nb");
    const shown = all
      .filter((t) => !want || t.number === want || `${t.line} ${t.to} ${t.next} ${t.at}`.toLocaleLowerCase("nb").includes(want) || t.number.startsWith(want))
      .sort(ORDERS[this.#order.value]);
    write(this.#title, want ? `Trains: ${shown.length} of ${all.length}` : `Trains: ${all.length}`);
    write(this.#more, this.classList.contains("all") ? "Show fewer" : `Show all ${shown.length}`);
    /** @type {Map<string, HTMLElement>} */
    const old = new Map([...this.#list.children].map((r) => [/** @type {HTMLElement} */ (r).dataset["train"] ?? "", /** @type {HTMLElement} */ (r)]));
    const next = shown.map((train) => this.#render(train, old.get(train.number)));
    const keep = new Set(next);
    for (const row of [...this.#list.children]) if (!keep.has(/** @type {HTMLLIElement} */ (row))) row.remove();
    next.forEach((row, i) => {
      if (this.#list.children[i] !== row) this.#list.insertBefore(row, this.#list.children[i] ?? null);
    });
  }

  /**
   * @param {Train} train
   * @param {HTMLElement | undefined} old
   * @returns {HTMLLIElement}
   */
  #render(train, old) {
    const part = (/** @type {string} */ name) => make("span", { class: name });
    const row = /** @type {HTMLLIElement} */ (
      old ?? make("li", { role: "option", id: `train-${train.number}`, "data-train": train.number }, part("line"), part("to"), part("next quiet"), part("delay"))
    );
    const [line, to, next, delay] = /** @type {[HTMLElement, HTMLElement, HTMLElement, HTMLElement]} */ ([...row.children]);
    write(line, train.line);
    write(to, train.to);
    write(next, `${train.number} · ${train.at ? `at ${train.at}` : `next ${train.next}`}`);
    write(delay, delayText(train.delay));
    delay.dataset["grade"] = grade(train.delay);
    row.setAttribute("aria-selected", String(train.number === this.selected));
    return row;
  }
}

/**
 * @param {Train} a
 * @param {Train} b
 */
function byNumber(a, b) {
  return Number(a.number) - Number(b.number);
}
