// @ts-check
/** What the catalogue asks of the server. */

/**
 * @typedef {{at: string, by?: string, requestId?: string}} Stamp
 *
 * @typedef {object} EventType
 * @property {string} type
 * @property {string} stream
 * @property {string} owner
 * @property {"public" | "partner" | "internal"} audience
 * @property {string} keyAttribute
 * @property {string} compatibility
 * @property {string} dedupe
 * @property {string} [description]
 * @property {string} [documentation]
 * @property {boolean} [dedupeRequired]
 * @property {boolean} [personal]
 * @property {any[]} [examples]
 * @property {any} [attributes]
 * @property {string[]} [sources]
 * @property {Record<string, string>} [promote]
 * @property {{eventsPerSecond?: number, bytesPerSecond?: number}} [quota]
 * @property {{date?: string, successor?: string, note?: string}} [deprecation]
 * @property {number} [latestVersion]
 * @property {string} [schemaUrl]
 * @property {Stamp} [created]
 * @property {Stamp} [changed]
 *
 * @typedef {object} Version of a type's schema
 * @property {number} version
 * @property {string} digest
 * @property {string} url
 * @property {number} bytes
 * @property {string} [draft]
 * @property {Stamp} [created]
 * @property {boolean} [forced]
 *
 * @typedef {import("../client/eventissuer.js").CloudEvent} CloudEvent
 */

/** As many types as the page holds; what is beyond them is found by asking the server. */
export const MOST_TYPES = 3000;

const PATIENCE = 15_000;

/** An answer that is not what was asked for, or none. */
export class Unanswered extends Error {
  /**
   * @param {number} status 0: there was no answer
   * @param {string} message
   * @param {{pointer?: string, message?: string}[]} [errors] what is wrong where in the body that was sent
   */
  constructor(status, message, errors = []) {
    super(message);
    this.name = "Unanswered";
    this.status = status;
    this.errors = errors;
  }

  /** Whether the same may be answered before long. */
  get soon() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Asks, and throws Unanswered where the answer is no success.
 * @param {string} path
 * @param {RequestInit} [init]
 * @param {number} [patience] how long the answer may take: milliseconds
 * @returns {Promise<Response>}
 */
export async function ask(path, init = {}, patience = PATIENCE) {
  const limit = AbortSignal.timeout(patience);
  const signal = init.signal ? AbortSignal.any([init.signal, limit]) : limit;
  let answer;
  try {
    answer = await fetch(path, { ...init, signal });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Unanswered(0, "The server cannot be reached.");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Unanswered(answer.status, problem.detail ?? problem.title ?? `The server answers ${answer.status}.`, problem.errors);
}

/** @param {string} type */
const at = (type) => `/v1/event-types/${encodeURIComponent(type)}`;

/**
 * The types, by name, without their schemas.
 * @param {AbortSignal} signal
 * @param {string} [q]
 * @returns {Promise<{types: EventType[], whole: boolean}>} whole: there are no more
 */
export async function listTypes(signal, q = "") {
  /** @type {EventType[]} */
  const types = [];
  let next = "";
  do {
    const query = new URLSearchParams({ limit: "1000", ...(q ? { q } : {}), ...(next ? { next } : {}) });
    const page = await (await ask(`/v1/event-types?${query}`, { signal })).json();
    types.push(...page.items);
    next = page.next ?? "";
  } while (next && types.length < MOST_TYPES);
  return { types, whole: !next };
}

/**
 * @param {string} type
 * @param {AbortSignal} signal
 * @returns {Promise<EventType>}
 */
export async function getType(type, signal) {
  return (await ask(at(type), { signal })).json();
}

/**
 * The versions of a type's schema, newest first.
 * @param {string} type
 * @param {AbortSignal} signal
 * @returns {Promise<Version[]>}
 */
export async function listVersions(type, signal) {
  const { items } = await (await ask(`${at(type)}/schemas`, { signal })).json();
  return items.toReversed();
}

/**
 * A version's text as it was registered.
 * @param {string} type
 * @param {number} version
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
export async function getSchema(type, version, signal) {
  return (await ask(`${at(type)}/schemas/${version}`, { signal })).text();
}

/**
 * What the server says of a schema beside those before it. It writes nothing.
 * @param {string} type
 * @param {string} schema
 * @param {AbortSignal} signal
 * @returns {Promise<{verdict: string, mode: string, comparedWith: number[], breaks?: import("./schema-diff.js").Break[]}>}
 */
export async function checkSchema(type, schema, signal) {
  return (await ask(`${at(type)}/schemas:check`, { method: "POST", headers: { "Content-Type": "application/schema+json" }, body: schema, signal })).json();
}

/**
 * A page of a type's events.
 * @param {EventType} type
 * @param {Date} from
 * @param {number} limit
 * @param {AbortSignal} signal
 * @returns {Promise<{events: CloudEvent[], cursor: string}>} and the cursor after them
 */
export async function readPage(type, from, limit, signal) {
  const query = new URLSearchParams({ type: type.type, from: from.toISOString(), limit: String(limit) });
  const answer = await ask(`/v1/streams/${encodeURIComponent(type.stream)}/events?${query}`, { headers: { Accept: "application/cloudevents-batch+json" }, signal });
  return { events: await answer.json(), cursor: answer.headers.get("Cursor") ?? "" };
}
