// @ts-check
/** From where to go on: one of a few places, or a time. */
import { make } from "../page/dom.js";

/** @typedef {"oldest" | "latest" | "time"} Choice */

const CHOICES = /** @type {Record<Choice, [title: string, says: string]>} */ ({
  latest: ["The end", "what is published from now on"],
  oldest: ["The beginning", "the oldest event that is kept"],
  time: ["A time", "the first event that the log took then"],
});

export class FromChoice {
  /** @type {Choice | undefined} */ #choice;
  #time = make("input", { type: "datetime-local", step: 1, "aria-label": "Time to go on from", max: "9999-12-31T23:59:59" });

  /**
   * @param {string} title
   * @param {Choice[]} which
   * @param {() => void} changed
   */
  constructor(title, which, changed) {
    this.element = make("fieldset", { class: "choices" }, make("legend", {}, title));
    this.#time.value = localTime(Date.now() - 10 * 60_000);
    const at = make("div", { class: "at-time", hidden: true }, this.#time, make("span", { class: "quiet" }, Intl.DateTimeFormat().resolvedOptions().timeZone));
    for (const value of which) {
      const [name, says] = CHOICES[value];
      const radio = make("input", { type: "radio", name: "from", value });
      radio.addEventListener("change", () => {
        this.#choice = value;
        at.hidden = value !== "time";
        changed();
      });
      this.element.append(make("label", {}, radio, make("span", {}, make("strong", {}, name), make("span", { class: "quiet" }, says))));
    }
    this.element.append(at);
    this.#time.addEventListener("input", changed);
  }

  get choice() {
    return this.#choice;
  }

  /** The time, in milliseconds of the epoch; NaN where it is none. */
  get at() {
    return new Date(this.#time.value).getTime();
  }
}

/**
 * As <input type="datetime-local"> has it.
 * @param {number} t
 */
export function localTime(t) {
  const d = new Date(t);
  return new Date(t - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
