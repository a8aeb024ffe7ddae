// @ts-check
/** <type-list>: every event type, to be searched as one types and narrowed by stream, owner, audience and state. */
import { make, write } from "../page/dom.js";
import { listTypes } from "./api.js";
import { fitness } from "./catalog-words.js";
import { FACETS, format } from "./route.js";
import { badges, typeName } from "./type-badges.js";

/** @typedef {import("./api.js").EventType} EventType */
/** @typedef {import("./route.js").ListRoute} ListRoute */
/** @typedef {import("./route.js").Facet} Facet */

const TITLES = { stream: "Stream", owner: "Owner", audience: "Audience", state: "State" };
const TERMS = /** @type {[string, string][]} */ ([
  ["Event", "Something that has happened, as JSON: what, to whom or what, when, and its data (a CloudEvent)."],
  ["Stream", "Events in order, kept for a while. It is read over plain HTTP, live or from any point, with curl or in a browser."],
  ["Cursor", "Comes with each event. Keep the last, come back with it, and nothing is missed."],
]);
/** Values of one facet that are shown before "more". */
const FEW = 8;

/**
 * @param {EventType} type
 * @param {Facet} facet
 */
const valueOf = (type, facet) => (facet === "state" ? (type.deprecation ? "deprecated" : "current") : type[facet]);

export class TypeList extends HTMLElement {
  /** @type {EventType[]} */ #types = [];
  /** Found by the server, where the page does not hold all. @type {EventType[] | undefined} */ #found;
  /** @type {ListRoute} */ #route = { page: "list", q: "", facets: {} };
  /** @type {AbortController | undefined} */ #asking;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #soon;
  #whole = true;
  /** @type {Set<Facet>} */ #more = new Set();
  #input = make("input", { type: "search", placeholder: "Search types, descriptions, owners", "aria-label": "Search event types", autocomplete: "off", spellcheck: "false", "aria-describedby": "found" });
  #facets = make("div", { class: "facets", role: "group", "aria-label": "Narrow the list" });
  #count = make("p", { class: "quiet", id: "found", role: "status" });
  #results = make("ul", { class: "results" });
  #intro = make("p", { class: "lead" });

