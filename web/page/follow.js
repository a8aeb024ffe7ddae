// @ts-check
/**
 * One train, followed by a stream of its own that the server filters: every event that tells its position, while the map is
 * given the latest alone. It begins with where the train is. What it did before is read from the log once.
 */
import { Continuity } from "./continuity.js";
import { POSITIONS, readNews, rowOf } from "./news.js";
import { project } from "./projection.js";
import { subscribeWhenThere } from "./when-there.js";

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {import("./news.js").Position} Position */
/** @typedef {{time: number, at: Point, delay: number}} Fix */

/** How much of the train's past is read from the log. */
export const PAST = 15 * 60_000;

/** So many events wait for the past and the clock at most; a train's past has fewer. */
const WAITING = 2000;
/** The centre's clock tells some time of this day: what is further ahead is no time of its. */
const DAY = 86_400_000;
/** So many fixes are kept. */
const KEPT = 720;
/** Pages of the past at most: one has a thousand events. */
const PAGES = 10;

/**
 * @typedef {object} Listener
 * @property {import("./clock.js").CentreClock} clock by which the times of what is told are judged
 * @property {() => number} now the server's time, milliseconds of the epoch
 * @property {(news: Position) => void} onPosition at once
 * @property {() => void} onGone there is no position of the train any more
 */

export class Follow {
  /** @type {Fix[]} */ fixes = [];
  continuity = new Continuity();
  /** @type {Position[]} what is to be used once the past is read, and the clock is known */ #waiting = [];
  #complete = false;
  #clock;
  #reading;
  #leaving = new AbortController();

  /**
   * @param {string} number
   * @param {Listener} listener
   */
  constructor(number, { clock, now, onPosition, onGone }) {
    this.number = number;
    this.subject = `/train/${number}`;
    this.#clock = clock;
    this.#reading = subscribeWhenThere({
      streams: POSITIONS,
      filter: { subject: this.subject },
      from: "snapshot",
      onEvent: (event) => {
        const news = this.#position(event);
        if (!news) return;
        this.#wait(news);
        if (clock.known && clock.believes(this.subject, news.time)) onPosition(news);
      },
      onControl: ({ name }) => name === "removed" && onGone(),
    });
    void this.#readPast(new Date(now() - PAST));
  }

  get phase() {
    return this.#reading.state.phase;
  }

  /** How many events of the train there were, each counted once. */
  get events() {
    return this.continuity.received - this.continuity.repeated;
  }

  /**
   * Reads the log up to where the subscription has begun, so that the numbers tell whether the two leave anything out. What
   * both have is used once.
   * @param {Date} since
   */
  async #readPast(since) {
    /** @type {Position[]} */
    const past = [];
    try {
      let at = `from=${since.toISOString()}`;
      for (let page = 0; page < PAGES; page++) {
        const address = `/v1/streams/${POSITIONS}/events?subject=${encodeURIComponent(this.subject)}&limit=1000&${at}`;
        const answer = await fetch(address, { signal: this.#leaving.signal });
        /** @type {any[]} */ const events = answer.ok ? await answer.json() : [];
        for (const event of events) {
          const news = this.#position(event);
          if (news) past.push(news);
        }
        if (events.length === 0) break;
        at = `after=${encodeURIComponent(answer.headers.get("Cursor") ?? "")}`;
      }
    } catch {
      // Then it is followed from now on: what one sees is no less true.
    }
    this.#waiting = [...past, ...this.#waiting];
    this.#complete = true;
    this.#take();
  }

  /** @param {import("../client/eventissuer.js").CloudEvent} event */
  #position(event) {
    const news = readNews(event);
    return news?.kind === "position" ? news : undefined;
  }

  /** @param {Position} news */
  #wait(news) {
    this.#waiting.push(news);
    if (this.#waiting.length > WAITING) this.#waiting.shift();
    this.#take();
  }

  #take() {
    if (this.#complete && this.#clock.known) this.#waiting.splice(0).forEach((news) => this.#use(news));
  }

  /** @param {Position} news */
  #use(news) {
    const ahead = news.time - this.#clock.now();
    if (ahead > DAY || !this.continuity.check(rowOf(news), news.sequence)) return;
    // Told before the centre's clock was set back: it has its number, and no place in what one sees.
    if (ahead > 60_000) return;
    // Where the centre's clock was set back, another ride of the same train lies before.
    if ((this.fixes.at(-1)?.time ?? 0) > news.time) this.fixes = [];
    this.fixes.push({ time: news.time, at: project(news.latitude, news.longitude), delay: news.delay });
    if (this.fixes.length > KEPT) this.fixes.shift();
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
    this.#leaving.abort();
    this.#reading.close();
  }
}
