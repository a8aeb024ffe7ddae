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
    ctx.moveTo(...this.#screen(train.shown));
    for (const at of past.toReversed()) ctx.lineTo(...this.#screen(at));
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  /**
   * @param {Train} train
   * @param {boolean} chosen
   */
  train(train, chosen) {
    const { ctx } = this;
    const [x, y] = this.#screen(train.shown);
    if (x < -20 || y < -20 || x > this.view.width + 20 || y > this.view.height + 20) return;
    const { scale } = this.view.camera;
    ctx.globalAlpha = 0.35 + 0.65 * train.freshness;
    ctx.fillStyle = this.#colour(train);
    ctx.strokeStyle = this.view.palette["halo"] ?? "#fff";
    ctx.lineWidth = 1.5;
    if (this.view.kind === "country") {
      const r = this.view.width < 200 ? 1.7 : chosen ? 4.5 : 3;
      ctx.beginPath();
      ctx.arc(x, y, r, 0, 2 * Math.PI);
      if (this.view.width >= 200) ctx.stroke();
      ctx.fill();
    } else {
      const size = Math.min(Math.max(5 + scale * 0.22, 5.5), 9) * (chosen ? 1.25 : 1);
      ctx.save();
      ctx.translate(x, y);
      ctx.rotate(train.bearing);
      arrow(ctx, size);
      ctx.stroke();
      ctx.fill();
      ctx.restore();
      if (scale > 11 && !chosen) this.#lineName(train, x, y - size - 7);
    }
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
    const [x, y] = this.#screen(train.shown);
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
    const [x, y] = this.#screen(train.shown);
    const first = `${train.line} ${train.to}`;
    const second = `train ${train.number} · ${delayText(train.delay)}`;
    ctx.font = `600 13px ${this.view.palette["font"]}`;
    const w1 = ctx.measureText(first).width;
    ctx.font = `450 12px ${this.view.palette["font"]}`;
    const w = Math.max(w1, ctx.measureText(second).width) + 20;
    const h = 42;
    // Beside the train, or on a narrow map below it: there the small map covers a corner.
    const narrow = this.view.width < 500 && this.view.kind === "lens";
    const left = Math.min(Math.max(narrow ? x - w / 2 : x + 16, 4), this.view.width - w - 4);
    const top = Math.min(Math.max(narrow ? y + 20 : y - h - 12, 4), this.view.height - h - 4);
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

  /** @param {Point} at */
  #screen(at) {
    return onScreen(at, this.view.camera, this.view.width, this.view.height);
  }
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
