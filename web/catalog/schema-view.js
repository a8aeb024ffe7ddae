// @ts-check
/** <schema-view>: one version of a type's schema as a tree or as text, or what changed between two. */
import { make, write } from "../page/dom.js";
import { checkSchema, getSchema } from "./api.js";
import { codeBlock, copyButton } from "./code-block.js";
import { pretty } from "./json-text.js";
import { format } from "./route.js";
import { compareSchemas, withVerdict } from "./schema-diff.js";
import { SchemaDocument } from "./schema-model.js";
import { SchemaTree } from "./schema-tree.js";
import { diffLines, folded } from "./text-diff.js";

/** @typedef {import("./api.js").EventType} EventType */
/** @typedef {import("./api.js").Version} Version */
/** @typedef {import("./route.js").TypeRoute} TypeRoute */
/** @typedef {import("./schema-diff.js").Change} Change */

export class SchemaView extends HTMLElement {
  /** @type {EventType | undefined} */ #type;
  /** @type {Version[]} */ #versions = [];
  /** @type {TypeRoute} */ #route = { page: "type", type: "" };
  /** What is shown, so that going to a place in it does not build it anew. */
  #showing = "";
  /** @type {AbortController | undefined} */ #loading;
  #bar = make("div", { class: "tools" });
  #body = make("div", { class: "body" });
  /** @type {SchemaTree | undefined} */ #tree;

  connectedCallback() {
    if (!this.childElementCount) this.append(this.#bar, this.#body);
  }

  disconnectedCallback() {
    this.#loading?.abort();
  }

  /**
   * @param {EventType} type
   * @param {Version[]} versions newest first
   * @param {TypeRoute} route
   */
  async show(type, versions, route) {
    this.#type = type;
    this.#versions = versions;
    this.#route = route;
    const [from, to] = route.compare ?? [0, route.version ?? type.latestVersion ?? 0];
    const showing = `${type.type} ${from} ${to} ${route.view ?? "tree"}`;
    this.#tools(from, to);
    if (showing !== this.#showing) {
      this.#showing = showing;
      this.#loading?.abort();
      this.#loading = new AbortController();
      const { signal } = this.#loading;
      this.#body.setAttribute("aria-busy", "true");
      try {
        const newer = await getSchema(type.type, to, signal);
        const older = from ? await getSchema(type.type, from, signal) : "";
        if (signal.aborted) return;
        this.#tree = undefined;
        if (from) await this.#compare(from, older, to, newer, signal);
        else this.#one(to, newer);
      } catch (error) {
        if (signal.aborted) return;
        this.#showing = "";
        this.#failed(error instanceof Error ? error.message : String(error));
      } finally {
        this.#body.removeAttribute("aria-busy");
      }
    }
    if (route.at !== undefined && this.#tree && !this.#tree.reveal(route.at)) {
      this.#body.prepend(make("p", { class: "notice" }, "The place that the address names is not in this version."));
    }
  }

  /** @param {string} message */
  #failed(message) {
    const again = make("button", { type: "button" }, "Try again");
    again.addEventListener("click", () => this.#type && void this.show(this.#type, this.#versions, this.#route));
    this.#body.replaceChildren(make("div", { class: "notice bad" }, make("p", {}, `The schema could not be read. ${message}`), again));
  }

  /**
   * @param {number} from 0: one version is shown
   * @param {number} to
   */
  #tools(from, to) {
    const base = { page: /** @type {const} */ ("type"), type: this.#route.type };
    const latest = this.#type?.latestVersion ?? 0;
    const { view } = this.#route;
    const look = view ? { view } : {};
    /**
     * @param {string} label
     * @param {[number, string][]} options
     * @param {number} chosen
     * @param {(n: number) => import("./route.js").TypeRoute} to
     */
    const choose = (label, options, chosen, to) => {
      const select = make("select", { "aria-label": label }, ...options.map(([n, text]) => make("option", { value: n, selected: n === chosen }, text)));
      select.addEventListener("change", () => (location.hash = format(to(Number(select.value)))));
      return select;
    };
    const names = this.#versions.map((v) => /** @type {[number, string]} */ ([v.version, `Version ${v.version}${v.version === latest ? ", latest" : ""}`]));
    /** @type {(n: number) => TypeRoute} */
    const one = (n) => (n === latest ? { ...base, section: "schema", ...look } : { ...base, version: n, ...look });
    this.#bar.replaceChildren(choose("Version", names, to, (n) => (from && from !== n ? { ...base, compare: [from, n], ...look } : one(n))));
    if (names.length > 1) {
      this.#bar.append(
        choose("Compared with", [[0, "Compare with …"], ...names.filter(([n]) => n !== to).map(([n]) => /** @type {[number, string]} */ ([n, `compared with ${n}`]))], from, (n) => (n ? { ...base, compare: [n, to], ...look } : one(to))),
      );
      if (from) this.#bar.append(make("a", { class: "plainly", href: format(one(to)) }, "Stop comparing"));
    }
    const tabs = make("div", { class: "tabs", role: "group", "aria-label": "Show as" });
    for (const [name, text] of /** @type {const} */ ([["tree", "Tree"], ["text", "Text"]])) {
      const button = make("button", { type: "button", "aria-pressed": String((view ?? "tree") === name) }, text);
      button.addEventListener("click", () => {
        /** @type {TypeRoute} */
        const next = from ? { ...base, compare: [from, to] } : one(to);
        delete next.view;
        location.hash = format(name === "text" ? { ...next, view: "text" } : next);
      });
      tabs.append(button);
    }
    this.#bar.append(make("span", { class: "spring" }), tabs);
  }

