// @ts-check
/** How trains are drawn on a map. */
import { calm } from "./dom.js";
import { onScreen } from "./land.js";
import { delayText, grade } from "./words.js";

/** @typedef {import("./fleet.js").Train} Train */
/** @typedef {import("./projection.js").Point} Point */

/**
 * @typedef {object} View
 * @property {"country" | "lens"} kind
 * @property {import("./land.js").Camera} camera
 * @property {number} width in CSS pixels
 * @property {number} height
 * @property {import("./land.js").Palette} palette
 * @property {boolean} frozen the connection is lost
 */

export class Marks {
  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {View} view
   */
  constructor(ctx, view) {
    this.ctx = ctx;
    this.view = view;
  }

  /**
   * What a train draws behind it: the way of its last minutes, of fewer the closer the map is.
   * @param {Train} train
   */
  wake(train) {
    const close = this.view.camera.scale > 3;
    const { ctx } = this;
    const here = placeOf(train, this.view);
    if (!this.#visible(here, 60)) return;
    const past = train.wake(train.drawn, train.drawn - Math.min(Math.max(34 / this.view.camera.scale, 0.5), 4) * 60_000).map((at) => this.#beside(at, train));
    if (!close && past.length < 48) {
      // Of what it did before this page was opened only the direction is known.
      const [x, y] = past.at(-1) ?? here;
      const far = train.at ? 0 : ((train.speed / 3600) * 5 * (48 - past.length)) * this.view.camera.scale;
      past.push([x - Math.sin(train.bearing) * far, y + Math.cos(train.bearing) * far]);
    }
    ctx.strokeStyle = this.#colour(train);
    ctx.lineCap = "butt";
    ctx.lineJoin = "round";
    ctx.lineWidth = close ? 3 : 2;
    let from = here;
    past.forEach((at, i) => {
      ctx.globalAlpha = 0.5 * train.freshness * (1 - i / past.length);
      ctx.beginPath();
      ctx.moveTo(...from);
      ctx.lineTo(...at);
      ctx.stroke();
      from = at;
    });
    ctx.globalAlpha = 1;
  }

  /**
   * @param {Train} train
   * @param {Point[]} past where it was
   */
  trail(train, past) {
    if (past.length === 0) return;
    const { ctx } = this;
    ctx.strokeStyle = this.#colour(train);
    ctx.lineWidth = this.view.kind === "lens" ? 4 : 2;
    ctx.lineJoin = ctx.lineCap = "round";
    ctx.globalAlpha = 0.45;
    ctx.beginPath();
    ctx.moveTo(...placeOf(train, this.view));
    for (const at of past.toReversed()) ctx.lineTo(...this.#beside(at, train));
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  /**
   * @param {Train} train
   * @param {boolean} chosen
   */
  train(train, chosen) {
    const { ctx } = this;
    const at = placeOf(train, this.view);
    if (!this.#visible(at, 20)) return;
    const { scale } = this.view.camera;
    ctx.globalAlpha = 0.35 + 0.65 * train.freshness;
    ctx.fillStyle = this.#colour(train);
    ctx.strokeStyle = this.view.palette["halo"] ?? "#fff";
    ctx.lineWidth = 1.5;
    const size = (this.view.kind === "country" ? 5 : Math.min(Math.max(5 + scale * 0.22, 5.5), 9)) * (chosen ? 1.3 : 1);
    ctx.save();
    ctx.translate(...at);
    ctx.rotate(train.bearing);
    arrow(ctx, size);
    ctx.stroke();
    ctx.fill();
    ctx.restore();
    if (scale > 11 && !chosen && this.view.kind === "lens") this.#lineName(train, at[0], at[1] - size - 7);
    ctx.globalAlpha = 1;
  }

  /**
   * @param {Train} train
   * @param {number} x
   * @param {number} y
   */
  #lineName(train, x, y) {
    const { ctx } = this;
    ctx.font = `600 10px ${this.view.palette["font"]}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineWidth = 3;
    ctx.strokeText(train.line, x, y);
    ctx.fillText(train.line, x, y);
    ctx.textAlign = "left";
  }

  /**
   * @param {Train} train
   * @param {number} now
   */
  ring(train, now) {
    const { ctx } = this;
    const [x, y] = placeOf(train, this.view);
    const beat = calm() || this.view.frozen ? 0.4 : (now % 1800) / 1800;
    const small = this.view.kind === "country";
    ctx.strokeStyle = this.#colour(train);
    ctx.lineWidth = 2;
    ctx.globalAlpha = 1 - beat;
    ctx.beginPath();
    ctx.arc(x, y, (small ? 6 : 13) + beat * (small ? 8 : 14), 0, 2 * Math.PI);
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  /**
   * @param {Train} train
   * @param {boolean} chosen
   */
  tag(train, chosen) {
    const { ctx } = this;
    const [x, y] = placeOf(train, this.view);
    if (!this.#visible([x, y], 0)) return;
    const first = `${train.line} ${train.to}`;
    const second = `train ${train.number} · ${delayText(train.delay)}`;
    ctx.font = `600 13px ${this.view.palette["font"]}`;
    const w1 = ctx.measureText(first).width;
    ctx.font = `450 12px ${this.view.palette["font"]}`;
    const w = Math.max(w1, ctx.measureText(second).width) + 20;
    const h = 42;
    const left = Math.min(Math.max(x + 16, 4), this.view.width - w - 4);
    const top = Math.min(Math.max(y - h - 12, 4), this.view.height - h - 4);
    ctx.fillStyle = this.view.palette["land"] ?? "#fff";
    ctx.strokeStyle = chosen ? this.#colour(train) : (this.view.palette["coast"] ?? "#888");
    ctx.lineWidth = chosen ? 2 : 1;
    ctx.beginPath();
    ctx.roundRect(left, top, w, h, 7);
    ctx.globalAlpha = 0.95;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.stroke();
    ctx.textBaseline = "middle";
    ctx.fillStyle = this.view.palette["name"] ?? "#000";
    ctx.font = `600 13px ${this.view.palette["font"]}`;
    ctx.fillText(first, left + 10, top + 14);
    ctx.fillStyle = this.view.palette["faint"] ?? "#000";
    ctx.font = `450 12px ${this.view.palette["font"]}`;
    ctx.fillText(second, left + 10, top + 30);
  }

  /** @param {Train} train */
  #colour(train) {
    return this.view.palette[this.view.frozen ? "stale" : grade(train.delay)] || "#000";
  }

  /**
   * A place on the screen, as far beside the track as the train is.
   * @param {Point} at
   * @param {Train} train
   * @returns {Point}
   */
  #beside(at, train) {
    const [x, y] = onScreen(at, this.view.camera, this.view.width, this.view.height);
    const [dx, dy] = lane(train, this.view);
    return [x + dx, y + dy];
  }

  /**
   * @param {Point} at on the screen
   * @param {number} margin
   */
  #visible([x, y], margin) {
    return x > -margin && y > -margin && x < this.view.width + margin && y < this.view.height + margin;
  }
}

/** @typedef {Pick<View, "kind" | "camera" | "width" | "height">} Frame */

/**
 * Where a train is drawn on the screen.
 * @param {Train} train
 * @param {Frame} view
 * @returns {Point}
 */
export function placeOf(train, view) {
  const [x, y] = onScreen(train.shown, view.camera, view.width, view.height);
  const [dx, dy] = lane(train, view);
  return [x + dx, y + dy];
}

/**
 * How far from the middle of the line a train is drawn: on its right-hand track, so that those that meet are two.
 * @param {Train} train
 * @param {Frame} view
 * @returns {Point}
 */
function lane(train, view) {
  if (view.kind === "country") return [0, 0];
  const { scale } = view.camera;
  const d = Math.min(Math.max(scale * 0.36, 1), 4.6) + train.aside * Math.min(scale * 0.8, 9);
  return [Math.cos(train.bearing) * d, Math.sin(train.bearing) * d];
}

/**
 * A train seen from above, its head upwards.
 * @param {CanvasRenderingContext2D} ctx
 * @param {number} size
 */
function arrow(ctx, size) {
  const w = size * 0.62;
  ctx.beginPath();
  ctx.moveTo(0, -size * 1.15);
  ctx.quadraticCurveTo(w * 1.05, -size * 0.45, w, size * 0.1);
  ctx.lineTo(w, size * 0.7);
  ctx.quadraticCurveTo(w, size, w * 0.5, size);
  ctx.lineTo(-w * 0.5, size);
  ctx.quadraticCurveTo(-w, size, -w, size * 0.7);
  ctx.lineTo(-w, size * 0.1);
  ctx.quadraticCurveTo(-w * 1.05, -size * 0.45, 0, -size * 1.15);
  ctx.closePath();
}
