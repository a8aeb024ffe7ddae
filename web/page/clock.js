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
/**
 * So many have to agree, or most where there are not so many, and of many this part: where the centre's clock has just been
 * set back, a snapshot has trains that told a later time before.
 */
const WITNESSES = 3;
const PART = 1 / 4;
/** An event may be told this much after it happened, and this much before, as clocks differ. */
const LATE = 20 * 60_000;
const EARLY = 60_000;

export class CentreClock {
  /** @type {number | undefined} */ #offset;
  /** @type {Map<string, {at: number, offset: number}>} what each train said last, the newest last */
  #heard = new Map();
  #first = NaN;
  /** @type {Map<string, number>} the time of the last event of each stream that was believed */
  #last = new Map();

  /**
   * Learns from a position.
   * @param {string} train
   * @param {number} time of the event, milliseconds of the epoch
   * @param {number} [now]
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
  }

  /** @param {number} now */
  #learn(now) {
    // Every event is late by its way here, an old one by more: the newest that has company is the truest.
    const offsets = [...this.#heard.values()].map((h) => h.offset).sort((a, b) => b - a);
    const needed = Math.max(Math.min(WITNESSES, Math.floor(offsets.length / 2) + 1), Math.ceil(offsets.length * PART));
    const best = offsets.find((o, i) => o - (offsets[i + needed - 1] ?? -Infinity) < AGREE);
    if (best === undefined) return;
    const begun = now - this.#first >= 1000;
    if (this.#offset === undefined || !begun || Math.abs(best - this.#offset) > 2000) this.#offset = best;
    else this.#offset += (best - this.#offset) * 0.05;
  }

  /**
   * Whether a time can be believed.
   * @param {string} stream that tells it
   * @param {number} time of the event, milliseconds of the epoch
   * @param {number} [now]
   */
  believes(stream, time, now = performance.now()) {
    const ahead = this.known ? time - this.now(now) : 0;
    // After a long time without connection a stream's events go on from where they were, far behind the clock.
    const believed = ahead < EARLY && (ahead > -LATE || time > (this.#last.get(stream) ?? NaN) - LATE);
    if (believed) this.#last.set(stream, time);
    return believed;
  }

  get known() {
    return this.#offset !== undefined;
  }

  /** @param {number} [now] */
  now(now = performance.now()) {
    return now + (this.#offset ?? Date.now() - now);
  }
}
