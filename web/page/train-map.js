// @ts-check
/**
 * <train-map kind="country"> shows the whole country, <train-map kind="lens"> a part of it that one can move and that
 * follows the chosen train.
 */
import { calm, make } from "./dom.js";
import { onScreen } from "./land.js";
import { Marks, placeOf } from "./marks.js";
import { project } from "./projection.js";
import { delayText } from "./words.js";

/** @typedef {import("./land.js").Land} Land */
/** @typedef {import("./land.js").Camera} Camera */
/** @typedef {import("./land.js").Palette} Palette */
/** @typedef {import("./fleet.js").Fleet} Fleet */
/** @typedef {import("./projection.js").Point} Point */

const COLOURS = [
  "sea", "shallow", "graticule", "land", "neighbour", "coast", "lake", "border", "water", "casing", "rail", "name", "faint", "halo", "accent", "font",
  "ontime", "slight", "late", "verylate", "stale",
];
const SMALLEST = 0.3;
const LARGEST = 60;
const REACH = 16;

export class TrainMap extends HTMLElement {
  /** @type {Land | undefined} */ land;
  /** @type {Fleet | undefined} */ fleet;
  /** @type {Palette} */ palette = {};
  /** @type {Camera} */ camera = { x: 0, y: 0, scale: 1 };
  /** @type {Camera | undefined} where the camera is flying to */
  #goal;
  /** the number of the chosen train, or "" */
  selected = "";
  following = false;
  /** somebody has moved the map */
  touched = false;
  /** @type {Point[]} where the chosen train was */
  trail = [];
  /** trains stand still: the connection is lost */
  frozen = false;
  /** pixels on the left that something covers: a followed train is kept in the middle of the rest */
  inset = 0;
  /** the same below */
  insetBelow = 0;
  /** @type {TrainMap | undefined} the other map, of which this one shows the frame */
  framed;
  #kind = /** @type {"country" | "lens"} */ ("lens");
  #canvas = document.createElement("canvas");
  #base = document.createElement("canvas");
  /** @type {Camera | undefined} for which the base is painted */ #baseCamera;
  #hovered = "";
  #width = 0;
  #height = 0;
  #painted = 0;
  /** @type {Map<number, Point>} */
  #pointers = new Map();
  #dragged = false;

