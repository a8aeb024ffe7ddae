// @ts-check
/** JSON as text: its tokens, and laid out to be read. Numbers and strings stay as they were written. */

/** @typedef {"key" | "string" | "number" | "literal" | "mark" | "space" | "other"} TokenKind */
/** @typedef {{kind: TokenKind, text: string}} Token */
/** @typedef {{text: string} | {open: string, close: string, items: Item[]}} Value */
/** @typedef {{key?: string, value: Value}} Item */

const TOKEN = /(\s+)|("(?:[^"\\]|\\.)*")(?=(\s*:)?)|(-?\d[\d.eE+-]*)|(true|false|null)|([{}[\],:])|([^])/gy;

/**
 * Every character of the text is in one of the tokens, also where it is no JSON.
 * @param {string} text
 * @returns {Generator<Token>}
 */
export function* tokens(text) {
  for (const [whole, space, string, colon, number, literal, mark] of text.matchAll(TOKEN)) {
    /** @type {TokenKind} */
    let kind = "other";
    if (space) kind = "space";
    else if (string) kind = colon === undefined ? "string" : "key";
    else if (number) kind = "number";
    else if (literal) kind = "literal";
    else if (mark) kind = "mark";
    yield { kind, text: whole };
  }
}

/**
 * Lays JSON out: what holds nothing nested and fits is on one line. What is no JSON is given back as it is.
 * @param {string} text
 * @param {number} [width] how long a line of something with members may be; 0: each member has a line of its own
 */
export function pretty(text, width = 72) {
  try {
    JSON.parse(text);
    const all = [...tokens(text)].filter((t) => t.kind !== "space");
    const [value] = read(all, 0);
    return print(value, "", width);
  } catch {
    return text;
  }
}

/**
 * @param {Token[]} all
 * @param {number} at
 * @returns {[Value, number]} and where the next token is
 */
function read(all, at) {
  const open = all[at]?.text ?? "";
  if (open !== "{" && open !== "[") return [{ text: open }, at + 1];
  const close = open === "{" ? "}" : "]";
  /** @type {Item[]} */
  const items = [];
  at++;
  while (all[at] && all[at].text !== close) {
    let key;
    if (open === "{") {
      key = all[at].text;
      at += 2; // the colon
    }
    const [value, next] = read(all, at);
    items.push(key === undefined ? { value } : { key, value });
    at = all[next]?.text === "," ? next + 1 : next;
  }
  return [{ open, close, items }, at + 1];
}

/**
 * @param {Value} value
 * @param {string} indent
 * @param {number} width
 * @returns {string}
 */
function print(value, indent, width) {
  if ("text" in value) return value.text;
  const { open, close, items } = value;
  if (items.length === 0) return open + close;
  const inner = indent + "  ";
  if (items.every((i) => "text" in i.value || i.value.items.length === 0)) {
    const line = items.map((i) => head(i) + print(i.value, "", width)).join(", ");
    const flat = open === "{" ? `{ ${line} }` : `[${line}]`;
    if (indent.length + flat.length <= width) return flat;
  }
  const lines = items.map((i) => inner + head(i) + print(i.value, inner, width));
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}

/** @param {Item} item */
const head = ({ key }) => (key === undefined ? "" : `${key}: `);
