// @ts-check
/**
 * The plan: stations, tracks, and every train's calls. Events tell what becomes of it.
 */

/**
 * @typedef {object} Station
 * @property {number} index
 * @property {string} name
 * @property {number} latitude
 * @property {number} longitude
 * @property {number} trains how many call there in a day
 *
 * @typedef {object} Call
 * @property {number} station
 * @property {number} arrival minutes since the service day's midnight
 * @property {number} departure
 *
 * @typedef {object} PlannedTrain
 * @property {string} number
 * @property {string} line
 * @property {string} operator
 * @property {string} to
 * @property {Call[]} calls
 *
 * @typedef {{train: PlannedTrain, call: number}} Visit
 */

export class Timetable {
  /** @param {any} file the content of norway.json */
  constructor(file) {
    /** @type {string} */
    this.about = file.about;
    /** @type {Station[]} */
    this.stations = file.stations.map((/** @type {[string, string, number, number]} */ [, name, latitude, longitude], /** @type {number} */ index) => ({
      index, name, latitude, longitude, trains: 0,
    }));
    /** @type {number[][]} each track as latitude and longitude in turn */
    this.tracks = file.tracks.map((/** @type {[number, number, number[]]} */ track) => this.#track(...track));
    /** @type {Map<string, PlannedTrain>} */
    this.trains = new Map();
    /** @type {Visit[][]} by station */
    this.visits = this.stations.map(() => []);
    for (const [number, line, operator, to, pattern, start] of file.trains) {
      const train = { number, line, operator, to, calls: callsOf(file.patterns[pattern], start) };
      this.trains.set(number, train);
      train.calls.forEach((call, i) => {
        this.visits[call.station]?.push({ train, call: i });
        this.station(call.station).trains++;
      });
    }
    /** @type {Map<string, Station>} */
    this.byName = new Map(this.stations.map((s) => [s.name, s]));
  }

  /** @param {number} index */
  station(index) {
    const s = this.stations[index];
    if (!s) throw new RangeError(`no station ${index}`);
    return s;
  }

  /**
   * @param {number} a
   * @param {number} b
   * @param {number[]} steps
   */
  #track(a, b, steps) {
    const from = this.station(a);
    const to = this.station(b);
    const line = [from.latitude, from.longitude];
    let lat = Math.round(from.latitude * 1e5);
    let lon = Math.round(from.longitude * 1e5);
    for (let i = 0; i + 1 < steps.length; i += 2) {
      lat += steps[i] ?? 0;
      lon += steps[i + 1] ?? 0;
      line.push(lat / 1e5, lon / 1e5);
    }
    line.push(to.latitude, to.longitude);
    return line;
  }
}

/**
 * @param {number[]} pattern [first, next, drive, stand, …]
 * @param {number} start
 * @returns {Call[]}
 */
function callsOf(pattern, start) {
  const calls = [{ station: pattern[0] ?? 0, arrival: start, departure: start }];
  let at = start;
  for (let i = 1; i + 2 < pattern.length; i += 3) {
    const arrival = at + (pattern[i + 1] ?? 0);
    at = arrival + (pattern[i + 2] ?? 0);
    calls.push({ station: pattern[i] ?? 0, arrival, departure: at });
  }
  return calls;
}

/**
 * @param {string} url
 * @returns {Promise<Timetable>}
 */
export async function loadTimetable(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return new Timetable(await answer.json());
}
