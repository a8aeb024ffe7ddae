// @ts-check
/** The catalogue: what the address names is shown here. */
import { make, write } from "../page/dom.js";
import { HashPage } from "../page/hash-page.js";
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

const frame = new HashPage(() => void show());

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

/** Shows what the address names. */
async function show() {
  const route = parse(location.hash);
  const before = wanted;
  wanted = route.page === "type" ? route.type : "";
  if (wanted && page?.isConnected && page.type === wanted) {
    if (before !== wanted) {
      // Another page was on its way.
      showing.abort();
      frame.patient();
    }
    await page.go(/** @type {import("./route.js").TypeRoute} */ (route));
    return;
  }
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  frame.impatient(known && route.page === "list" ? 1000 : 150, route.page === "list" ? 6 : 4);
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
    else frame.away(error, signal);
  }
}

/** @param {import("./route.js").ListRoute} route */
function showList(route) {
  if (!known) return;
  if (list?.isConnected) frame.patient();
  else frame.put((list = new TypeList()));
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
  frame.put(make("div", { class: "with-rail" }, rail, page));
  scrollTo({ top: 0 });
  await page.go(route, true);
}

/** A reader of the screen is told of a new page; the keyboard goes on at its beginning. */
function arrived() {
  const route = parse(location.hash);
  if (!first && (route.page === "list" || route.at === undefined)) frame.view.querySelector("h1")?.focus({ preventScroll: true });
  first = false;
  write(frame.say, document.title);
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
  frame.put(box);
  arrived();
}

frame.begin(() => (list?.isConnected ? list.search : rail.isConnected && rail.offsetParent ? rail.search : undefined));
