// @ts-check
/**
 * <lag-chart>: how far behind over time, in events and in time, one above the other. The pointer, or the arrow keys, read
 * out a moment.
 */
import { make, write } from "../page/dom.js";
import { curve, draw } from "./svg.js";
import { clock, count, events, lasting } from "./words.js";

/** @typedef {import("./lag-history.js").LagHistory} LagHistory */
/** @typedef {import("./lag-history.js").Sample} Sample */
/** @typedef {{top: number, height: number, most: number, value: (s: Sample) => number | undefined, label: (n: number) => string, kind: string}} Panel */

const LEFT = 58;
const RIGHT = 14;
const TOP = 30;
const EVENTS = 146;
const BETWEEN = 38;
const SECONDS = 74;
const HEIGHT = TOP + EVENTS + BETWEEN + SECONDS + 26;
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800, 1_209_600, 2_592_000];
const MINUTES = [0.5, 1, 2, 3, 5];
/** Milliseconds that Page Up and Page Down go. */
const PAGE = 60_000;

export class LagChart extends HTMLElement {
  /** @type {LagHistory | undefined} */ #history;
  #now = 0;
  /** The moment that is read out; undefined: the last. @type {number | undefined} */ #at;
  #svg = draw("svg", { "aria-hidden": "true" });
  #plot = make("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": "Lag over time", "aria-orientation": "horizontal", "aria-describedby": "chart-keys" });
  #when = make("span", { class: "when" });
  #lag = make("strong");
  #seconds = make("strong");
  #late = make("span", { class: "of time" }, this.#seconds, " behind");
  #resized = new ResizeObserver(() => this.#draw());

