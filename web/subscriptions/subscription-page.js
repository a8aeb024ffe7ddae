// @ts-check
/** <subscription-page>: everything of one subscription: how far behind, who reads it, where, and what to do about it. */
import { durationWords } from "../catalog/catalog-words.js";
import { codeTabs } from "../page/code-tabs.js";
import { make, write } from "../page/dom.js";
import { narrowed } from "./api.js";
import { DeadLetters } from "./dead-letters.js";
import { joinCode } from "./join-code.js";
import { LagChart } from "./lag-chart.js";
import { LiveTable } from "./live-table.js";
import { askDelete, figure, pageHead, rulesCard, section } from "./page-parts.js";
import { PartitionTable } from "./partition-table.js";
import { ResetDialog } from "./reset-dialog.js";
import { condition, count, counted, events, groupsWords, lasting, moment, rate, waitingWords } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {import("./api.js").Session} Session */
/** @typedef {import("./lag-history.js").LagHistory} LagHistory */

/** Where the code was looked at last: it stays from one to the next. */
let chosenCode = "sse";

/** A session's id where there is little room. */
const short = (/** @type {string} */ id) => (id.length > 12 ? `${id.slice(0, 10)}…` : id);

export class SubscriptionPage extends HTMLElement {
  /** @type {Subscription} */ #about;
  /** @type {Stats | undefined} */ #stats;
  /** @type {LagHistory | undefined} */ #history;
  #acted;
  /** @type {ResetDialog | undefined} */ #reset;
  #state = make("p", { class: "condition" });
  #title = make("span");
  #says = make("span", { class: "says" });
  #figures = {
    lag: make("dd"), seconds: make("dd"), incoming: make("dd"), done: make("dd"), held: make("dd"), again: make("dd"), dead: make("dd"),
  };
  #chart = new LagChart();
  #letters = new DeadLetters();
  #resetButton = make("button", { type: "button", class: "button" }, "Reset…");
  #deleteButton = make("button", { type: "button", class: "button bad" }, "Delete…");
  #noSessions = make("p", { class: "nothing" }, "Nobody reads it. Join with the code on this page; events wait until then.");
  /** @type {LiveTable<Session>} */ #sessions = new LiveTable("Sessions", [
    { title: "Session", kind: "code", says: (s) => short(s.id), whole: (s) => s.id },
    { title: "Reads by", says: (s) => [transport(s.transport), s.address].filter(Boolean).join(", ") },
    { title: "Replica", says: (s) => s.replica ?? "" },
    { title: "Since", says: (s) => (s.since ? moment(Date.parse(s.since), Date.now()) : "") },
    { title: "Holds", kind: "number", says: (s) => count(s.uncommitted ?? 0), whole: () => "events that it was given and has not acknowledged" },
    { title: "Is fed from", kind: "name", says: (s) => (s.waiting ? waitingWords(s.waiting) : this.#loose ? "every partition" : groupsWords(s.groups ?? [])), whole: (s) => (s.groups ?? []).join(", ") },
  ], (s) => s.id);
  #partitions = new PartitionTable([
    { title: "In time", kind: "number", says: (p) => (p.lag ? lasting(p.lagSeconds ?? 0) : "–") },
    { title: "Held", kind: "number", says: (p) => count(p.uncommitted ?? 0) },
    { title: "Again", kind: "number", says: (p) => count(p.redeliveries ?? 0), whole: () => "deliveries that were not the first" },
    { title: "Session", kind: "code", says: (p) => (p.session ? short(p.session) : this.#loose && this.#stats?.sessions?.length ? "any" : "none"), whole: (p) => [p.session, p.replica && `on ${p.replica}`].filter(Boolean).join(" ") },
  ]);

  /**
   * @param {Subscription} about
   * @param {{reset: (stats: Stats) => void, refresh: () => void, deleted: () => void}} acted what to do after something was done
   */
  constructor(about, acted) {
    super();
    this.#about = about;
    this.#acted = acted;
    this.#resetButton.disabled = true;
    this.#resetButton.addEventListener("click", () => this.#askReset());
    this.#deleteButton.addEventListener("click", () => this.#askDelete());
    this.#letters.addEventListener("counted", () => write(this.#figures.dead, this.#letters.total));
    this.#state.append(make("span", { class: "state" }, make("span", { class: "dot" }), this.#title), this.#says);
    this.#build(about);
  }

  get subscription() {
    return this.#about.id;
  }

  /** Whether every session is fed from every partition. */
  get #loose() {
    return this.#about.config?.ordering === "none";
  }

  /**
   * @param {Stats} stats
   * @param {LagHistory} history
   */
  took(stats, history) {
    this.#stats = stats;
    this.#history = history;
    this.#resetButton.disabled = false;
    const rates = history.rates();
    const { grade, title, says } = condition(stats, rates, this.#about);
    this.#state.dataset["grade"] = grade;
    write(this.#title, title);
    write(this.#says, says);
    const f = this.#figures;
    write(f.lag, count(stats.lag));
    write(f.seconds, lasting(stats.lagSeconds ?? 0));
    write(f.incoming, rates ? `${rate(rates.incoming)}/s` : "–");
    write(f.done, rates ? `${rate(rates.done)}/s` : "–");
    write(f.held, count(stats.uncommitted ?? 0));
    write(f.again, count(stats.redeliveries ?? 0));
    this.#chart.show(history, Date.now());
    const sessions = stats.sessions ?? [];
    this.#noSessions.hidden = sessions.length > 0;
    this.#sessions.element.hidden = sessions.length === 0;
    this.#sessions.show(sessions);
    this.#partitions.show(stats.partitions ?? []);
    this.#letters.show(stats.id, stats.deadLetters ?? 0, (stats.partitions ?? []).reduce((n, p) => n + p.position + (p.acknowledgedAbove ?? 0), 0));
    write(f.dead, this.#letters.total);
    if (this.#reset?.open) this.#reset.show(stats);
  }

  /** @param {Subscription} about */
  #build(about) {
    const f = this.#figures;
    this.replaceChildren(
      pageHead(about, [this.#resetButton, this.#deleteButton], [make("span", { class: "badge" }, this.#loose ? "in no order" : "in order by key")]),
      make("section", { class: "card now", "aria-labelledby": "now-title" },
        make("h2", { id: "now-title", class: "unseen" }, "How it stands"),
        this.#state,
        make("dl", { class: "figures" },
          figure("Behind", f.lag, narrowed(about) ? "events of its streams that are not acknowledged yet, with those that its filters will leave out" : "events that are not acknowledged yet"),
          figure("In time", f.seconds, "how long the oldest of them waits"),
          figure("Come in", f.incoming, "events a second, over the last half minute"),
          figure("Are done", f.done, "events a second that are acknowledged, over the last half minute"),
          figure("Held", f.held, "events that sessions have and have not acknowledged"),
          figure("Given again", f.again, "deliveries that were not the first"),
          figure("Dead letters", f.dead, "events that were given up"),
        ),
        this.#chart,
      ),
      make("div", { class: "doc" },
        section("sessions", "Sessions", "Who reads it now.", this.#noSessions, this.#sessions.element),
        section("partitions", "Partitions", "Up to where it has been read. All before a position is acknowledged.", this.#partitions),
        section("dead-letters", "Dead letters", "Events that were given up, oldest first.", this.#letters),
      ),
      make("aside", { "aria-label": "Code and settings" }, this.#code(about), this.#rules(about)),
    );
  }

  /** @param {Subscription} about */
  #rules(about) {
    const { config = {} } = about;
    return rulesCard(about, "What it gives", (rule) => {
      rule("Order", this.#loose ? "None is kept: every session gets events of every partition, and others go on past one that takes long." : "Events with the same key come in order, one at a time: the next when the one before is acknowledged. A partition is one session’s.");
      if (config.ackTimeout) rule("Time to acknowledge", `${durationWords(config.ackTimeout)}; after that an event comes again.`);
      if (config.maxUncommitted) rule("A session holds", `at most ${events(config.maxUncommitted)} that it has not acknowledged.`);
      if (config.maxAttempts) rule("Attempts", `${count(config.maxAttempts)}; then an event becomes a dead letter.`);
      if (config.maxSessions) rule("Sessions", `${count(config.maxSessions)} at most.`);
    });
  }

  /** @param {Subscription} about */
  #code(about) {
    const all = joinCode(location.origin, about);
    return codeTabs(make("h2", {}, "Join it"), all, chosenCode, (shown) => {
      chosenCode = shown.id;
    });
  }

  #askReset() {
    if (!this.#stats || !this.#history) return;
    const { reset, refresh } = this.#acted;
    this.#reset = new ResetDialog({ ...this.#stats, name: this.#about.name }, this.#history, narrowed(this.#about), (stats) => {
      this.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: "It was reset." }));
      reset(stats);
    }, refresh);
  }

  #askDelete() {
    const { lag = 0, sessions = [] } = this.#stats ?? {};
    const same = this.#about.name ? "under this name" : "of the same content";
    const says = [`Its position is forgotten${lag ? `, and with it that ${events(lag)} ${lag === 1 ? "waits" : "wait"}` : ""}. The events themselves stay in their streams. One that is made again ${same} begins anew${this.#letters.some ? ", and finds these dead letters" : ""}.`];
    if (sessions.length) says.push(`${counted(sessions.length, "session reads", "sessions read")} it now, and ${sessions.length === 1 ? "is" : "are"} ended and told why.`);
    askDelete(this.#about, says, this.#acted.deleted);
  }
}

/** @param {string} [name] */
const transport = (name = "") => ({ sse: "SSE", ndjson: "NDJSON", websocket: "WebSocket", poll: "pages" })[name] ?? name;
