// @ts-check
/** <punctuality-bar>: how many trains are how late; the legend of the colours too. */
import { make, write } from "./dom.js";
import { grade } from "./words.js";

/** @typedef {import("./words.js").Grade} Grade */

/** @type {[Grade, string][]} */
const GRADES = [["ontime", "on time"], ["slight", "3–5 min"], ["late", "5–10 min"], ["verylate", "over 10"]];

export class PunctualityBar extends HTMLElement {
  #bar = make("div", { class: "bar", "aria-hidden": "true" });
  #legend = make("ul");

  connectedCallback() {
    for (const [name, text] of GRADES) {
      this.#bar.append(make("span", { "data-grade": name }));
      this.#legend.append(make("li", { "data-grade": name }, make("strong", {}, "0"), ` ${text}`));
    }
    this.append(this.#bar, this.#legend);
  }

  /** @param {import("./fleet.js").Fleet} fleet */
  update(fleet) {
    const counts = Object.fromEntries(GRADES.map(([name]) => [name, 0]));
    for (const train of fleet.trains.values()) {
      const g = grade(train.delay);
      counts[g] = (counts[g] ?? 0) + 1;
    }
    GRADES.forEach(([name], i) => {
      const n = counts[name] ?? 0;
      const part = this.#bar.children[i];
      if (part instanceof HTMLElement) part.style.flexGrow = String(n);
      const figure = this.#legend.children[i]?.firstElementChild;
      if (figure) write(figure, String(n));
    });
  }
}
