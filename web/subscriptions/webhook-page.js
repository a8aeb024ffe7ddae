// @ts-check
/** <webhook-page>: everything of a subscription whose events are sent to a sink: how that goes, and what to do about it. */
import { copyButton } from "../catalog/code-block.js";
import { codeTabs } from "../page/code-tabs.js";
import { make, write } from "../page/dom.js";
import { AttemptList } from "./attempt-list.js";
import { DeadLetters } from "./dead-letters.js";
import { DeliveryHistory } from "./delivery-history.js";
import { LagChart } from "./lag-chart.js";
import { PartitionTable } from "./partition-table.js";
import { getSubscription } from "./api.js";
import { askDelete, figure, lengthWords, pageHead, rulesCard, section } from "./page-parts.js";
import { proofCode, receiverCode } from "./receiver-code.js";
import { change, sendTest } from "./webhook-api.js";
import { askReplay, askRotate } from "./webhook-dialogs.js";
import { adviceWords, attemptWords, credentialWords } from "./webhook-words.js";
import { condition, count, counted, events, lasting, moment, rate } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("./api.js").Stats} Stats */
/** @typedef {import("./lag-history.js").LagHistory} LagHistory */

/** Its definition is read anew when its state changes, and else so often: milliseconds. */
const ANEW = 10_000;

/** Where the code was looked at last: it stays from one to the next. */
let chosenCode = "node";

