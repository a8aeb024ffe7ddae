// @ts-check
/**
 * The time at the control centre, learnt from its events: they tell when things happened, and come a moment later. It
 * need not be the time of this machine.
 */
export class CentreClock {
  /** @type {number | undefined} */ #offset;
  /** @type {{at: number, offset: number}[]} the newest event's offset of each of the last seconds */
  #seconds = [];

  /**
   * @param {number} time of the event, milliseconds of the epoch
   * @param {number} [now]
   */
  hear(time, now = performance.now()) {
    const offset = time - now;
    const last = this.#seconds.at(-1);
    if (last && now - last.at < 1000) last.offset = Math.max(last.offset, offset);
    else this.#seconds.push({ at: now, offset });
    while (this.#seconds[0] && now - this.#seconds[0].at > 8000) this.#seconds.shift();

    // Every event is late by its way here, an old one by more. The newest one of the last seconds is the truest.
    const best = Math.max(...this.#seconds.map((s) => s.offset));
    const begun = this.#seconds.length > 1;
    if (this.#offset === undefined || !begun || Math.abs(best - this.#offset) > 2000) this.#offset = best;
    else this.#offset += (best - this.#offset) * 0.05;
  }

  get known() {
    return this.#offset !== undefined;
  }

  /** @param {number} [now] */
  now(now = performance.now()) {
    return now + (this.#offset ?? Date.now() - now);
  }
}
