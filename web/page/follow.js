// @ts-check
/** One train, followed by a stream of its own that the server filters: /v1/events?…&subject=/train/61 */
import { subscribe } from "../client/eventissuer.js";
import { Continuity } from "./continuity.js";
import { readNews, rowOf } from "./news.js";
import { project } from "./projection.js";

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {{time: number, at: Point, delay: number}} Fix */

/** How much of the train's past is read from the log. */
export const PAST = 15 * 60_000;

/** So many events wait for the clock at most; a train's past has fewer. */
const WAITING = 2000;

export class Follow {
  /** @type {Fix[]} */ fixes = [];
  continuity = new Continuity();
  /** @type {import("./news.js").News[]} what came before the clock was known, by which its time is judged */
  #waiting = [];
  #reading;

  /**
   * @param {string} number
   * @param {string[]} streams
   * @param {number} now the server's time, milliseconds of the epoch
   * @param {import("./clock.js").CentreClock} clock
   */
  constructor(number, streams, now, clock) {
    this.number = number;
    this.clock = clock;
    this.subject = `/train/${number}`;
    this.#reading = subscribe({
      streams,
      filter: { subject: this.subject },
      from: new Date(now - PAST),
      onEvent: (event) => this.#event(event),
    });
  }

  get phase() {
    return this.#reading.state.phase;
  }

  /** @param {import("../client/eventissuer.js").CloudEvent} event */
  #event(event) {
    const news = readNews(event);
    if (!news) return;
    this.#waiting.push(news);
    if (this.#waiting.length > WAITING) this.#waiting.shift();
    this.#take();
  }

  #take() {
    if (this.clock.known) this.#waiting.splice(0).forEach((news) => this.#use(news));
  }

  /** @param {import("./news.js").News} news */
  #use(news) {
    if (news.time > this.clock.now() + 60_000) return;
    if (!this.continuity.check(rowOf(news), news.sequence) || news.kind !== "position") return;
    // Where the centre's clock was set back, another ride of the same train lies before.
    if ((this.fixes.at(-1)?.time ?? 0) > news.time) this.fixes = [];
    this.fixes.push({ time: news.time, at: project(news.latitude, news.longitude), delay: news.delay });
    if (this.fixes.length > 720) this.fixes.shift();
  }

  /**
   * Where the train was until then.
   * @param {number} time
   * @returns {Point[]}
   */
  trail(time) {
    this.#take();
    return this.fixes.filter((f) => f.time <= time).map((f) => f.at);
  }

  close() {
    this.#reading.close();
  }
}
