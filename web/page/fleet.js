// @ts-check
/**
 * The trains as the events tell: where each was, how late, where it goes next.
 */
import { project } from "./projection.js";

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {import("./news.js").News} News */

/**
 * @typedef {object} Sample
 * @property {number} time milliseconds of the epoch
 * @property {Point} at
 * @property {number} bearing in radians from north
 * @property {number} speed in km/h
 */

/** How often the latest positions come, in milliseconds. */
export const INTERVAL = 1000;
/**
 * A train tells its position every five seconds, and it comes up to an interval later: what is shown is a moment older
 * than that, so that there is always a next one to move to.
 */
export const SHOWN_AFTER = 5600 + INTERVAL;
/** A train that has arrived at its last station stays for so long. */
const STAYS = 20_000;
/** A train that told nothing for so long is gone. The server says so earlier; it says nothing where no train tells anything. */
const FORGOTTEN_AFTER = 120_000;
/** So many positions before its first are guessed. */
const GUESSED = 9;
/** What a train draws behind it. */
const KEPT = 5 * 60_000;
/** Jumps smaller than this, in km, are driven; larger ones are caught up with in a moment. */
const JUMP = 0.4;
const CATCH_UP = 450;

export class Train {
  /** @param {string} number */
  constructor(number) {
    this.number = number;
    this.line = "";
    this.operator = "";
    this.to = "";
    this.serviceDate = "";
    this.delay = 0;
    this.next = "";
    this.nextCall = 0;
    this.at = "";
    /** milliseconds of the epoch: when it is expected at the next station */
    this.expected = 0;
    this.speed = 0;
    this.ended = false;
    /** @type {Sample[]} */
    this.samples = [];
    /** milliseconds of the epoch */
    this.told = 0;
    /** the number of its last position */
    this.sequence = 0;
    /** the snapshot since which it was told of */
    this.snapshot = 0;
    /** there is no position of it any more */
    this.gone = false;
    /** @type {Point} where it is drawn */
    this.shown = [NaN, NaN];
    this.bearing = 0;
    /** @type {Point} what is still to be caught up with after a jump */
    this.behind = [0, 0];
    /** the time of what is drawn, milliseconds of the epoch */
    this.drawn = 0;
    /** @type {number} 1 fresh … 0 unknown */
    this.freshness = 1;
    /** @type {number} how many tracks further to the right it is drawn: others stand where it stands */
    this.aside = 0;
  }

  /**
   * Takes a position, unless it is known: that of a followed train comes twice.
   * @param {import("./news.js").Position} news
   */
  hear(news) {
    this.gone = false;
    if (news.sequence <= this.sequence && news.time <= this.told) return;
    this.sequence = news.sequence;
    if (this.serviceDate !== news.serviceDate) this.ended = false;
    this.line = news.line;
    this.operator = news.operator;
    this.to = news.to;
    this.serviceDate = news.serviceDate;
    this.delay = news.delay;
    this.next = news.next;
    this.nextCall = news.nextCall;
    this.at = news.at;
    this.expected = news.expected;
    this.speed = news.speed;
    this.told = news.time;
    this.add({ time: news.time, at: project(news.latitude, news.longitude), bearing: (news.bearing * Math.PI) / 180, speed: news.speed });
  }

  /** @param {Sample} sample */
  add(sample) {
    const last = this.samples.at(-1);
    // What came before is told apart by its number: a new position of an older time means that the centre's clock was set back.
    if (last && sample.time <= last.time) this.samples = [];
    if (this.samples.length === 0 && !this.at) this.samples = before(sample);
    this.samples.push(sample);
    while (this.samples.length > 2 && (this.samples[0]?.time ?? 0) < sample.time - KEPT) this.samples.shift();
  }

  /**
   * Where it was, the newest first, from where it is drawn.
   * @param {number} time milliseconds of the epoch of what is drawn
   * @param {number} since
   * @returns {Point[]}
   */
  wake(time, since) {
    return this.samples.filter((s) => s.time < time && s.time >= since).map((s) => s.at).reverse();
  }

