// @ts-check
/** The subscriptions: what the address names is shown here, and asked for again and again while it is. */
import { Unanswered } from "../catalog/api.js";
import { find, make, write } from "../page/dom.js";
import { ThemeSwitch } from "../page/theme-switch.js";
import { getStats, getSubscription, listSubscriptions } from "./api.js";
import { DeadLetters } from "./dead-letters.js";
import { LagChart } from "./lag-chart.js";
import { LagHistory } from "./lag-history.js";
import { LagSpark } from "./lag-spark.js";
import { NewSubscription } from "./new-subscription.js";
import { parse } from "./route.js";
import { StatsWatch } from "./stats-watch.js";
import { SubscriptionList } from "./subscription-list.js";
import { SubscriptionPage } from "./subscription-page.js";
import { called, clock } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./api.js").Stats} Stats */

for (const [name, element] of /** @type {[string, CustomElementConstructor][]} */ ([
  ["theme-switch", ThemeSwitch], ["lag-spark", LagSpark], ["lag-chart", LagChart], ["dead-letters", DeadLetters],
  ["subscription-list", SubscriptionList], ["subscription-page", SubscriptionPage], ["new-subscription", NewSubscription],
])) {
  customElements.define(name, element);
}

/** Seconds until the page asks again while the server is away. */
const PAUSE = 5;
/** How often it is asked which there are. */
const LISTED = 15_000;

const view = find(document, "#view", HTMLElement);
const say = find(document, "#say", HTMLElement);
const banner = find(document, "#away", HTMLElement);

/** @type {{items: Subscription[], whole: boolean} | undefined} */
let known;
/** @type {Map<string, LagHistory>} */
const histories = new Map();
/** @type {Map<string, Stats>} */
const stats = new Map();
/** @type {AbortController} */
let showing = new AbortController();
/** @type {SubscriptionList | undefined} */
let list;
/** @type {SubscriptionPage | undefined} */
let page;
let first = true;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let listing;
let answered = Date.now();

const watch = new StatsWatch({
  ask: getStats,
  took,
  gone: (id) => {
    forget(id);
    if (page?.isConnected && page.subscription === id) unknown(id);
    else if (list?.isConnected && known) {
      known.items = known.items.filter((s) => s.id !== id);
      const route = parse(location.hash);
      if (route.page === "list") showList(route);
    }
  },
  away: (error) => {
    stale(error ? `${error instanceof Unanswered && error.status ? error.message : "The server does not answer."} What is shown is of ${clock(answered)}; the page goes on by itself.` : "");
    if (!error) write(say, "The server answers again.");
  },
});

/** @param {string} why what is shown is old, "" where it is not */
function stale(why) {
  banner.hidden = why === "";
  view.toggleAttribute("data-stale", why !== "");
  write(banner, why);
}

/**
 * @param {string} id
 * @param {Stats} now
 * @param {number} skew
 * @param {boolean} [anew] it was reset just before
 */
function took(id, now, skew, anew = false) {
  answered = Date.now();
  let seen = histories.get(id);
  if (!seen) histories.set(id, (seen = new LagHistory()));
  seen.add(now, answered, skew, anew);
  stats.set(id, now);
  if (list?.isConnected) list.took(id);
  else if (page?.isConnected && page.subscription === id) page.took(now, seen);
}

/** @param {string} id */
function forget(id) {
  histories.delete(id);
  stats.delete(id);
}

/** Shows what the address names. */
async function show() {
  const route = parse(location.hash);
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  clearTimeout(waiting);
  clearTimeout(listing);
  for (const open of document.querySelectorAll("dialog")) open.close();
  waiting = setTimeout(wait, known && route.page === "list" ? 1000 : 150);
  try {
    if (route.page === "list") {
      document.title = "Subscriptions · Event Issuer";
      if (known) showList(route);
      await relist();
      if (signal.aborted) return;
    } else if (route.page === "new") {
      document.title = "New subscription · Event Issuer";
      const form = new NewSubscription(signal);
      await form.load(route);
      if (signal.aborted) return;
      watch.follow([]);
      put(form);
    } else {
      await showOne(route.id, signal);
      if (signal.aborted) return;
    }
    arrived();
  } catch (error) {
    if (signal.aborted) return;
    if (route.page === "subscription" && error instanceof Unanswered && error.status === 404) unknown(route.id);
    else away(error, signal);
  }
}