  connectedCallback() {
    this.#kind = this.getAttribute("kind") === "country" ? "country" : "lens";
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "application");
    this.#canvas.setAttribute("aria-label", this.getAttribute("label") ?? "Map of trains");
    this.#canvas.setAttribute("aria-describedby", "map-keys");
    this.append(this.#canvas);
    new ResizeObserver(() => this.#resize()).observe(this);
    this.#canvas.addEventListener("pointerdown", (e) => this.#down(e));
    this.#canvas.addEventListener("pointermove", (e) => this.#move(e));
    this.#canvas.addEventListener("pointerup", (e) => this.#up(e));
    this.#canvas.addEventListener("pointercancel", (e) => this.#pointers.delete(e.pointerId));
    this.#canvas.addEventListener("pointerleave", () => this.#hover(""));
    this.#canvas.addEventListener("blur", () => this.#hover(""));
    this.#canvas.addEventListener("keydown", (e) => this.#key(e));
    if (this.#kind === "lens") this.#canvas.addEventListener("wheel", (e) => this.#wheel(e), { passive: false });
  }

  get kind() {
    return this.#kind;
  }

  /** How much more than what one sees is painted at once, in CSS pixels: a map that follows a train moves all the time. */
  get #margin() {
    return this.#kind === "lens" ? 120 : 0;
  }

  /** Reads the colours of the page's theme. */
  dress() {
    this.#baseCamera = undefined;
    const style = getComputedStyle(this);
    this.palette = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.palette["font"] = style.fontFamily;
    this.#painted = 0;
  }

  #resize() {
    this.#width = this.clientWidth;
    this.#height = this.clientHeight;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    for (const [canvas, margin] of /** @type {const} */ ([[this.#canvas, 0], [this.#base, this.#margin]])) {
      canvas.width = Math.round((this.#width + 2 * margin) * ratio);
      canvas.height = Math.round((this.#height + 2 * margin) * ratio);
    }
    this.#baseCamera = undefined;
    if (this.#kind === "country") this.fit();
    this.#painted = performance.now();
    // The new size has emptied the canvas, and it would be seen so: this frame's turn to paint is over.
    if (this.land && this.#width) this.#paint(this.#painted);
  }

  /**
   * Shows the whole country.
   * @param {boolean} [fly]
   */
  fit(fly = false) {
    if (!this.land || !this.#width) return;
    this.following = false;
    this.#hover("");
    const { left, right, top, bottom } = this.land.bounds;
    const scale = Math.min((this.#width - 56) / (right - left), (this.#height - 64) / (bottom - top));
    // A little to the right: the names of the west coast's towns stand in the sea.
    this.#go({ x: (left + right) / 2 - 20 / scale, y: (top + bottom) / 2, scale: Math.max(scale, 0.05) }, fly);
  }

  /**
   * Those of the trains that are within the view.
   * @param {import("./fleet.js").Train[]} trains
   */
  inView(trains) {
    return trains.filter((t) => {
      const [x, y] = this.#screen(t.shown);
      return x > 0 && y > 0 && x < this.#width && y < this.#height;
    });
  }

  /**
   * @param {number} latitude
   * @param {number} longitude
   * @param {number} km that are to be seen across
   * @param {boolean} [fly]
   */
  show(latitude, longitude, km, fly = true) {
    this.#hover("");
    const [x, y] = project(latitude, longitude);
    this.#go({ x, y, scale: Math.min(this.#width || 600, (this.#height || 500) * 1.25) / km }, fly);
  }

  /**
   * @param {Camera} goal
   * @param {boolean} fly
   */
  #go(goal, fly) {
    if (fly) this.touched = true;
    if (fly && !calm()) this.#goal = goal;
    else [this.camera, this.#goal] = [goal, undefined];
  }

  /** @param {Point} at */
  centre(at) {
    this.following = false;
    this.#hover("");
    this.#go({ x: at[0], y: at[1], scale: this.camera.scale }, true);
  }

  /** @param {number} factor */
  zoom(factor) {
    const { x, y, scale } = this.#goal ?? this.camera;
    this.#go({ x, y, scale: Math.min(Math.max(scale * factor, SMALLEST), LARGEST) }, true);
  }

  follow() {
    this.following = true;
    const scale = Math.max((this.#goal ?? this.camera).scale, 7);
    this.#hover("");
    const train = this.fleet?.trains.get(this.selected);
    if (train) this.#go(this.#around(train, scale), true);
  }

  /**
   * The train in the middle of what is not covered.
   * @param {import("./fleet.js").Train} train
   * @param {number} scale
   * @returns {Camera}
   */
  #around(train, scale) {
    return { x: train.shown[0] - this.inset / 2 / scale, y: train.shown[1] + this.insetBelow / 2 / scale, scale };
  }

  /**
   * @param {number} now of the page, milliseconds
   * @param {number} passed milliseconds since the last frame
   */
  frame(now, passed) {
    if (!this.land || !this.fleet || !this.#width) return;
    this.#fly(passed);
    // On the map of the country a train moves a pixel in a minute: eight frames a second are smooth.
    if (this.#kind === "country" && now - this.#painted < 125) return;
    this.#painted = now;
    this.#paint(now);
  }

  /** @param {number} passed */
  #fly(passed) {
    const train = this.following ? this.fleet?.trains.get(this.selected) : undefined;
    if (train && !Number.isNaN(train.shown[0])) {
      this.#goal = this.#around(train, this.#goal?.scale ?? this.camera.scale);
    }
    if (!this.#goal) return;
    const f = calm() ? 1 : 1 - Math.exp(-passed / 260);
    const { camera } = this;
    camera.x += (this.#goal.x - camera.x) * f;
    camera.y += (this.#goal.y - camera.y) * f;
    camera.scale *= (this.#goal.scale / camera.scale) ** f;
    const near = Math.hypot(this.#goal.x - camera.x, this.#goal.y - camera.y) * camera.scale < 0.05;
    if (near && Math.abs(Math.log(this.#goal.scale / camera.scale)) < 0.002 && !this.following) this.#goal = undefined;
  }

  /** @param {number} now */
  #paint(now) {
    const { camera, land } = this;
    const ctx = this.#canvas.getContext("2d");
    const base = this.#base.getContext("2d");
    if (!ctx || !base || !land) return;
    const ratio = this.#canvas.width / this.#width;
    const margin = this.#margin;
    let before = this.#baseCamera;
    const away = before ? Math.max(Math.abs(before.x - camera.x), Math.abs(before.y - camera.y)) * camera.scale : Infinity;
    if (!before || before.scale !== camera.scale || away > margin) {
      this.#baseCamera = before = { ...camera };
      base.setTransform(ratio, 0, 0, ratio, 0, 0);
      land.paint(base, camera, this.#width + 2 * margin, this.#height + 2 * margin, this.palette, this.#kind);
    }
    // Whole pixels: between them the map would be blurred.
    const shift = (/** @type {number} */ km) => Math.round((km * camera.scale - margin) * ratio);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(this.#base, shift(before.x - camera.x), shift(before.y - camera.y));
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.framed) this.#frameOf(ctx, this.framed);
    this.#trains(ctx, now);
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {TrainMap} other
   */
  #frameOf(ctx, other) {
    const k = this.camera.scale / other.camera.scale;
    const [x, y] = this.#screen([other.camera.x, other.camera.y]);
    const w = other.#width * k;
    const h = other.#height * k;
    ctx.strokeStyle = this.palette["accent"] ?? "#000";
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.roundRect(x - w / 2, y - h / 2, w, h, 3);
    ctx.stroke();
    ctx.globalAlpha = 0.06;
    ctx.fillStyle = this.palette["accent"] ?? "#000";
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} now
   */
  #trains(ctx, now) {
    // The later a train is, the higher it lies; those that one looks at lie above all.
    const trains = [...(this.fleet?.trains.values() ?? [])].filter((t) => !Number.isNaN(t.shown[0])).sort((a, b) => a.delay - b.delay);
    const chosen = trains.find((t) => t.number === this.selected);
    const hovered = trains.find((t) => t.number === this.#hovered && t !== chosen);
    const rest = trains.filter((t) => t !== chosen && t !== hovered);
    const marks = this.#marks(ctx);
    for (const train of rest) marks.wake(train);
    if (chosen) marks.trail(chosen, this.trail);
    for (const train of rest) marks.train(train, false);
    if (hovered) marks.train(hovered, false);
    if (chosen) {
      marks.ring(chosen, now);
      marks.train(chosen, true);
      // On a narrow map the tag would hide where the train goes; the card says the same.
      if (this.#kind === "lens" && this.#width > 500) marks.tag(chosen, true);
    }
    if (hovered) marks.tag(hovered, false);
  }

  /** @param {CanvasRenderingContext2D} ctx */
  #marks(ctx) {
    const { camera, palette, frozen } = this;
    return new Marks(ctx, { kind: this.#kind, camera, width: this.#width, height: this.#height, palette, frozen });
  }

  /** @param {Point} at */
  #screen(at) {
    return onScreen(at, this.camera, this.#width, this.#height);
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {Point}
   */
  #ground(x, y) {
    return [(x - this.#width / 2) / this.camera.scale + this.camera.x, (y - this.#height / 2) / this.camera.scale + this.camera.y];
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  #trainAt(x, y) {
    let best = "";
    let least = this.#kind === "country" ? 9 : REACH;
    const view = { kind: this.#kind, camera: this.camera, width: this.#width, height: this.#height };
    for (const train of this.fleet?.trains.values() ?? []) {
      const [tx, ty] = placeOf(train, view);
      const d = Math.hypot(tx - x, ty - y);
      if (d < least) [least, best] = [d, train.number];
    }
    return best;
  }

  /** @param {string} number */
  #hover(number) {
    if (this.#hovered === number) return;
    this.#hovered = number;
    this.#painted = 0;
    this.classList.toggle("over-train", number !== "");
  }

  /** @param {string} number */
  #choose(number) {
    this.dispatchEvent(new CustomEvent("choose", { detail: number, bubbles: true }));
  }

  /** @param {PointerEvent} e */
  #down(e) {
    this.#pointers.set(e.pointerId, [e.offsetX, e.offsetY]);
    this.#canvas.setPointerCapture(e.pointerId);
    this.#dragged = this.#pointers.size > 1;
  }

  /** @param {PointerEvent} e */
  #move(e) {
    const before = this.#pointers.get(e.pointerId);
    if (!before) {
      this.#hover(this.#trainAt(e.offsetX, e.offsetY));
      return;
    }
    const now = /** @type {Point} */ ([e.offsetX, e.offsetY]);
    if (this.#kind === "country") {
      if (Math.hypot(now[0] - before[0], now[1] - before[1]) > 4) this.#dragged = true;
      if (this.#dragged) this.framed?.centre(this.#ground(...now));
      return;
    }
    if (!this.#dragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;
    this.#dragged = true;
    const others = [...this.#pointers].filter(([id]) => id !== e.pointerId).map(([, p]) => p);
    this.#pointers.set(e.pointerId, now);
    this.#letGo();
    const other = others[0];
    if (other) {
      const factor = Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(Math.hypot(before[0] - other[0], before[1] - other[1]), 1);
      this.#zoomAt(other, factor);
    } else {
      this.camera.x -= (now[0] - before[0]) / this.camera.scale;
      this.camera.y -= (now[1] - before[1]) / this.camera.scale;
    }
  }

  #letGo() {
    this.#goal = undefined;
    this.touched = true;
    if (!this.following) return;
    this.following = false;
    this.dispatchEvent(new CustomEvent("letgo", { bubbles: true }));
  }

  /** @param {PointerEvent} e */
  #up(e) {
    if (!this.#pointers.delete(e.pointerId) || this.#dragged) return;
    const number = this.#trainAt(e.offsetX, e.offsetY);
    if (number) this.#choose(number);
    else if (this.#kind === "country") this.framed?.centre(this.#ground(e.offsetX, e.offsetY));
  }

  /** @param {WheelEvent} e */
  #wheel(e) {
    e.preventDefault();
    this.#goal = undefined;
    this.touched = true;
    const factor = Math.exp(-e.deltaY * (e.deltaMode === 1 ? 0.05 : 0.0016));
    this.#zoomAt(this.following ? [this.#width / 2, this.#height / 2] : [e.offsetX, e.offsetY], factor);
  }

  /**
   * @param {Point} point on the screen, which stays where it is
   * @param {number} factor
   */
  #zoomAt(point, factor) {
    const before = this.#ground(...point);
    this.camera.scale = Math.min(Math.max(this.camera.scale * factor, SMALLEST), LARGEST);
    const after = this.#ground(...point);
    this.camera.x += before[0] - after[0];
    this.camera.y += before[1] - after[1];
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    /** @type {Record<string, Point>} */
    const ways = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    const way = ways[e.key];
    if (way && !e.altKey && !e.ctrlKey && !e.metaKey) this.#step(way, e.shiftKey);
    else if (e.key === "Enter" || e.key === " ") this.#choose(this.#hovered);
    else if (e.key === "Escape") {
      this.#hover("");
      this.#choose("");
    } else if (e.key === "+" || e.key === "=") (this.#kind === "lens" ? this : this.framed)?.zoom(1.5);
    else if (e.key === "-") (this.#kind === "lens" ? this : this.framed)?.zoom(1 / 1.5);
    else return;
    e.preventDefault();
  }

  /**
   * To the nearest train in that direction, or with Shift the map itself.
   * @param {Point} way
   * @param {boolean} pan
   */
  #step(way, pan) {
    if (pan && this.#kind === "lens") {
      const { x, y, scale } = this.#goal ?? this.camera;
      this.#letGo();
      this.#go({ x: x + (way[0] * 120) / scale, y: y + (way[1] * 120) / scale, scale }, true);
      return;
    }
    const from = this.fleet?.trains.get(this.#hovered) ?? this.fleet?.trains.get(this.selected);
    const [x, y] = from ? this.#screen(from.shown) : [this.#width / 2, this.#height / 2];
    const others = [...(this.fleet?.trains.values() ?? [])]
      .filter((t) => t !== from && !Number.isNaN(t.shown[0]))
      .map((train) => {
        const [tx, ty] = this.#screen(train.shown);
        return { train, along: (tx - x) * way[0] + (ty - y) * way[1], aside: Math.abs((tx - x) * way[1] - (ty - y) * way[0]) };
      })
      .sort((a, b) => a.along + a.aside * 2 - b.along - b.aside * 2);
    const seen = new Set(this.inView(others.map((o) => o.train)));
    let train = others.find((o) => o.along > 0.5 && seen.has(o.train))?.train;
    if (!train && !from) {
      // With none in that direction, the first step goes to the nearest of all: else the keys would find nothing.
      const byDistance = others.toSorted((a, b) => Math.hypot(a.along, a.aside) - Math.hypot(b.along, b.aside)).map((o) => o.train);
      train = byDistance.find((t) => seen.has(t)) ?? byDistance[0];
      if (train && !seen.has(train) && this.#kind === "lens") this.centre(train.shown);
    }
    if (train) this.#hover(train.number);
    if (train) this.dispatchEvent(new CustomEvent("say", { detail: `${train.line} to ${train.to}, ${delayText(train.delay)}`, bubbles: true }));
  }
}

/**
 * The buttons beside a lens.
 * @param {TrainMap} map
 */
export function controls(map) {
  const button = (/** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ act) => {
    const b = make("button", { type: "button", "aria-label": label, title: label }, text);
    b.addEventListener("click", act);
    return b;
  };
  return make("div", { class: "zoom" }, button("+", "Zoom in", () => map.zoom(1.6)), button("−", "Zoom out", () => map.zoom(1 / 1.6)));
}
