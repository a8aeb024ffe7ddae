// @ts-check
/**
 * What the control centre tells, read from events. Anybody may publish to a stream: what is no news of the centre, or not
 * whole, is not read, so that the rest of the page only ever sees names that are names and numbers that are numbers.
 */

/** @typedef {import("../client/eventissuer.js").CloudEvent} CloudEvent */

/**
 * @typedef {object} About
 * @property {string} train its number
 * @property {string} serviceDate
 * @property {number} sequence counts this train's events of this stream
 * @property {number} time milliseconds of the epoch
 * @property {number} delay in seconds
 *
 * @typedef {object} Whereabouts
 * @property {"position"} kind
 * @property {string} line
 * @property {string} operator
 * @property {string} to
 * @property {number} latitude in degrees
 * @property {number} longitude in degrees
 * @property {number} speed in km/h
 * @property {number} bearing in degrees from north
 * @property {string} at the station where it stands, or ""
 * @property {string} next the station it goes to
 * @property {number} nextCall
 * @property {number} expected there, milliseconds of the epoch
 *
 * @typedef {object} Movement
 * @property {"arrived" | "departed" | "delayed"} kind
 * @property {number} call
 * @property {boolean} final
 *
 * @typedef {About & Whereabouts} Position
 * @typedef {Position | (About & Movement)} News
 */

/** The streams that it tells them in. */
export const POSITIONS = "train-positions";
export const MOVEMENTS = "train-movements";

const SOURCE = "/demo/control-centre";
const TYPE = /^no\.banenor\.train\.(position|arrived|departed|delayed)\.v1$/;
/** Where trains of Norway can be: they go as far as Göteborg and Stockholm. */
const SOUTH = 54, NORTH = 72, WEST = 0, EAST = 32;

/**
 * @param {CloudEvent} event
 * @returns {News | undefined} undefined for what the centre would not say
 */
export function readNews(event) {
  const kind = TYPE.exec(String(event.type))?.[1];
  const data = event.data;
  if (!kind || event.source !== SOURCE || typeof data !== "object" || data === null) return undefined;
  const time = Date.parse(String(event.time));
  const known =
    /^\w{1,12}$/.test(text(data.train)) && event.subject === `/train/${data.train}` && /^\d{4}-\d\d-\d\d$/.test(text(data.serviceDate)) &&
    Number.isSafeInteger(data.sequence) && data.sequence > 0 && Number.isFinite(time) && Number.isFinite(data.delaySeconds);
  if (!known) return undefined;
  const about = { train: data.train, serviceDate: data.serviceDate, sequence: data.sequence, time, delay: data.delaySeconds };

  if (kind !== "position") {
    if (!Number.isSafeInteger(data.call)) return undefined;
    return { ...about, kind: /** @type {Movement["kind"]} */ (kind), call: data.call, final: data.final === true };
  }
  const expected = Date.parse(text(data.expected));
  const there =
    data.latitude > SOUTH && data.latitude < NORTH && data.longitude > WEST && data.longitude < EAST &&
    [data.latitude, data.longitude, data.speed, data.bearing, expected].every(Number.isFinite) && Number.isSafeInteger(data.nextCall);
  const named = [data.line, data.to, data.next].every((name) => text(name) !== "");
  if (!there || !named) return undefined;
  return {
    ...about, kind, line: data.line, operator: text(/** @type {any} */ (event)["operator"]), to: data.to, latitude: data.latitude,
    longitude: data.longitude, speed: data.speed, bearing: data.bearing, at: text(data.at), next: data.next, nextCall: data.nextCall, expected,
  };
}

/**
 * The row of numbers that an event is in: a train's events of one stream.
 * @param {News} news
 */
export function rowOf(news) {
  return `${news.kind === "position" ? "positions" : "movements"}/${news.train}`;
}

/**
 * The train that a subject names, or "".
 * @param {unknown} subject
 */
export function trainOf(subject) {
  return /^\/train\/(\w{1,12})$/.exec(text(subject))?.[1] ?? "";
}

/**
 * A name that fits on a sign, or "".
 * @param {unknown} value
 */
function text(value) {
  return typeof value === "string" && value.length <= 80 ? value : "";
}
