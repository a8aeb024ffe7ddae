// @ts-check
/** The catalogue: what the address names is shown here. */
import { find, make, write } from "../page/dom.js";
import { ThemeSwitch } from "../page/theme-switch.js";
import { Unanswered, listTypes } from "./api.js";
import { similar } from "./catalog-words.js";
import { LiveEvents } from "./live-events.js";
import { format, parse } from "./route.js";
import { SchemaTree } from "./schema-tree.js";
import { SchemaView } from "./schema-view.js";
import { typeName } from "./type-badges.js";
import { TypeList } from "./type-list.js";
import { TypePage } from "./type-page.js";
import { TypeRail } from "./type-rail.js";

/** @typedef {import("./api.js").EventType} EventType */

for (const [name, element] of /** @type {[string, CustomElementConstructor][]} */ ([
  ["theme-switch", ThemeSwitch], ["live-events", LiveEvents], ["schema-tree", SchemaTree], ["schema-view", SchemaView],
  ["type-list", TypeList], ["type-page", TypePage], ["type-rail", TypeRail],
])) {
  customElements.define(name, element);
}

/** Seconds until the page asks again while the server is away. */
const PAUSE = 5;

const view = find(document, "#view", HTMLElement);
const say = find(document, "#say", HTMLElement);

/** @type {{types: EventType[], whole: boolean} | undefined} */
let known;
/** @type {AbortController} */
let showing = new AbortController();
/** @type {TypeList | undefined} */
let list;
/** @type {TypePage | undefined} */
let page;
const rail = new TypeRail();
let first = true;
/** The type that was asked for last. */
let wanted = "";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting;

/** Shows what the address names. */
async function show() {
  const route = parse(location.hash);
  const before = wanted;
  wanted = route.page === "type" ? route.type : "";
  if (wanted && page?.isConnected && page.type === wanted) {
    if (before !== wanted) {
      // Another page was on its way.
      showing.abort();
      clearTimeout(waiting);
    }
    await page.go(/** @type {import("./route.js").TypeRoute} */ (route));
    return;
  }
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  clearTimeout(waiting);
  waiting = setTimeout(() => wait(route.page === "list" ? "list" : "type"), known && route.page === "list" ? 1000 : 150);
  try {
    if (route.page === "list") {
      document.title = "Event catalogue · Event Issuer";
      if (known) showList(route);
      known = await listTypes(signal);
      const now = parse(location.hash); // it may have been typed in meanwhile
      if (signal.aborted || now.page !== "list") return;
      showList(now);
    } else {
      document.title = `${route.type} · Event catalogue`;
      const [, loaded] = await Promise.all([load(route, signal), known ?? listTypes(signal)]);
      known ??= loaded;
      if (!signal.aborted) rail.show(known.types, route.type);
    }
    arrived();
  } catch (error) {
    if (signal.aborted) return;
    if (route.page === "type" && error instanceof Unanswered && error.status === 404) unknown(route.type, signal);
    else away(error, signal);
  }
}

/** @param {...Node} nodes */
function put(...nodes) {
  clearTimeout(waiting);
  view.removeAttribute("aria-busy");
  view.replaceChildren(...nodes);
}

/** @param {import("./route.js").ListRoute} route */
function showList(route) {
  if (!known) return;
  if (list?.isConnected) clearTimeout(waiting);
  else put((list = new TypeList()));
  list.show(known.types, known.whole, route);
}

/**
 * @param {import("./route.js").TypeRoute} route
 * @param {AbortSignal} signal
 */
async function load(route, signal) {
  const next = new TypePage();
  await next.load(route, signal);
  if (signal.aborted) return;
  page = next;
  put(make("div", { class: "with-rail" }, rail, page));
  scrollTo({ top: 0 });
  await page.go(route, true);
}

/** A reader of the screen is told of a new page; the keyboard goes on at its beginning. */
function arrived() {
  const route = parse(location.hash);
  if (!first && (route.page === "list" || route.at === undefined)) view.querySelector("h1")?.focus({ preventScroll: true });
  first = false;
  write(say, document.title);
}

/** @param {"list" | "type"} kind */
function wait(kind) {
  view.setAttribute("aria-busy", "true");
  const bars = Array.from({ length: kind === "list" ? 6 : 4 }, () => make("div", { class: "ghost" }));
  view.replaceChildren(make("div", { class: "waiting", role: "status" }, make("p", { class: "unseen" }, "Loading"), ...bars));
}

/**
 * @param {string} type
 * @param {AbortSignal} signal
 */
async function unknown(type, signal) {
  known ??= await listTypes(signal).catch(() => undefined);
  if (signal.aborted) return;
  const near = similar(type, known?.types ?? []);
  const box = make("div", { class: "state-page" },
    make("h1", { tabindex: -1 }, "There is no such type"),
    make("p", {}, make("code", {}, type), " is not registered. It may have been deleted, or be spelled otherwise."),
  );
  if (near.length) box.append(make("p", {}, "Did you mean"), make("ul", {}, ...near.map((t) => make("li", {}, make("a", { href: format({ page: "type", type: t.type }) }, ...typeName(t.type))))));
  box.append(make("p", {}, make("a", { class: "button", href: "#/" }, "All event types")));
  put(box);
  arrived();
}

/**
 * @param {unknown} error
 * @param {AbortSignal} signal
 */
function away(error, signal) {
  const soon = !(error instanceof Unanswered) || error.soon;
  const when = make("span", { class: "quiet" });
  const again = make("button", { type: "button", class: "button" }, "Try now");
  again.addEventListener("click", () => void show());
  put(
    make("div", { class: "state-page", role: "alert" },
      make("h1", {}, error instanceof Unanswered && error.status ? "The server cannot answer" : "The server is away"),
      make("p", {}, error instanceof Error ? error.message : String(error)),
      make("p", {}, again, " ", when),
    ),
  );
  if (!soon) return;
  let left = PAUSE;
  const tick = () => {
    if (signal.aborted) return;
    if (left === 0) {
      void show();
      return;
    }
    write(when, `or wait: ${left--} s`);
    setTimeout(tick, 1000);
  };
  tick();
}

addEventListener("hashchange", () => void show());
find(document, "#skip", HTMLElement).addEventListener("click", (e) => {
  e.preventDefault(); // the address is the catalogue's own
  view.focus();
});
addEventListener("online", () => {
  if (view.querySelector(".state-page[role=alert]")) void show();
});
document.addEventListener("say", (e) => {
  write(say, "");
  write(say, /** @type {CustomEvent<string>} */ (e).detail);
});
document.addEventListener("keydown", (e) => {
  const typing = e.target instanceof Element && e.target.closest("input, textarea, select");
  if (e.key !== "/" || typing || e.ctrlKey || e.metaKey || e.altKey) return;
  const search = list?.isConnected ? list.search : rail.isConnected && rail.offsetParent ? rail.search : undefined;
  if (!search) return;
  e.preventDefault();
  search.focus();
  search.select();
});
void show();
