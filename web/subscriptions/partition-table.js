// @ts-check
/** <partition-table>: how far a subscription is in each partition of its streams. */
import { make, write } from "../page/dom.js";
import { LiveTable } from "./live-table.js";
import { count, counted } from "./words.js";

/** @typedef {import("./api.js").Partition} Partition */

export class PartitionTable extends HTMLElement {
  /** @type {Partition[]} */ #all = [];
  #greatest = 1;
  #byLag = false;
  #sort = make("button", { type: "button", class: "plainly", "aria-pressed": "false" }, "Most behind first");
  #table;

  /** @param {import("./live-table.js").Column<Partition>[]} more columns beside those that every subscription has */
  constructor(more) {
    super();
    /** @type {LiveTable<Partition>} */
    this.#table = new LiveTable("Partitions", [
      { title: "Partition", kind: "name", says: (p) => `${p.stream}/${p.partition}` },
      { title: "Position", kind: "number", says: (p) => count(p.position), whole: (p) => (p.acknowledgedAbove ? `${counted(p.acknowledgedAbove, "event")} above it ${p.acknowledgedAbove === 1 ? "is" : "are"} acknowledged already` : "") },
      { title: "End", kind: "number", says: (p) => count(p.end) },
      { title: "Behind", kind: "number", says: (p) => count(p.lag), share: (p) => p.lag / this.#greatest },
      ...more,
    ], (p) => `${p.stream}/${p.partition}`);
    this.#sort.addEventListener("click", () => {
      this.#byLag = !this.#byLag;
      this.#sort.setAttribute("aria-pressed", String(this.#byLag));
      write(this.#sort, this.#byLag ? "By number" : "Most behind first");
      this.show(this.#all);
    });
  }

  connectedCallback() {
    if (!this.childElementCount) this.append(make("p", { class: "openers" }, this.#sort), this.#table.element);
  }

  /** @param {Partition[]} all */
  show(all) {
    this.#all = all;
    this.#greatest = Math.max(1, ...all.map((p) => p.lag));
    const named = (/** @type {Partition} */ a, /** @type {Partition} */ b) => (a.stream === b.stream ? a.partition - b.partition : a.stream < b.stream ? -1 : 1);
    this.#table.show(all.toSorted((a, b) => (this.#byLag ? b.lag - a.lag : 0) || named(a, b)));
  }
}
