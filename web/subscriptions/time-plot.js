// @ts-check
/**
 * A drawing of figures over time: panels one above the other, with one axis of time. The pointer, or the arrow keys, read
 * out a moment.
 */
import { make } from "../page/dom.js";
import { draw } from "./svg.js";
import { clock } from "./words.js";

/** @typedef {(n: number) => number} Scale */
/**
 * @template S
 * @typedef {object} Panel
 * @property {string} title
 * @property {number} top
 * @property {number} height
 * @property {number} most what its top stands for
 * @property {number} lines between which the height is divided, by equal steps
 * @property {(n: number) => string} label
 * @property {(x: Scale, y: Scale, floor: number) => Node[]} paint
 * @property {(s: S) => [kind: string, value: number | undefined][]} marks what is marked of a moment that is read out
 */

export const LEFT = 58;
export const RIGHT = 14;
/** What is below the last panel: the times. */
const BELOW = 26;
const MINUTES = [0.5, 1, 2, 3, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720];

let made = 0;

/** @template {{at: number}} S */
export class TimePlot extends HTMLElement {
  /** The moment that is read out; undefined: none in particular. @type {number | undefined} */ #at;
  #top;
  #height;
  #page;
  #svg = draw("svg", { "aria-hidden": "true" });
  #plot;
  #readout;
  #keys;
  #resized = new ResizeObserver(() => this.draw());

