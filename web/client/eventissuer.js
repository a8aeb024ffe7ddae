// @ts-check
/**
 * The JavaScript client of Event Issuer, for browsers: an ES module without dependencies.
 *
 *     import { EventIssuer } from "/client/eventissuer.js";
 *
 *     const issuer = new EventIssuer("https://events.example.org");
 *     const reading = issuer.subscribe({
 *       streams: ["train-positions"],
 *       filter: { subject: "/train/61" },
 *       onEvent: (event) => console.log(event.data),
 *     });
 *     // later: reading.close()
 *
 * It reads by EventSource. What it adds to that: it goes on after answers that make an EventSource give up for good, with
 * growing, jittered pauses and from the last cursor; it knows the control messages; it can keep the cursor over reloads
 * of a page; and it says what state it is in.
 *
 * Events come at least once and, for one key, in order. After an interruption the events after the last cursor come
 * again, so nothing is lost.
 *
 * Of a stream that keeps state, `from: "snapshot"` first gives what is true now, and then what changes:
 *
 *     const trains = new Map();
 *     issuer.subscribe({
 *       streams: "train-positions",
 *       from: "snapshot",
 *       conflate: "1s",
 *       overflow: "snapshot",
 *       onEvent: (event) => trains.set(event.subject, event.data),
 *       onControl: ({ name, payload }) => {
 *         if (name === "snapshot") trains.clear();
 *         if (name === "removed") trains.delete(payload.subject);
 *       },
 *     });
 *
 * The control `snapshot` begins it, with how many keys there are; the latest event of each key follows, and `live` ends it.
 * Then every event comes as usual, and `removed` where a key has none any more. Another snapshot may come at any time,
 * where the server cannot tell what went away meanwhile: then forget what you had of that stream, as above. Of several
 * streams each has its own. A page that is loaded again always begins with a snapshot. Within the page it goes on from the
 * cursor, and is told what was removed meanwhile; a connection that is lost within a snapshot gets a whole one again.
 *
 * With `conflate` there comes once in so long the latest event of each key alone, and with `overflow: "snapshot"` a reader
 * that has fallen far behind gets a snapshot rather than what it missed. So a slow line shows what is true now, and not
 * what was true long ago. Without either every event comes, however late.
 */

/**
 * @typedef {object} CloudEvent A CloudEvent 1.0 in its JSON form; extension attributes stand beside these.
 * @property {string} specversion
 * @property {string} id
 * @property {string} source
 * @property {string} type
 * @property {string} [subject]
 * @property {string} [time]
 * @property {any} [data]
 *
 * @typedef {object} Filter What to get: different attributes all have to match, of one attribute's values any. A value
 *   that ends in "*" is a prefix.
 * @property {string | string[]} [type]
 * @property {string | string[]} [source]
 * @property {string | string[]} [subject]
 * @property {string | string[]} [resource]
 * @property {string} [sql] an expression in CESQL, such as "line = 'L1'"
 *
 * @typedef {"gap" | "skipped" | "stalled" | "resumed" | "waiting" | "drain" | "problem" | "snapshot" | "live" | "removed"} ControlName
 *
 * @typedef {object} Control A control message of the API.
 * @property {ControlName} name
 * @property {Record<string, any>} payload of snapshot {stream, keys, dropped?}: dropped are the keys the server had no room
 *   for; of live {stream}; of removed {stream, subject, source, type, id, reason}, the event that is gone, and because it was
 *   "deleted", has "changed" so that the filter does not match any more, or was "dropped", being too old or too much
 *
 * @typedef {"connecting" | "open" | "reconnecting" | "closed"} Phase
 *
 * @typedef {object} State
 * @property {Phase} phase
 * @property {number} since milliseconds of the epoch: when this phase began
 * @property {number} attempt reconnects tried since the last connection
 * @property {number} [retryAt] milliseconds of the epoch: when this client tries again; unset while the browser does
 * @property {string} [reason] why, where it is known
 * @property {number} [status] of HTTP, where an answer of it is why the stream has ended
 *
 * @typedef {object} SubscribeOptions
 * @property {string} [url] of the server; default: where the page came from
 * @property {string | string[]} [streams] default: those of the types in the filter
 * @property {Filter} [filter]
 * @property {string | Date} [from] "latest" (default), "oldest", "snapshot" or a time: where to begin without a cursor. A stream
 *   that keeps no state has no snapshots: the answer is 409, which ends it.
 * @property {string} [after] a cursor to go on after; with from: "snapshot", as one who has the picture up to there
 * @property {string} [remember] a key of localStorage: keep the cursor there, and go on after it when the page is loaded again.
 *   With from: "snapshot" nothing is kept: a page that has just been loaded has no picture that it could go on with.
 * @property {number | string} [conflate] milliseconds, or as "2s"; 100 ms to a minute: once in so long the latest event of each
 *   key, in place of every event
 * @property {"snapshot"} [overflow] a snapshot in place of what was missed, where that is much
 * @property {number} [silence] milliseconds: connect anew when nothing came for so long. For streams that are never quiet.
 * @property {(event: CloudEvent, cursor: string) => void} onEvent
 * @property {(control: Control) => void} [onControl]
 * @property {(state: State) => void} [onState]
 *
 * @typedef {object} Subscription
 * @property {string} cursor the last one that came with an event or before it, or ""
 * @property {State} state
 * @property {() => void} reconnect connects anew at once, from the cursor
 * @property {() => void} close ends it; nothing is called afterwards
 */

