// @ts-check
/** What an event type's settings mean, in words. */

/** @typedef {import("./api.js").EventType} EventType */

/** @param {string} mode */
export function compatibilityWords(mode) {
  const [kind = "", reach] = mode.split("_");
  const before = reach === "transitive" ? "every version before it" : "the version before it";
  switch (kind) {
    case "backward":
      return `A new version of the schema takes everything that ${before} took: a reader that knows the new one can read all older events. Optional properties may come; what there is may not be demanded more strictly.`;
    case "forward":
      return `What a new version of the schema takes, ${before} took too: a reader that is not changed can read all newer events. Nothing may be taken away that it relies on.`;
    case "full":
      return `A new version of the schema and ${before} take each other's events: readers and publishers may change at any time, in any order.`;
    default:
      return "A new version of the schema may be anything. Nothing is promised to readers of older ones.";
  }
}

export const AUDIENCES = /** @type {Record<string, string>} */ ({
  public: "Anyone may read it.",
  partner: "Meant for partners that have agreed with its owner.",
  internal: "Meant for use within the organisation.",
});

/**
 * A duration as the API writes it, in words.
 * @param {string} text "24h", "1h30m", "0s"
 */
export function durationWords(text) {
  const units = /** @type {Record<string, string>} */ ({ h: "hour", m: "minute", s: "second", ms: "millisecond" });
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)].filter(([, n]) => Number(n) !== 0);
  if (parts.length === 0) return "";
  return parts
    .map(([, n = "", unit = ""]) => (unit === "h" && Number(n) >= 48 && Number(n) % 24 === 0 ? `${Number(n) / 24} days` : `${n} ${units[unit]}${Number(n) === 1 ? "" : "s"}`))
    .join(" ");
}

/** @param {EventType} type */
export function dedupeWords(type) {
  const window = durationWords(type.dedupe);
  if (!window) return "Not looked for: the same source and id twice are two events.";
  const rest = type.dedupeRequired ? " While that cannot be known, events are refused." : "";
  return `The same source and id again within ${window} are answered duplicate and not written again.${rest}`;
}

/** @param {string} key */
export function keyWords(key) {
  return `Events with the same ${key} come in order.`;
}

/** @param {EventType} type */
export function quotaWords({ quota }) {
  const parts = [];
  if (quota?.eventsPerSecond) parts.push(`${quota.eventsPerSecond.toLocaleString("en-GB")} events`);
  if (quota?.bytesPerSecond) parts.push(bytes(quota.bytesPerSecond));
  return parts.length ? `${parts.join(" and ")} a second for each publisher.` : "";
}

/** @param {number} n */
export function bytes(n) {
  if (n < 1000) return `${n} B`;
  return n < 1_000_000 ? `${Number((n / 1000).toPrecision(3))} kB` : `${Number((n / 1_000_000).toPrecision(3))} MB`;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

/** @param {string} text a day, or a time as in RFC 3339 */
export function dayWords(text) {
  const time = Date.parse(text);
  return Number.isNaN(time) ? text : DAY.format(time);
}

/** @param {string} text */
export function momentWords(text) {
  const time = Date.parse(text);
  return Number.isNaN(time) ? text : MOMENT.format(time);
}

/** @param {EventType} type */
export const isPattern = (type) => type.type.endsWith("*");

/**
 * A type's name in three: whose it is, what it is, which version.
 * @param {string} name
 * @returns {[string, string, string]}
 */
export function nameParts(name) {
  const [, owner = "", what = "", version = ""] = /^((?:[a-z]{2,3}\.[^.]+\.)?)(.*?)((?:\.v\d+)?)$/.exec(name) ?? [];
  return what ? [owner, what, version] : ["", name, ""];
}

/**
 * How well a type fits what is searched for.
 * @param {EventType} type
 * @param {string[]} words in lower case
 * @returns {number} 0: not at all
 */
export function fitness(type, words) {
  const name = type.type.toLowerCase();
  const rest = [type.stream, type.owner, type.description, type.documentation].join("\n").toLowerCase();
  let sum = 1;
  for (const w of words) {
    const at = name.indexOf(w);
    if (at >= 0) sum += at === 0 || /[.\-_]/.test(name[at - 1] ?? "") ? 6 : 4;
    else if (type.description?.toLowerCase().includes(w)) sum += 2;
    else if (rest.includes(w)) sum += 1;
    else return 0;
  }
  return sum;
}

/**
 * Types that are called much like it.
 * @param {string} name
 * @param {EventType[]} types
 */
export function similar(name, types) {
  const wanted = new Set(name.toLowerCase().split(/[.\-_/]/).filter((p) => !/^v\d+$/.test(p)));
  return types
    .map((t) => ({ t, shared: t.type.toLowerCase().split(/[.\-_/]/).filter((p) => wanted.has(p)).length }))
    .filter(({ shared }) => shared > 1)
    .sort((a, b) => b.shared - a.shared)
    .slice(0, 5)
    .map(({ t }) => t);
}
