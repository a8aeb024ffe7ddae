// @ts-check
/** What the pages of a subscription have in common, whether sessions read it or its events are sent to a sink. */
import { durationWords, momentWords } from "../catalog/catalog-words.js";
import { codeBlock, copyButton } from "../catalog/code-block.js";
import { pretty } from "../catalog/json-text.js";
import { make } from "../page/dom.js";
import { deleteSubscription } from "./api.js";
import { ConfirmDialog } from "./confirm-dialog.js";
import { called } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {(name: string, ...value: (Node | string)[]) => void} Rule */

/**
 * @param {Subscription} about
 * @param {HTMLElement[]} acts buttons
 * @param {HTMLElement[]} badges beside those of its streams
 */
export function pageHead(about, acts, badges) {
  const made = about.created;
  return make("div", { class: "head-of" },
    make("a", { class: "back", href: "#/" }, "← All subscriptions"),
    make("div", { class: "title-line" }, make("h1", { tabindex: -1 }, called(about)), make("div", { class: "acts" }, ...acts)),
    ...(about.description ? [make("p", { class: "lead" }, about.description)] : []),
    make("p", { class: "badges" },
      ...(about.streams ?? []).map((s) => make("a", { class: "badge plain", href: `/catalog/#/?stream=${encodeURIComponent(s)}` }, make("span", { class: "unseen" }, "stream "), s)),
      ...badges,
      ...(made ? [make("span", { class: "quiet" }, "made ", make("time", { datetime: made.at }, momentWords(made.at)), made.by ? ` by ${made.by}` : "")] : []),
      copyButton(() => about.id, "Copy the subscription’s id", "Copy id"),
    ),
  );
}

/**
 * @param {string} id
 * @param {string} title
 * @param {string} says
 * @param {Node[]} content
 */
export function section(id, title, says, ...content) {
  return make("section", { class: "card", id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), make("p", { class: "quiet" }, says), ...content);
}

/**
 * A figure with its name, for a list of them.
 * @param {string} name
 * @param {HTMLElement} value
 * @param {string} says what it means
 */
export const figure = (name, value, says) => make("div", { title: says }, make("dt", {}, name), value);

/**
 * Which events it gives, and what else it is set to.
 * @param {Subscription} about
 * @param {string} title
 * @param {(rule: Rule) => void} more
 */
export function rulesCard(about, title, more) {
  const list = make("dl", { class: "rules" });
  /** @type {Rule} */
  const rule = (name, ...value) => list.append(make("dt", {}, name), make("dd", {}, ...value));
  const { types = [], filters = [], config = {} } = about;
  rule("Events", types.length ? "" : filters.length ? "Those that pass the filters below." : "All of its streams.", ...types.map((t) => make("div", {}, t.endsWith("*") ? make("code", {}, t) : make("a", { href: `/catalog/#/${encodeURIComponent(t)}` }, make("code", {}, t)))));
  more(rule);
  if (config.from) rule("Began at", { latest: "the end of its streams at that time", oldest: "the oldest event" }[config.from] ?? momentWords(config.from));
  const changed = about.changed;
  if (changed && changed.at !== about.created?.at) rule("Changed", momentWords(changed.at), changed.by ? ` by ${changed.by}` : "");
  const card = make("section", { class: "card", id: "rules", "aria-labelledby": "rules-title" }, make("h2", { id: "rules-title" }, title), list);
  if (filters.length) card.append(make("h3", {}, "Filters"), make("p", { class: "note" }, filters.length === 1 ? "An event has to pass it." : "An event has to pass them all."), codeBlock(pretty(JSON.stringify(filters), 44), "json", "filters"));
  return card;
}

/**
 * Asks whether it shall be deleted, and has its name typed.
 * @param {Subscription} about
 * @param {string[]} says what goes with it
 * @param {() => void} deleted
 */
export function askDelete(about, says, deleted) {
  const dialog = new ConfirmDialog(`Delete ${called(about)}`, says.map((s) => make("p", {}, s)), "Delete", async () => {
    await deleteSubscription(about.id);
    deleted();
  });
  dialog.demand({ can: true, type: called(about) });
  dialog.show();
}

/**
 * A duration of the settings, in words.
 * @param {string} text
 */
export const lengthWords = (text) => durationWords(text) || "none";
