// @ts-check
/** What deliveries to an endpoint are, in words. */
import { durationWords } from "../catalog/catalog-words.js";
import { upper } from "./words.js";

/** @typedef {import("./webhook-api.js").Attempt} Attempt */
/** @typedef {import("./webhook-api.js").Outcome} Outcome */
/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./words.js").Grade} Grade */

export const OUTCOMES = /** @type {Record<Outcome, {grade: Grade, title: string, says: string}>} */ ({
  delivered: { grade: "good", title: "Delivered", says: "the endpoint took it" },
  refused: { grade: "warn", title: "Refused", says: "the endpoint answered that it does not take this event" },
  failed: { grade: "bad", title: "Failed", says: "the endpoint did not answer, or is in trouble" },
  gone: { grade: "bad", title: "Gone", says: "the endpoint answered 410, which ends the subscription" },
  cut: { grade: "idle", title: "Cut off", says: "the server had to stop meanwhile; what the endpoint made of it is not known" },
  lost: { grade: "bad", title: "Lost", says: "the stream no longer has the event" },
});

const UNITS = /** @type {Record<string, number>} */ ({ h: 3_600_000, m: 60_000, s: 1000, ms: 1, "µs": 1e-3, us: 1e-3, ns: 1e-6 });

/**
 * Milliseconds of a duration as the API writes it.
 * @param {string} [text] "12.5ms", "1m30s"
 */
export function milliseconds(text = "") {
  let sum = 0;
  for (const [, n, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|µs|us|ns|h|m|s)/g)) sum += Number(n) * (UNITS[unit] ?? 0);
  return sum;
}

/**
 * How long an answer took, as exactly as it matters.
 * @param {number} ms
 */
export function latency(ms) {
  if (ms < 9.95) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${Number((ms / 1000).toFixed(1))} s`;
  return ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
}

/**
 * What somebody is told who had an attempt made.
 * @param {Attempt} a
 */
export function attemptWords({ state, status = 0, took, reason = "" }) {
  const words = OUTCOMES[state]?.title ?? upper(state);
  return state === "delivered" ? `${words}: answered ${status} in ${latency(milliseconds(took))}.` : `${words}: ${reason || "no reason is told"}.`;
}

/**
 * What became of several attempts that somebody had made.
 * @param {Attempt[]} all
 */
export function attemptsWords(all) {
  const [one] = all;
  if (all.length === 1 && one) return attemptWords(one);
  const bad = all.filter((a) => a.state !== "delivered");
  const [first] = bad;
  return `${all.length - bad.length} of ${all.length} delivered.${first ? ` ${attemptWords(first)}` : ""}`;
}

/**
 * What somebody can do about a subscription's state.
 * @param {string} state
 * @param {Subscription} about
 */
export function adviceWords(state, { config = {} }) {
  const after = durationWords(config.disableAfter ?? "");
  switch (state) {
    case "pending":
      return "Nothing is sent until the endpoint has proven that it wants the events, by one of the ways below. It is asked again by itself, ever more rarely; Verify asks now. Events wait meanwhile.";
    case "failing":
      return `Events wait, and go on by themselves when the endpoint takes them again; none is given up for this. The attempts say what it answers.${after ? ` After ${after} of nothing but failures the webhook is disabled.` : ""}`;
    case "disabled":
      return "Nothing is sent. Mend the endpoint, send a test, and resume: it goes on where it stopped, as long as the streams keep their events.";
    case "paused":
      return "Nothing is sent until it is resumed: then it goes on where it stopped, as long as the streams keep their events.";
    default:
      return "";
  }
}

const CREDENTIALS = /** @type {Record<string, string>} */ ({
  PLAIN: "Basic, a name and a password", ACCESSTOKEN: "a bearer token", APIKEY: "a key in a header", OAUTH2: "OAuth 2, client credentials", JWT: "a short-lived token of this server", MTLS: "a client certificate",
});

/**
 * How an endpoint is told who calls.
 * @param {import("./api.js").Credential} [credential]
 */
export function credentialWords(credential) {
  if (!credential) return "The signatures alone.";
  const { credentialtype: type, identifier, header, tokenUrl, clientId, audience, scopes = [] } = credential;
  const more = [identifier, header, clientId && tokenUrl ? `${clientId} at ${tokenUrl}` : "", scopes.join(" "), audience && `for ${audience}`].filter(Boolean);
  return `${upper(CREDENTIALS[type] ?? type)}${more.length ? `: ${more.join(", ")}` : ""}.`;
}
