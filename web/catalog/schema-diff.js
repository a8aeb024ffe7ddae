// @ts-check
/**
 * What changed from one schema to another, place by place, and whom each change may hurt. It compares what the two trees
 * say in the same place of the data; a verdict on compatibility is the server's (schemas:check).
 */
import { equal } from "./schema-model.js";

/** @typedef {import("./schema-model.js").SchemaNode} SchemaNode */

/**
 * @typedef {object} Change
 * @property {"added" | "removed" | "changed"} kind
 * @property {string} key the node's
 * @property {string} path where in the data
 * @property {string} where the same for a person: "train.position", "" for the whole
 * @property {string} keyword
 * @property {string} text in words
 * @property {boolean} [old] what was valid may be no longer: events that are on the log, publishers that have not changed
 * @property {boolean} [newer] what is valid now may not have been: readers that know the old schema only
 * @property {string} [told] what the server says of it
 * @property {SchemaNode} [node] in the newer tree: the node itself, or of one that was removed what it was in
 * @property {SchemaNode} [gone] the node that was removed
 */

/** @typedef {object} Break as schemas:check tells it
 * @property {string} [rule]
 * @property {string} [path]
 * @property {string} [direction]
 * @property {string} [message]
 * @property {number} [version]
 */

/** As many breaks as the server tells at most: then there may be more, and ours count too. */
const MOST_TOLD = 20;
/** Places that are compared at most: a page must not hang on a schema that was made to be large. */
const MOST = 4000;

/**
 * @param {SchemaNode} older
 * @param {SchemaNode} newer
 * @returns {{changes: Change[], whole: boolean}} whole: every place was compared
 */
export function compareSchemas(older, newer) {
  /** @type {Change[]} */
  const changes = [];
  let left = MOST;
  /**
   * @param {SchemaNode} a
   * @param {SchemaNode} b
   */
  const walk = (a, b) => {
    if (--left < 0) return;
    compareNodes(a, b, changes);
    const before = new Map(a.children().map((c, i) => [identity(c, i), c]));
    const after = new Map(b.children().map((c, i) => [identity(c, i), c]));
    for (const [id, child] of after) {
      const was = before.get(id);
      if (was) walk(was, child);
      else changes.push(added(child, b));
    }
    for (const [id, child] of before) if (!after.has(id)) changes.push(removed(child, b));
  };
  walk(older, newer);
  return { changes, whole: left >= 0 };
}

/**
 * What makes two children the same one.
 * @param {SchemaNode} node
 * @param {number} i
 */
function identity(node, i) {
  if (node.kind === "option") return /^option \d+$/.test(node.name) ? `option ${i}` : `option:${node.name}`;
  return node.kind === "choice" ? `choice:${node.name}` : `${node.kind}:${node.name}`;
}

/** @param {SchemaNode} node */
function place(node) {
  const where = node.path.split("/").slice(1).map((t) => (t === "*" ? "[ ]" : t.replaceAll("~1", "/").replaceAll("~0", "~"))).join(".").replaceAll(".[ ]", "[ ]");
  return { key: node.key, path: node.path, where };
}

/**
 * @param {SchemaNode} node
 * @param {SchemaNode} parent
 * @returns {Change}
 */
function added(node, parent) {
  const at = { kind: /** @type {const} */ ("added"), ...place(node), node };
  if (node.kind === "option") return { ...at, keyword: "oneOf", text: `may be this too: ${node.name}`, newer: true };
  if (node.kind === "choice") return { ...at, keyword: "oneOf", text: `now ${node.name} ${node.children().map((c) => c.name).join(", ")}`, old: true };
  if (node.kind === "others" || node.kind === "pattern") return { ...at, keyword: "additionalProperties", text: `now says what ${node.name} holds: ${node.typeText}`, old: true };
  if (node.kind === "item") return { ...at, keyword: "items", text: `now says what ${node.name} is: ${node.typeText}`, old: true };
  const text = `is new, ${node.required ? "a required property" : "an optional property"}: ${node.typeText || "anything"}`;
  // A reader that takes an open object has to expect names it does not know; one of a closed object has not.
  return { ...at, keyword: node.required ? "required" : "properties", text, old: node.required, newer: parent.closed };
}

/**
 * @param {SchemaNode} node
 * @param {SchemaNode} now what it was in
 * @returns {Change}
 */
function removed(node, now) {
  const at = { kind: /** @type {const} */ ("removed"), ...place(node), node: now, gone: node };
  if (node.kind === "option") return { ...at, keyword: "oneOf", text: `may no longer be this: ${node.name}`, old: true };
  if (node.kind === "choice") return { ...at, keyword: "oneOf", text: `no longer ${node.name} ${node.children().map((c) => c.name).join(", ")}`, newer: true };
  if (node.kind !== "property") return { ...at, keyword: "items", text: `no longer says what ${node.name} is`, newer: true };
  return { ...at, keyword: "properties", text: `is gone, ${node.required ? "a required property" : "an optional property"}: ${node.typeText || "anything"}`, old: now.closed, newer: node.required };
}

/**
 * @param {SchemaNode} a
 * @param {SchemaNode} b
 * @param {Change[]} out
 */
