// @ts-check
/**
 * <schema-tree>: a schema as a tree (the ARIA pattern): arrows move and open, Home and End go to the ends, letters to the
 * next name that begins with them. Each place has an address and a JSON Pointer to copy. Changes between two versions are
 * marked where they are.
 */
import { make } from "../page/dom.js";
import { copyButton } from "./code-block.js";

/** @typedef {import("./schema-model.js").SchemaNode} SchemaNode */
/** @typedef {import("./schema-diff.js").Change} Change */

/**
 * @typedef {object} Shown
 * @property {SchemaNode} root
 * @property {string} label
 * @property {(key: string) => string} [link] the address of a place
 * @property {(change: Change) => HTMLElement} [describe] what a change means
 * @property {Change[]} [changes]
 */

/** Rows that are open at first, about as many as fit a screen or two. */
const FIRST_ROWS = 36;
/** Rows that are opened at once by "Open all". */
const MOST_ROWS = 2000;

export class SchemaTree extends HTMLElement {
  /** @type {Shown | undefined} */ #shown;
  /** @type {WeakMap<Element, SchemaNode>} */ #nodes = new WeakMap();
  /** @type {Map<SchemaNode, Change[]>} */ #changes = new Map();
  /** @type {Map<SchemaNode, SchemaNode[]>} */ #gone = new Map();
  #tree = make("ul", { role: "tree" });
  #typed = "";
  #typedAt = 0;