  /**
   * @param {number} version
   * @param {string} text
   */
  #one(version, text) {
    const { type } = this.#route;
    const url = this.#versions.find((v) => v.version === version)?.url ?? "";
    const address = make("p", { class: "address" }, make("span", { class: "quiet" }, "Address, as in the events’ dataschema: "), make("a", { href: url }, url), copyButton(() => url, "Copy the schema's address"));
    if (this.#route.view === "text") {
      this.#body.replaceChildren(codeBlock(pretty(text), "json", `schema of ${type}, version ${version}`), address);
      return;
    }
    const root = new SchemaDocument(JSON.parse(text), url).root();
    const tree = new SchemaTree();
    const latest = version === this.#type?.latestVersion;
    const link = (/** @type {string} */ at) => format(latest ? { page: "type", type, section: "schema", at } : { page: "type", type, version, at });
    tree.show({ root, label: `Schema of ${type}, version ${version}`, link });
    this.#tree = tree;
    this.#body.replaceChildren(this.#openers(tree), tree, address);
  }

  /** @param {SchemaTree} tree */
  #openers(tree) {
    const all = make("button", { type: "button", class: "plainly" }, "Open all");
    all.addEventListener("click", () => tree.openAll());
    const none = make("button", { type: "button", class: "plainly" }, "Close all");
    none.addEventListener("click", () => tree.closeAll());
    return make("p", { class: "openers" }, all, none);
  }

  /**
   * @param {number} from
   * @param {string} older
   * @param {number} to
   * @param {string} newer
   * @param {AbortSignal} signal
   */
  async #compare(from, older, to, newer, signal) {
    const { type } = this.#route;
    if (this.#route.view === "text") {
      const lines = diffLines(pretty(older, 0).split("\n"), pretty(newer, 0).split("\n"));
      this.#body.replaceChildren(textDiff(lines, from, to));
      return;
    }
    const root = new SchemaDocument(JSON.parse(newer)).root();
    const { changes: seen, whole } = compareSchemas(new SchemaDocument(JSON.parse(older)).root(), root);
    // The server compares with those versions alone that the type's mode names, and leaves open what it cannot decide.
    const told = from < to ? await checkSchema(type, newer, AbortSignal.any([signal, AbortSignal.timeout(4000)])).catch(() => undefined) : undefined;
    const known = told !== undefined && told.verdict !== "undecided" && told.comparedWith.includes(from);
    const changes = known ? withVerdict(seen, (told.breaks ?? []).filter((b) => (b.version ?? from) === from), told.mode) : seen;
    if (signal.aborted) return;

    const tree = new SchemaTree();
    const link = (/** @type {string} */ at) => format({ page: "type", type, compare: [from, to], at });
    const mode = this.#type?.compatibility ?? "none";
    const describe = (/** @type {Change} */ c) => make("li", { "data-kind": c.kind }, make("span", { class: "mark", "aria-hidden": "true" }, SIGNS[c.kind]), make("span", {}, c.text), ...effects(c, from, mode));
    tree.show({ root, label: `What changed in ${type} from version ${from} to ${to}`, link, changes, describe });
    this.#tree = tree;

    const breaking = changes.filter((c) => breaks(c, mode)).length;
    const n = (/** @type {Change["kind"]} */ kind) => changes.filter((c) => c.kind === kind).length;
    const parts = [["added", n("added")], ["removed", n("removed")], ["changed", n("changed")]].filter(([, count]) => count).map(([word, count]) => `${count} ${word}`);
    const list = make("ol", { class: "summary" });
    for (const c of changes.toSorted((a, b) => Number(breaks(b, mode)) - Number(breaks(a, mode)))) {
      list.append(
        make("li", { "data-kind": c.kind },
          make("span", { class: "mark", "aria-label": c.kind }, SIGNS[c.kind]),
          make("span", {}, c.gone || !c.node ? make("code", {}, c.where || "data") : make("a", { href: link(c.key) }, make("code", {}, c.where || "data")), ` ${c.text}`),
          ...effects(c, from, mode),
        ),
      );
    }
    const verdict = make("p", { class: "verdict" }, make("strong", {}, changes.length === 0 ? "The two mean the same" : parts.join(", ")));
    if (changes.length === 0) verdict.append(": they differ at most in how they are written.");
    else if (breaking) verdict.append(make("span", { class: "badge breaks" }, `${breaking} breaking`));
    else verdict.append(make("span", { class: "badge fine" }, "none breaks"));
    this.#body.replaceChildren(
      make("div", { class: "changes-of" }, verdict, list,
        make("p", { class: "quiet" },
          known ? "What breaks is the server’s word, by schemas:check. " : "What breaks is judged from the schemas’ form. ",
          whole ? "" : "The schemas are large: not all of their places were compared. ",
          "Breaking for old events: what was valid may be refused or not be read any more. Breaking for readers: who knows the older version only may meet what it does not expect.",
        ),
      ),
      this.#openers(tree),
      tree,
    );
  }
}

