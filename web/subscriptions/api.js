// @ts-check
/** What the page asks of the server about subscriptions. */
import { ask } from "../catalog/api.js";

/**
 * @typedef {import("../catalog/api.js").Stamp} Stamp
 * @typedef {import("../catalog/api.js").CloudEvent} CloudEvent
 *
 * @typedef {object} Config
 * @property {string} [from]
 * @property {"key" | "none"} [ordering]
 * @property {string} [ackTimeout]
 * @property {number} [maxUncommitted]
 * @property {number} [maxSessions]
 * @property {number} [maxAttempts]
 * @property {number} [concurrency]
 * @property {number} [ratePerSecond]
 * @property {string} [timeout]
 * @property {{schedule?: string[]}} [retry]
 * @property {"deadLetter" | "block"} [onExhausted]
 * @property {{max?: number, maxWait?: string, maxBytes?: number}} [batch]
 * @property {string} [disableAfter]
 *
 * @typedef {object} ProtocolSettings
 * @property {"structured" | "binary"} [mode]
 * @property {Record<string, string>} [headers] their values are not shown
 * @property {{header: string, hash: string, encoding: string, prefix?: string}} [legacySignature]
 *
 * @typedef {object} Credential
 * @property {string} credentialtype
 * @property {string} [identifier]
 * @property {string} [header]
 * @property {string} [tokenUrl]
 * @property {string} [clientId]
 * @property {string} [audience]
 * @property {string[]} [scopes]
 * @property {string} [certificate]
 * @property {string} [secret] it is never shown
 *
 * @typedef {object} Proof that an endpoint wants the events
 * @property {"pending" | "proven" | "refused"} state
 * @property {"consent" | "challenge" | "response"} [by]
 * @property {string} [at] when it was asked last
 * @property {string} [next] when it is asked again
 *
 * @typedef {object} Subscription
 * @property {string} id
 * @property {string} [name]
 * @property {string} [description]
 * @property {string} [owner]
 * @property {string[]} [streams]
 * @property {string[]} [types]
 * @property {any[]} [filters]
 * @property {string} [sink] without it, sessions read it
 * @property {ProtocolSettings} [protocolsettings]
 * @property {Credential} [sinkcredential]
 * @property {string} [publicKey]
 * @property {string} [secret] in the answer to its creation alone
 * @property {Config} [config]
 * @property {{state: string, reason?: string, proof?: Proof, replays?: {replay: string, since?: string, records: number}[]}} [status]
 * @property {Stamp} [created]
 * @property {Stamp} [changed]
 *
 * @typedef {object} Session
 * @property {string} id
 * @property {string} [replica]
 * @property {string} [transport]
 * @property {string} [address]
 * @property {string} [since]
 * @property {number} [uncommitted]
 * @property {string[]} [groups]
 * @property {string} [waiting] why it is given nothing: partitions, ackTimeout, or rebalance
 *
 * @typedef {object} Partition
 * @property {string} stream
 * @property {number} partition
 * @property {number} [begin] the oldest offset that the stream keeps
 * @property {number} position
 * @property {number} end
 * @property {number} lag
 * @property {number} [lagSeconds]
 * @property {number} [uncommitted]
 * @property {number} [acknowledgedAbove]
 * @property {number} [redeliveries]
 * @property {number} [undone] that are being sent to the sink, or wait for their next try
 * @property {boolean} [elsewhere] another replica delivers it, and is at least as far
 * @property {string} [session]
 * @property {string} [replica]
 *
 * @typedef {object} Stats
 * @property {string} id
 * @property {string} [name]
 * @property {string} [state]
 * @property {string} [reason]
 * @property {Session[]} [sessions]
 * @property {number} lag
 * @property {number} [lagSeconds]
 * @property {number} [uncommitted]
 * @property {number} [redeliveries]
 * @property {number} [deadLetters] those since the partitions have been where they are
 * @property {number} [undone] that are being sent to the sink, or wait for their next try
 * @property {number} [inFlight] those of them that are being sent
 * @property {boolean} [partial] other replicas deliver some of the partitions
 * @property {Partition[]} [partitions]
 * @property {{at: string, lag: number}[]} [history] every 10 s, while sessions read
 *
 * @typedef {object} DeadLetter
 * @property {string} [id]
 * @property {string} stream
 * @property {number} partition
 * @property {number} offset
 * @property {number} [attempts]
 * @property {string} [reason]
 * @property {string} [at]
 * @property {boolean} [redelivered] it was delivered since
 * @property {CloudEvent | null} event null where it is too large to be kept once more
 */

