// @ts-check
/** What lies still under the trains: sea, land, tracks, stations and their names. All paths are in kilometres. */
import { DENMARK, LAKES, NORWAY, SWEDEN } from "./coast.js";
import { project } from "./projection.js";

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {import("./timetable.js").Timetable} Timetable */
/** @typedef {{x: number, y: number, scale: number}} Camera the place in the middle, and pixels per kilometre */
/** @typedef {Record<string, string>} Palette */
/** @typedef {"right" | "left" | "above" | "below"} Side */
/** @typedef {{name: string, at: Point, weight: number, big: boolean, sides: Side[]}} Place */

/** @type {Side[]} */
const SIDES = ["right", "left", "above", "below"];
/** Names that lie better over the sea.
 * @type {Map<string, Side>} */
const AT_SEA = new Map([["Bodø", "left"], ["Trondheim", "left"], ["Bergen", "above"], ["Mo i Rana", "left"], ["Steinkjer", "right"]]);
/** A station of this many calls a day has its name in bold on the closer map. */
const BUSY = 330;

/** The towns that a map of the country names, under the names of the towns. */
const TOWNS = new Map([
  ["Oslo S", "Oslo"], ["Bergen", "Bergen"], ["Trondheim S", "Trondheim"], ["Stavanger", "Stavanger"], ["Bodø", "Bodø"],
  ["Kristiansand", "Kristiansand"], ["Lillehammer", "Lillehammer"], ["Åndalsnes", "Åndalsnes"], ["Mo i Rana", "Mo i Rana"],
  ["Göteborg", "Göteborg"], ["Dombås", "Dombås"], ["Steinkjer", "Steinkjer"], ["Røros", "Røros"], ["Voss", "Voss"], ["Geilo", "Geilo"],
  ["Mosjøen", "Mosjøen"], ["Hamar", "Hamar"], ["Skien", "Skien"], ["Grong", "Grong"], ["Kongsvinger", "Kongsvinger"],
]);

export class Land {
  /** @param {Timetable} timetable */
  constructor(timetable) {
    this.norway = outline(NORWAY);
    this.neighbours = new Path2D();
    for (const land of [SWEDEN, DENMARK]) this.neighbours.addPath(outline(land));
    this.lakes = new Path2D();
    for (const lake of LAKES) this.lakes.addPath(outline(lake));
    this.tracks = new Path2D();
    for (const track of timetable.tracks) this.tracks.addPath(polyline(track));
    this.graticule = graticule();
    /** @type {Place[]} */
    this.stations = timetable.stations
      .map((s) => ({ name: s.name, at: project(s.latitude, s.longitude), weight: s.trains, big: s.trains >= BUSY || TOWNS.has(s.name), sides: SIDES }))
      .sort((a, b) => Number(b.big) - Number(a.big) || b.weight - a.weight);
    /** @type {Place[]} */
    this.towns = [...TOWNS].flatMap(([station, name], i) => {
      const s = timetable.byName.get(station);
      const first = AT_SEA.get(name);
      return s ? [{ name, at: project(s.latitude, s.longitude), weight: -i, big: i < 6, sides: first ? [first, ...SIDES] : SIDES }] : [];
    });
    this.bounds = boundsOf(this.stations.map((s) => s.at));
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Camera} camera
   * @param {number} width in CSS pixels
   * @param {number} height
   * @param {Palette} palette
   * @param {"country" | "lens"} kind
   * @param {boolean} named
   */
  paint(ctx, camera, width, height, palette, kind, named) {
    const { scale } = camera;
    const px = 1 / scale;
    const colour = (/** @type {string} */ name) => palette[name] ?? "#888";
    ctx.save();
    ctx.fillStyle = colour("sea");
    ctx.fillRect(0, 0, width, height);
    ctx.translate(width / 2, height / 2);
    ctx.scale(scale, scale);
    ctx.translate(-camera.x, -camera.y);
    ctx.lineJoin = ctx.lineCap = "round";

    ctx.strokeStyle = colour("graticule");
    ctx.lineWidth = px;
    ctx.stroke(this.graticule);

    // Shallow water: lines along the coast that fade out to sea.
    for (const [i, w] of [26, 16, 8].entries()) {
      ctx.strokeStyle = colour("shallow");
      ctx.globalAlpha = 0.35 + i * 0.2;
      ctx.lineWidth = w * px * (kind === "lens" ? 1.4 : 0.8);
      ctx.stroke(this.neighbours);
      ctx.stroke(this.norway);
    }
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour("neighbour");
    ctx.fill(this.neighbours);
    ctx.fillStyle = colour("land");
    ctx.fill(this.norway);
    ctx.strokeStyle = colour("coast");
    ctx.lineWidth = px;
    ctx.stroke(this.norway);
    ctx.fillStyle = colour("sea");
    ctx.fill(this.lakes);
    ctx.stroke(this.lakes);

    ctx.strokeStyle = colour("casing");
    ctx.lineWidth = (kind === "lens" ? 5 : 3.2) * px;
    ctx.stroke(this.tracks);
    ctx.strokeStyle = colour("rail");
    ctx.lineWidth = (kind === "lens" ? 2 : 1.3) * px;
    ctx.stroke(this.tracks);
    ctx.restore();

    if (kind === "lens") this.#dots(ctx, camera, width, height, palette);
    if (named) this.#names(ctx, camera, width, height, palette, kind);
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Camera} camera
   * @param {number} width
   * @param {number} height
   * @param {Palette} palette
   */
  #dots(ctx, camera, width, height, palette) {
    const r = camera.scale > 12 ? 3.4 : camera.scale > 5 ? 2.4 : 1.6;
    ctx.fillStyle = palette["land"] ?? "#fff";
    ctx.strokeStyle = palette["rail"] ?? "#000";
    ctx.lineWidth = 1.4;
    ctx.beginPath();
    for (const { at } of this.stations) {
      const [x, y] = onScreen(at, camera, width, height);
      if (x < -5 || y < -5 || x > width + 5 || y > height + 5) continue;
      ctx.moveTo(x + r, y);
      ctx.arc(x, y, r, 0, 2 * Math.PI);
    }
    ctx.fill();
    ctx.stroke();
  }

  /**
   * The most important names first; one that would touch another is left out.
   * @param {CanvasRenderingContext2D} ctx
   * @param {Camera} camera
   * @param {number} width
   * @param {number} height
   * @param {Palette} palette
   * @param {"country" | "lens"} kind
   */
  #names(ctx, camera, width, height, palette, kind) {
    const places = kind === "country" || camera.scale < 2.4 ? this.towns : this.stations;
    /** @type {[number, number, number, number][]} */
    const taken = [];
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    for (const place of places) {
      const [x, y] = onScreen(place.at, camera, width, height);
      if (x < 0 || y < 0 || x > width || y > height) continue;
      const { big } = place;
      const size = big ? 13 : kind === "country" ? 11 : 11.5;
      ctx.font = `${big ? 600 : 450} ${size}px ${palette["font"]}`;
      const w = ctx.measureText(place.name).width;
      const gap = kind === "lens" ? 8 : 9;
      /** @type {Record<Side, Point>} */
      const offsets = { right: [gap, 0], left: [-gap - w, 0], above: [-w / 2, -size - 1], below: [-w / 2, size + 1] };
      for (const side of place.sides) {
        const [dx, dy] = offsets[side];
        const box = /** @type {[number, number, number, number]} */ ([x + dx - 3, y + dy - size / 2 - 2, x + dx + w + 3, y + dy + size / 2 + 2]);
        if (box[0] < -2 || box[2] > width + 2 || taken.some((t) => t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1])) continue;
        taken.push(box);
        ctx.strokeStyle = palette["land"] ?? "#fff";
        ctx.globalAlpha = 0.85;
        ctx.lineWidth = 3;
        ctx.strokeText(place.name, x + dx, y + dy);
        ctx.globalAlpha = 1;
        ctx.fillStyle = (big ? palette["name"] : palette["faint"]) ?? "#000";
        ctx.fillText(place.name, x + dx, y + dy);
        break;
      }
    }
  }
}

