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
  #some;
  /** The server knows of sessions that the stats do not tell of: those that have left it a moment ago are still counted. */
  #refused = false;
  /** @type {Choice | undefined} */ #choice;
  #time = make("input", { type: "datetime-local", step: 1, "aria-label": "Time to go on from", max: "9999-12-31T23:59:59" });
  #effect = make("div", { class: "effect", role: "status" });
  #readers = make("p", { class: "notice warn", hidden: true });
  /** @type {ConfirmDialog} */ #dialog;

  /**
   * @param {Stats} stats
   * @param {LagHistory} history
   * @param {boolean} some it gives only some of the events of its streams
   * @param {(stats: Stats) => void} done
   * @param {() => void} refused what is known of it is old
   */
  constructor(stats, history, some, done, refused) {
    this.#stats = stats;
    this.#history = history;
    this.#some = some;
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
        done(await resetSubscription(stats.id, from, this.#read));
      } catch (error) {
        if (!(error instanceof Unanswered) || error.status !== 409) throw error;
        this.#refused = true;
        this.#update();
        refused();
        throw new Error("Sessions read it, or did a moment ago. Nothing was reset.");
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

  /** Whether somebody reads it. */
  get #read() {
    return this.#refused || this.#sessions > 0;
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
    const who = n ? `${counted(n, "session reads", "sessions read")} it now, and ${n === 1 ? "goes" : "go"}` : "Sessions that still read it go";
    this.#readers.hidden = !this.#read;
    write(this.#readers, `${who} on from the new place. What was given before can no longer be acknowledged: a session that tries is ended, and has to join again.`);
    if (!this.#choice) {
      this.#effect.replaceChildren();
      this.#dialog.demand({ can: false, type: "" });
      return;
    }
    const { can, says } = resetWords({ choice: this.#choice, at: new Date(this.#time.value).getTime(), stats: this.#stats, history: this.#history, now: Date.now(), some: this.#some });
    if (this.#effect.textContent !== says.join("")) this.#effect.replaceChildren(...says.map((s) => make("p", {}, s)));
    this.#dialog.demand({ can, type: this.#read ? called(this.#stats) : "" });
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
