// @ts-check
/** <delivery-chart>: how many attempts were taken and how many not, and below it how long the endpoint took to answer. */
import { make, write } from "../page/dom.js";
import { draw } from "./svg.js";
import { LEFT, TimePlot, niceCount } from "./time-plot.js";
import { milliseconds, latency } from "./webhook-words.js";
import { clock, count } from "./words.js";

/** @typedef {import("./webhook-api.js").Deliveries} Deliveries */
/** @typedef {import("./time-plot.js").Scale} Scale */
/**
 * @typedef {object} Step
 * @property {number} at its middle, milliseconds of the epoch
 * @property {number} from
 * @property {number} to
 * @property {number} delivered
 * @property {number} refused
 * @property {number} failed
 * @property {number} [p50] milliseconds; unset: there was no answer
 * @property {number} [p95]
 * @property {number} [p99]
 */

const TOP = 30;
const COUNTS = 132;
const BETWEEN = 38;
const LATENCY = 92;
/** What is there at all is drawn at least so high. */
const SEEN = 2;

/** From the bottom up: what went wrong stands on the ground, where it can be compared. */
export const PARTS = /** @type {const} */ (["failed", "refused", "delivered"]);
export const SHARES = /** @type {const} */ (["p50", "p95", "p99"]);

/** @extends {TimePlot<Step>} */
export class DeliveryChart extends TimePlot {
  /** @type {Step[]} */ #steps = [];
  /** @type {[number, number] | undefined} */ #window;
  #span = "";
  /** @type {HTMLElement} */ #when;
  /** @type {Record<"failed" | "refused" | "delivered", HTMLElement>} */ #counts;
  /** @type {Record<"p50" | "p95" | "p99", HTMLElement>} */ #took;

