// @ts-check
/** <subscription-list>: every subscription, what is behind first, with its lag as it has been. */
import { make, write } from "../page/dom.js";
import { LagSpark } from "./lag-spark.js";
import { format } from "./route.js";
import { GRADES, called, condition, counted, events, fits, lasting } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {import("./lag-history.js").LagHistory} LagHistory */
/** @typedef {import("./route.js").ListRoute} ListRoute */
/** @typedef {{item: HTMLLIElement, link: HTMLAnchorElement, where: HTMLElement, state: HTMLElement, says: HTMLElement, sessions: HTMLElement, lag: HTMLElement, seconds: HTMLElement, spark: LagSpark}} Row */

/** Rows that are shown at most: what is beyond them is searched for. */
const MOST = 500;
/** How often rows may change places by themselves: what keeps moving cannot be read. */
const SETTLED = 10_000;
/** The same while their figures come in for the first time. */
const UNSETTLED = 500;

export class SubscriptionList extends HTMLElement {
  /** @type {Subscription[]} */ #all = [];
  #whole = true;
  /** @type {ListRoute} */ #route = { page: "list", q: "", sort: "lag" };
  /** @type {Map<string, Stats>} */ #stats = new Map();
  /** @type {Map<string, LagHistory>} */ #histories = new Map();
  /** @type {Map<string, Row>} */ #rows = new Map();
  #sorted = 0;
  /** Whether they have once been sorted with all figures known. */
  #settled = false;
  #see;
  #input = make("input", { type: "search", placeholder: "Search names, streams, types", "aria-label": "Search subscriptions", autocomplete: "off", spellcheck: "false", "aria-describedby": "found" });
  #intro = make("p", { class: "lead" });
  #count = make("p", { class: "quiet", id: "found", role: "status" });
  #list = make("ul", { class: "rows" });
  #sorts = make("div", { class: "tabs", role: "group", "aria-label": "Sort" });
  /** @type {IntersectionObserver} */ #sight;

