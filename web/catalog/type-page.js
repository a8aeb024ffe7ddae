// @ts-check
/** <type-page>: everything of one event type on one page. */
import { codeTabs } from "../page/code-tabs.js";
import { make, write } from "../page/dom.js";
import { getSchema, getType, listVersions } from "./api.js";
import { AUDIENCES, bytes, compatibilityWords, dayWords, dedupeWords, isPattern, keyWords, momentWords, quotaWords } from "./catalog-words.js";
import { codeBlock, copyButton } from "./code-block.js";
import { exampleOf } from "./example.js";
import { pretty } from "./json-text.js";
import { LiveEvents } from "./live-events.js";
import { parse, render } from "./markdown.js";
import { format } from "./route.js";
import { SchemaDocument } from "./schema-model.js";
import { SchemaTree } from "./schema-tree.js";
import { SchemaView } from "./schema-view.js";
import { exampleEvent, snippets } from "./snippets.js";
import { badges, typeName } from "./type-badges.js";

/** @typedef {import("./api.js").EventType} EventType */
/** @typedef {import("./api.js").Version} Version */
/** @typedef {import("./route.js").TypeRoute} TypeRoute */

/** The language that was chosen last: it stays from type to type. */
let chosenCode = "curl";

export class TypePage extends HTMLElement {
  /** @type {EventType | undefined} */ #type;
  /** @type {Version[]} */ #versions = [];
  #schema = new SchemaView();

  /**
   * Loads a type and builds the page. It throws what the server's answers throw.
   * @param {TypeRoute} route
   * @param {AbortSignal} signal
   */
  async load(route, signal) {
    const [type, versions] = await Promise.all([getType(route.type, signal), listVersions(route.type, signal)]);
    const latest = type.latestVersion ? await getSchema(type.type, type.latestVersion, signal).catch(() => "") : "";
    if (signal.aborted) return;
    this.#type = type;
    this.#versions = versions;
    this.#build(type, latest);
  }

  get type() {
    return this.#type?.type ?? "";
  }

  /**
   * Goes to a place on the page.
   * @param {TypeRoute} route
   * @param {boolean} [first] the page has just been put there
   */
  async go(route, first = false) {
    const type = this.#type;
    if (!type) return;
    if (type.latestVersion) await this.#schema.show(type, this.#versions, route);
    if (route.at !== undefined) return; // it is in sight
    const section = route.section ?? (route.compare || route.version ? "schema" : "");
    const target = section ? this.querySelector(`#${CSS.escape(section)}`) : undefined;
    if (target) target.scrollIntoView({ block: "start" });
    else if (!first) scrollTo({ top: 0 });
  }

  /**
   * @param {EventType} type
   * @param {string} latest the latest schema's text, "" where there is none
   */
  #build(type, latest) {
    /** @type {any} */
    let generated;
    if (latest) {
      try {
        generated = exampleOf(new SchemaDocument(JSON.parse(latest)).root());
      } catch {
        // A schema that no example can be made of is shown all the same.
      }
    }
    const data = type.examples?.[0] ?? generated;
    const live = new LiveEvents();
    live.type = type;
    const sections = [this.#schemaSection(type), this.#examples(type, generated), this.#history(type), this.#rules(type)].filter((s) => s !== undefined);
    this.replaceChildren(
      this.#head(type, sections),
      make("aside", { "aria-label": "Code and live events" }, this.#code(type, exampleEvent(type, data ?? (type.latestVersion ? {} : { text: "hello" }))), make("section", { class: "card live", id: "live", "aria-labelledby": "live-title" }, make("h2", { id: "live-title" }, "Its events, live"), live)),
      make("div", { class: "doc" }, this.#documentation(type), ...sections),
    );
  }

  /**
   * @param {EventType} type
   * @param {HTMLElement[]} sections
   */
  #head(type, sections) {
    const fact = (/** @type {string} */ name, /** @type {(Node | string)[]} */ ...value) => make("div", {}, make("dt", {}, name), make("dd", {}, ...value));
    const changed = type.changed ?? type.created;
    const head = make("div", { class: "type-head" },
      make("h1", { tabindex: -1 }, ...typeName(type.type)),
      make("p", { class: "badges" }, ...badges(type, false), copyButton(() => type.type, "Copy the type’s name", "Copy name")),
    );
    if (type.deprecation) head.append(this.#deprecation(type.deprecation));
    head.append(
      make("p", { class: "lead" }, type.description || "Its owner has not described it yet."),
      make("dl", { class: "facts" },
        fact("Stream", make("a", { href: format({ page: "list", q: "", facets: { stream: type.stream } }) }, type.stream)),
        fact("Owner", make("a", { href: format({ page: "list", q: "", facets: { owner: type.owner } }) }, type.owner)),
        fact("Audience", AUDIENCES[type.audience] ?? type.audience),
        fact("Order", keyWords(type.keyAttribute)),
        ...(changed ? [fact("Changed", make("time", { datetime: changed.at }, momentWords(changed.at)), changed.by ? ` by ${changed.by}` : "")] : []),
      ),
      make("nav", { class: "parts", "aria-label": "On this page" }, ...[...sections.map((s) => [s.id, s.dataset["title"] ?? ""]), ["code", "Code"], ["live", "Live"]].map(([id = "", title = ""]) => make("a", { href: format({ page: "type", type: type.type, section: id }) }, title))),
    );
    return head;
  }

  /** @param {NonNullable<EventType["deprecation"]>} deprecation */
  #deprecation({ date, successor, note }) {
    const over = date !== undefined && Date.parse(date) < Date.now();
    const p = make("p", { class: "notice warn" }, make("strong", {}, over ? "It has ended. " : "It is going away. "));
    if (date) p.append(over ? `It was promised until ${dayWords(date)}. ` : `There are such events until ${dayWords(date)}. `);
    if (successor) p.append("Use ", make("a", { href: format({ page: "type", type: successor }) }, successor), " instead. ");
    if (note) p.append(note);
    return p;
  }

  /** @param {EventType} type */
  #documentation(type) {
    const box = make("div", { class: "markdown" });
    if (type.documentation) box.append(render(parse(type.documentation), 2));
    return box;
  }

