// @ts-check
/** An event type's name, and the few words that stand beside it wherever it is listed. */
import { make } from "../page/dom.js";
import { dayWords, isPattern, nameParts } from "./catalog-words.js";

/** @typedef {import("./api.js").EventType} EventType */

/**
 * The name with its parts told apart, and what was searched for marked. It may break after its dots.
 * @param {string} name
 * @param {string[]} [words] in lower case
 * @returns {Node[]}
 */
export function typeName(name, words = []) {
  const classes = ["owner", "thing", "version"];
  return nameParts(name).flatMap((part, i) => (part ? [make("span", { class: classes[i] }, ...marked(part, words))] : []));
}

/**
 * @param {string} text
 * @param {string[]} words
 * @returns {Node[]}
 */
function marked(text, words) {
  const lower = text.toLowerCase();
  const hits = new Uint8Array(text.length);
  for (const w of words) for (let at = lower.indexOf(w); at >= 0; at = lower.indexOf(w, at + w.length)) hits.fill(1, at, at + w.length);
  /** @type {Node[]} */
  const out = [];
  for (let i = 0; i < text.length; ) {
    let end = i + 1;
    while (end < text.length && hits[end] === hits[i] && text[end - 1] !== ".") end++;
    const piece = text.slice(i, end);
    out.push(hits[i] ? make("mark", {}, piece) : document.createTextNode(piece));
    if (piece.endsWith(".")) out.push(make("wbr"));
    i = end;
  }
  return out;
}

/**
 * @param {EventType} type
 * @param {boolean} all also what the type's page has a place of its own for
 */
export function badges(type, all) {
  const out = [];
  if (type.deprecation) out.push(make("span", { class: "badge deprecated" }, type.deprecation.date ? `deprecated, until ${dayWords(type.deprecation.date)}` : "deprecated"));
  if (isPattern(type)) out.push(make("span", { class: "badge pattern" }, "pattern"));
  if (type.personal) out.push(make("span", { class: "badge personal" }, "personal data"));
  out.push(make("span", { class: `badge ${type.audience}` }, type.audience));
  if (all) {
    out.push(make("span", { class: "badge plain" }, make("span", { class: "unseen" }, "stream "), type.stream));
    if (type.owner && type.owner !== "local") out.push(make("span", { class: "badge plain" }, make("span", { class: "unseen" }, "owner "), type.owner));
  }
  out.push(make("span", { class: "badge plain" }, type.latestVersion ? `schema v${type.latestVersion}` : isPattern(type) ? "many types" : "no schema"));
  return out;
}