  constructor() {
    super();
    this.#input.addEventListener("input", () => {
      this.#route = { ...this.#route, q: this.#input.value };
      history.replaceState(null, "", format(this.#route));
      if (!this.#whole) this.#askServer();
      this.#update();
    });
    this.addEventListener("keydown", (e) => this.#key(e));
  }

  connectedCallback() {
    if (this.childElementCount) return;
    this.append(
      make("div", { class: "hero" },
        make("h1", { tabindex: -1 }, "Event catalogue"),
        this.#intro,
        make("dl", { class: "terms" }, ...TERMS.map(([term, says]) => make("div", {}, make("dt", {}, term), make("dd", {}, says)))),
        make("label", { class: "find" }, this.#input, make("kbd", { "aria-hidden": "true" }, "/")),
      ),
      make("div", { class: "browse" }, this.#facets, make("div", {}, this.#count, this.#results)),
    );
  }

  disconnectedCallback() {
    this.#asking?.abort();
    clearTimeout(this.#soon);
  }

  get search() {
    return this.#input;
  }

  /**
   * @param {EventType[]} types
   * @param {boolean} whole
   * @param {ListRoute} route
   */
  show(types, whole, route) {
    this.#types = types;
    this.#whole = whole;
    this.#route = route;
    if (this.#input.value !== route.q) this.#input.value = route.q;
    const streams = new Set(types.map((t) => t.stream)).size;
    write(this.#intro, `What happens, told as it happens: ${types.length}${whole ? "" : "+"} ${types.length === 1 ? "type" : "types"} of events on ${streams} ${streams === 1 ? "stream" : "streams"}. Choose one to see what is in it, copy the code, and read it live.`);
    if (!whole && route.q) this.#askServer();
    this.#update();
  }

  #askServer() {
    clearTimeout(this.#soon);
    this.#asking?.abort();
    this.#found = undefined;
    const { q } = this.#route;
    if (!q.trim()) return;
    this.#soon = setTimeout(async () => {
      this.#asking = new AbortController();
      const answer = await listTypes(this.#asking.signal, q).catch(() => undefined);
      if (!answer || q !== this.#route.q) return;
      this.#found = answer.types;
      this.#update();
    }, 200);
  }

  #update() {
    const { q, facets } = this.#route;
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = (this.#found ?? this.#types).map((t) => ({ t, fit: fitness(t, words) })).filter(({ fit }) => fit > 0);
    const passes = (/** @type {EventType} */ t, /** @type {Facet | ""} */ but) => FACETS.every((f) => f === but || !facets[f] || valueOf(t, f) === facets[f]);
    const shown = fitting.filter(({ t }) => passes(t, ""));
    // What is deprecated comes last among equals.
    shown.sort((a, b) => b.fit - a.fit || Number(Boolean(a.t.deprecation)) - Number(Boolean(b.t.deprecation)) || (a.t.type < b.t.type ? -1 : 1));

    this.#facets.replaceChildren(
      ...FACETS.flatMap((facet) => {
        /** @type {Map<string, number>} */
        const counts = new Map();
        for (const { t } of fitting) if (passes(t, facet)) counts.set(valueOf(t, facet), (counts.get(valueOf(t, facet)) ?? 0) + 1);
        const chosen = facets[facet];
        if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
        const all = [...counts].sort(([a, n], [b, m]) => Number(b === chosen) - Number(a === chosen) || m - n || (a < b ? -1 : 1));
        if (all.length < 2 && !chosen) return [];
        return [this.#facet(facet, all, chosen)];
      }),
    );

    const narrowed = q.trim() !== "" || Object.keys(facets).length > 0;
    write(this.#count, narrowed ? `${shown.length} of ${this.#types.length}${this.#whole ? "" : "+"} types` : "");
    this.#results.replaceChildren(...shown.slice(0, 500).map(({ t }) => this.#row(t, words)));
    if (shown.length > 500) this.#results.append(make("li", { class: "nothing" }, `${shown.length - 500} more: search to narrow the list.`));
    if (shown.length === 0) this.#results.append(this.#nothing(narrowed));
  }

  /**
   * @param {Facet} facet
   * @param {[string, number][]} all
   * @param {string | undefined} chosen
   */
  #facet(facet, all, chosen) {
    const shown = this.#more.has(facet) ? all : all.slice(0, FEW);
    const group = make("div", { role: "group", "aria-label": TITLES[facet] }, make("h2", {}, TITLES[facet]));
    for (const [value, n] of shown) {
      const button = make("button", { type: "button", "aria-pressed": String(value === chosen), "data-value": value }, make("span", {}, value), make("span", { class: "n" }, String(n)));
      button.addEventListener("click", () => {
        const facets = { ...this.#route.facets };
        if (value === chosen) delete facets[facet];
        else facets[facet] = value;
        this.#go({ ...this.#route, facets });
        /** @type {HTMLElement | undefined} */ ([...this.#facets.querySelectorAll(`[aria-label="${TITLES[facet]}"] button`)].find((b) => b instanceof HTMLElement && b.dataset["value"] === value))?.focus();
      });
      group.append(button);
    }
    if (all.length > shown.length) {
      const more = make("button", { type: "button", class: "plainly" }, `${all.length - shown.length} more`);
      more.addEventListener("click", () => {
        this.#more.add(facet);
        this.#update();
      });
      group.append(more);
    }
    return group;
  }

  /**
   * @param {EventType} type
   * @param {string[]} words
   */
  #row(type, words) {
    const link = make("a", { href: format({ page: "type", type: type.type }) },
      make("span", { class: "what" }, ...typeName(type.type, words)),
      make("span", { class: "says" }, type.description || "No description yet."),
      make("span", { class: "badges" }, ...badges(type, true)),
    );
    return make("li", { "data-deprecated": type.deprecation !== undefined }, link);
  }

  /** @param {boolean} narrowed */
  #nothing(narrowed) {
    const item = make("li", { class: "nothing" });
    if (narrowed) {
      const clear = make("button", { type: "button", class: "plainly" }, "Show all types");
      clear.addEventListener("click", () => {
        this.#input.value = "";
        this.#go({ page: "list", q: "", facets: {} });
        this.#input.focus();
      });
      item.append(make("strong", {}, "Nothing fits."), " Every word that is searched for must occur. ", clear);
    } else {
      item.append(make("strong", {}, "There are no event types yet."), " They are registered with ", make("code", {}, "POST /v1/event-types"), "; ", make("a", { href: "/openapi.json" }, "the API"), " says how.");
    }
    return item;
  }

  /** @param {ListRoute} route */
  #go(route) {
    this.#route = route;
    history.replaceState(null, "", format(route));
    if (!this.#whole) this.#askServer();
    this.#update();
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    const links = [...this.#results.querySelectorAll("a")];
    const at = links.findIndex((l) => l === document.activeElement);
    const typing = document.activeElement === this.#input;
    if (e.key === "Escape" && typing && this.#input.value) {
      e.preventDefault();
      this.#input.value = "";
      this.#go({ ...this.#route, q: "" });
    } else if (e.key === "ArrowDown" && (typing || at >= 0)) {
      e.preventDefault();
      links[Math.min(at + 1, links.length - 1)]?.focus();
    } else if (e.key === "ArrowUp" && at >= 0) {
      e.preventDefault();
      (at === 0 ? this.#input : links[at - 1])?.focus();
    } else if (e.key === "Enter" && typing && links[0]) {
      links[0].click();
    }
  }
}
