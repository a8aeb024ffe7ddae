// @ts-check
/** Where the names of places stand: beside the tracks, because there the trains run, and beside each other. */

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {{name: string, at: Point, big: boolean}} Place */
/** @typedef {{place: Place, dx: number, dy: number, size: number, weight: number}} Label dx and dy: from the place to the text's left and middle, in CSS pixels */
/** @typedef {[left: number, top: number, right: number, bottom: number]} Box */

/** The net is sampled at this distance, in km. */
const SAMPLE = 0.35;
/** The grid's cells, in km. */
const CELL = 6;
/** How wide trains are to the left and right of a track, in CSS pixels. */
const TRAIN = 9;
/** A scale's names stand until it has changed by this factor. */
const STEP = 1.15;

export class Labels {
  /** @type {Map<string, Point[]>} */ #net = new Map();
  /** @type {Map<string, Label[]>} */ #laid = new Map();

  /** @param {Point[][]} tracks in kilometres */
  constructor(tracks) {
    for (const track of tracks) {
      track.forEach((to, i) => {
        const from = track[i - 1] ?? to;
        const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / SAMPLE));
        for (let s = 1; s <= steps; s++) this.#sample([from[0] + ((to[0] - from[0]) * s) / steps, from[1] + ((to[1] - from[1]) * s) / steps]);
      });
    }
  }

  /** @param {Point} at */
  #sample(at) {
    const key = cell(at[0], at[1]);
    const there = this.#net.get(key);
    if (there) there.push(at);
    else this.#net.set(key, [at]);
  }

  /**
   * @param {"towns" | "stations"} kind
   * @param {Place[]} places the most important first
   * @param {number} scale in pixels per kilometre
   * @param {(text: string, size: number, weight: number) => number} measure gives a text's width
   * @returns {Label[]}
   */
  lay(kind, places, scale, measure) {
    const step = Math.floor(Math.log(scale) / Math.log(STEP));
    const key = `${kind} ${step}`;
    let labels = this.#laid.get(key);
    if (!labels) {
      // The smallest scale of the step: at the others the places are further apart.
      labels = this.#layAll(places, STEP ** step, measure);
      if (this.#laid.size > 40) this.#laid.clear();
      this.#laid.set(key, labels);
    }
    return labels;
  }

  /**
   * @param {Place[]} places
   * @param {number} scale
   * @param {(text: string, size: number, weight: number) => number} measure
   */
  #layAll(places, scale, measure) {
    /** @type {Label[]} */
    const labels = [];
    const taken = new Taken();
    const dots = new Dots(places, scale);
    for (const place of places) {
      const size = place.big ? 13 : 11.5;
      const weight = place.big ? 600 : 450;
      const w = measure(place.name, size, weight);
      const x = place.at[0] * scale;
      const y = place.at[1] * scale;
      /** @type {Label | undefined} */ let best;
      /** @type {Box} */ let bestBox = [0, 0, 0, 0];
      let least = place.big ? 14 : 8;
      for (const [i, [dx, dy]] of offsets(w, size, place.big).entries()) {
        const box = /** @type {Box} */ ([x + dx - 3, y + dy - size / 2 - 1, x + dx + w + 3, y + dy + size / 2 + 1]);
        if (taken.meets(box)) continue;
        const cost = i * 0.35 + this.#trains(box, scale) + 2.5 * dots.among(box, place);
        if (cost < least) [least, best, bestBox] = [cost, { place, dx, dy, size, weight }, box];
      }
      if (!best) continue;
      taken.take(bestBox);
      labels.push(best);
    }
    return labels;
  }

  /**
   * How much of the net lies under a box: in units of a label's height.
   * @param {Box} box in pixels of that scale
   * @param {number} scale
   */
  #trains([left, top, right, bottom], scale) {
    const l = (left - TRAIN) / scale, t = (top - TRAIN) / scale, r = (right + TRAIN) / scale, b = (bottom + TRAIN) / scale;
    let n = 0;
    for (let x = Math.floor(l / CELL); x <= r / CELL; x++) {
      for (let y = Math.floor(t / CELL); y <= b / CELL; y++) {
        for (const [px, py] of this.#net.get(`${x} ${y}`) ?? []) if (px > l && px < r && py > t && py < b) n++;
      }
    }
    return (n * SAMPLE * scale) / 12;
  }
}

/** Where the places are: a name near to another place would be taken for its name. */
class Dots {
  /** @type {Map<string, {place: Place, x: number, y: number}[]>} */ #cells = new Map();

  /**
   * @param {Place[]} places
   * @param {number} scale
   */
  constructor(places, scale) {
    for (const place of places) {
      const [x, y] = [place.at[0] * scale, place.at[1] * scale];
      const [key = ""] = cellsOf([x, y, x, y]);
      const there = this.#cells.get(key);
      if (there) there.push({ place, x, y });
      else this.#cells.set(key, [{ place, x, y }]);
    }
  }

  /**
   * @param {Box} box
   * @param {Place} but
   */
  among([left, top, right, bottom], but) {
    let n = 0;
    for (const key of cellsOf([left - 6, top - 6, right + 6, bottom + 6])) {
      for (const { place, x, y } of this.#cells.get(key) ?? []) {
        if (place !== but && x > left - 6 && x < right + 6 && y > top - 6 && y < bottom + 6) n++;
      }
    }
    return n;
  }
}

/** Which boxes are taken, found by where they are. */
class Taken {
  /** @type {Map<string, Box[]>} */ #cells = new Map();

  /** @param {Box} box */
  take(box) {
    for (const key of cellsOf(box)) {
      const there = this.#cells.get(key);
      if (there) there.push(box);
      else this.#cells.set(key, [box]);
    }
  }

  /** @param {Box} box */
  meets(box) {
    return cellsOf(box).some((key) => this.#cells.get(key)?.some((t) => t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1]));
  }
}

/** @param {Box} box */
function cellsOf([left, top, right, bottom]) {
  const keys = [];
  for (let x = Math.floor(left / 100); x <= right / 100; x++) for (let y = Math.floor(top / 40); y <= bottom / 40; y++) keys.push(`${x} ${y}`);
  return keys;
}

/**
 * @param {number} x
 * @param {number} y
 */
function cell(x, y) {
  return `${Math.floor(x / CELL)} ${Math.floor(y / CELL)}`;
}

/**
 * Beside the place, the best first; further away where the place is between tracks.
 * @param {number} w
 * @param {number} size
 * @param {boolean} big where more trains stand
 * @returns {Point[]}
 */
function offsets(w, size, big) {
  /** @type {Point[]} */
  const all = [];
  for (const gap of big ? [12, 19] : [9, 15]) {
    const up = size / 2 + gap - 2;
    all.push([gap, 0], [-gap - w, 0], [-w / 2, up + 2], [-w / 2, -up - 2], [gap - 3, up], [gap - 3, -up], [-gap - w + 3, up], [-gap - w + 3, -up]);
  }
  return all;
}