  /** @param {(id: string, inSight: boolean) => void} see */
  constructor(see) {
    super();
    this.#see = see;
    this.#sight = new IntersectionObserver((entries) => {
      for (const e of entries) if (e.target instanceof HTMLElement) this.#see(e.target.dataset["id"] ?? "", e.isIntersecting);
    });
    for (const [sort, title] of /** @type {["lag" | "name", string][]} */ ([["lag", "Most behind"], ["name", "Name"]])) {
      const button = make("button", { type: "button", "data-sort": sort }, title);
      button.addEventListener("click", () => this.#go({ ...this.#route, sort }));
      this.#sorts.append(button);
    }
    this.#input.addEventListener("input", () => this.#go({ ...this.#route, q: this.#input.value }));
    this.addEventListener("keydown", (e) => this.#key(e));
  }

  connectedCallback() {
    if (this.childElementCount) return;
    this.append(
      make("div", { class: "top" },
        make("div", {}, make("h1", { tabindex: -1 }, "Subscriptions"), this.#intro),
        make("div", { class: "acts" },
          make("a", { class: "button", href: format({ page: "new", stream: "", type: "" }) }, "New subscription"),
          make("a", { class: "button", href: format({ page: "new-webhook", stream: "", type: "" }) }, "New webhook"),
        ),
      ),
      make("div", { class: "tools" }, make("label", { class: "find" }, this.#input, make("kbd", { "aria-hidden": "true" }, "/")), this.#sorts),
      this.#count,
      this.#list,
    );
  }

  disconnectedCallback() {
    this.#sight.disconnect();
    this.#rows.clear();
    this.#list.replaceChildren();
  }

  get search() {
    return this.#input;
  }

  /**
   * @param {Subscription[]} all
   * @param {boolean} whole
   * @param {ListRoute} route
   * @param {Map<string, Stats>} stats
   * @param {Map<string, LagHistory>} histories
   */
  show(all, whole, route, stats, histories) {
    const same = route.q === this.#route.q && route.sort === this.#route.sort && all.length === this.#all.length && all.every((s, i) => s.id === this.#all[i]?.id);
    this.#all = all;
    this.#whole = whole;
    this.#route = route;
    this.#stats = stats;
    this.#histories = histories;
    if (this.#input.value !== route.q) this.#input.value = route.q;
    this.#tell();
    this.#update(!same || this.#rows.size === 0);
  }

  /**
   * There are new figures of one.
   * @param {string} id
   */
  took(id) {
    const row = this.#rows.get(id);
    const about = this.#all.find((s) => s.id === id);
    if (row && about) this.#fill(row, about);
    this.#tell();
    this.#update(false);
  }

  #tell() {
    const total = this.#all.length;
    if (total === 0) {
      write(this.#intro, "Work that is dealt out: whoever joins a subscription gets a share of its events, and each is given until somebody acknowledges it. Those of a webhook are sent to its endpoint.");
      return;
    }
    let heed = 0;
    let waiting = 0;
    for (const s of this.#all) {
      const stats = this.#stats.get(s.id);
      if (!stats) continue;
      waiting += stats.lag;
      if (GRADES.indexOf(condition(stats, this.#histories.get(s.id)?.rates(), s).grade) < 2) heed++;
    }
    const known = this.#all.every(({ id }) => this.#stats.has(id));
    write(this.#intro, `${this.#whole ? "" : "The first "}${counted(total, "subscription")}. ${known ? `${heed === 0 ? "All is well" : counted(heed, "needs a look", "need a look")}; ${counted(waiting, "event waits", "events wait")}.` : "Asking how they stand."}`);
  }

  /** @param {boolean} asked whether what is shown was changed on purpose */
  #update(asked) {
    for (const b of this.#sorts.children) b.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (b).dataset["sort"] === this.#route.sort));
    const known = this.#all.every(({ id }) => this.#stats.has(id));
    if (!asked && (this.#settled || !known)) {
      const soon = Date.now() - this.#sorted < (this.#settled ? SETTLED : UNSETTLED);
      if (soon || (this.#settled && this.#list.matches(":hover, :focus-within"))) return;
    }
    this.#sorted = Date.now();
    this.#settled = known;
    const words = this.#route.q.toLowerCase().split(/\s+/).filter(Boolean);
    const lagOf = (/** @type {Subscription} */ s) => this.#stats.get(s.id)?.lag ?? -1;
    const byName = (/** @type {Subscription} */ a, /** @type {Subscription} */ b) => called(a).localeCompare(called(b), "en");
    const shown = this.#all.filter((s) => fits(s, words)).sort((a, b) => (this.#route.sort === "lag" ? lagOf(b) - lagOf(a) : 0) || byName(a, b));
    write(this.#count, words.length ? `${shown.length} of ${counted(this.#all.length, "subscription")}` : "");
    this.#place(shown.slice(0, MOST));
    this.#list.querySelector(".nothing")?.remove();
    if (shown.length === 0) this.#list.append(this.#nothing(words.length > 0));
    else if (shown.length > MOST) this.#list.append(make("li", { class: "nothing" }, `${shown.length - MOST} more: search to narrow the list.`));
  }

  /** @param {Subscription[]} shown */
  #place(shown) {
    const wanted = new Set(shown.map((s) => s.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      this.#sight.unobserve(row.item);
      this.#see(id, false);
      row.item.remove();
      this.#rows.delete(id);
    }
    shown.forEach((s, i) => {
      let row = this.#rows.get(s.id);
      if (!row) {
        row = this.#row(s);
        this.#rows.set(s.id, row);
      }
      if (this.#list.children[i] !== row.item) this.#list.insertBefore(row.item, this.#list.children[i] ?? null);
      this.#fill(row, s);
      this.#sight.observe(row.item);
    });
  }

  /**
   * @param {Subscription} s
   * @returns {Row}
   */
  #row(s) {
    const where = make("span", { class: "where" });
    const state = make("span", { class: "state" }, make("span", { class: "dot" }), make("span"));
    const says = make("span", { class: "says" });
    const sessions = make("span", { class: "sessions" });
    const lag = make("strong");
    const seconds = make("span", { class: "quiet" });
    const spark = new LagSpark();
    const link = make("a", { href: format({ page: "subscription", id: s.id }) },
      make("span", { class: "who" }, make("span", { class: "name" }, called(s)), where),
      make("span", { class: "how" }, state, says),
      sessions,
      spark,
      make("span", { class: "lag" }, lag, seconds),
    );
    return { item: make("li", { "data-id": s.id }, link), link, where, state, says, sessions, lag, seconds, spark };
  }

  /**
   * @param {Row} row
   * @param {Subscription} s
   */
  #fill(row, s) {
    const where = [(s.streams ?? []).join(", "), s.config?.ordering === "none" ? "no order" : "ordered by key"];
    write(row.where, where.filter(Boolean).join(" · "));
    row.where.title = (s.streams ?? []).join(", ");
    if (s.sink) {
      write(row.sessions, host(s.sink));
      row.sessions.title = s.sink;
    }
    const stats = this.#stats.get(s.id);
    const history = this.#histories.get(s.id);
    if (!stats || !history) {
      row.link.dataset["grade"] = "idle";
      write(/** @type {Element} */ (row.state.lastElementChild), "");
      write(row.lag, "–");
      return;
    }
    const { grade, title, says } = condition(stats, history.rates(), s);
    row.link.dataset["grade"] = grade;
    write(/** @type {Element} */ (row.state.lastElementChild), title);
    write(row.says, says);
    const n = stats.sessions?.length ?? 0;
    if (!s.sink) write(row.sessions, n ? counted(n, "session") : "no sessions");
    write(row.lag, events(stats.lag));
    write(row.seconds, stats.lag && stats.lagSeconds !== undefined ? `${lasting(stats.lagSeconds)} behind` : "");
    row.spark.show(history, Date.now());
  }

  /** @param {boolean} narrowed */
  #nothing(narrowed) {
    const item = make("li", { class: "nothing" });
    if (narrowed) {
      const clear = make("button", { type: "button", class: "plainly" }, "Show all");
      clear.addEventListener("click", () => {
        this.#input.value = "";
        this.#go({ ...this.#route, q: "" });
        this.#input.focus();
      });
      item.append(make("strong", {}, "Nothing fits."), " Every word that is searched for must occur. ", clear);
    } else {
      item.append(make("strong", {}, "There are no subscriptions yet."), " ", make("a", { href: format({ page: "new", stream: "", type: "" }) }, "Make one"), ", or send ", make("code", {}, "POST /v1/subscriptions"), "; ", make("a", { href: "/openapi.json" }, "the API"), " says how.");
    }
    return item;
  }

  /** @param {ListRoute} route */
  #go(route) {
    this.#route = route;
    history.replaceState(null, "", format(route));
    this.#update(true);
  }

  /** @param {KeyboardEvent} e */
  #key(e) {
    const links = [...this.#list.querySelectorAll("a")];
    const at = links.findIndex((l) => l === document.activeElement);
    const typing = document.activeElement === this.#input;
    if (e.key === "Escape" && typing && this.#input.value) {
      this.#input.value = "";
      this.#go({ ...this.#route, q: "" });
    } else if (e.key === "ArrowDown" && (typing || at >= 0)) links[Math.min(at + 1, links.length - 1)]?.focus();
    else if (e.key === "ArrowUp" && at >= 0) (at === 0 ? this.#input : links[at - 1])?.focus();
    else if (e.key === "Enter" && typing && links[0]) links[0].click();
    else return;
    e.preventDefault();
  }
}

/**
 * Where a sink is, as short as it can be told.
 * @param {string} sink
 */
function host(sink) {
  try {
    return new URL(sink).host;
  } catch {
    return sink;
  }
}