  constructor() {
    const when = make("span", { class: "when" });
    const counts = { failed: make("strong"), refused: make("strong"), delivered: make("strong") };
    const took = { p50: make("strong"), p95: make("strong"), p99: make("strong") };
    const of = (/** @type {string} */ kind, /** @type {HTMLElement} */ value, /** @type {(Node | string)[]} */ ...after) => make("span", { class: `of ${kind}` }, value, ...after);
    super({
      label: "Deliveries over time",
      keys: "Left and right go from step to step, Page Up and Page Down by an hour, Home and End to the beginning and the end. The table below has the same.",
      page: 3_600_000,
      top: TOP,
      floor: TOP + COUNTS + BETWEEN + LATENCY,
      readout: [
        make("p", { class: "readout", "aria-hidden": "true" }, when, of("delivered", counts.delivered, " delivered"), of("refused", counts.refused, " refused"), of("failed", counts.failed, " failed"), ...SHARES.map((s) => of(s, took[s], ` ${s}`))),
      ],
    });
    [this.#when, this.#counts, this.#took] = [when, counts, took];
  }

  /**
   * @param {Deliveries[]} items oldest first
   * @param {number} minutes of each
   * @param {number} from
   * @param {number} to
   * @param {string} span what that is, in words
   */
  show(items, minutes, from, to, span) {
    this.#steps = items.map((d) => step(d, minutes * 60_000)).filter((s) => s.to > from);
    this.#window = [from, to];
    this.#span = span;
    this.draw();
  }

  /** Oldest first. */
  get steps() {
    return this.#steps;
  }

  /** @override */
  moments() {
    return this.#steps;
  }

  /** @override */
  window() {
    return this.#window;
  }

  /** All of it stands for now: the last step has hardly begun. @override */
  latest() {
    return undefined;
  }

  /** @override */
  panels() {
    const steps = this.#steps;
    const answered = steps.flatMap((s) => (s.p99 === undefined ? [] : [s.p99]));
    const most = niceCount(Math.max(0, ...steps.map(total)));
    const slowest = niceLatency(Math.max(0, ...answered));
    /** @type {import("./time-plot.js").Panel<Step>[]} */
    const panels = [
      { title: "Attempts", top: TOP, height: COUNTS, most, lines: 2, label: count, marks: () => [], paint: (x, y, floor) => steps.flatMap((s) => bar(s, x, y, floor)) },
      { title: "Time to answer", top: TOP + COUNTS + BETWEEN, height: LATENCY, most: slowest, lines: 2, label: latency, marks: (s) => SHARES.map((k) => [k, s[k]]), paint: (x, y) => SHARES.flatMap((k) => line(steps, k, x, y)) },
    ];
    return panels;
  }

  /**
   * @override
   * @param {Step | undefined} s
   */
  tell(s) {
    const sum = (/** @type {"delivered" | "refused" | "failed"} */ part) => this.#steps.reduce((n, step) => n + step[part], 0);
    write(this.#when, s ? spanWords(s) : this.#span);
    for (const part of PARTS) write(this.#counts[part], count(s ? s[part] : sum(part)));
    for (const k of SHARES) {
      const v = s?.[k];
      const of = this.#took[k].parentElement;
      if (of) of.hidden = s !== undefined && v === undefined;
      write(this.#took[k], v === undefined ? "" : latency(v));
    }
    if (!s) return `${this.#span}: ${count(sum("delivered"))} delivered, ${count(sum("refused"))} refused, ${count(sum("failed"))} failed`;
    const took = SHARES.flatMap((k) => (s[k] === undefined ? [] : [`${k} ${latency(s[k])}`]));
    return `${spanWords(s)}: ${PARTS.toReversed().map((p) => `${count(s[p])} ${p}`).join(", ")}${took.length ? `; ${took.join(", ")}` : ""}`;
  }
}

/**
 * @param {Deliveries} d
 * @param {number} length milliseconds
 * @returns {Step}
 */
function step(d, length) {
  const from = Date.parse(d.at);
  const took = (/** @type {string | undefined} */ text) => milliseconds(text) || undefined;
  return { from, to: from + length, at: from + length / 2, delivered: d.delivered, refused: d.refused, failed: d.failed, p50: took(d.p50), p95: took(d.p95), p99: took(d.p99) };
}

/** @param {Step} s */
export const total = (s) => s.delivered + s.refused + s.failed;

/** @param {Step} s */
export const spanWords = (s) => `${clock(s.from).slice(0, 5)}–${clock(s.to).slice(0, 5)}`;

/**
 * @param {Step} s
 * @param {Scale} x
 * @param {Scale} y
 * @param {number} floor
 */
function bar(s, x, y, floor) {
  const left = Math.max(LEFT, x(s.from));
  const width = Math.max(1, x(s.to) - left - (x(s.to) - x(s.from) > 4 ? 1 : 0));
  /** @type {Node[]} */
  const parts = [];
  let foot = floor;
  for (const part of PARTS) {
    if (!s[part]) continue;
    const height = Math.max(SEEN, floor - y(s[part]));
    parts.push(draw("rect", { class: `stack ${part}`, x: left, y: foot - height, width, height }));
    foot -= height;
  }
  return parts;
}

/**
 * The steps without an answer are holes.
 * @param {Step[]} steps
 * @param {"p50" | "p95" | "p99"} share
 * @param {Scale} x
 * @param {Scale} y
 */
function line(steps, share, x, y) {
  /** @type {string[][]} */
  const runs = [[]];
  for (const s of steps) {
    const v = s[share];
    if (v === undefined) runs.push([]);
    else runs.at(-1)?.push(`${Math.max(LEFT, x(s.from)).toFixed(1)} ${y(v).toFixed(1)}L${x(s.to).toFixed(1)} ${y(v).toFixed(1)}`);
  }
  return runs.filter((r) => r.length).map((r) => draw("path", { class: `line ${share}`, d: `M${r.join("L")}` }));
}

/**
 * A round length of time that is no less, and even.
 * @param {number} ms
 */
function niceLatency(ms) {
  if (ms <= 10) return 10;
  const ten = 10 ** Math.floor(Math.log10(ms));
  return ten * ([1, 2, 4, 6, 8, 10].find((m) => m * ten >= ms) ?? 10);
}
