// @ts-check
/** The question where a subscription shall go on from, with what that will do. */
import { Unanswered } from "../catalog/api.js";
import { make, write } from "../page/dom.js";
import { resetSubscription } from "./api.js";
import { ConfirmDialog } from "./confirm-dialog.js";
import { called, counted, resetWords } from "./words.js";

/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {import("./lag-history.js").LagHistory} LagHistory */
/** @typedef {"oldest" | "latest" | "time"} Choice */

const CHOICES = /** @type {[Choice, string, string][]} */ ([
  ["latest", "The end", "what is published from now on"],
  ["oldest", "The beginning", "the oldest event that is kept"],
  ["time", "A time", "the first event that the log took then"],
]);

export class ResetDialog {
  /** @type {Stats} */ #stats;
  #history;
  /** @type {Choice | undefined} */ #choice;
  #time = make("input", { type: "datetime-local", step: 1, "aria-label": "Time to go on from", max: "9999-12-31T23:59:59" });
  #effect = make("div", { class: "effect", role: "status" });
  #readers = make("p", { class: "notice warn", hidden: true });
  /** @type {ConfirmDialog} */ #dialog;

  /**
   * @param {Stats} stats
   * @param {LagHistory} history
   * @param {(stats: Stats) => void} done
   * @param {() => void} refused what is known of it is old
   */
  constructor(stats, history, done, refused) {
    this.#stats = stats;
    this.#history = history;
    this.#time.value = localTime(Date.now() - 10 * 60_000);
    const choices = make("fieldset", { class: "choices" }, make("legend", {}, "Go on from"));
    for (const [value, title, says] of CHOICES) {
      const radio = make("input", { type: "radio", name: "from", value });
      radio.addEventListener("change", () => this.#choose(value));
      choices.append(make("label", {}, radio, make("span", {}, make("strong", {}, title), make("span", { class: "quiet" }, says))));
    }
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const at = make("div", { class: "at-time", hidden: true }, this.#time, make("span", { class: "quiet" }, zone));
    choices.append(at);
    choices.addEventListener("change", () => (at.hidden = this.#choice !== "time"));
    this.#time.addEventListener("input", () => this.#update());

    this.#dialog = new ConfirmDialog(`Reset ${called(stats)}`, [choices, this.#effect, this.#readers], "Reset", async () => {
      const from = this.#choice === "time" ? new Date(this.#time.value).toISOString() : (this.#choice ?? "latest");
      try {
        done(await resetSubscription(stats.id, from, this.#sessions > 0));
      } catch (error) {
        if (error instanceof Unanswered && error.status === 409) refused();
        throw error;
      }
    });
    this.#update();
    this.#dialog.show();
  }

  get open() {
    return this.#dialog.open;
  }

  get #sessions() {
    return this.#stats.sessions?.length ?? 0;
  }

  /**
   * The figures change while one thinks.
   * @param {Stats} stats
   */
  show(stats) {
    this.#stats = stats;
    this.#update();
  }

  /** @param {Choice} choice */
  #choose(choice) {
    this.#choice = choice;
    this.#update();
  }

  #update() {
    const n = this.#sessions;
    this.#readers.hidden = n === 0;
    write(this.#readers, n ? `${counted(n, "session reads", "sessions read")} it now. They are cut off and begin anew at the new position; what they have not acknowledged by then does not count.` : "");
    if (!this.#choice) {
      this.#effect.replaceChildren();
      this.#dialog.demand({ can: false, type: "" });
      return;
    }
    const { can, says } = resetWords({ choice: this.#choice, at: new Date(this.#time.value).getTime(), stats: this.#stats, history: this.#history, now: Date.now() });
    if (this.#effect.textContent !== says.join("")) this.#effect.replaceChildren(...says.map((s) => make("p", {}, s)));
    this.#dialog.demand({ can, type: n ? called(this.#stats) : "" });
  }
}

/**
 * As <input type="datetime-local"> has it.
 * @param {number} t
 */
function localTime(t) {
  const d = new Date(t);
  return new Date(t - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