/** @type {ControlName[]} */
const CONTROLS = ["gap", "skipped", "stalled", "resumed", "waiting", "drain", "problem", "snapshot", "live", "removed"];

/** Answers that will not change by asking again. */
const FINAL = new Set([400, 401, 403, 404, 409, 410]);

const SHORTEST_PAUSE = 1000;
const LONGEST_PAUSE = 30_000;

/** A server. */
export class EventIssuer {
  /** @param {string | URL} [url] default: where the page came from */
  constructor(url = location.origin) {
    this.url = String(url);
  }

  /**
   * Reads events from now on until the subscription is closed.
   * @param {Omit<SubscribeOptions, "url">} options
   * @returns {Subscription}
   */
  subscribe(options) {
    return new Reader({ ...options, url: this.url });
  }

  /**
   * Publishes events. Resolves when the log has all of them; rejects with a PublishError else.
   * @param {...CloudEvent} events
   * @returns {Promise<any[]>} a result for each
   */
  async publish(...events) {
    const answer = await fetch(new URL("/v1/events", this.url), {
      method: "POST",
      headers: { "Content-Type": "application/cloudevents-batch+json" },
      body: JSON.stringify(events),
    });
    const body = await answer.json().catch(() => ({}));
    if (answer.status !== 200) throw new PublishError(answer.status, body);
    return body.results;
  }
}

/** An answer to publishing that is not 200. */
export class PublishError extends Error {
  /**
   * @param {number} status
   * @param {any} body a problem (RFC 9457), or the results of each event
   */
  constructor(status, body) {
    super(`${status} ${body.title ?? ""} ${body.detail ?? ""}`.trim());
    this.name = "PublishError";
    this.status = status;
    this.body = body;
  }
}

/**
 * Reads events from now on until the subscription is closed.
 * @param {SubscribeOptions} options
 * @returns {Subscription}
 */
export function subscribe(options) {
  return new Reader(options);
}

/** @implements {Subscription} */
class Reader {
  /** @type {SubscribeOptions} */ #options;
  /** @type {EventSource | undefined} */ #source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #watch;
  /** @type {State} */ #state;
  #cursor = "";
  #recalled = false;
  #from;
  /** @type {string | undefined} */ #remember;
  /** @type {Set<string>} streams of which a snapshot has begun and not ended */ #partial = new Set();
  #stored = 0;
  #pauses = 0;

