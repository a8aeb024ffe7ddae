// @ts-check
/**
 * What the page reads, by two connections.
 *
 * Where the trains are is a picture. It comes whole, as a snapshot, and then once in an interval the latest position of
 * each train that has told a new one: on a slow line some are left out, and what is shown is true all the same.
 *
 * What happens at stations is a story, of which every event counts. It is read from the log, begins a little before the
 * page was opened, and goes on from its cursor whatever happens.
 */
import { INTERVAL } from "./fleet.js";
import { MOVEMENTS, POSITIONS, readNews, rowOf, trainOf } from "./news.js";
import { subscribeWhenThere } from "./when-there.js";

/** @typedef {import("../client/eventissuer.js").CloudEvent} CloudEvent */
/** @typedef {import("../client/eventissuer.js").Control} Control */
/** @typedef {import("../client/eventissuer.js").State} State */
/** @typedef {import("../client/eventissuer.js").Subscription} Subscription */

/** How much of the story is read at first: boards show what happened in the last minute, and trains that arrived go soon. */
const BEGIN = 90_000;
/** A picture that is silent for so long is asked for anew: with a train under way there is something to tell. */
const SILENCE = 60_000;

/**
 * @typedef {object} Parts
 * @property {import("./clock.js").CentreClock} clock
 * @property {import("./fleet.js").Fleet} fleet
 * @property {import("./connection.js").Connection} connection
 * @property {() => number} now the server's time, milliseconds of the epoch
 * @property {(stream: string) => void} onNews what the parts have been told already
 * @property {(stream: string, state: State) => void} onState likewise
 */

export class Reading {
  #parts;
  /** @type {Subscription | undefined} */ #story;

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
    subscribeWhenThere({
      streams: POSITIONS,
      from: "snapshot",
      conflate: INTERVAL,
      overflow: "snapshot",
      silence: SILENCE,
      onEvent: (event, cursor) => this.#position(event, cursor),
      onControl: (control) => this.#picture(control),
      onState: (state) => {
        this.#told(POSITIONS, state);
        // It was silent. The story may be so for good reasons, and would not notice a line that is dead.
        if (state.phase === "reconnecting" && state.reason) this.#story?.reconnect();
      },
    });
  }

  /**
   * The story waits for the picture, which is what one sees first, and whose positions tell the time.
   */
  #readStory() {
    this.#story ??= subscribeWhenThere({
      streams: MOVEMENTS,
      from: new Date(this.#parts.now() - BEGIN),
      onEvent: (event, cursor) => this.#movement(event, cursor),
      onControl: (control) => this.#parts.connection.onControl(MOVEMENTS, control),
      onState: (state) => this.#told(MOVEMENTS, state),
    });
  }

  /** @param {Control} control */
  #picture(control) {
    const { fleet, connection } = this.#parts;
    connection.onControl(POSITIONS, control);
    if (control.name === "snapshot") {
      connection.continuity.begin();
      fleet.begin();
    } else if (control.name === "live") {
      fleet.whole();
      this.#readStory();
    } else if (control.name === "removed") fleet.remove(trainOf(control.payload["subject"]));
  }

  /**
   * @param {CloudEvent} event
   * @param {string} cursor
   */
  #position(event, cursor) {
    const { clock, fleet, connection } = this.#parts;
    const news = readNews(event);
    if (news?.kind === "position") clock.hear(news.train, news.time);
    if (news?.kind !== "position" || !clock.believes(POSITIONS, news.time)) return connection.onIgnored(POSITIONS, cursor);
    if (!connection.continuity.latest(rowOf(news), news.sequence, news.time)) return;
    connection.onPosition(cursor, news);
    fleet.apply(news);
    this.#parts.onNews(POSITIONS);
  }

  /**
   * @param {CloudEvent} event
   * @param {string} cursor
   */
  #movement(event, cursor) {
    const { clock, fleet, connection } = this.#parts;
    const news = readNews(event);
    if (!news || news.kind === "position" || !clock.believes(MOVEMENTS, news.time)) return connection.onIgnored(MOVEMENTS, cursor);
    if (!connection.continuity.check(rowOf(news), news.sequence)) return;
    connection.onMovement(cursor, news);
    fleet.apply(news);
    this.#parts.onNews(MOVEMENTS);
  }

  /**
   * @param {string} stream
   * @param {State} state
   */
  #told(stream, state) {
    this.#parts.connection.onState(stream, state, this.#parts.clock.now());
    this.#parts.onState(stream, state);
  }
}
