// @ts-check
/**
 * Asks for the stats of subscriptions: of those in sight every two seconds, of the others now and then; one after another
 * and never many at once. While the server is away one question at a time finds out whether it is back.
 */
import { Unanswered } from "../catalog/api.js";

/** @typedef {import("./api.js").Stats} Stats */

/**
 * @typedef {object} WatchOptions
 * @property {(id: string, signal: AbortSignal) => Promise<{stats: Stats, skew: number}>} ask
 * @property {(id: string, stats: Stats, skew: number) => void} took
 * @property {(id: string) => void} gone the server knows it no more
 * @property {(error: Error | undefined) => void} away the server does not answer; undefined: it does again
 */

export const IN_SIGHT = 2000;
export const OUT_OF_SIGHT = 30_000;
const AT_ONCE = 4;
/** The first questions come that far apart. */
const APART = 40;
const SHORTEST_PAUSE = 2000;
const LONGEST_PAUSE = 10_000;

export class StatsWatch {
  #options;
  /** When each is due. @type {Map<string, number>} */ #due = new Map();
  /** @type {Set<string>} */ #seen = new Set();
  /** @type {Map<string, AbortController>} */ #asking = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #visible = true;
  #failures = 0;
  #heldUntil = 0;

  /** @param {WatchOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Which to ask for. Those that are new are asked for at once.
   * @param {string[]} ids
   */
  follow(ids) {
    const wanted = new Set(ids);
    for (const id of [...this.#due.keys()]) if (!wanted.has(id)) this.#drop(id);
    let due = Date.now();
    for (const id of ids) {
      if (this.#due.has(id)) continue;
      this.#due.set(id, due);
      due += APART;
    }
    this.#plan();
  }

  /**
   * @param {string} id
   * @param {boolean} inSight
   */
  see(id, inSight) {
    if (!inSight) this.#seen.delete(id);
    else if (!this.#seen.has(id)) {
      this.#seen.add(id);
      const due = this.#due.get(id);
      // As if it had been in sight when it was asked for last.
      if (due !== undefined) this.#due.set(id, Math.min(due, Math.max(due - (OUT_OF_SIGHT - IN_SIGHT), Date.now() + (this.#seen.size % 50) * APART)));
    }
    this.#plan();
  }

  /**
   * Asks for one at once.
   * @param {string} id
   */
  now(id) {
    this.#asking.get(id)?.abort();
    this.#asking.delete(id);
    if (this.#due.has(id)) this.#due.set(id, 0);
    this.#plan();
  }

  /** @param {boolean} visible whether anybody can see the page */
  set visible(visible) {
    this.#visible = visible;
    this.#plan();
  }

  /** The server may be there again: do not wait. */
  hurry() {
    this.#heldUntil = 0;
    this.#plan();
  }

  /** @param {string} id */
  #drop(id) {
    this.#due.delete(id);
    this.#seen.delete(id);
    this.#asking.get(id)?.abort();
    this.#asking.delete(id);
  }

  #plan() {
    clearTimeout(this.#timer);
    if (!this.#visible) return;
    const room = (this.#failures ? 1 : AT_ONCE) - this.#asking.size;
    if (room <= 0) return; // an answer makes room
    let next = Infinity;
    let which = "";
    for (const [id, due] of this.#due) {
      if (due < next && !this.#asking.has(id)) [next, which] = [due, id];
    }
    if (!which) return;
    const wait = Math.max(next, this.#heldUntil) - Date.now();
    if (wait <= 0) {
      void this.#ask(which);
      this.#plan();
    } else {
      this.#timer = setTimeout(() => this.#plan(), wait);
    }
  }

  /** @param {string} id */
  async #ask(id) {
    const { ask, took, gone, away } = this.#options;
    const control = new AbortController();
    this.#asking.set(id, control);
    this.#due.set(id, Date.now() + (this.#seen.has(id) ? IN_SIGHT : OUT_OF_SIGHT));
    try {
      const { stats, skew } = await ask(id, control.signal);
      if (control.signal.aborted) return;
      if (this.#failures) away(undefined);
      this.#failures = this.#heldUntil = 0;
      took(id, stats, skew);
    } catch (error) {
      if (control.signal.aborted) return;
      if (error instanceof Unanswered && error.status === 404) {
        this.#drop(id);
        gone(id);
      } else if (!(error instanceof Unanswered) || error.soon) {
        const pause = Math.min(SHORTEST_PAUSE * 2 ** this.#failures++, LONGEST_PAUSE) * (0.75 + Math.random() / 4);
        this.#heldUntil = Date.now() + pause;
        away(error instanceof Error ? error : new Error(String(error)));
      } else {
        this.#due.set(id, Date.now() + OUT_OF_SIGHT);
      }
    } finally {
      if (this.#asking.get(id) === control) this.#asking.delete(id);
      this.#plan();
    }
  }
}