  /**
   * @param {string} id
   * @param {string} title
   * @param {(Node | string)[]} content
   */
  #section(id, title, ...content) {
    return make("section", { class: "card", id, "data-title": title, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), ...content);
  }

  /** @param {EventType} type */
  #schemaSection(type) {
    if (type.latestVersion) return this.#section("schema", "Schema", make("p", { class: "quiet" }, "What is in an event’s data. Every event is held to it before it is written."), this.#schema);
    const why = isPattern(type)
      ? "A pattern stands for all types whose names begin like it; they may carry any data."
      : "It has no schema: its events may carry any data. See the live ones for what they hold.";
    return this.#section("schema", "Schema", make("p", { class: "nothing" }, why));
  }

  /**
   * @param {EventType} type
   * @param {any} generated
   */
  #examples(type, generated) {
    const stored = type.examples ?? [];
    if (stored.length) {
      return this.#section("examples", stored.length === 1 ? "Example" : "Examples", make("p", { class: "quiet" }, "Values of data, from the type’s owner and valid under the schema."),
        ...stored.map((e, i) => codeBlock(pretty(JSON.stringify(e)), "json", `example ${i + 1}`)));
    }
    if (generated === undefined) return undefined;
    return this.#section("examples", "Example", make("p", { class: "quiet" }, "Made from the schema: its owner has given none."), codeBlock(pretty(JSON.stringify(generated)), "json", "example"));
  }

  /** @param {EventType} type */
  #history(type) {
    const versions = this.#versions;
    if (versions.length === 0) return undefined;
    const list = make("ol", { class: "versions" });
    versions.forEach((v, i) => {
      const before = versions[i + 1];
      const latest = v.version === type.latestVersion;
      const item = make("li", {},
        make("a", { class: "n", href: format(latest ? { page: "type", type: type.type, section: "schema" } : { page: "type", type: type.type, version: v.version }) }, `Version ${v.version}`),
        make("span", { class: "quiet" }, v.created ? make("time", { datetime: v.created.at }, momentWords(v.created.at)) : "", v.created?.by ? ` by ${v.created.by}` : "", ` · ${bytes(v.bytes)}${v.draft ? ` · ${v.draft}` : ""}`),
      );
      if (latest) item.append(make("span", { class: "badge fine" }, "latest"));
      if (v.forced) item.append(make("span", { class: "badge heed", title: "Whether it is compatible could not be decided" }, "forced"));
      if (before) item.append(make("a", { class: "compare", href: format({ page: "type", type: type.type, compare: [before.version, v.version] }) }, `What changed since ${before.version}`));
      else item.append(make("span", { class: "compare quiet" }, "the first"));
      list.append(item);
    });
    return this.#section("versions", "Versions", list);
  }

  /** @param {EventType} type */
  #rules(type) {
    const list = make("dl", { class: "rules" });
    const rule = (/** @type {string} */ name, /** @type {(Node | string)[]} */ ...value) => list.append(make("dt", {}, name), make("dd", {}, ...value));
    if (!isPattern(type)) rule("Compatibility", make("strong", {}, type.compatibility.replace("_", ", ")), make("br"), compatibilityWords(type.compatibility));
    rule("Duplicates", dedupeWords(type));
    rule("Key", make("code", {}, type.keyAttribute), ". ", keyWords(type.keyAttribute), " An event’s own partitionkey goes before it.");
    if (type.sources?.length) rule("Sources", "source begins with ", ...joined(type.sources.map((s) => make("code", {}, s)), " or "), ".");
    const promoted = Object.entries(type.promote ?? {});
    if (promoted.length) {
      rule("Promoted", "Taken from data into attributes, so that they can be filtered on:", make("ul", {}, ...promoted.map(([name, pointer]) => make("li", {}, make("code", {}, name), " from ", make("a", { href: format({ page: "type", type: type.type, section: "schema", at: pointer }) }, make("code", {}, pointer))))));
    }
    const quota = quotaWords(type);
    if (quota) rule("Quota", quota);
    if (type.personal) rule("Personal data", "The events hold it. What is said of a mistake in one never quotes it.");
    const section = this.#section("rules", "Rules", make("p", { class: "quiet" }, "What is promised to readers, and asked of publishers."), list);
    if (type.attributes !== undefined) {
      const tree = new SchemaTree();
      const root = new SchemaDocument(type.attributes).root();
      root.name = "event";
      tree.show({ root, label: "Attributes that every event has to have" });
      section.append(make("h3", {}, "Attributes"), make("p", { class: "quiet" }, "Beside CloudEvents’ own, every event is held to:"), tree);
    }
    return section;
  }

  /**
   * @param {EventType} type
   * @param {Record<string, any>} event
   */
  #code(type, event) {
    const all = snippets(location.origin, type, event);
    const title = make("h2", {});
    return codeTabs(title, all, chosenCode, (shown) => {
      chosenCode = shown.id;
      write(title, shown.id === "publish" ? "Publish it" : "Read it");
    });
  }
}

/**
 * @param {Node[]} nodes
 * @param {string} between
 * @returns {(Node | string)[]}
 */
const joined = (nodes, between) => nodes.flatMap((n, i) => (i ? [between, n] : [n]));
