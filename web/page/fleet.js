// @ts-check
/**
 * The trains as the events tell: where each was, how late, where it goes next.
 */
import { project } from "./projection.js";

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {import("../client/eventissuer.js").CloudEvent} CloudEvent */

/**
 * @typedef {object} Sample
 * @property {number} time milliseconds of the epoch
 * @property {Point} at
 * @property {number} bearing in radians from north
 * @property {number} speed in km/h
 */

/** Positions come every five seconds: what is shown is a moment older, so that there is always a next one to move to. */
export const SHOWN_AFTER = 5600;
/** A train that told nothing for so long is taken off the map. */
const FORGOTTEN_AFTER = 90_000;
const KEPT = 60_000;
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
    /** @type {Point} where it is drawn */
    this.shown = [NaN, NaN];
    this.bearing = 0;
    /** @type {Point} what is still to be caught up with after a jump */
    this.behind = [0, 0];
    /** @type {number} 1 fresh … 0 unknown */
    this.freshness = 1;
  }

  /** @param {Sample} sample */
  add(sample) {
    const last = this.samples.at(-1);
    // What came before is told apart by its number: a new position of an older time means that the centre's clock was set back.
    if (last && sample.time <= last.time) this.samples = [];
    this.samples.push(sample);
    while (this.samples.length > 2 && (this.samples[0]?.time ?? 0) < sample.time - KEPT) this.samples.shift();
  }

  /**
   * Moves to where the train was at that time.
   * @param {number} time milliseconds of the epoch
   * @param {number} passed milliseconds since the last call
   * @param {boolean} still without movement that only pleases
   */
  move(time, passed, still) {
    const { samples } = this;
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

  /**
   * @param {CloudEvent} event
   * @returns {Train | undefined} the train it is about
   */
  apply(event) {
    const { data } = event;
    if (typeof data?.train !== "string" || !event.time) return undefined;
    const time = Date.parse(event.time);
    let train = this.trains.get(data.train);
    if (event.type.includes(".position.")) {
      if (!train) this.trains.set(data.train, (train = new Train(data.train)));
      this.#position(train, event, time);
    } else if (train) {
      train.delay = data.delaySeconds;
      if (data.final) train.ended = true;
    }
    if (event.type.includes(".arrived.") || event.type.includes(".departed.")) this.#movement(data, time, event.type.includes(".arrived."));
    return train;
  }

  /**
   * @param {Train} train
   * @param {CloudEvent} event
   * @param {number} time
   */
  #position(train, event, time) {
    const { data } = event;
    if (train.serviceDate !== data.serviceDate) train.ended = false;
    train.line = data.line;
    train.operator = String(/** @type {any} */ (event)["operator"] ?? "");
    train.to = data.to;
    train.serviceDate = data.serviceDate;
    train.delay = data.delaySeconds;
    train.next = data.next;
    train.nextCall = data.nextCall;
    train.at = data.at ?? "";
    train.expected = Date.parse(data.expected);
    train.speed = data.speed;
    train.told = time;
    train.add({ time, at: project(data.latitude, data.longitude), bearing: (data.bearing * Math.PI) / 180, speed: data.speed });
  }

  /**
   * @param {any} data
   * @param {number} time
   * @param {boolean} arrived
   */
  #movement(data, time, arrived) {
    const key = `${data.serviceDate}/${data.train}/${data.call}`;
    const told = this.#told.get(key) ?? {};
    if (arrived) told.arrived = time;
    else told.departed = time;
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
   * Moves all trains, and takes off the map those that have ended.
   * @param {number} time the centre's, milliseconds of the epoch
   * @param {number} passed milliseconds since the last call
   * @param {boolean} still
   * @param {boolean} patient keeps trains of which nothing was heard: the connection has only just come back
   */
  move(time, passed, still, patient) {
    for (const train of this.trains.values()) {
      train.move(time - SHOWN_AFTER, passed, still);
      // Told in the future: the centre's clock was set back, and the train has not been heard of since.
      const silent = Math.abs(time - train.told);
      if (!patient && silent > (train.ended ? 20_000 : FORGOTTEN_AFTER)) this.trains.delete(train.number);
    }
  }
}
