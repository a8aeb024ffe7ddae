// @ts-check
/**
 * An example made from a schema: what its examples, defaults and bounds suggest, small, and meant to be valid. What hangs
 * on conditions between properties is not looked at.
 */
import { typeOf } from "./schema-model.js";

/** @typedef {import("./schema-model.js").SchemaNode} SchemaNode */

/** Optional properties deeper than this are left out. */
const DEEPEST = 6;

const FORMATS = /** @type {Record<string, string>} */ ({
  "date-time": "2026-03-01T12:00:00Z", date: "2026-03-01", time: "12:00:00Z", duration: "PT15M", email: "name@example.com",
  "idn-email": "name@example.com", hostname: "example.com", "idn-hostname": "example.com", ipv4: "192.0.2.1", ipv6: "2001:db8::1",
  uri: "https://example.com/", iri: "https://example.com/", "uri-reference": "/example", "iri-reference": "/example",
  "uri-template": "/example/{id}", uuid: "7d444840-9dc0-41d1-b245-5ffdce74fad2", "json-pointer": "/example",
  "relative-json-pointer": "0", regex: "^a+$",
});

/**
 * @param {SchemaNode} node
 * @param {number} [depth]
 * @returns {any} undefined where there is none
 */
export function exampleOf(node, depth = 0) {
  const types = node.types.filter((t) => t !== "null");
  const fits = (/** @type {any} */ v) => types.length === 0 || types.includes(typeOf(v)) || (typeOf(v) === "integer" && types.includes("number"));
  const values = node.values;
  const examples = node.examples.filter(fits);
  if (values?.length) return values.find(fits) ?? values[0];
  // An example of an object may be older than its properties.
  if (examples.length && !types.includes("object")) return examples[0];
  const stated = node.get("default");
  if (stated !== undefined && stated !== null && fits(stated) && typeof stated !== "object") return stated;
  const choice = node.children().filter((c) => c.kind === "choice" && !c.pointer.endsWith("/if") && !/dependen/.test(c.pointer));
  switch (types[0]) {
    case "object":
      return object(node, depth);
    case "array":
      return array(node, depth);
    case "string":
      return string(node);
    case "integer":
    case "number":
      return numeric(node, types[0] === "integer");
    case "boolean":
      return true;
  }
  if (choice.length) return object(node, depth);
  if (node.types.includes("null")) return null;
  return node.same || node.elsewhere ? {} : "example";
}

/**
 * @param {SchemaNode} node
 * @param {number} depth
 */
function object(node, depth) {
  /** @type {Record<string, any>} */
  const out = {};
  const children = node.children();
  for (const c of children) {
    if (c.kind !== "property" || c.never) continue;
    if (c.required || (depth < DEEPEST && !c.same && !c.elsewhere && !c.deprecated)) out[c.name] = exampleOf(c, depth + 1);
  }
  for (const choice of children) {
    if (choice.kind !== "choice" || choice.pointer.endsWith("/if") || /dependen/.test(choice.pointer)) continue;
    const option = choice.children().find((o) => !o.never);
    if (!option) continue;
    const chosen = exampleOf(option, depth);
    if (typeof chosen !== "object" || chosen === null || Array.isArray(chosen)) return chosen;
    const known = new Set(option.children().filter((c) => !c.undeclared).map((c) => c.name));
    for (const [name, value] of Object.entries(chosen)) if (known.has(name) || !(name in out)) out[name] = value;
  }
  const others = children.find((c) => c.kind === "others");
  if (others && Object.keys(out).length === 0) out["example"] = exampleOf(others, depth + 1);
  return out;
}

/**
 * @param {SchemaNode} node
 * @param {number} depth
 */
function array(node, depth) {
  const tuple = node.children().filter((c) => c.kind === "item" && /^item \d+$/.test(c.name));
  const out = tuple.map((c) => exampleOf(c, depth + 1));
  const each = node.children().find((c) => c.name === "each item" || c.name === "each further item") ?? node.item();
  const least = Number(node.get("minItems") ?? 0);
  const most = Number(node.get("maxItems") ?? Infinity);
  const wanted = Math.min(most, Math.max(least, tuple.length || (each && !each.same && depth < DEEPEST ? 1 : 0)), 100);
  for (let i = out.length; i < wanted; i++) {
    const values = each?.values;
    out.push(values?.length ? values[i % values.length] : each ? exampleOf(each, depth + 1) : `example ${i + 1}`);
  }
  return out;
}

