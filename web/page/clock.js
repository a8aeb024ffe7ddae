// @ts-check
/**
 * The time at the control centre, learnt from its events: they tell when things happened, and come a moment later. It
 * need not be the time of this machine.
 *
 * Several trains have to tell the same time before it is believed, so that one event with a wrong date moves nothing.
 */

/** How long what a train said counts, in milliseconds: each says something every five seconds. */
const HEARD = 8000;
/** Trains that tell times this far apart tell the same time. */
const AGREE = 10_000;
/** So many have to agree, or most where there are not so many. */
const WITNESSES = 3;
/** An event may be told this much after it happened, and this much before, as clocks differ. */
const LATE = 20 * 60_000;
const EARLY = 60_000;

export class CentreClock {
  /** @type {number | undefined} */ #offset;
  /** @type {Map<string, {at: number, offset: number}>} what each train said last, the newest last */
  #heard = new Map();
  #first = NaN;
  /** the time of the last event that was believed */
  #last = NaN;

  /**
   * @param {string} train
   * @param {number} time of the event, milliseconds of the epoch
   * @param {number} [now]
   * @returns {boolean} whether that time can be believed
   */
  hear(train, time, now = performance.now()) {
    if (Number.isNaN(this.#first)) this.#first = now;
    this.#heard.delete(train);
    this.#heard.set(train, { at: now, offset: time - now });
    for (const [old, { at }] of this.#heard) {
      if (now - at <= HEARD) break;
      this.#heard.delete(old);
    }
    this.#learn(now);
    const believed = this.#believes(time, now);
    if (believed) this.#last = time;
    return believed;
  }

  /** @param {number} now */
  #learn(now) {
    // Every event is late by its way here, an old one by more: the newest that has company is the truest.
    const offsets = [...this.#heard.values()].map((h) => h.offset).sort((a, b) => b - a);
    const needed = Math.min(WITNESSES, Math.floor(offsets.length / 2) + 1);
    const best = offsets.find((o, i) => o - (offsets[i + needed - 1] ?? -Infinity) < AGREE);
    if (best === undefined) return;
    const begun = now - this.#first >= 1000;
    if (this.#offset === undefined || !begun || Math.abs(best - this.#offset) > 2000) this.#offset = best;
    else this.#offset += (best - this.#offset) * 0.05;
  }

  /**
   * @param {number} time
   * @param {number} now
   */
  #believes(time, now) {
    if (this.#offset === undefined) return true;
    const ahead = time - this.now(now);
    // After a long time without connection the events go on from where they were, far behind the clock.
    return ahead < EARLY && (ahead > -LATE || time > this.#last - LATE);
  }

  get known() {
    return this.#offset !== undefined;
  }

  /** @param {number} [now] */
  now(now = performance.now()) {
    return now + (this.#offset ?? Date.now() - now);
  }
}