  /**
   * @param {object} about
   * @param {string} about.label
   * @param {string} about.keys what the keys do
   * @param {number} about.page milliseconds that Page Up and Page Down go
   * @param {number} about.top where the first panel begins
   * @param {number} about.floor where the last one ends
   * @param {Node[]} about.readout what stands above, where moments are read out
   */
  constructor({ label, keys, page, top, floor, readout }) {
    super();
    this.#top = top;
    this.#height = floor + BELOW;
    this.#page = page;
    const id = `plot-keys-${++made}`;
    this.#plot = make("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": label, "aria-orientation": "horizontal", "aria-describedby": id });
    this.#plot.style.height = `${this.#height}px`;
    this.#keys = make("p", { class: "unseen", id }, keys);
    this.#readout = readout;
    this.#plot.append(this.#svg);
    this.#plot.addEventListener("pointermove", (e) => this.#point(e));
    this.#plot.addEventListener("pointerdown", (e) => this.#point(e));
    this.#plot.addEventListener("pointerleave", () => this.#read(undefined));
    this.#plot.addEventListener("blur", () => this.#read(undefined));
    // What is read out must stand while it is spoken.
    this.#plot.addEventListener("focus", () => {
      if (this.#plot.matches(":focus-visible")) this.#read(this.moments().at(-1)?.at);
    });
    this.#plot.addEventListener("keydown", (e) => this.#key(e));
  }

  connectedCallback() {
    if (!this.childElementCount) this.append(...this.#readout, this.#plot, this.#keys);
    this.#resized.observe(this.#plot);
  }

  disconnectedCallback() {
    this.#resized.disconnect();
  }

  /** Oldest first. @returns {S[]} */
  moments() {
    return [];
  }

  /** From when to when; undefined: nothing is known yet. @returns {[number, number] | undefined} */
  window() {
    return undefined;
  }

  /** @returns {Panel<S>[]} */
  panels() {
    return [];
  }

  /**
   * Which moment stands for now, where none in particular is read out.
   * @returns {S | undefined}
   */
  latest() {
    return this.moments().at(-1);
  }

  /**
   * Writes what is read out.
   * @param {S | undefined} _moment
   * @param {boolean} _chosen somebody wants to know of this one
   * @returns {string} the same in words
   */
  tell(_moment, _chosen) {
    return "";
  }

  draw() {
    const width = this.#plot.clientWidth;
    const window = this.window();
    if (!window || width < LEFT + RIGHT + 20) return;
    const [from, to] = window;
    const x = (/** @type {number} */ t) => LEFT + ((t - from) / (to - from)) * (width - LEFT - RIGHT);
    const panels = this.panels();
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${this.#height}`);
    this.#svg.setAttribute("width", String(width));
    this.#svg.setAttribute("height", String(this.#height));
    this.#svg.replaceChildren(...this.#times(from, to, x, width), ...panels.flatMap((p) => panel(p, x, width)));
    const moments = this.moments();
    const moment = this.#at === undefined ? this.latest() : nearest(moments, this.#at);
    if (moment) this.#mark(panels, moment, x);
    const words = this.tell(moment, this.#at !== undefined);
    this.#plot.setAttribute("aria-valuemin", "0");
    this.#plot.setAttribute("aria-valuemax", String(Math.max(0, moments.length - 1)));
    this.#plot.setAttribute("aria-valuenow", String(moment ? moments.indexOf(moment) : 0));
    this.#plot.setAttribute("aria-valuetext", words);
  }

  /** @param {number | undefined} at */
  #read(at) {
    this.#at = at;
    this.draw();
  }

  /** @param {PointerEvent} e */
  #point(e) {
    const [from, to] = this.window() ?? [0, 0];
    const box = this.#plot.getBoundingClientRect();
    const t = from + ((e.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT)) * (to - from);
    this.#read(nearest(this.moments(), t)?.at);
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    const moments = this.moments();
    const last = moments.at(-1);
    if (!last) return;
    const t = this.#at ?? last.at;
    const i = moments.findIndex((s) => s.at >= t);
    const target = {
      ArrowLeft: moments[i - 1], ArrowDown: moments[i - 1], ArrowRight: moments[i + 1], ArrowUp: moments[i + 1],
      PageUp: nearest(moments, t + this.#page), PageDown: nearest(moments, t - this.#page), Home: moments[0], End: last,
    }[e.key];
    if (target) this.#read(target.at);
    else if (!e.key.startsWith("Arrow")) return;
    e.preventDefault();
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {Scale} x
   * @param {number} width
   */
  #times(from, to, x, width) {
    const step = 60_000 * (MINUTES.find((m) => ((to - from) / 60_000 / m) * 64 < width - LEFT - RIGHT) ?? 1440);
    const zone = new Date(to).getTimezoneOffset() * 60_000; // a round time is round where one lives
    const parts = [];
    for (let t = Math.ceil((from - zone) / step) * step + zone; t <= to; t += step) {
      parts.push(draw("path", { class: "grid", d: `M${x(t).toFixed(1)} ${this.#top}V${this.#height - BELOW}` }));
      if (x(t) < width - 24) parts.push(draw("text", { class: "tick", x: x(t), y: this.#height - 8, "text-anchor": "middle" }, clock(t).slice(0, step < 60_000 ? 8 : 5)));
    }
    return parts;
  }

  /**
   * @param {Panel<S>[]} panels
   * @param {S} moment
   * @param {Scale} x
   */
  #mark(panels, moment, x) {
    const at = x(moment.at);
    if (this.#at !== undefined) this.#svg.append(draw("path", { class: "rule", d: `M${at.toFixed(1)} ${this.#top}V${this.#height - BELOW}` }));
    for (const { top, height, most, marks } of panels) {
      for (const [kind, v] of marks(moment)) {
        if (v !== undefined) this.#svg.append(draw("circle", { class: `here ${kind}`, cx: at, cy: top + height - (v / most) * height, r: 3.5 }));
      }
    }
  }
}

/**
 * @template S
 * @param {Panel<S>} panel
 * @param {Scale} x
 * @param {number} width
 */
function panel({ title, top, height, most, lines, label, paint }, x, width) {
  const floor = top + height;
  const y = (/** @type {number} */ v) => floor - (v / most) * height;
  /** @type {Node[]} */
  const parts = [];
  for (let i = 0; i <= lines; i++) {
    const v = (most * i) / lines;
    parts.push(
      draw("path", { class: v === 0 ? "axis" : "grid", d: `M${LEFT} ${y(v).toFixed(1)}H${width - RIGHT}` }),
      draw("text", { class: "tick", x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, v === 0 ? "0" : label(v)),
    );
  }
  parts.push(...paint(x, y, floor), draw("text", { class: "what", x: LEFT, y: top - 11 }, title));
  return parts;
}

/**
 * @template {{at: number}} S
 * @param {S[]} moments
 * @param {number} t
 */
function nearest(moments, t) {
  let best = moments[0];
  for (const s of moments) if (best && Math.abs(s.at - t) <= Math.abs(best.at - t)) best = s;
  return best;
}

/**
 * A round number that is no less, and even.
 * @param {number} n
 */
export function niceCount(n) {
  if (n <= 10) return 10;
  const ten = 10 ** Math.floor(Math.log10(n));
  return ten * ([1, 2, 4, 6, 8, 10].find((m) => m * ten >= n) ?? 10);
}