/** Asks which there are, shows them, and does so again in a while. */
async function relist() {
  const { signal } = showing;
  clearTimeout(listing);
  const now = await listSubscriptions(signal);
  const route = parse(location.hash); // it may have been typed in meanwhile
  if (signal.aborted || route.page !== "list") return;
  known = now;
  const there = new Set(known.items.map((s) => s.id));
  for (const id of [...stats.keys()]) if (!there.has(id)) forget(id);
  showList(route);
  const again = () => {
    if (signal.aborted) return;
    // Whether the server is there is found out by asking for stats; here nothing is lost by asking later.
    listing = setTimeout(() => (document.hidden || view.hasAttribute("data-stale") ? again() : void relist().catch(again)), LISTED);
  };
  again();
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
  else put((list = new SubscriptionList((id, inSight) => watch.see(id, inSight))));
  list.show(known.items, known.whole, route, stats, histories);
  watch.follow(known.items.map((s) => s.id));
}

/**
 * @param {string} id
 * @param {AbortSignal} signal
 */
async function showOne(id, signal) {
  const [about, now] = await Promise.all([getSubscription(id, signal), getStats(id, signal)]);
  if (signal.aborted) return;
  document.title = `${called(about)} · Subscriptions`;
  page = new SubscriptionPage(about, {
    reset: (after) => {
      took(id, after, 0, true);
      watch.now(id);
    },
    refresh: () => watch.now(id),
    deleted: () => {
      forget(id);
      known = undefined;
      location.hash = "#/";
    },
  });
  put(page);
  scrollTo({ top: 0 });
  took(id, now.stats, now.skew);
  watch.follow([id]);
  watch.see(id, true);
}

/** A reader of the screen is told of a new page; the keyboard goes on at its beginning. */
function arrived() {
  if (!first) view.querySelector("h1")?.focus({ preventScroll: true });
  first = false;
  write(say, document.title);
}

function wait() {
  view.setAttribute("aria-busy", "true");
  const bars = Array.from({ length: 6 }, () => make("div", { class: "ghost" }));
  view.replaceChildren(make("div", { class: "waiting", role: "status" }, make("p", { class: "unseen" }, "Loading"), ...bars));
}

/** @param {string} id */
function unknown(id) {
  watch.follow([]);
  document.title = "No such subscription · Event Issuer";
  put(
    make("div", { class: "state-page" },
      make("h1", { tabindex: -1 }, "There is no such subscription"),
      make("p", {}, make("code", {}, id), " is not here. It may have been deleted."),
      make("p", {}, make("a", { class: "button", href: "#/" }, "All subscriptions")),
    ),
  );
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
  watch.follow([]);
  stale("");
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
  e.preventDefault(); // the address is the page's own
  view.focus();
});
addEventListener("online", () => {
  if (view.querySelector(".state-page[role=alert]")) void show();
  watch.hurry();
});
document.addEventListener("visibilitychange", () => {
  watch.visible = !document.hidden;
});
document.addEventListener("say", (e) => {
  write(say, "");
  write(say, /** @type {CustomEvent<string>} */ (e).detail);
});
document.addEventListener("keydown", (e) => {
  const typing = e.target instanceof Element && e.target.closest("input, textarea, select, dialog");
  if (e.key !== "/" || typing || e.ctrlKey || e.metaKey || e.altKey) return;
  if (!list?.isConnected) return;
  e.preventDefault();
  list.search.focus();
  list.search.select();
});
watch.visible = !document.hidden;
void show();
