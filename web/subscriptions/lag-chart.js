// @ts-check
/** <lag-chart>: how far behind over time, in events and, where that is told, in time, one above the other. */
import { make, write } from "../page/dom.js";
import { curve, draw } from "./svg.js";
import { LEFT, TimePlot, niceCount } from "./time-plot.js";
import { clock, count, events, lasting } from "./words.js";

/** @typedef {import("./lag-history.js").LagHistory} LagHistory */
/** @typedef {import("./lag-history.js").Sample} Sample */
/** @typedef {import("./time-plot.js").Scale} Scale */

const TOP = 30;
const EVENTS = 146;
const BETWEEN = 38;
const SECONDS = 74;
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800, 1_209_600, 2_592_000];

/** @extends {TimePlot<Sample>} */
export class LagChart extends TimePlot {
  /** @type {LagHistory | undefined} */ #history;
  #now = 0;
  #timed;
  /** @type {HTMLElement} */ #when;
  /** @type {HTMLElement} */ #lag;
  /** @type {HTMLElement} */ #seconds;
  /** @type {HTMLElement} */ #late;

  /** @param {boolean} [timed] whether it is told how far behind in time */
  constructor(timed = true) {
    const when = make("span", { class: "when" });
    const lag = make("strong");
    const seconds = make("strong");
    const late = make("span", { class: "of time" }, seconds, " behind");
    super({
      label: "Lag over time",
      keys: "Left and right go from moment to moment, Page Up and Page Down by a minute, Home and End to the beginning and the end.",
      page: 60_000,
      top: TOP,
      floor: TOP + EVENTS + (timed ? BETWEEN + SECONDS : 0),
      readout: [make("p", { class: "readout", "aria-hidden": "true" }, when, make("span", { class: "of lag" }, lag, " behind"), late)],
    });
    this.#timed = timed;
    [this.#when, this.#lag, this.#seconds, this.#late] = [when, lag, seconds, late];
  }

  /**
   * @param {LagHistory} history
   * @param {number} now
   */
  show(history, now) {
    this.#history = history;
    this.#now = now;
    this.draw();
  }

  /** @override */
  moments() {
    return this.#history?.samples ?? [];
  }

  /** @override */
  window() {
    return this.#history?.window(this.#now);
  }

  /** @override */
  panels() {
    const samples = this.moments();
    const lag = this.#panel("Events behind", "lag", TOP, EVENTS, niceCount(Math.max(0, ...samples.map((s) => s.lag))), 2, (s) => s.lag, count);
    if (!this.#timed) return [lag];
    return [
      lag,
      this.#panel("Time behind", "time", TOP + EVENTS + BETWEEN, SECONDS, niceTime(Math.max(0, ...samples.map((s) => s.seconds ?? 0))), 1, (s) => s.seconds, lasting),
    ];
  }

  /**
   * @param {string} title
   * @param {string} kind
   * @param {number} top
   * @param {number} height
   * @param {number} most
   * @param {number} lines
   * @param {(s: Sample) => number | undefined} value
   * @param {(n: number) => string} label
   * @returns {import("./time-plot.js").Panel<Sample>}
   */
  #panel(title, kind, top, height, most, lines, value, label) {
    return {
      title, top, height, most, lines, label,
      marks: (s) => [[kind, value(s)]],
      paint: (x, y, floor) => (this.#history?.runs() ?? []).flatMap((run) => {
        const points = run.flatMap((s) => {
          const v = value(s);
          return v === undefined ? [] : [/** @type {[number, number]} */ ([Math.max(LEFT, x(s.at)), y(v)])];
        });
        if (!points.length) return [];
        const { line, area } = curve(points, floor);
        return [draw("path", { class: `area ${kind}`, d: area }), draw("path", { class: `line ${kind}`, d: line })];
      }),
    };
  }

  /**
   * @override
   * @param {Sample | undefined} s
   * @param {boolean} chosen
   */
  tell(s, chosen) {
    write(this.#when, chosen && s ? clock(s.at) : "Now");
    write(this.#lag, s ? events(s.lag) : "–");
    this.#late.hidden = s?.seconds === undefined;
    write(this.#seconds, lasting(s?.seconds ?? 0));
    return s ? `${clock(s.at)}: ${events(s.lag)} behind${s.seconds === undefined ? "" : `, ${lasting(s.seconds)}`}` : "Nothing is known yet";
  }
}

/**
 * A round length of time that is no less.
 * @param {number} seconds
 */
function niceTime(seconds) {
  return STEPS.find((s) => s >= seconds) ?? Math.ceil(seconds / 2_592_000) * 2_592_000;
}