/**
 * @param {Point} at
 * @param {Camera} camera
 * @param {number} width
 * @param {number} height
 * @returns {Point}
 */
export function onScreen(at, camera, width, height) {
  return [(at[0] - camera.x) * camera.scale + width / 2, (at[1] - camera.y) * camera.scale + height / 2];
}

/** @param {Point[]} points */
function boundsOf(points) {
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

/** @param {number[]} flat */
function points(flat) {
  /** @type {Point[]} */
  const out = [];
  for (let i = 0; i + 1 < flat.length; i += 2) out.push(project(flat[i] ?? 0, flat[i + 1] ?? 0));
  return out;
}

/**
 * A closed line, rounded at its corners.
 * @param {number[]} flat
 */
function outline(flat) {
  const path = new Path2D();
  const corners = points(flat);
  corners.forEach((corner, i) => {
    const before = corners.at(i - 1) ?? corner;
    const after = corners[(i + 1) % corners.length] ?? corner;
    const from = /** @type {Point} */ ([before[0] + (corner[0] - before[0]) * 0.7, before[1] + (corner[1] - before[1]) * 0.7]);
    const to = /** @type {Point} */ ([corner[0] + (after[0] - corner[0]) * 0.3, corner[1] + (after[1] - corner[1]) * 0.3]);
    if (i === 0) path.moveTo(...from);
    else path.lineTo(...from);
    path.quadraticCurveTo(...corner, ...to);
  });
  path.closePath();
  return path;
}

/** @param {number[]} flat */
function polyline(flat) {
  const path = new Path2D();
  points(flat).forEach((p, i) => (i === 0 ? path.moveTo(...p) : path.lineTo(...p)));
  return path;
}

function graticule() {
  const path = new Path2D();
  for (let latitude = 55; latitude <= 71; latitude++) {
    for (let longitude = -4; longitude <= 28; longitude++) {
      const at = project(latitude, longitude);
      if (longitude === -4) path.moveTo(...at);
      else path.lineTo(...at);
    }
  }
  for (let longitude = -4; longitude <= 28; longitude += 2) {
    path.moveTo(...project(55, longitude));
    for (let latitude = 56; latitude <= 71; latitude++) path.lineTo(...project(latitude, longitude));
  }
  return path;
}