  /** @param {SubscribeOptions} options */
  constructor(options) {
    this.#options = options;
    this.#remember = options.from === "snapshot" ? undefined : options.remember;
    const recalled = options.after ? undefined : this.#recall();
    this.#recalled = recalled !== undefined;
    this.#cursor = options.after ?? recalled ?? "";
    this.#from = options.from instanceof Date ? options.from.toISOString() : options.from;
    this.#state = { phase: "connecting", since: Date.now(), attempt: 0 };
    addEventListener("online", this.#online);
    addEventListener("pagehide", this.#keep);
    this.#connect();
  }

  get cursor() {
    return this.#cursor;
  }

  get state() {
    return this.#state;
  }

  reconnect() {
    this.#anew({});
  }

  /** @param {Partial<State>} why */
  #anew(why) {
    if (this.#state.phase === "closed") return;
    this.#set("reconnecting", { attempt: this.#state.attempt, ...why });
    this.#connect();
  }

  close() {
    this.#end();
    if (this.#state.phase !== "closed") this.#state = { phase: "closed", since: Date.now(), attempt: 0 };
  }

  #end() {
    this.#keep();
    this.#source?.close();
    this.#source = undefined;
    clearTimeout(this.#retry);
    clearTimeout(this.#watch);
    removeEventListener("online", this.#online);
    removeEventListener("pagehide", this.#keep);
  }

  #online = () => {
    if (this.#state.phase === "reconnecting") this.reconnect();
  };

  #address() {
    const { streams, filter, conflate, overflow } = this.#options;
    const url = new URL("/v1/events", this.#options.url ?? location.origin);
    for (const stream of list(streams)) url.searchParams.append("stream", stream);
    for (const attribute of /** @type {const} */ (["type", "source", "subject", "resource"])) {
      for (const value of list(filter?.[attribute])) url.searchParams.append(attribute, value);
    }
    if (filter?.sql) url.searchParams.set("filter", filter.sql);
    if (this.#cursor) url.searchParams.set("after", this.#cursor);
    // Beside a cursor it says that there is a picture, of which it is to be told what goes away.
    if (this.#from && (!this.#cursor || this.#from === "snapshot")) url.searchParams.set("from", this.#from);
    if (conflate !== undefined) url.searchParams.set("conflate", typeof conflate === "number" ? `${conflate}ms` : conflate);
    if (overflow) url.searchParams.set("overflow", overflow);
    return url;
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#source?.close();
    if (this.#partial.size) this.#forget();
    const address = this.#address();
    const source = new EventSource(address);
    this.#source = source;
    source.onopen = () => {
      this.#pauses = 0;
      // "latest" stays the moment of this first connection, also where it ends before its first event. A little earlier:
      // clocks differ.
      if (!this.#cursor && (this.#from ?? "latest") === "latest") this.#from = new Date(Date.now() - 2000).toISOString();
      this.#set("open");
      this.#listen();
    };
    source.onmessage = (message) => {
      this.#pass(message);
      this.#options.onEvent(JSON.parse(message.data), this.#cursor);
    };
    for (const name of CONTROLS) {
      source.addEventListener(name, (message) => this.#control(name, /** @type {MessageEvent} */ (message)));
    }
    source.onerror = () => {
      clearTimeout(this.#watch);
      const attempt = this.#state.attempt + 1;
      if (this.#partial.size && this.#cursor) {
        source.close(); // the browser would go on from the cursor
        void this.#gaveUp(source, address, attempt);
      } else if (source.readyState === EventSource.CONNECTING) {
        // The browser comes back by itself, with the newest cursor as Last-Event-ID, heartbeats' included.
        this.#set("reconnecting", { attempt });
      } else {
        void this.#gaveUp(source, address, attempt);
      }
    };
  }

  /**
   * Within a snapshot the picture before it is gone, and this one is not whole: no cursor is a place to go on from.
   */
  #forget() {
    this.#partial.clear();
    this.#cursor = "";
    this.#from = "snapshot";
  }

  /**
   * An EventSource that got another answer than an event stream is done for good and does not say why: ask once more,
   * for the answer alone, and come back later unless it is final.
   * @param {EventSource} source
   * @param {URL} address
   * @param {number} attempt
   */
  async #gaveUp(source, address, attempt) {
    const pause = Math.min(SHORTEST_PAUSE * 2 ** this.#pauses++, LONGEST_PAUSE) * (0.5 + Math.random() / 2);
    this.#set("reconnecting", { attempt, retryAt: Date.now() + pause });
    this.#retry = setTimeout(() => this.#connect(), pause);
    const answer = await fetch(address, { method: "HEAD" }).catch(() => undefined);
    if (!answer || !FINAL.has(answer.status) || this.#source !== source) return;
    if (answer.status === 400 && this.#recalled) {
      // What an earlier visit left is no cursor of this server any more: begin as if there were none.
      this.#recalled = false;
      this.#cursor = "";
      this.#connect();
      return;
    }
    this.#fail(`the server answers ${answer.status}`, answer.status);
  }

  /**
   * @param {string} reason
   * @param {number} status
   */
  #fail(reason, status) {
    this.#end();
    this.#set("closed", { reason, status });
  }

  /**
   * @param {ControlName} name
   * @param {MessageEvent} message
   */
  #control(name, message) {
    this.#pass(message);
    const payload = JSON.parse(message.data || "{}");
    if (name === "snapshot") this.#partial.add(payload.stream);
    if (name === "live") this.#partial.delete(payload.stream);
    this.#options.onControl?.({ name, payload });
    if (name === "problem" && FINAL.has(payload.status)) this.#fail(payload.title ?? `problem ${payload.status}`, payload.status);
  }

  /** @param {MessageEvent} message */
  #pass(message) {
    if (message.lastEventId) this.#cursor = message.lastEventId;
    this.#listen();
    // Writing to storage for each event would be much; a second's events may come again after a reload.
    if (Date.now() - this.#stored > 1000) this.#keep();
  }

  #listen() {
    const { silence } = this.#options;
    if (!silence) return;
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#anew({ reason: `nothing came for ${silence / 1000} s` }), silence);
  }

  #keep = () => {
    if (!this.#remember || !this.#cursor) return;
    this.#stored = Date.now();
    try {
      localStorage.setItem(this.#remember, this.#cursor);
    } catch {
      // A page without storage goes on without remembering.
    }
  };

  #recall() {
    try {
      return (this.#remember && localStorage.getItem(this.#remember)) || undefined;
    } catch {
      return undefined;
    }
  }

  /**
   * @param {Phase} phase
   * @param {Partial<State>} [more]
   */
  #set(phase, more = {}) {
    const since = phase === this.#state.phase ? this.#state.since : Date.now();
    this.#state = { phase, since, attempt: 0, ...more };
    this.#options.onState?.(this.#state);
  }
}

/**
 * @param {string | string[] | undefined} value
 * @returns {string[]}
 */
function list(value) {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}