  constructor() {
    super();
    this.#plot.append(this.#svg);
    this.#plot.addEventListener("pointermove", (e) => this.#point(e));
    this.#plot.addEventListener("pointerdown", (e) => this.#point(e));
    this.#plot.addEventListener("pointerleave", () => this.#read(undefined));
    this.#plot.addEventListener("blur", () => this.#read(undefined));
    // What is read out must stand while it is spoken.
    this.#plot.addEventListener("focus", () => {
      if (this.#plot.matches(":focus-visible")) this.#read(this.#history?.samples.at(-1)?.at);
    });
    this.#plot.addEventListener("keydown", (e) => this.#key(e));
  }

  connectedCallback() {
    if (!this.childElementCount) {
      this.append(
        make("p", { class: "readout", "aria-hidden": "true" }, this.#when, make("span", { class: "of lag" }, this.#lag, " behind"), this.#late),
        this.#plot,
        make("p", { class: "unseen", id: "chart-keys" }, "Left and right go from moment to moment, Page Up and Page Down by a minute, Home and End to the beginning and the end."),
      );
    }
    this.#resized.observe(this.#plot);
  }

  disconnectedCallback() {
    this.#resized.disconnect();
  }

  /**
   * @param {LagHistory} history
   * @param {number} now
   */
  show(history, now) {
    this.#history = history;
    this.#now = now;
    this.#draw();
  }

  /** @param {number | undefined} at */
  #read(at) {
    this.#at = at;
    this.#draw();
  }

  /** @param {PointerEvent} e */
  #point(e) {
    const [from, to] = this.#history?.window(this.#now) ?? [0, 0];
    const box = this.#plot.getBoundingClientRect();
    const t = from + ((e.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT)) * (to - from);
    this.#read(nearest(this.#history?.samples ?? [], t)?.at);
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    const samples = this.#history?.samples ?? [];
    const last = samples.at(-1);
    if (!last) return;
    const t = this.#at ?? last.at;
    const i = samples.findIndex((s) => s.at >= t);
    const target = {
      ArrowLeft: samples[i - 1], ArrowDown: samples[i - 1], ArrowRight: samples[i + 1], ArrowUp: samples[i + 1],
      PageUp: nearest(samples, t + PAGE), PageDown: nearest(samples, t - PAGE), Home: samples[0], End: last,
    }[e.key];
    if (target) this.#read(target.at);
    else if (!e.key.startsWith("Arrow")) return;
    e.preventDefault();
  }

  #draw() {
    const history = this.#history;
    const width = this.#plot.clientWidth;
    if (!history || width < LEFT + RIGHT + 20) return;
    const [from, to] = history.window(this.#now);
    const x = (/** @type {number} */ t) => LEFT + ((t - from) / (to - from)) * (width - LEFT - RIGHT);
    const { samples } = history;
    /** @type {Panel[]} */
    const panels = [
      { kind: "lag", top: TOP, height: EVENTS, most: niceCount(Math.max(0, ...samples.map((s) => s.lag))), value: (s) => s.lag, label: count },
      { kind: "time", top: TOP + EVENTS + BETWEEN, height: SECONDS, most: niceTime(Math.max(0, ...samples.map((s) => s.seconds ?? 0))), value: (s) => s.seconds, label: lasting },
    ];
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#svg.setAttribute("width", String(width));
    this.#svg.setAttribute("height", String(HEIGHT));
    this.#svg.replaceChildren(...this.#times(from, to, x, width), ...panels.flatMap((p) => this.#panel(p, x, width)));
    this.#mark(panels, x);
    this.#tell(samples);
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {(t: number) => number} x
   * @param {number} width
   */
  #times(from, to, x, width) {
    const step = 60_000 * (MINUTES.find((m) => ((to - from) / 60_000 / m) * 64 < width - LEFT - RIGHT) ?? 5);
    const parts = [];
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      parts.push(draw("path", { class: "grid", d: `M${x(t).toFixed(1)} ${TOP}V${HEIGHT - 26}` }));
      if (x(t) < width - 24) parts.push(draw("text", { class: "tick", x: x(t), y: HEIGHT - 8, "text-anchor": "middle" }, clock(t).slice(0, step < 60_000 ? 8 : 5)));
    }
    return parts;
  }

  /**
   * @param {Panel} panel
   * @param {(t: number) => number} x
   * @param {number} width
   */
  #panel({ kind, top, height, most, value, label }, x, width) {
    const floor = top + height;
    const y = (/** @type {number} */ v) => floor - (v / most) * height;
    /** @type {Node[]} */
    const parts = [];
    for (const v of kind === "lag" ? [0, most / 2, most] : [0, most]) {
      parts.push(
        draw("path", { class: v === 0 ? "axis" : "grid", d: `M${LEFT} ${y(v).toFixed(1)}H${width - RIGHT}` }),
        draw("text", { class: "tick", x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, v === 0 ? "0" : label(v)),
      );
    }
    for (const run of this.#history?.runs() ?? []) {
      const points = run.flatMap((s) => {
        const v = value(s);
        return v === undefined ? [] : [/** @type {[number, number]} */ ([Math.max(LEFT, x(s.at)), y(v)])];
      });
      if (!points.length) continue;
      const { line, area } = curve(points, floor);
      parts.push(draw("path", { class: `area ${kind}`, d: area }), draw("path", { class: `line ${kind}`, d: line }));
    }
    parts.push(draw("text", { class: "what", x: LEFT, y: top - 11 }, kind === "lag" ? "Events behind" : "Time behind"));
    return parts;
  }

  /**
   * @param {Panel[]} panels
   * @param {(t: number) => number} x
   */
  #mark(panels, x) {
    const s = this.#at === undefined ? this.#history?.samples.at(-1) : nearest(this.#history?.samples ?? [], this.#at);
    if (!s) return;
    if (this.#at !== undefined) this.#svg.append(draw("path", { class: "rule", d: `M${x(s.at).toFixed(1)} ${TOP}V${HEIGHT - 26}` }));
    for (const { kind, top, height, most, value } of panels) {
      const v = value(s);
      if (v !== undefined) this.#svg.append(draw("circle", { class: `here ${kind}`, cx: x(s.at), cy: top + height - (v / most) * height, r: 3.5 }));
    }
  }

  /** @param {Sample[]} samples */
  #tell(samples) {
    const s = this.#at === undefined ? samples.at(-1) : nearest(samples, this.#at);
    write(this.#when, this.#at === undefined || !s ? "Now" : clock(s.at));
    write(this.#lag, s ? events(s.lag) : "–");
    this.#late.hidden = s?.seconds === undefined;
    write(this.#seconds, lasting(s?.seconds ?? 0));
    this.#plot.setAttribute("aria-valuemin", "0");
    this.#plot.setAttribute("aria-valuemax", String(Math.max(0, samples.length - 1)));
    this.#plot.setAttribute("aria-valuenow", String(s ? samples.indexOf(s) : 0));
    this.#plot.setAttribute("aria-valuetext", s ? `${clock(s.at)}: ${events(s.lag)} behind${s.seconds === undefined ? "" : `, ${lasting(s.seconds)}`}` : "Nothing is known yet");
  }
}

/**
 * @param {Sample[]} samples
 * @param {number} t
 */
function nearest(samples, t) {
  let best = samples[0];
  for (const s of samples) if (best && Math.abs(s.at - t) <= Math.abs(best.at - t)) best = s;
  return best;
}

/**
 * A round number that is no less, and even.
 * @param {number} n
 */
function niceCount(n) {
  if (n <= 10) return 10;
  const ten = 10 ** Math.floor(Math.log10(n));
  return ten * ([1, 2, 4, 6, 8, 10].find((m) => m * ten >= n) ?? 10);
}

/**
 * A round length of time that is no less.
 * @param {number} seconds
 */
function niceTime(seconds) {
  return STEPS.find((s) => s >= seconds) ?? Math.ceil(seconds / 2_592_000) * 2_592_000;
}