  /**
   * Moves to where the train was at that time.
   * @param {number} time milliseconds of the epoch
   * @param {number} passed milliseconds since the last call
   * @param {boolean} still without movement that only pleases
   */
  move(time, passed, still) {
    const { samples } = this;
    this.drawn = time;
    let i = samples.length - 1;
    while (i > 0 && (samples[i]?.time ?? 0) > time) i--;
    const a = samples[i];
    if (!a) return;
    const b = samples[i + 1] ?? a;
    const f = b.time > a.time ? Math.min(Math.max((time - a.time) / (b.time - a.time), 0), 1) : 0;
    const x = a.at[0] + (b.at[0] - a.at[0]) * f;
    const y = a.at[1] + (b.at[1] - a.at[1]) * f;

    const fresh = Number.isNaN(this.shown[0]);
    const jumped = !fresh && Math.hypot(x + this.behind[0] - this.shown[0], y + this.behind[1] - this.shown[1]) > JUMP;
    if (jumped) this.behind = [this.shown[0] - x, this.shown[1] - y];
    const decay = still ? 0 : Math.exp(-passed / CATCH_UP);
    this.behind = [this.behind[0] * decay, this.behind[1] * decay];
    this.shown = [x + this.behind[0], y + this.behind[1]];
    this.bearing = turn(a.bearing, b.bearing, f);
    this.freshness = Math.min(Math.max(1 - (time - b.time - 8000) / 20_000, 0), 1);
  }
}

/**
 * Where a train was before its first position, as if it had come straight on: what a snapshot does not tell. It is little to the eye,
 * and the train moves from the beginning.
 * @param {Sample} first
 * @returns {Sample[]}
 */
function before(first) {
  const step = 5000;
  const km = (first.speed / 3_600_000) * step;
  return Array.from({ length: GUESSED }, (_, i) => {
    const n = GUESSED - i;
    const at = /** @type {Point} */ ([first.at[0] - Math.sin(first.bearing) * km * n, first.at[1] + Math.cos(first.bearing) * km * n]);
    return { ...first, time: first.time - n * step, at };
  });
}

/**
 * The angle a fraction f of the shorter way from a to b.
 * @param {number} a
 * @param {number} b
 * @param {number} f
 */
function turn(a, b, f) {
  const by = ((b - a + 3 * Math.PI) % (2 * Math.PI)) - Math.PI;
  return a + by * f;
}

/**
 * @typedef {object} Told What happened at a station, for the board.
 * @property {number} [arrived] milliseconds of the epoch
 * @property {number} [departed]
 */

export class Fleet {
  /** @type {Map<string, Train>} */
  trains = new Map();
  /** @type {Map<string, Told>} by service date, train and call */
  #told = new Map();
  #snapshot = 0;

  /** A snapshot begins: whoever it does not tell of is gone. Until it is whole all stay where they are. */
  begin() {
    this.#snapshot++;
  }

  /** The snapshot is whole. */
  whole() {
    for (const train of this.trains.values()) if (train.snapshot < this.#snapshot) train.gone = true;
  }

  /**
   * There is no position of a train any more.
   * @param {string} number
   */
  remove(number) {
    const train = this.trains.get(number);
    if (train) train.gone = true;
  }

  /** @param {News} news */
  apply(news) {
    let train = this.trains.get(news.train);
    if (news.kind === "position") {
      if (!train) this.trains.set(news.train, (train = new Train(news.train)));
      train.snapshot = this.#snapshot;
      train.hear(news);
      return;
    }
    if (train) {
      train.delay = news.delay;
      if (news.final) train.ended = true;
    }
    if (news.kind === "delayed") return;
    const key = `${news.serviceDate}/${news.train}/${news.call}`;
    const told = this.#told.get(key) ?? {};
    told[news.kind] = news.time;
    this.#told.delete(key);
    this.#told.set(key, told);
    // A day has 38,000 of them; boards show the last minutes only.
    if (this.#told.size > 5000) this.#told.delete(this.#told.keys().next().value ?? "");
  }

  /**
   * @param {string} date
   * @param {string} train
   * @param {number} call
   * @returns {Told}
   */
  told(date, train, call) {
    return this.#told.get(`${date}/${train}/${call}`) ?? {};
  }

  /**
   * Moves all trains, and takes off the map those that are gone.
   * @param {number} time the centre's, milliseconds of the epoch
   * @param {number} passed milliseconds since the last call
   * @param {boolean} still
   * @param {boolean} patient keeps trains of which nothing was heard: the connection has only just come back
   */
  move(time, passed, still, patient) {
    /** @type {Map<string, number>} */
    const standing = new Map();
    for (const train of this.trains.values()) {
      train.move(time - SHOWN_AFTER, passed, still);
      // Trains that stand at one station the same way round stand side by side.
      const way = `${train.at}/${Math.round((train.bearing / Math.PI) * 2 + 4) % 4}`;
      const aside = train.at ? (standing.get(way) ?? 0) : 0;
      if (train.at) standing.set(way, aside + 1);
      train.aside = still ? aside : train.aside + (aside - train.aside) * (1 - Math.exp(-passed / CATCH_UP));
      // Told in the future: the centre's clock was set back, and the train has not been heard of since.
      const silent = Math.abs(time - train.told);
      if (!patient && (train.gone || silent > (train.ended ? STAYS : FORGOTTEN_AFTER))) this.trains.delete(train.number);
    }
  }
}
