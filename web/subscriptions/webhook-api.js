// @ts-check
/** What the page asks of the server about subscriptions with a sink. */
import { ask } from "../catalog/api.js";
import { address, json } from "./api.js";

/**
 * @typedef {import("./api.js").Subscription} Subscription
 * @typedef {"delivered" | "refused" | "failed" | "gone" | "cut" | "lost"} Outcome
 *
 * @typedef {object} Attempt
 * @property {string} [id] where it was read back
 * @property {string} time
 * @property {Outcome} state
 * @property {number} [status] that the endpoint answered
 * @property {string} took
 * @property {string} [event] the id of the first of its events
 * @property {string} [type]
 * @property {string} [stream]
 * @property {number} [partition]
 * @property {number[]} [offsets]
 * @property {string} [message] its webhook-id
 * @property {number} [attempt] from 1
 * @property {string} [reason]
 * @property {string} [answer] its first bytes
 * @property {string} [nextAttempt]
 * @property {boolean} [deadLetter] it was the last
 * @property {boolean} [replay]
 * @property {boolean} [manual] somebody asked for it
 *
 * @typedef {{states: string[], event: string, since: string, until: string}} AttemptQuery
 *
 * @typedef {object} Deliveries in a span of time
 * @property {string} at where it begins
 * @property {number} delivered
 * @property {number} refused
 * @property {number} failed
 * @property {string} [p50]
 * @property {string} [p95]
 * @property {string} [p99]
 */

/** What has an endpoint asked may take as long as that may: milliseconds. */
const ENDPOINTS_PATIENCE = 75_000;

/** Attempts are asked for so many at a time. */
export const ATTEMPTS = 50;

/**
 * A page of attempts, newest first.
 * @param {string} id
 * @param {AttemptQuery} query
 * @param {AbortSignal} signal
 * @param {string} [next]
 * @returns {Promise<{items: Attempt[], next?: string}>}
 */
export async function listAttempts(id, { states, event, since, until }, signal, next = "") {
  const query = new URLSearchParams({ limit: String(ATTEMPTS), ...(event ? { event } : {}), ...(since ? { since } : {}), ...(until ? { until } : {}), ...(next ? { next } : {}) });
  for (const s of states) query.append("state", s);
  return (await ask(`${address(id)}/attempts?${query}`, { signal })).json();
}

/**
 * @param {string} id
 * @param {Date} since
 * @param {number} minutes of each step
 * @param {AbortSignal} signal
 * @returns {Promise<Deliveries[]>}
 */
export async function listDeliveries(id, since, minutes, signal) {
  const query = new URLSearchParams({ since: since.toISOString(), step: `${minutes}m` });
  return (await (await ask(`${address(id)}/deliveries?${query}`, { signal })).json()).items;
}

/**
 * @param {string} id
 * @param {"pause" | "resume" | "verify"} verb
 * @returns {Promise<Subscription>}
 */
export async function change(id, verb) {
  return (await ask(`${address(id)}:${verb}`, { method: "POST" }, ENDPOINTS_PATIENCE)).json();
}

/**
 * Sends an example event.
 * @param {string} id
 * @returns {Promise<Attempt>}
 */
export async function sendTest(id) {
  return (await ask(`${address(id)}:test`, { method: "POST" }, ENDPOINTS_PATIENCE)).json();
}

/**
 * @param {string} id
 * @param {string} keep for how long what was valid stays valid
 * @returns {Promise<{secret: string, publicKey: string}>}
 */
export async function rotateSecret(id, keep) {
  return (await ask(`${address(id)}:rotate-secret`, json({ keep }))).json();
}

/**
 * Has events of before sent again.
 * @param {string} id
 * @param {{since: string} | {from: "oldest"}} from
 * @returns {Promise<{mode: "rewind" | "beside", records: number}>}
 */
export async function replay(id, from) {
  return (await ask(`${address(id)}:replay`, json(from))).json();
}

/**
 * Sends the events of attempts again.
 * @param {string} id
 * @param {string[]} attempts their ids
 * @returns {Promise<Attempt[]>}
 */
export async function resend(id, attempts) {
  return (await (await ask(`${address(id)}:replay`, json({ attempts }), ENDPOINTS_PATIENCE)).json()).items;
}

/**
 * Sends dead letters once more.
 * @param {string} id
 * @param {{ids: string[]} | {all: true, next?: string}} which
 * @returns {Promise<{redelivered: number, failed: {id: string, reason: string}[], next?: string}>} next: of all, where to go on
 */
export async function redeliver(id, which) {
  return (await ask(`${address(id)}/dead-letters:redeliver`, json(which), ENDPOINTS_PATIENCE)).json();
}