function compareNodes(a, b, out) {
  const at = { kind: /** @type {const} */ ("changed"), ...place(b), node: b };
  /**
   * @param {string} keyword
   * @param {string} text
   * @param {boolean} [old]
   * @param {boolean} [newer]
   */
  const say = (keyword, text, old, newer) => void out.push({ ...at, keyword, text, ...(old ? { old } : {}), ...(newer ? { newer } : {}) });

  if (b.kind === "property" && a.required !== b.required) {
    if (b.required) say("required", "is required now", true);
    else say("required", "is no longer required", false, true);
  }
  if (a.kind !== "choice") {
    const [was, is] = [a.types, b.types];
    const lost = was.filter((t) => !is.includes(t) && !(t === "integer" && is.includes("number")));
    const won = is.filter((t) => !was.includes(t) && !(t === "integer" && was.includes("number")));
    if (lost.length || won.length) {
      const all = (/** @type {string[]} */ l) => l.length === 0;
      say("type", `type: was ${a.typeText || "anything"}, is ${b.typeText || "anything"}`, (lost.length > 0 || all(was)) && !all(is), (won.length > 0 || all(is)) && !all(was));
    }
  }
  compareValues(a, b, say);
  for (const [keyword, sign] of /** @type {const} */ ([
    ["minimum", 1], ["exclusiveMinimum", 1], ["minLength", 1], ["minItems", 1], ["minProperties", 1],
    ["maximum", -1], ["exclusiveMaximum", -1], ["maxLength", -1], ["maxItems", -1], ["maxProperties", -1],
  ])) {
    const [was, is] = [a.get(keyword), b.get(keyword)];
    if (was === is) continue;
    const tighter = is !== undefined && (was === undefined || (is - was) * sign > 0);
    say(keyword, words(keyword, was, is), tighter, !tighter);
  }
  for (const keyword of ["format", "pattern", "multipleOf", "propertyNames", "contentEncoding", "contentMediaType", "not", "dependentRequired"]) {
    const [was, is] = [a.get(keyword), b.get(keyword)];
    if (!equal(was, is)) say(keyword, words(keyword, was, is), is !== undefined, was !== undefined);
  }
  if ((a.get("uniqueItems") === true) !== (b.get("uniqueItems") === true)) {
    const now = b.get("uniqueItems") === true;
    say("uniqueItems", now ? "no two items may be alike now" : "items may be alike now", now, !now);
  }
  if (a.closed !== b.closed) say("additionalProperties", b.closed ? "other properties are refused now" : "other properties may be there now", b.closed, !b.closed);
  if (a.elsewhere !== b.elsewhere) say("$ref", words("$ref", a.elsewhere, b.elsewhere), true, true);
  if (a.deprecated !== b.deprecated) say("deprecated", b.deprecated ? "is deprecated now" : "is no longer deprecated");
  if (a.title !== b.title && a.kind !== "option") say("title", words("title", a.title || undefined, b.title || undefined));
  if (a.description !== b.description) say("description", !a.description ? "is described now" : !b.description ? "is no longer described" : "is described in other words");
  if (!equal(a.get("default"), b.get("default"))) say("default", words("default", a.get("default"), b.get("default")));
}

/**
 * @param {SchemaNode} a
 * @param {SchemaNode} b
 * @param {(keyword: string, text: string, old?: boolean, newer?: boolean) => void} say
 */
function compareValues(a, b, say) {
  const [was, is] = [a.values, b.values];
  if (!was && !is) return;
  if (!was) return say("enum", `only ${list(is ?? [])} now`, true);
  if (!is) return say("enum", `no longer only ${list(was)}`, false, true);
  const lost = was.filter((v) => !is.some((w) => equal(v, w)));
  const won = is.filter((v) => !was.some((w) => equal(v, w)));
  if (won.length) say("enum", `may be ${list(won)} too`, false, true);
  if (lost.length) say("enum", `may no longer be ${list(lost)}`, true);
}

/** @param {any[]} values */
function list(values) {
  const shown = values.slice(0, 8).map((v) => JSON.stringify(v));
  return shown.join(", ") + (values.length > 8 ? ` and ${values.length - 8} more` : "");
}

/**
 * @param {string} keyword
 * @param {any} was
 * @param {any} is
 */
function words(keyword, was, is) {
  const text = (/** @type {any} */ v) => (typeof v === "string" ? v : JSON.stringify(v));
  if (was === undefined) return `${keyword}: ${text(is)} is new`;
  if (is === undefined) return `${keyword}: ${text(was)} no longer holds`;
  return `${keyword}: was ${text(was)}, is ${text(is)}`;
}

/**
 * Puts the server's word in the place of ours, in the directions that the type's mode looks at. What it found where no
 * change was seen is a change of its own.
 * @param {Change[]} changes
 * @param {Break[]} breaks
 * @param {string} mode
 * @returns {Change[]}
 */
export function withVerdict(changes, breaks, mode) {
  const all = breaks.length < MOST_TOLD;
  const looked = { old: all && !mode.startsWith("forward"), newer: all && /^(forward|full)/.test(mode) };
  const out = changes.map((c) => ({ ...c, ...(looked.old ? { old: false } : {}), ...(looked.newer ? { newer: false } : {}) }));
  for (const b of breaks) {
    const path = b.path ?? "";
    const side = (b.direction ?? "").startsWith("forward") ? "newer" : "old";
    const there = changes.flatMap((c, i) => (c.path === path ? [i] : []));
    const i = there.find((i) => changes[i]?.[side] && !out[i]?.told) ?? there.find((i) => !out[i]?.told);
    const near = i === undefined ? undefined : out[i];
    const told = b.message ?? b.rule ?? "it breaks";
    if (near) Object.assign(near, { [side]: true, told });
    else out.push({ kind: "changed", key: path, path, where: path.slice(1).replaceAll("/", "."), keyword: b.rule ?? "", text: told, told, [side]: true });
  }
  return out;
}
