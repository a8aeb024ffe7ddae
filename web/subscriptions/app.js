// @ts-check
/** The subscriptions: what the address names is shown here, and asked for again and again while it is. */
import { Unanswered } from "../catalog/api.js";
import { find, make, write } from "../page/dom.js";
import { HashPage } from "../page/hash-page.js";
import { ThemeSwitch } from "../page/theme-switch.js";
import { getStats, getSubscription, listSubscriptions } from "./api.js";
import { AttemptFilter } from "./attempt-filter.js";
import { AttemptList } from "./attempt-list.js";
import { DeadLetters } from "./dead-letters.js";
import { DeliveryChart } from "./delivery-chart.js";
import { DeliveryHistory } from "./delivery-history.js";
import { EventPicker } from "./event-picker.js";
import { LagChart } from "./lag-chart.js";
import { LagHistory } from "./lag-history.js";
import { LagSpark } from "./lag-spark.js";
import { NewSubscription } from "./new-subscription.js";
import { NewWebhook } from "./new-webhook.js";
import { PartitionTable } from "./partition-table.js";
import { parse } from "./route.js";
import { StatsWatch } from "./stats-watch.js";
import { SubscriptionList } from "./subscription-list.js";
import { SubscriptionPage } from "./subscription-page.js";
import { WebhookPage } from "./webhook-page.js";
import { called, clock } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./api.js").Stats} Stats */

for (const [name, element] of /** @type {[string, CustomElementConstructor][]} */ ([
  ["theme-switch", ThemeSwitch], ["lag-spark", LagSpark], ["lag-chart", LagChart], ["dead-letters", DeadLetters],
  ["event-picker", EventPicker], ["partition-table", PartitionTable], ["attempt-filter", AttemptFilter], ["attempt-list", AttemptList],
  ["delivery-chart", DeliveryChart], ["delivery-history", DeliveryHistory], ["webhook-page", WebhookPage], ["new-webhook", NewWebhook],
  ["subscription-list", SubscriptionList], ["subscription-page", SubscriptionPage], ["new-subscription", NewSubscription],
])) {
  customElements.define(name, element);
}

/** How often it is asked which there are. */
const LISTED = 15_000;

const frame = new HashPage(() => void show());
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
/** @type {SubscriptionPage | WebhookPage | undefined} */
let page;
let first = true;
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
    if (!error) write(frame.say, "The server answers again.");
  },
});

/** @param {string} why what is shown is old, "" where it is not */
function stale(why) {
  banner.hidden = why === "";
  frame.view.toggleAttribute("data-stale", why !== "");
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
  clearTimeout(listing);
  for (const open of document.querySelectorAll("dialog")) open.close();
  frame.impatient(known && route.page === "list" ? 1000 : 150, 6);
  try {
    if (route.page === "list") {
      document.title = "Subscriptions · Event Issuer";
      if (known) showList(route);
      await relist();
      if (signal.aborted) return;
    } else if (route.page !== "subscription") {
      document.title = `${route.page === "new" ? "New subscription" : "New webhook"} · Event Issuer`;
      const form = route.page === "new" ? new NewSubscription(signal) : new NewWebhook(signal);
      await form.load(route);
      if (signal.aborted) return;
      watch.follow([]);
      frame.put(form);
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
    listing = setTimeout(() => (document.hidden || frame.view.hasAttribute("data-stale") ? again() : void relist().catch(again)), LISTED);
  };
  again();
}

/** @param {import("./route.js").ListRoute} route */
function showList(route) {
  if (!known) return;
  if (list?.isConnected) frame.patient();
  else frame.put((list = new SubscriptionList((id, inSight) => watch.see(id, inSight))));
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
  const acted = {
    refresh: () => watch.now(id),
    deleted: () => {
      forget(id);
      known = undefined;
      location.hash = "#/";
    },
  };
  if (about.sink) page = new WebhookPage(about, acted);
  else {
    page = new SubscriptionPage(about, {
      ...acted,
      reset: (after) => {
        took(id, after, 0, true);
        watch.now(id);
      },
    });
  }
  frame.put(page);
  scrollTo({ top: 0 });
  took(id, now.stats, now.skew);
  watch.follow([id]);
  watch.see(id, true);
}

/** A reader of the screen is told of a new page; the keyboard goes on at its beginning. */
function arrived() {
  if (!first) frame.view.querySelector("h1")?.focus({ preventScroll: true });
  first = false;
  write(frame.say, document.title);
}

/** @param {string} id */
function unknown(id) {
  watch.follow([]);
  document.title = "No such subscription · Event Issuer";
  frame.put(
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
  watch.follow([]);
  stale("");
  frame.away(error, signal);
}

addEventListener("online", () => watch.hurry());
document.addEventListener("visibilitychange", () => {
  watch.visible = !document.hidden;
});
watch.visible = !document.hidden;
frame.begin(() => (list?.isConnected ? list.search : undefined));
