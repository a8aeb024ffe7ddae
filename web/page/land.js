// @ts-check
/** What lies still under the trains: sea, land, tracks, stations and their names. All paths are in kilometres. */
import { Labels } from "./labels.js";
import { project } from "./projection.js";
import { Shore, boundsOf } from "./shore.js";

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {import("./timetable.js").Timetable} Timetable */
/** @typedef {{x: number, y: number, scale: number}} Camera the place in the middle, and pixels per kilometre */
/** @typedef {Record<string, string>} Palette */
/** @typedef {import("./labels.js").Place} Place */
/** @typedef {{norway: number[][], neighbours: number[][], lakes: number[][], borders: number[][]}} Shape the content of land.json */

/** A station of this many calls a day has its name in bold on the closer map. */
const BUSY = 330;

/** The towns that a map of the country names, under the names of the towns. */
const TOWNS = new Map([
  ["Oslo S", "Oslo"], ["Bergen", "Bergen"], ["Trondheim S", "Trondheim"], ["Stavanger", "Stavanger"], ["Bodø", "Bodø"],
  ["Kristiansand", "Kristiansand"], ["Lillehammer", "Lillehammer"], ["Åndalsnes", "Åndalsnes"], ["Mo i Rana", "Mo i Rana"],
  ["Göteborg", "Göteborg"], ["Dombås", "Dombås"], ["Steinkjer", "Steinkjer"], ["Røros", "Røros"], ["Voss", "Voss"], ["Geilo", "Geilo"],
  ["Mosjøen", "Mosjøen"], ["Hamar", "Hamar"], ["Skien", "Skien"], ["Grong", "Grong"], ["Kongsvinger", "Kongsvinger"],
]);

/** Names of waters and countries: where, between which scales, and how large.
 * @type {[name: string, latitude: number, longitude: number, from: number, to: number, size: number, kind: "water" | "country"][]} */
const AREAS = [
  ["Norwegian Sea", 65.9, 6.2, 0.3, 3, 15, "water"], ["North Sea", 58.5, 3.2, 0.3, 3, 15, "water"], ["Skagerrak", 57.5, 8.9, 0.5, 6, 13, "water"],
  ["Oslofjorden", 59.36, 10.6, 4, 60, 12, "water"], ["Mjøsa", 60.69, 11.05, 3, 60, 12, "water"], ["Tyrifjorden", 60.03, 10.16, 7, 60, 11, "water"],
  ["Trondheimsfjorden", 63.6, 10.55, 3, 60, 12, "water"], ["Boknafjorden", 59.18, 5.65, 3, 60, 12, "water"], ["Vestfjorden", 67.75, 13.9, 0.9, 20, 12, "water"],
  ["Øyeren", 59.82, 11.17, 9, 60, 11, "water"], ["Bunnefjorden", 59.79, 10.73, 20, 60, 11, "water"],
  ["Sweden", 63.45, 14.6, 0.3, 3, 15, "country"], ["Denmark", 56.3, 9.2, 0.3, 3, 13, "country"],
];

/** Where the map ends, and how far before that it begins to fade, in km. */
const EDGE = { left: -560, right: 860, top: -1060, bottom: 840 };
const FADE = 140;
/** On maps of a small scale, in pixels per kilometre, coasts have no corners nearer to each other than this, in km. */
const SMALL = 1.6;
const COARSE = 1.1;

