// @ts-check
/** The question where a subscription shall go on from, with what that will do. */
import { Unanswered } from "../catalog/api.js";
import { make, write } from "../page/dom.js";
import { resetSubscription } from "./api.js";
import { ConfirmDialog } from "./confirm-dialog.js";
import { FromChoice } from "./from-choice.js";
import { called, counted, resetWords } from "./words.js";

/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {import("./lag-history.js").LagHistory} LagHistory */

export class ResetDialog {
  /** @type {Stats} */ #stats;
  #history;
  #some;
  /** The server knows of sessions that the stats do not tell of: those that have left it a moment ago are still counted. */
  #refused = false;
  #from = new FromChoice("Go on from", ["latest", "oldest", "time"], () => this.#update());
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
    this.#dialog = new ConfirmDialog(`Reset ${called(stats)}`, [this.#from.element, this.#effect, this.#readers], "Reset", async () => {
      const { choice = "latest", at } = this.#from;
      try {
        done(await resetSubscription(stats.id, choice === "time" ? new Date(at).toISOString() : choice, this.#read));
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

  #update() {
    const { choice, at } = this.#from;
    const n = this.#sessions;
    const who = n ? `${counted(n, "session reads", "sessions read")} it now, and ${n === 1 ? "goes" : "go"}` : "Sessions that still read it go";
    this.#readers.hidden = !this.#read;
    write(this.#readers, `${who} on from the new place. What was given before can no longer be acknowledged: a session that tries is ended, and has to join again.`);
    if (!choice) {
      this.#effect.replaceChildren();
      this.#dialog.demand({ can: false, type: "" });
      return;
    }
    const { can, says } = resetWords({ choice, at, stats: this.#stats, history: this.#history, now: Date.now(), some: this.#some });
    if (this.#effect.textContent !== says.join("")) this.#effect.replaceChildren(...says.map((s) => make("p", {}, s)));
    this.#dialog.demand({ can, type: this.#read ? called(this.#stats) : "" });
  }
}