  constructor() {
    super();
    this.#tree.addEventListener("keydown", (e) => this.#key(e));
    this.#tree.addEventListener("click", (e) => this.#click(e));
    this.#tree.addEventListener("focusin", (e) => {
      const item = e.target instanceof Element ? e.target.closest("[role=treeitem]") : null;
      if (item instanceof HTMLElement) this.#rove(item);
    });
  }

  /** @param {Shown} shown */
  show(shown) {
    this.#shown = shown;
    this.#changes = new Map();
    this.#gone = new Map();
    /** @type {Set<SchemaNode>} */
    const opened = new Set();
    for (const change of shown.changes ?? []) {
      const { node, gone } = change;
      if (!node) continue;
      const place = gone ?? node;
      this.#changes.set(place, [...(this.#changes.get(place) ?? []), change]);
      if (gone) this.#gone.set(node, [...(this.#gone.get(node) ?? []), gone]);
      for (let at = gone ? node : node.parent; at; at = at.parent) opened.add(at);
    }
    this.#tree.setAttribute("aria-label", shown.label);
    const root = this.#item(shown.root, 1);
    this.#tree.replaceChildren(root);
    this.replaceChildren(this.#tree);
    this.#open(root);
    if (shown.changes) this.#openWhere((n) => opened.has(n), MOST_ROWS);
    else this.#openWhere((n) => !n.same && !n.deprecated, FIRST_ROWS);
    root.tabIndex = 0;
  }

  openAll() {
    this.#openWhere(() => true, MOST_ROWS);
  }

  closeAll() {
    for (const item of this.#tree.querySelectorAll("[role=treeitem][aria-expanded=true]")) {
      if (item !== this.#tree.firstElementChild) item.setAttribute("aria-expanded", "false");
    }
  }

  /**
   * Opens breadth first, so that what is above is whole before what is below begins.
   * @param {(node: SchemaNode) => boolean} which
   * @param {number} rows
   */
  #openWhere(which, rows) {
    let items = [...this.#tree.children];
    let shown = items.length;
    while (items.length) {
      /** @type {Element[]} */
      const next = [];
      for (const item of items) {
        const node = this.#nodes.get(item);
        if (!node || !item.hasAttribute("aria-expanded")) continue;
        const children = this.#childrenOf(node).length;
        if (node.parent && (!which(node) || shown + children > rows)) continue;
        this.#open(/** @type {HTMLElement} */ (item));
        shown += children;
        next.push(...(item.querySelector(":scope > ul")?.children ?? []));
      }
      items = next;
    }
  }

  /**
   * Shows a place and gives it the focus.
   * @param {string} key
   * @param {boolean} [focus]
   * @returns {boolean} whether there is such a place
   */
  reveal(key, focus = true) {
    const first = this.#tree.firstElementChild;
    const found = first instanceof HTMLElement ? this.#find(first, key) : undefined;
    if (!found) return false;
    for (let at = found.parentElement?.closest("[role=treeitem]"); at; at = at.parentElement?.closest("[role=treeitem]") ?? null) {
      at.setAttribute("aria-expanded", "true");
    }
    for (const old of this.#tree.querySelectorAll(".target")) old.classList.remove("target");
    found.classList.add("target");
    if (focus) this.#rove(found).focus({ preventScroll: true });
    found.querySelector(".row")?.scrollIntoView({ block: "center" });
    return true;
  }

  /**
   * @param {HTMLElement} item
   * @param {string} key
   * @returns {HTMLElement | undefined}
   */
  #find(item, key) {
    const node = this.#nodes.get(item);
    if (!node) return undefined;
    if (node.key === key) return item;
    if (!key.startsWith(node.key) || !item.hasAttribute("aria-expanded")) return undefined;
    const was = item.getAttribute("aria-expanded");
    this.#open(item);
    for (const child of item.querySelector(":scope > ul")?.children ?? []) {
      const found = this.#find(/** @type {HTMLElement} */ (child), key);
      if (found) return found;
    }
    item.setAttribute("aria-expanded", was ?? "false");
    return undefined;
  }

  /** @param {SchemaNode} node */
  #childrenOf(node) {
    return [...node.children(), ...(this.#gone.get(node) ?? [])];
  }

  /**
   * @param {SchemaNode} node
   * @param {number} level
   * @returns {HTMLElement}
   */
  #item(node, level) {
    const children = this.#childrenOf(node);
    const changes = this.#changes.get(node) ?? [];
    const facts = node.facts();
    const item = make("li", {
      role: "treeitem",
      "aria-level": level,
      tabindex: -1,
      "aria-expanded": children.length ? "false" : undefined,
      "aria-label": this.#spoken(node, facts, changes),
      "data-kind": node.kind,
      "data-key": node.key,
    });
    if (changes.length) item.dataset["change"] = changes.some((c) => c.kind === "added") ? "added" : changes.some((c) => c.kind === "removed") ? "removed" : "changed";
    this.#nodes.set(item, node);

    const head = make("div", { class: "row" }, make("span", { class: "twist", "aria-hidden": "true" }), make("span", { class: "name" }, node.name));
    if (node.typeText) head.append(make("span", { class: "kind" }, node.typeText));
    if (node.required && node.kind === "property") head.append(make("span", { class: "required" }, "required"));
    if (node.deprecated) head.append(make("span", { class: "badge deprecated" }, "deprecated"));
    for (const fact of facts) head.append(make(fact.code ? "code" : "span", { class: "fact" }, fact.text));
    if (this.#shown?.link && node.kind !== "choice") {
      head.append(
        make("span", { class: "actions" },
          make("a", { href: this.#shown.link(node.key), tabindex: -1, "aria-label": `Address of ${node.name}`, title: `Address of this place (schema ${node.pointer || "/"})` }, "#"),
          tabless(copyButton(() => node.path, `Copy the JSON Pointer ${node.path || "of the whole"}`, "Pointer")),
        ),
      );
    }
    item.append(head, ...this.#more(node, changes));
    return item;
  }

  /**
   * @param {SchemaNode} node
   * @param {Change[]} changes
   */
  #more(node, changes) {
    const out = [];
    if (changes.length && this.#shown?.describe) out.push(make("ul", { class: "changes" }, ...changes.map(this.#shown.describe)));
    const text = [node.title && node.title !== node.name ? node.title : "", node.description].filter(Boolean).join(": ");
    if (text) out.push(make("p", { class: "says" }, text));
    const { values, same, elsewhere } = node;
    if (values) {
      const shown = values.slice(0, 30).map((v) => make("code", {}, JSON.stringify(v)));
      out.push(make("p", { class: "values" }, make("span", {}, values.length === 1 ? "always" : "one of"), ...shown, values.length > 30 ? `and ${values.length - 30} more` : ""));
    } else if (node.examples.length && node.children().length === 0) {
      out.push(make("p", { class: "values" }, make("span", {}, "such as"), ...node.examples.slice(0, 4).map((v) => make("code", {}, JSON.stringify(v)))));
    }
    if (same) {
      const name = same.parent ? node.names.at(-1) || same.name : "data";
      out.push(make("p", { class: "says" }, "↻ the same again as ", this.#shown?.link ? make("a", { href: this.#shown.link(same.key), tabindex: -1 }, name) : name));
    }
    if (elsewhere) {
      const of = /\/v1\/event-types\/([^/]+)\/schemas\/(\d+)/.exec(elsewhere);
      out.push(make("p", { class: "says" }, "as defined in ", of ? make("a", { href: `#/${of[1]}/versions/${of[2]}`, tabindex: -1 }, `${decodeURIComponent(of[1] ?? "")}, version ${of[2]}`) : make("code", {}, elsewhere)));
    }
    return out;
  }

  /**
   * @param {SchemaNode} node
   * @param {import("./schema-model.js").Fact[]} facts
   * @param {Change[]} changes
   */
  #spoken(node, facts, changes) {
    const parts = [node.name, node.typeText, node.required && node.kind === "property" ? "required" : "", node.deprecated ? "deprecated" : "", ...facts.map((f) => f.text)];
    if (node.values) parts.push(`one of ${node.values.slice(0, 10).map((v) => JSON.stringify(v)).join(", ")}`);
    if (node.same) parts.push("the same again as above");
    for (const c of changes) parts.push(`${c.kind}: ${c.text}`);
    return [parts.filter(Boolean).join(", "), node.description].filter(Boolean).join(". ");
  }

  /** @param {HTMLElement} item */
  #open(item) {
    const node = this.#nodes.get(item);
    if (!node || !item.hasAttribute("aria-expanded")) return;
    if (!item.querySelector(":scope > ul[role=group]")) {
      const level = Number(item.getAttribute("aria-level")) + 1;
      item.append(make("ul", { role: "group" }, ...this.#childrenOf(node).map((c) => this.#item(c, level))));
    }
    item.setAttribute("aria-expanded", "true");
  }

  /** @param {HTMLElement} item */
  #toggle(item) {
    if (item.getAttribute("aria-expanded") === "true") item.setAttribute("aria-expanded", "false");
    else this.#open(item);
  }

  /**
   * One item, and what is in its row, takes the focus by Tab.
   * @param {HTMLElement} item
   */
  #rove(item) {
    for (const old of this.#tree.querySelectorAll('[role=treeitem][tabindex="0"]')) {
      if (old === item) continue;
      /** @type {HTMLElement} */ (old).tabIndex = -1;
      for (const e of own(old)) e.tabIndex = -1;
    }
    item.tabIndex = 0;
    for (const e of own(item)) e.tabIndex = 0;
    return item;
  }

  /** @param {MouseEvent} e */
  #click(e) {
    if (!(e.target instanceof Element) || e.target.closest("a, button, code")) return;
    const item = e.target.closest("[role=treeitem]");
    if (!(item instanceof HTMLElement) || !e.target.closest(".row") || getSelection()?.type === "Range") return;
    this.#rove(item).focus({ preventScroll: true });
    this.#toggle(item);
  }

  /** @returns {HTMLElement[]} the items that can be seen, in order */
  #visible() {
    return [...this.#tree.querySelectorAll("[role=treeitem]")].filter((i) => i instanceof HTMLElement && !i.parentElement?.closest('[aria-expanded="false"]')).map((i) => /** @type {HTMLElement} */ (i));
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    const item = e.target;
    if (!(item instanceof HTMLElement) || item.getAttribute("role") !== "treeitem" || e.ctrlKey || e.metaKey || e.altKey) return;
    const all = this.#visible();
    const at = all.indexOf(item);
    const expanded = item.getAttribute("aria-expanded");
    /** @type {HTMLElement | undefined} */
    let to;
    switch (e.key) {
      case "ArrowDown":
        to = all[at + 1];
        break;
      case "ArrowUp":
        to = all[at - 1];
        break;
      case "Home":
        to = all[0];
        break;
      case "End":
        to = all.at(-1);
        break;
      case "ArrowRight":
        if (expanded === "false") this.#open(item);
        else if (expanded) to = all[at + 1];
        break;
      case "ArrowLeft": {
        const parent = item.parentElement?.closest("[role=treeitem]");
        if (expanded === "true") item.setAttribute("aria-expanded", "false");
        else if (parent instanceof HTMLElement) to = parent;
        break;
      }
      case "Enter":
      case " ":
        if (expanded) this.#toggle(item);
        else /** @type {HTMLElement | null} */ (item.querySelector(":scope > .says a"))?.click();
        break;
      case "*":
        for (const sibling of item.parentElement?.children ?? []) this.#open(/** @type {HTMLElement} */ (sibling));
        break;
      default:
        if (e.key.length !== 1 || e.key === "/") return;
        to = this.#startingWith(e.key, all, at);
        if (!to) return;
    }
    e.preventDefault();
    e.stopPropagation();
    if (to) {
      this.#rove(to).focus({ preventScroll: true });
      to.querySelector(".row")?.scrollIntoView({ block: "nearest" });
    }
  }

  /**
   * @param {string} letter
   * @param {HTMLElement[]} all
   * @param {number} at
   */
  #startingWith(letter, all, at) {
    const now = performance.now();
    this.#typed = now - this.#typedAt < 700 ? this.#typed + letter : letter;
    this.#typedAt = now;
    const from = this.#typed.length > 1 ? at : at + 1;
    const typed = this.#typed.toLowerCase();
    return [...all.slice(from), ...all.slice(0, from)].find((i) => this.#nodes.get(i)?.name.toLowerCase().startsWith(typed));
  }
}

/** @param {HTMLElement} e */
function tabless(e) {
  e.tabIndex = -1;
  return e;
}

/**
 * What in an item's own row takes the focus.
 * @param {Element} item
 * @returns {HTMLElement[]}
 */
const own = (item) => [...item.querySelectorAll(":scope > .row a, :scope > .row button, :scope > .says a")].map((e) => /** @type {HTMLElement} */ (e));