/** @param {SchemaNode} node */
function string(node) {
  const pattern = node.get("pattern");
  const [least, most] = [Number(node.get("minLength") ?? 0), Number(node.get("maxLength") ?? Infinity)];
  if (typeof pattern === "string") {
    const made = matching(pattern);
    if (made !== undefined && made.length >= least && made.length <= most) return made;
  }
  const format = FORMATS[String(node.get("format"))];
  if (format) return format;
  const text = node.name && node.kind === "property" ? node.name : "example";
  return text.padEnd(Math.min(least, 10_000), "x").slice(0, most);
}

/**
 * @param {SchemaNode} node
 * @param {boolean} whole
 */
function numeric(node, whole) {
  const get = (/** @type {string} */ k) => (typeof node.get(k) === "number" ? node.get(k) : undefined);
  const step = get("multipleOf") ?? (whole ? 1 : 0);
  const small = step || 1;
  const low = get("minimum") ?? (get("exclusiveMinimum") === undefined ? undefined : get("exclusiveMinimum") + (whole ? 1 : small / 10));
  const high = get("maximum") ?? (get("exclusiveMaximum") === undefined ? undefined : get("exclusiveMaximum") - (whole ? 1 : small / 10));
  let n = 1;
  if (low !== undefined && high !== undefined) n = low + (high - low) / 2;
  else if (low !== undefined) n = Math.max(low, 1);
  else if (high !== undefined) n = Math.min(high, 1);
  if (step) {
    n = Math.floor(n / step) * step;
    if (low !== undefined && n < low) n = Math.ceil(low / step) * step;
    return Number(n.toPrecision(12));
  }
  const round = Math.round(n * 10) / 10;
  return (low === undefined || round >= low) && (high === undefined || round <= high) ? round : n;
}

/**
 * A short text that a regular expression matches, where it is of the plain kind.
 * @param {string} pattern
 * @returns {string | undefined}
 */
export function matching(pattern) {
  let at = 0;
  /** @returns {string} */
  const alternatives = () => {
    const first = sequence();
    while (pattern[at] === "|") {
      at++;
      sequence();
    }
    return first;
  };
  const sequence = () => {
    let out = "";
    while (at < pattern.length && pattern[at] !== "|" && pattern[at] !== ")") out += repeat(atom());
    return out;
  };
  /** @param {string} text */
  const repeat = (text) => {
    const found = /^(?:([*?+])|\{(\d+)(?:,\d*)?\})\??/.exec(pattern.slice(at));
    if (!found) return text;
    at += found[0].length;
    const times = found[1] ? (found[1] === "+" ? 1 : 0) : Number(found[2]);
    if (times > 1000) throw new Error("too long");
    return text.repeat(times);
  };
  const escaped = () => {
    const c = pattern[at++] ?? "";
    const kinds = /** @type {Record<string, string>} */ ({ d: "1", w: "a", s: " ", D: "a", W: "-", S: "a", b: "", B: "", t: "\t", n: "\n", r: "\r" });
    if (c === "p") {
      const name = /^\{(.)[^}]*\}/.exec(pattern.slice(at));
      at += name?.[0].length ?? 0;
      return name?.[1] === "N" ? "1" : "A";
    }
    if (/[1-9kPux]/.test(c)) throw new Error("not of the plain kind");
    return kinds[c] ?? c;
  };
  const atom = () => {
    const c = pattern[at++] ?? "";
    if (c === "^" || c === "$") return "";
    if (c === ".") return "a";
    if (c === "\\") return escaped();
    if (c === "(") {
      const kind = /^\?(?::|<\w+>)/.exec(pattern.slice(at));
      if (pattern[at] === "?" && !kind) throw new Error("not of the plain kind");
      at += kind?.[0].length ?? 0;
      const inner = alternatives();
      at++; // the closing one
      return inner;
    }
    if (c === "[") {
      if (pattern[at] === "^") throw new Error("not of the plain kind");
      const first = pattern[at] === "\\" ? (at++, escaped()) : (pattern[at++] ?? "");
      while (at < pattern.length && pattern[at] !== "]") at += pattern[at] === "\\" ? 2 : 1;
      at++;
      return first;
    }
    return c;
  };
  try {
    const made = alternatives();
    return at === pattern.length && new RegExp(pattern, "u").test(made) ? made : undefined;
  } catch {
    return undefined;
  }
}