export class WebhookPage extends HTMLElement {
  /** @type {Subscription} */ #about;
  /** @type {Stats | undefined} */ #stats;
  #acted;
  #busy = false;
  /** When its definition was read. */
  #read = Date.now();
  #state = make("p", { class: "condition" });
  #title = make("span");
  #says = make("span", { class: "says" });
  #advice = make("p", { class: "advice", hidden: true });
  #next = make("p", { class: "quiet", hidden: true });
  #told = make("p", { class: "notice told", role: "status", hidden: true });
  #figures = { lag: make("dd"), incoming: make("dd"), done: make("dd"), flying: make("dd"), waiting: make("dd"), dead: make("dd") };
  #buttons = {
    resume: button("Resume"), pause: button("Pause"), verify: button("Verify"), test: button("Send a test"),
    replay: button("Replay…"), rotate: button("Replace secret…"), remove: make("button", { type: "button", class: "button bad" }, "Delete…"),
  };
  #history = new DeliveryHistory();
  #attempts = new AttemptList();
  #letters = new DeadLetters(true);
  #chart = new LagChart(false);
  #partitions = new PartitionTable([
    { title: "Undone", kind: "number", says: (p) => (p.elsewhere ? "" : count(p.undone ?? 0)), whole: () => "events that are being sent, or wait for their next try" },
    { title: "Delivered by", says: (p) => (p.elsewhere ? "another replica" : "this replica") },
  ]);
  #elsewhere = make("p", { class: "note", hidden: true }, "Other replicas deliver some of the partitions. Of those it is told how far they are at least.");
  #proof = make("div", { class: "proof" });
  /** What the settings show. */
  #shape = "";
  #aside = make("aside", { "aria-label": "Endpoint, settings and code" });

  /**
   * @param {Subscription} about
   * @param {{refresh: () => void, deleted: () => void}} acted what to do after something was done
   */
  constructor(about, acted) {
    super();
    this.#about = about;
    this.#acted = acted;
    const b = this.#buttons;
    b.pause.addEventListener("click", () => void this.#act(b.pause, async () => this.#changed(await change(about.id, "pause"), "It is paused.")));
    b.resume.addEventListener("click", () => void this.#act(b.resume, async () => this.#changed(await change(about.id, "resume"), "It is resumed.")));
    b.verify.addEventListener("click", () => void this.#act(b.verify, () => this.#verify()));
    b.test.addEventListener("click", () => void this.#act(b.test, () => this.#test()));
    b.replay.addEventListener("click", () => askReplay(this.#about, (says) => {
      this.#tell(says, true);
      this.#sent();
    }));
    b.rotate.addEventListener("click", () => askRotate(this.#about, () => void this.#reload()));
    b.remove.addEventListener("click", () => this.#askDelete());
    this.#letters.addEventListener("counted", () => write(this.#figures.dead, this.#letters.total));
    this.#attempts.addEventListener("given-up", () => this.#letters.look());
    this.#letters.addEventListener("sent", () => this.#sent());
    this.#state.append(make("span", { class: "state" }, make("span", { class: "dot" }), this.#title), this.#says);
    this.#build(about);
    this.#settle(about);
    this.#attempts.show(about.id);
    this.#history.show(about.id);
  }

  get subscription() {
    return this.#about.id;
  }

  /**
   * @param {Stats} stats
   * @param {LagHistory} history
   */
  took(stats, history) {
    const before = this.#stats?.state ?? this.#about.status?.state;
    this.#stats = stats;
    const rates = history.rates();
    const f = this.#figures;
    write(f.lag, count(stats.lag));
    write(f.incoming, rates ? `${rate(rates.incoming)}/s` : "–");
    write(f.done, rates ? `${rate(rates.done)}/s` : "–");
    write(f.flying, count(stats.inFlight ?? 0));
    write(f.waiting, count(Math.max(0, (stats.undone ?? 0) - (stats.inFlight ?? 0))));
    this.#elsewhere.hidden = !stats.partial;
    this.#stand(history);
    this.#chart.show(history, Date.now());
    this.#partitions.show(stats.partitions ?? []);
    this.#letters.show(stats.id, stats.deadLetters ?? 0, (stats.partitions ?? []).reduce((n, p) => n + p.position - (p.undone ?? 0), 0));
    write(f.dead, this.#letters.total);
    if (stats.state !== before || Date.now() - this.#read > ANEW) void this.#reload();
  }

  /**
   * How it stands, as the stats tell.
   * @param {LagHistory} history
   */
  #stand(history) {
    const stats = this.#stats;
    if (!stats) return;
    const state = stats.state ?? "active";
    const { grade, title, says } = condition(stats, history.rates(), this.#about);
    this.#state.dataset["grade"] = grade;
    write(this.#title, title);
    write(this.#says, says);
    const advice = adviceWords(state, this.#about);
    this.#advice.hidden = advice === "";
    write(this.#advice, advice);
    const now = Date.now();
    const next = Date.parse((state === "pending" && this.#about.status?.proof?.next) || "");
    const replays = this.#about.status?.replays ?? [];
    const also = [
      Number.isNaN(next) ? "" : next <= now ? "It is being asked." : `It is asked again at ${moment(next, now)}, in ${lasting((next - now) / 1000)}.`,
      ...replays.map((r) => `A replay ${r.since ? `since ${moment(Date.parse(r.since), now)}` : "of all"} is under way: ${events(r.records)} of its streams at most.`),
    ].filter(Boolean).join(" ");
    this.#next.hidden = also === "";
    write(this.#next, also);
  }

  /**
   * What can be done in the state that it is in.
   * @param {Subscription} about
   */
  #settle(about) {
    this.#about = about;
    this.#read = Date.now();
    const state = about.status?.state ?? "active";
    const b = this.#buttons;
    b.resume.hidden = state !== "paused" && state !== "disabled";
    b.pause.hidden = !b.resume.hidden;
    b.verify.hidden = state !== "pending";
    b.test.disabled = state === "pending";
    b.test.title = state === "pending" ? "The endpoint has to prove first that it wants the events" : "Sends an example event to the endpoint";
    b.resume.classList.toggle("strong", !b.resume.hidden);
    b.verify.classList.toggle("strong", !b.verify.hidden);
    this.#history.hidden = state === "pending"; // nothing was sent yet that it could show
    const shown = document.activeElement instanceof HTMLElement && this.#proof.contains(document.activeElement);
    const proves = state === "pending";
    if (proves !== this.#proof.childElementCount > 0 && !shown) {
      this.#proof.replaceChildren(...(proves ? [this.#code(make("h2", {}, "How the endpoint proves itself"), proofCode(about), "proof")] : []));
    }
    const shape = JSON.stringify({ ...about, status: proves });
    if (shape === this.#shape) return; // what is read or copied stays as it is
    this.#shape = shape;
    this.#aside.replaceChildren(
      this.#endpoint(about), this.#rules(about),
      ...(proves ? [] : [this.#code(make("h2", {}, "Receive it"), receiverCode(about), "code")]),
    );
  }

  /** @param {Subscription} about */
  #build(about) {
    const f = this.#figures;
    const b = this.#buttons;
    this.replaceChildren(
      pageHead(about, [b.resume, b.pause, b.verify, b.test, b.replay, b.rotate, b.remove], [make("span", { class: "badge" }, "webhook"), make("span", { class: "badge" }, about.config?.ordering === "key" ? "in order by key" : "in no order")]),
      make("section", { class: "card now", "aria-labelledby": "now-title" },
        make("h2", { id: "now-title", class: "unseen" }, "How it stands"),
        this.#state, this.#advice, this.#next, this.#told,
        make("dl", { class: "figures" },
          figure("Behind", f.lag, "events of its streams that are not done yet, with those that its filters will leave out"),
          figure("Come in", f.incoming, "events a second, over the last half minute"),
          figure("Are done", f.done, "events a second, over the last half minute"),
          figure("In flight", f.flying, "events that are being sent"),
          figure("Wait to be tried", f.waiting, "events that were not taken yet, and wait for their next try or for what is before them"),
          figure("Dead letters", f.dead, "events that were given up"),
        ),
        this.#history,
      ),
      make("div", { class: "doc" },
        this.#proof,
        section("attempts", "Attempts", "Every failure, and some of the successes, newest first.", this.#attempts),
        section("dead-letters", "Dead letters", "Events that were given up, oldest first.", this.#letters),
        section("partitions", "Partitions", "How far it is in each. All before a position is done, or among the undone.", this.#partitions, this.#elsewhere, this.#chart),
      ),
      this.#aside,
    );
  }

  /**
   * @param {HTMLElement} title
   * @param {import("../page/code-tabs.js").Snippet[]} all
   * @param {string} id
   */
  #code(title, all, id) {
    return codeTabs(title, all, id === "proof" ? "challenge" : chosenCode, (shown) => {
      if (id !== "proof") chosenCode = shown.id;
    }, id);
  }

  /** @param {Subscription} about */
  #endpoint(about) {
    const { sink = "", protocolsettings: settings = {}, sinkcredential, publicKey = "" } = about;
    const list = make("dl", { class: "rules" });
    const rule = (/** @type {string} */ name, /** @type {(Node | string)[]} */ ...value) => list.append(make("dt", {}, name), make("dd", {}, ...value));
    rule("Address", make("code", {}, sink), " ", copyButton(() => sink, "Copy the address"));
    rule("Requests", settings.mode === "binary" ? "POST, binary: the event’s attributes are headers, which the signatures do not cover." : "POST, structured: each is an event as JSON.");
    const headers = Object.keys(settings.headers ?? {});
    if (headers.length) rule("More headers", ...headers.flatMap((name, i) => [i ? ", " : "", make("code", {}, name)]));
    rule("Credential", credentialWords(sinkcredential));
    const legacy = settings.legacySignature;
    if (legacy) rule("Signed besides", `${legacy.hash} in `, make("code", {}, legacy.header), `, as ${legacy.encoding}`);
    if (publicKey) rule("Public key", make("code", {}, publicKey), " ", copyButton(() => publicKey, "Copy the public key"), make("p", { class: "note" }, "Verifies the signatures that begin with v1a."));
    return make("section", { class: "card", id: "endpoint", "aria-labelledby": "endpoint-title" }, make("h2", { id: "endpoint-title" }, "Endpoint"), list);
  }

  /** @param {Subscription} about */
  #rules(about) {
    const { config = {} } = about;
    return rulesCard(about, "What is sent, and how", (rule) => {
      rule("Order", config.ordering === "key" ? "The next event of a key is sent when the one before it is done." : "None is kept: one that fails holds up no other.");
      rule("Pace", `${counted(config.concurrency ?? 8, "request")} at a time${config.ratePerSecond ? `, ${count(config.ratePerSecond)} a second at most` : ""}.`);
      const { max = 1, maxWait = "" } = config.batch ?? {};
      if (max > 1) rule("Batches", `Up to ${events(max)} a request${lengthWords(maxWait) === "none" ? "" : `, for which it waits ${lengthWords(maxWait)}`}.`);
      if (config.timeout) rule("Time to answer", `${lengthWords(config.timeout)}.`);
      const schedule = config.retry?.schedule ?? [];
      if (schedule.length) rule("Tries again after", `${schedule.map(shortly).join(", ")}; ${config.onExhausted === "block" ? "then goes on trying, and what is behind waits." : "then an event becomes a dead letter."}`);
      if (config.disableAfter) rule("Is disabled after", `${lengthWords(config.disableAfter)} of nothing but failures.`);
    });
  }

  /**
   * Does what a button says, and tells what went wrong.
   * @param {HTMLButtonElement} by
   * @param {() => Promise<void>} act
   */
  async #act(by, act) {
    if (this.#busy) return;
    this.#busy = true;
    by.setAttribute("aria-busy", "true");
    try {
      await act();
    } catch (error) {
      this.#tell(error instanceof Error ? error.message : String(error), false);
    } finally {
      this.#busy = false;
      by.removeAttribute("aria-busy");
      this.#acted.refresh();
    }
  }

  /**
   * @param {Subscription} about
   * @param {string} says
   */
  #changed(about, says) {
    const focused = document.activeElement;
    this.#settle(about);
    // A button that has gone leaves the keyboard at the one in its place.
    if (focused instanceof HTMLElement && focused.hidden) (this.#buttons.resume.hidden ? this.#buttons.pause : this.#buttons.resume).focus();
    this.#tell(says, true);
  }

  async #verify() {
    const about = await change(this.#about.id, "verify");
    const proven = about.status?.state !== "pending";
    this.#changed(about, proven ? "The endpoint has proven that it wants the events." : "");
    if (!proven) this.#tell(`It was asked: ${about.status?.reason ?? "it has not proven itself"}.`, false);
  }

  async #test() {
    const made = await sendTest(this.#about.id);
    this.#tell(attemptWords(made), made.state === "delivered");
    this.#sent();
  }

  async #reload() {
    this.#read = Date.now();
    try {
      this.#settle(await getSubscription(this.#about.id, AbortSignal.timeout(15_000)));
    } catch {
      // What is asked again and again tells that the server is away.
    }
  }

  #sent() {
    this.#attempts.expect();
    this.#acted.refresh();
  }

  /**
   * @param {string} text
   * @param {boolean} good
   */
  #tell(text, good) {
    this.#told.hidden = text === "";
    this.#told.classList.toggle("bad", !good);
    write(this.#told, text);
  }

  #askDelete() {
    const { lag = 0 } = this.#stats ?? {};
    askDelete(this.#about, [`Nothing more is sent. Its position is forgotten${lag ? `, and with it that ${events(lag)} of its streams ${lag === 1 ? "is" : "are"} still to be gone through` : ""}; its secret too. The events themselves stay in their streams. One that is made again begins anew, with another secret.`], this.#acted.deleted);
  }
}

/** @param {string} title */
const button = (title) => make("button", { type: "button", class: "button" }, title);

/** @param {string} text a duration, "1h30m0s" */
const shortly = (text) => text.replace(/(\D)0s$/, "$1").replace(/(h)0m$/, "$1").replace(/(\d)([hms])/g, "$1 $2 ").replace("m", "min").trim();