export class Land {
  /**
   * @param {Timetable} timetable
   * @param {Shape} shape
   */
  constructor(timetable, shape) {
    // The coasts, twice: where a kilometre is a pixel or two, most corners would not be seen.
    this.close = shores(shape, 0);
    this.far = shores(shape, COARSE);
    this.borders = new Path2D();
    for (const line of shape.borders) this.borders.addPath(polyline(unfold(line)));
    const tracks = timetable.tracks.map(points);
    this.tracks = new Path2D();
    for (const track of tracks) this.tracks.addPath(polyline(track));
    this.graticule = graticule();
    this.labels = new Labels(tracks);
    /** @type {Place[]} */
    this.stations = timetable.stations
      .map((s) => ({ name: s.name, at: project(s.latitude, s.longitude), weight: s.trains, big: s.trains >= BUSY || TOWNS.has(s.name) }))
      .sort((a, b) => Number(TOWNS.has(b.name)) - Number(TOWNS.has(a.name)) || Number(b.big) - Number(a.big) || b.weight - a.weight);
    /** @type {Place[]} */
    this.towns = [...TOWNS].flatMap(([station, name], i) => {
      const s = timetable.byName.get(station);
      return s ? [{ name, at: project(s.latitude, s.longitude), big: i < 6 }] : [];
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
   */
  paint(ctx, camera, width, height, palette, kind) {
    const { scale } = camera;
    const px = 1 / scale;
    const lens = kind === "lens";
    const colour = (/** @type {string} */ name) => palette[name] ?? "#888";
    const { norway, neighbours, lakes } = scale < SMALL ? this.far : this.close;
    const [w, h] = [(width / 2 + 20) * px, (height / 2 + 20) * px];
    const view = { left: camera.x - w, right: camera.x + w, top: camera.y - h, bottom: camera.y + h };
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

    // Shallow water: the coast with a broad brush, the land over it.
    ctx.strokeStyle = colour("shallow");
    ctx.globalAlpha = 0.5;
    for (const shore of [neighbours, norway]) shore.stroke(ctx, view, ...(lens ? [22 * px, 10 * px] : [12 * px, 5 * px]));
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colour("coast");
    for (const [shore, ground] of /** @type {const} */ ([[neighbours, "neighbour"], [norway, "land"], [lakes, "lake"]])) {
      ctx.fillStyle = colour(ground);
      shore.fill(ctx, view);
      shore.stroke(ctx, view, px * (lens ? 1 : 0.7));
    }
    ctx.strokeStyle = colour("land");
    ctx.lineWidth = px * 2.5;
    ctx.stroke(this.borders);
    ctx.strokeStyle = colour("border");
    ctx.lineWidth = px;
    ctx.setLineDash([4 * px, 3 * px]);
    ctx.stroke(this.borders);
    ctx.setLineDash([]);
    this.#fade(ctx, colour("sea"));

    ctx.strokeStyle = colour("casing");
    ctx.lineWidth = (lens ? 5 : 3.2) * px;
    ctx.stroke(this.tracks);
    ctx.strokeStyle = colour("rail");
    ctx.lineWidth = (lens ? 2 : 1.3) * px;
    ctx.stroke(this.tracks);
    ctx.restore();

    if (lens) this.#dots(ctx, camera, width, height, palette);
    this.#areas(ctx, camera, width, height, palette);
    this.#names(ctx, camera, width, height, palette, kind);
  }

  /**
   * Towards its edges the map becomes sea.
   * @param {CanvasRenderingContext2D} ctx
   * @param {string} sea
   */
  #fade(ctx, sea) {
    const { left, right, top, bottom } = EDGE;
    const far = 4000;
    for (const [x0, y0, x1, y1] of /** @type {const} */ ([
      [left + FADE, 0, left, 0], [right - FADE, 0, right, 0], [0, top + FADE, 0, top], [0, bottom - FADE, 0, bottom],
    ])) {
      const gradient = ctx.createLinearGradient(x0, y0, x1, y1);
      gradient.addColorStop(0, `${sea}00`); // #rrggbb, and nothing of it
      gradient.addColorStop(1, sea);
      ctx.fillStyle = gradient;
      if (y0 === y1) ctx.fillRect(x1 > x0 ? x0 : x0 - far, -far, far, 2 * far);
      else ctx.fillRect(-far, y1 > y0 ? y0 : y0 - far, 2 * far, far);
    }
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
   * @param {CanvasRenderingContext2D} ctx
   * @param {Camera} camera
   * @param {number} width
   * @param {number} height
   * @param {Palette} palette
   */
  #areas(ctx, camera, width, height, palette) {
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    for (const [name, latitude, longitude, from, to, size, kind] of AREAS) {
      if (camera.scale < from || camera.scale > to) continue;
      const water = kind === "water";
      ctx.font = `${water ? "italic " : ""}450 ${size}px ${palette["font"]}`;
      ctx.letterSpacing = water ? "0.06em" : "0.18em";
      ctx.fillStyle = palette[water ? "water" : "stale"] ?? "#888";
      const text = water ? name : name.toUpperCase();
      const [x, y] = onScreen(project(latitude, longitude), camera, width, height);
      const half = ctx.measureText(text).width / 2;
      if (x > half && x < width - half) ctx.fillText(text, x, y);
    }
    ctx.letterSpacing = "0px";
    ctx.textAlign = "left";
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Camera} camera
   * @param {number} width
   * @param {number} height
   * @param {Palette} palette
   * @param {"country" | "lens"} kind
   */
  #names(ctx, camera, width, height, palette, kind) {
    const towns = kind === "country" || camera.scale < 2.4;
    const font = (/** @type {number} */ size, /** @type {number} */ weight) => `${weight} ${size}px ${palette["font"]}`;
    const labels = this.labels.lay(towns ? "towns" : "stations", towns ? this.towns : this.stations, camera.scale, (text, size, weight) => {
      ctx.font = font(size, weight);
      return ctx.measureText(text).width;
    });
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    ctx.lineWidth = 3;
    ctx.strokeStyle = palette["land"] ?? "#fff";
    for (const { place, dx, dy, size, weight } of labels) {
      const [x, y] = onScreen(place.at, camera, width, height);
      if (x < -200 || y < -40 || x > width + 200 || y > height + 40) continue;
      ctx.font = font(size, weight);
      ctx.globalAlpha = 0.85;
      ctx.strokeText(place.name, x + dx, y + dy);
      ctx.globalAlpha = 1;
      ctx.fillStyle = (place.big ? palette["name"] : palette["faint"]) ?? "#000";
      ctx.fillText(place.name, x + dx, y + dy);
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

/**
 * @param {number[]} flat latitude and longitude in turn
 * @returns {Point[]}
 */
function points(flat) {
  /** @type {Point[]} */
  const out = [];
  for (let i = 0; i + 1 < flat.length; i += 2) out.push(project(flat[i] ?? 0, flat[i + 1] ?? 0));
  return out;
}

/**
 * @param {number[]} steps from point to point, in 1/1000 degree of latitude and longitude
 * @returns {Point[]}
 */
function unfold(steps) {
  let [latitude, longitude] = [0, 0];
  return points(steps.map((step, i) => (i % 2 ? (longitude += step) : (latitude += step)) / 1000));
}

/**
 * @param {Shape} shape
 * @param {number} finest
 */
function shores(shape, finest) {
  const shore = (/** @type {number[][]} */ rings) => new Shore(rings.map(unfold), finest);
  return { norway: shore(shape.norway), neighbours: shore(shape.neighbours), lakes: shore(shape.lakes) };
}

/** @param {Point[]} line */
function polyline(line) {
  const path = new Path2D();
  line.forEach((p, i) => (i === 0 ? path.moveTo(...p) : path.lineTo(...p)));
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