/** As many subscriptions as the page holds. */
export const MOST_SUBSCRIPTIONS = 2000;

/** Dead letters are asked for so many at a time. */
const LETTERS = 50;

/** @param {string} id */
export const address = (id) => `/v1/subscriptions/${encodeURIComponent(id)}`;

/** @param {unknown} body */
export const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/**
 * @param {AbortSignal} signal
 * @returns {Promise<{items: Subscription[], whole: boolean}>} whole: there are no more
 */
export async function listSubscriptions(signal) {
  /** @type {Subscription[]} */
  const items = [];
  let next = "";
  do {
    const query = new URLSearchParams({ limit: "1000", ...(next ? { next } : {}) });
    const page = await (await ask(`/v1/subscriptions?${query}`, { signal })).json();
    items.push(...page.items);
    next = page.next ?? "";
  } while (next && items.length < MOST_SUBSCRIPTIONS);
  return { items, whole: !next };
}

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<Subscription>}
 */
export async function getSubscription(id, signal) {
  return (await ask(address(id), { signal })).json();
}

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<{stats: Stats, skew: number}>} skew: how many milliseconds the server's clock is behind this one's
 */
export async function getStats(id, signal) {
  const answer = await ask(`${address(id)}/stats`, { signal });
  const skew = Date.now() - Date.parse(answer.headers.get("Date") ?? "");
  // The header tells whole seconds: what is less than that, and a little on the way, is no difference.
  return { stats: await answer.json(), skew: Math.abs(skew) > 2500 ? skew : 0 };
}

/**
 * A page of them, oldest first.
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {string} [next]
 * @returns {Promise<{items: DeadLetter[], next?: string}>} there may be no items, and more on the next page
 */
export async function listDeadLetters(id, signal, next = "") {
  const query = new URLSearchParams({ limit: String(LETTERS), ...(next ? { next } : {}) });
  return (await ask(`${address(id)}/dead-letters?${query}`, { signal })).json();
}

/**
 * @param {string} id
 * @param {string} from oldest, latest, or a time as in RFC 3339
 * @param {boolean} force although it has sessions
 * @returns {Promise<Stats>}
 */
export async function resetSubscription(id, from, force) {
  return (await ask(`${address(id)}:reset${force ? "?force=true" : ""}`, json({ from }))).json();
}

/**
 * Whether it gives only some of the events of its streams.
 * @param {Pick<Subscription, "types" | "filters">} subscription
 */
export const narrowed = ({ types = [], filters = [] }) => types.length + filters.length > 0;

/** @param {string} id */
export async function deleteSubscription(id) {
  await ask(address(id), { method: "DELETE" });
}

/**
 * @param {Partial<Subscription>} subscription
 * @returns {Promise<{subscription: Subscription, made: boolean}>} made: there was none like it before
 */
export async function createSubscription(subscription) {
  const answer = await ask("/v1/subscriptions", json(subscription));
  return { subscription: await answer.json(), made: answer.status === 201 };
}

/**
 * The names of all streams.
 * @param {AbortSignal} signal
 * @returns {Promise<{name: string, description?: string}[]>}
 */
export async function listStreams(signal) {
  const all = [];
  let next = "";
  do {
    const page = await (await ask(`/v1/streams?limit=1000${next ? `&next=${encodeURIComponent(next)}` : ""}`, { signal })).json();
    all.push(...page.items);
    next = page.next ?? "";
  } while (next && all.length < MOST_SUBSCRIPTIONS);
  return all;
}
