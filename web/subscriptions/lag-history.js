// @ts-check
/** How one subscription's lag has been: the last quarter of an hour, as the page saw it and the server remembers it. */

/** @typedef {import("./api.js").Stats} Stats */

/**
 * @typedef {object} Sample
 * @property {number} at milliseconds of the epoch
 * @property {number} lag
 * @property {number} [seconds] unset where the server does not tell it, or remembered the lag alone, as are the two below
 * @property {number} [position] the sum of all partitions'
 * @property {number} [end] the sum of all partitions'
 * @property {boolean} [anew] it was reset just before
 *
 * @typedef {{incoming: number, done: number, span: number}} Rates events a second, and over how many seconds that was seen
 */

/** Milliseconds that are kept. */
export const SPAN = 15 * 60_000;
/** What is shown is never less than that, lest a second look like a trend. */
const LEAST_SHOWN = 2 * 60_000;
const MOST_SAMPLES = 1000;
/** Without a sample for so long, nothing is known of between. */
const HOLE = 15_000;
/** The server remembers every ten seconds. */
const REMEMBERED_HOLE = 25_000;

const RATE_OVER = 30_000;
const RATE_AT_LEAST = 5_000;

export class LagHistory {
  /** @type {Sample[]} */ #samples = [];

  /** Oldest first. */
  get samples() {
    return this.#samples;
  }

  /**
   * @param {Stats} stats
   * @param {number} now
   * @param {number} [skew] how many milliseconds the server's clock is behind
   * @param {boolean} [anew] it was reset just before
   */
  add(stats, now, skew = 0, anew = false) {
    const last = this.#samples.at(-1);
    if (stats.history && (!last || now - last.at > HOLE)) this.#remember(stats.history, now, skew);
    const newest = this.#samples.at(-1);
    if (newest && newest.at >= now) this.#samples.pop();
    const parts = stats.partitions ?? [];
    this.#samples.push({
      at: now,
      lag: stats.lag,
      ...(stats.lagSeconds === undefined ? {} : { seconds: stats.lagSeconds }),
      position: parts.reduce((n, p) => n + p.position, 0),
      end: parts.reduce((n, p) => n + p.end, 0),
      ...(anew ? { anew } : {}),
    });
    const from = this.#samples.findIndex((s) => s.at >= now - SPAN);
    this.#samples.splice(0, Math.max(from, this.#samples.length - MOST_SAMPLES));
  }

  /**
   * What the server remembers fills what the page has not seen.
   * @param {{at: string, lag: number}[]} remembered
   * @param {number} now
   * @param {number} skew
   */
  #remember(remembered, now, skew) {
    const own = this.#samples;
    const more = remembered
      .map(({ at, lag }) => ({ at: Date.parse(at) + skew, lag }))
      .filter((r) => r.at > now - SPAN && r.at < now && !own.some((s) => Math.abs(s.at - r.at) < HOLE / 2));
    this.#samples = [...own, ...more].sort((a, b) => a.at - b.at);
  }

  /**
   * What is to be shown: from when, and to when.
   * @param {number} now
   * @returns {[number, number]}
   */
  window(now) {
    const first = this.#samples[0]?.at ?? now;
    return [now - Math.min(SPAN, Math.max(LEAST_SHOWN, now - first)), now];
  }

  /**
   * The samples in runs without holes.
   * @returns {Sample[][]}
   */
  runs() {
    /** @type {Sample[][]} */
    const runs = [];
    let before;
    for (const s of this.#samples) {
      const own = before?.end !== undefined && s.end !== undefined;
      if (!before || s.at - before.at > (own ? HOLE : REMEMBERED_HOLE)) runs.push([]);
      runs.at(-1)?.push(s);
      before = s;
    }
    return runs;
  }

  /**
   * How fast events come and are done with at present; undefined where too little has been seen. What was before a reset
   * does not count.
   * @returns {Rates | undefined}
   */
  rates() {
    const last = this.#samples.at(-1);
    if (last?.position === undefined || last.end === undefined) return undefined;
    let first = last;
    for (let i = this.#samples.length - 2; i >= 0 && !first.anew; i--) {
      const s = this.#samples[i];
      if (s?.position === undefined || s.end === undefined) break;
      if (last.at - s.at > RATE_OVER || first.at - s.at > HOLE || s.position > (first.position ?? 0) || s.end > (first.end ?? 0)) break;
      first = s;
    }
    const span = (last.at - first.at) / 1000;
    if (span * 1000 < RATE_AT_LEAST) return undefined;
    return { incoming: (last.end - (first.end ?? 0)) / span, done: (last.position - (first.position ?? 0)) / span, span };
  }

  /**
   * Where the streams ended at a time, where the page has seen it: between two samples it is in proportion.
   * @param {number} t
   * @returns {number | undefined}
   */
  endAt(t) {
    const i = this.#samples.findIndex((s) => s.at >= t);
    const [a, b] = [this.#samples[i - 1] ?? this.#samples[i], this.#samples[i]];
    if (a?.end === undefined || b?.end === undefined || a.at > t || b.at - a.at > HOLE) return undefined;
    return b.at === a.at ? b.end : a.end + ((b.end - a.end) * (t - a.at)) / (b.at - a.at);
  }
}