const SIGNS = { added: "+", removed: "−", changed: "~" };

/**
 * Whether a change breaks what the type's compatibility promises; where nothing is promised, whether it hurts old events.
 * @param {Change} c
 * @param {string} mode
 */
function breaks(c, mode) {
  const forward = mode.startsWith("forward") || mode.startsWith("full");
  return Boolean((c.old && !mode.startsWith("forward")) || (c.newer && forward));
}

/**
 * @param {Change} c
 * @param {number} from
 * @param {string} mode
 */
function effects(c, from, mode) {
  const forward = mode.startsWith("forward") || mode.startsWith("full");
  const out = [];
  const title = c.told ? { title: c.told } : {};
  if (c.old) out.push(make("span", { class: `badge ${mode.startsWith("forward") ? "heed" : "breaks"}`, ...title }, "breaks old events"));
  if (c.newer) out.push(make("span", { class: `badge ${forward ? "breaks" : "heed"}`, ...title }, forward ? `breaks readers of ${from}` : `new to readers of ${from}`));
  return out;
}

/**
 * @param {import("./text-diff.js").Line[]} lines
 * @param {number} from
 * @param {number} to
 */
function textDiff(lines, from, to) {
  const table = make("div", { class: "diff", role: "region", tabindex: 0, "aria-label": `Text of version ${from} and ${to}` });
  const fill = (/** @type {(import("./text-diff.js").Line | number)[]} */ all) => {
    table.replaceChildren(
      ...all.map((line) => {
        if (typeof line === "number") {
          const button = make("button", { type: "button" }, `${line} ${line === 1 ? "line is" : "lines are"} the same`);
          button.addEventListener("click", () => fill(lines));
          return make("div", { class: "fold" }, button);
        }
        return make("div", { class: line.kind },
          make("span", { class: "n", "aria-hidden": "true" }, String(line.old ?? "")),
          make("span", { class: "n", "aria-hidden": "true" }, String(line.new ?? "")),
          make("span", { class: "sign" }, line.kind === "added" ? "+" : line.kind === "removed" ? "−" : " "),
          make("code", {}, line.text),
        );
      }),
    );
  };
  const parts = folded(lines);
  fill(parts);
  const holder = make("div", {});
  const n = (/** @type {string} */ kind) => lines.filter((l) => l.kind === kind).length;
  const head = make("p", { class: "verdict" });
  write(head, `${n("added")} lines added, ${n("removed")} removed, from version ${from} to ${to}`);
  holder.append(head, table);
  return holder;
}
