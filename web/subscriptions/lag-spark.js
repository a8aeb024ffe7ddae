// @ts-check
/** <lag-spark>: a lag's last minutes, small. The figures beside it say the same. */
import { curve, draw } from "./svg.js";

/** @typedef {import("./lag-history.js").LagHistory} LagHistory */

const WIDTH = 132;
const HEIGHT = 30;
/** Below that many events it stays near the ground: a few are no mountain. */
const LEAST = 10;

export class LagSpark extends HTMLElement {
  #svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "none" });

  connectedCallback() {
    if (!this.childElementCount) this.append(this.#svg);
  }

  /**
   * @param {LagHistory} history
   * @param {number} now
   */
  show(history, now) {
    const [from, to] = history.window(now);
    const most = Math.max(LEAST, ...history.samples.map((s) => s.lag));
    const floor = HEIGHT - 1;
    const x = (/** @type {number} */ t) => ((t - from) / (to - from)) * WIDTH;
    const y = (/** @type {number} */ lag) => floor - (lag / most) * (HEIGHT - 4);
    const parts = [draw("path", { class: "ground", d: `M0 ${floor}H${WIDTH}` })];
    for (const run of history.runs()) {
      const { line, area } = curve(run.map((s) => [x(s.at), y(s.lag)]), floor);
      parts.push(draw("path", { class: "area", d: area }), draw("path", { class: "line", d: line }));
    }
    this.#svg.replaceChildren(...parts);
  }
}
