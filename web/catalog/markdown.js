// @ts-check
/**
 * The part of Markdown that documentation is written in: headings, paragraphs, lists, quotes, code, emphasis, links.
 * Markup in the text stays text; a link leads to http or https or is none. The time it takes grows with the text's length.
 */

/**
 * @typedef {{kind: "text" | "code", text: string}
 *   | {kind: "strong" | "emphasis", inline: Inline[]}
 *   | {kind: "link", href: string, inline: Inline[]}
 *   | {kind: "break"}} Inline
 * @typedef {{kind: "heading", level: number, inline: Inline[]}
 *   | {kind: "paragraph", inline: Inline[]}
 *   | {kind: "code", language: string, text: string}
 *   | {kind: "list", ordered: boolean, start: number, items: Block[][]}
 *   | {kind: "quote", blocks: Block[]}
 *   | {kind: "table", head: Inline[][], rows: Inline[][][]}
 *   | {kind: "rule"}} Block
 */

/** Lists and quotes within each other, deeper than this, are text. */
const DEEPEST = 8;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+-]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const QUOTE = /^ {0,3}> ?/;
const DIVIDER = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

const LINK = /\[([^[\]]*)\]\(\s*([^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+"[^"]*")?\s*\)/y;

/**
 * @param {string} text
 * @returns {Block[]}
 */
export function parse(text) {
  return blocks(text.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"), 0);
}

/**
 * @param {string[]} lines
 * @param {number} depth
 * @returns {Block[]}
 */
function blocks(lines, depth) {
  /** @type {Block[]} */
  const out = [];
  let i = 0;
  /** @type {string[]} */
  let paragraph = [];
  const close = () => {
    if (paragraph.length) out.push({ kind: "paragraph", inline: inline(paragraph.join("\n")) });
    paragraph = [];
  };
  while (i < lines.length) {
    const line = lines[i] ?? "";
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    const item = depth < DEEPEST ? ITEM.exec(line) : null;
    if (!line.trim()) {
      close();
      i++;
    } else if (fence) {
      close();
      const mark = fence[1] ?? "```";
      /** @type {string[]} */
      const code = [];
      for (i++; i < lines.length && !(lines[i] ?? "").trimStart().startsWith(mark); i++) code.push(lines[i] ?? "");
      i++;
      out.push({ kind: "code", language: fence[2] ?? "", text: code.join("\n") });
    } else if (heading) {
      close();
      out.push({ kind: "heading", level: (heading[1] ?? "#").length, inline: inline(heading[2] ?? "") });
      i++;
    } else if (RULE.test(line)) {
      close();
      out.push({ kind: "rule" });
      i++;
    } else if (QUOTE.test(line) && depth < DEEPEST) {
      close();
      /** @type {string[]} */
      const inner = [];
      for (; i < lines.length && QUOTE.test(lines[i] ?? ""); i++) inner.push((lines[i] ?? "").replace(QUOTE, ""));
      out.push({ kind: "quote", blocks: blocks(inner, depth + 1) });
    } else if (item && (paragraph.length === 0 || item[3])) {
      close();
      i = list(lines, i, depth, out);
    } else if (line.includes("|") && DIVIDER.test(lines[i + 1] ?? "") && (lines[i + 1] ?? "").includes("-") && paragraph.length === 0) {
      const head = cells(line);
      /** @type {Inline[][][]} */
      const rows = [];
      for (i += 2; i < lines.length && (lines[i] ?? "").includes("|"); i++) rows.push(cells(lines[i] ?? ""));
      out.push({ kind: "table", head, rows });
    } else {
      paragraph.push(line.trimStart());
      i++;
    }
  }
  close();
  return out;
}

/** @param {string} line */
const cells = (line) => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((c) => inline(c.trim()));

/**
 * @param {string[]} lines
 * @param {number} i where it begins
 * @param {number} depth
 * @param {Block[]} out
 * @returns {number} where it has ended
 */
function list(lines, i, depth, out) {
  const first = /** @type {RegExpExecArray} */ (ITEM.exec(lines[i] ?? ""));
  const ordered = /\d/.test(first[2] ?? "");
  /** @type {Block[][]} */
  const items = [];
  while (i < lines.length) {
    const begin = ITEM.exec(lines[i] ?? "");
    if (!begin || /\d/.test(begin[2] ?? "") !== ordered || RULE.test(lines[i] ?? "")) break;
    const indent = (begin[1] ?? "").length + (begin[2] ?? "").length + Math.min((begin[3] ?? " ").length || 1, 4);
    const inner = [(lines[i] ?? "").slice(indent)];
    for (i++; i < lines.length; i++) {
      const line = lines[i] ?? "";
      const deep = /^ */.exec(line)?.[0].length ?? 0;
      if (!line.trim()) {
        // A blank line belongs to the item if what follows it does.
        const next = lines[i + 1] ?? "";
        if (!next.trim() || (/^ */.exec(next)?.[0].length ?? 0) < indent) break;
        inner.push("");
      } else if (deep >= indent) {
        inner.push(line.slice(indent));
      } else if (ITEM.test(line) || FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || !(inner.at(-1) ?? "").trim()) {
        break;
      } else {
        inner.push(line.trimStart());
      }
    }
    items.push(blocks(inner, depth + 1));
    // One blank line between two items.
    if (!(lines[i] ?? "").trim() && ITEM.test(lines[i + 1] ?? "")) i++;
  }
  out.push({ kind: "list", ordered, start: parseInt(first[2] ?? "1", 10) || 1, items });
  return i;
}

/**
 * @param {string} text
 * @param {number} [depth]
 * @returns {Inline[]}
 */
function inline(text, depth = 0) {
  /** @type {Inline[]} */
  const out = [];
  let plain = "";
  /** Marks that have no end any more: looking for it again would make the time quadratic. @type {Set<string>} */
  const lost = new Set();
  const flush = () => {
    if (plain) out.push({ kind: "text", text: plain });
    plain = "";
  };
  /**
   * @param {string} mark
   * @param {number} from
   */
  const endOf = (mark, from) => {
    if (lost.has(mark)) return -1;
    const at = text.indexOf(mark, from);
    if (at < 0) lost.add(mark);
    return at;
  };
  for (let i = 0; i < text.length; ) {
    const c = text[i] ?? "";
    if (c === "\\" && /[!-/:-@[-`{-~]/.test(text[i + 1] ?? "")) {
      plain += text[i + 1];
      i += 2;
      continue;
    }
    if (c === "`") {
      const mark = /^`+/.exec(text.slice(i, i + 16))?.[0] ?? "`";
      const end = endOf(mark, i + mark.length);
      if (end > 0) {
        flush();
        out.push({ kind: "code", text: text.slice(i + mark.length, end).replaceAll("\n", " ").trim() });
        i = end + mark.length;
        continue;
      }
      plain += mark;
      i += mark.length;
      continue;
    }
    if ((c === "*" || c === "_") && depth < DEEPEST && !(c === "_" && /\w/.test(text[i - 1] ?? ""))) {
      const mark = text[i + 1] === c ? c + c : c;
      const from = i + mark.length;
      const end = /\s/.test(text[from] ?? " ") ? -1 : endOf(mark, from + 1);
      if (end > from && !/\s/.test(text[end - 1] ?? " ") && !(c === "_" && /\w/.test(text[end + mark.length] ?? ""))) {
        flush();
        out.push({ kind: mark.length === 2 ? "strong" : "emphasis", inline: inline(text.slice(from, end), depth + 1) });
        i = end + mark.length;
        continue;
      }
      plain += mark;
      i = from;
      continue;
    }
    if (c === "[" && depth < DEEPEST) {
      LINK.lastIndex = i;
      const found = LINK.exec(text);
      if (found) {
        const [whole, label = "", address = ""] = found;
        const href = safe(address);
        flush();
        if (href) out.push({ kind: "link", href, inline: inline(label, depth + 1) });
        else out.push(...inline(label, depth + 1));
        i += whole.length;
        continue;
      }
    }
    if (c === "<" || (c === "h" && !/\w/.test(text[i - 1] ?? ""))) {
      const found = /^<?(https?:\/\/[^\s<>"'`)\]]+)/.exec(text.slice(i, i + 2048));
      const closed = c !== "<" || text[i + (found?.[0].length ?? 0)] === ">";
      const address = (found?.[1] ?? "").replace(c === "<" ? /$^/ : /[.,;:!?]+$/, "");
      const href = found && closed ? safe(address) : "";
      if (href) {
        flush();
        out.push({ kind: "link", href, inline: [{ kind: "text", text: address }] });
        i += address.length + (c === "<" ? 2 : 0);
        continue;
      }
    }
    if (c === "\n" && plain.endsWith("  ")) {
      plain = plain.trimEnd();
      flush();
      out.push({ kind: "break" });
      i++;
      continue;
    }
    plain += c;
    i++;
  }
  flush();
  return out;
}

/**
 * @param {string} address
 * @returns {string} "" where it is not one of the web
 */
function safe(address) {
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return "";
  return new URL(address).href;
}

/**
 * @param {Block[]} all
 * @param {number} top the level in the page of the document's highest headings
 * @returns {DocumentFragment}
 */
export function render(all, top) {
  const highest = Math.min(6, ...all.map((b) => (b.kind === "heading" ? b.level : 6)));
  return elements(all, top - highest);
}

/**
 * @param {Block[]} all
 * @param {number} shift from a heading's level to that in the page
 * @returns {DocumentFragment}
 */
function elements(all, shift) {
  const fragment = document.createDocumentFragment();
  for (const block of all) fragment.append(element(block, shift));
  return fragment;
}

/**
 * @param {Block} block
 * @param {number} shift
 * @returns {HTMLElement}
 */
function element(block, shift) {
  /**
   * @param {string} name
   * @param {(Node | string)[]} children
   */
  const make = (name, children) => {
    const e = document.createElement(name);
    e.append(...children);
    return e;
  };
  switch (block.kind) {
    case "heading":
      return make(`h${Math.max(1, Math.min(6, block.level + shift))}`, phrases(block.inline));
    case "paragraph":
      return make("p", phrases(block.inline));
    case "code": {
      const pre = make("pre", [make("code", [block.text])]);
      pre.tabIndex = 0; // what scrolls can be scrolled by keyboard
      return pre;
    }
    case "list": {
      const e = make(block.ordered ? "ol" : "ul", block.items.map((item) => make("li", tight(item, shift))));
      if (block.ordered && block.start !== 1) e.setAttribute("start", String(block.start));
      return e;
    }
    case "quote":
      return make("blockquote", [elements(block.blocks, shift)]);
    case "table":
      return make("table", [
        make("thead", [make("tr", block.head.map((c) => make("th", phrases(c))))]),
        make("tbody", block.rows.map((r) => make("tr", r.map((c) => make("td", phrases(c)))))),
      ]);
    case "rule":
      return make("hr", []);
  }
}

/**
 * An item that is one paragraph stands without its margins.
 * @param {Block[]} item
 * @param {number} shift
 */
function tight(item, shift) {
  return item.flatMap((b, i) => (i === 0 && b.kind === "paragraph" ? phrases(b.inline) : [element(b, shift)]));
}

/**
 * @param {Inline[]} all
 * @returns {(Node | string)[]}
 */
function phrases(all) {
  return all.map((part) => {
    if (part.kind === "text") return part.text;
    const names = { code: "code", strong: "strong", emphasis: "em", link: "a", break: "br" };
    const e = document.createElement(names[part.kind]);
    if ("text" in part) e.append(part.text);
    if ("inline" in part) e.append(...phrases(part.inline));
    if (part.kind === "link") {
      e.setAttribute("href", part.href);
      e.setAttribute("rel", "noopener noreferrer");
    }
    return e;
  });
}
