// @ts-check
/**
 * A transverse Mercator projection on the sphere, in kilometres: conformal, with the shape of Norway that its own maps
 * have. x grows to the east, y to the south, as on a canvas.
 */

const RADIUS = 6371;
const RAD = Math.PI / 180;
const MERIDIAN = 11.5 * RAD;
const PARALLEL = 62.5 * RAD;

/** @typedef {[x: number, y: number]} Point */

/**
 * @param {number} latitude in degrees
 * @param {number} longitude in degrees
 * @returns {Point}
 */
export function project(latitude, longitude) {
  const phi = latitude * RAD;
  const lambda = longitude * RAD - MERIDIAN;
  const b = Math.cos(phi) * Math.sin(lambda);
  return [RADIUS * Math.atanh(b), RADIUS * (PARALLEL - Math.atan2(Math.tan(phi), Math.cos(lambda)))];
}
