// @ts-check
/** <connection-state> in the header, <outage-banner> on the map, and <connection-panel> with all there is to know. */
import { WINDOW } from "./connection.js";
import { make, write } from "./dom.js";
import { MOVEMENTS, POSITIONS } from "./news.js";
import { clockSeconds, count, duration } from "./words.js";

/** @typedef {import("./connection.js").Connection} Connection */

export class ConnectionState extends HTMLElement {
  #dot = make("span", { class: "dot", "aria-hidden": "true" });
  #text = make("strong");
  #more = make("span", { class: "quiet" });

  connectedCallback() {
    this.setAttribute("role", "status");
    this.append(this.#dot, this.#text, " ", this.#more);
  }

  /** @param {Connection} connection */
  update(connection) {
    const { grade, text, more } = connection.summary();
    this.dataset["grade"] = grade;
    write(this.#text, text);
    write(this.#more, more);
    // The seconds that pass are for the eye; a screen reader hears the change of state.
    this.#more.setAttribute("aria-hidden", "true");
  }
}

export class OutageBanner extends HTMLElement {
  #head = make("strong");
  #text = make("span");

  connectedCallback() {
    this.append(this.#head, this.#text);
    this.hidden = true;
  }

  /** @param {Connection} connection */
  update(connection) {
    const { outage, state } = connection;
    const since = outage ? Date.now() - (outage.back || outage.lost) : 0;
    if (state.phase === "closed") {
      this.#show("bad", "The reading has ended.", state.reason ?? "");
    } else if (outage && !outage.back && since > 400) {
      const lacks = connection.open(POSITIONS) ? "What happens at stations is not told." : "The trains stand still.";
      this.#show("bad", "Connection lost", `${lacks} The cursors are kept: this page goes on where it was.`);
    } else if (outage?.settled && since < 14_000) {
      this.#show(connection.lostInOutage ? "bad" : "good", "Nothing missed", connection.recovery());
      if (connection.lostInOutage) write(this.#head, "Events are missing");
    } else if (outage?.back && !outage.settled) {
      this.#show("good", "Back", "Reading what came meanwhile …");
    } else this.hidden = true;
  }

  /**
   * @param {string} grade
   * @param {string} head
   * @param {string} text
   */
  #show(grade, head, text) {
    this.hidden = false;
    this.dataset["grade"] = grade;
    write(this.#head, head);
    write(this.#text, text);
  }
}

export class ConnectionPanel extends HTMLElement {
  #lost = make("output", { class: "big" });
  #rate = make("output", { class: "big" });
  #received = make("output", { class: "big" });
  #last = make("dd");
  #since = make("dd");
  #picture = make("dd", { title: "The map begins with where each train is, all at once." });
  #then = make("dd", { title: "Once a second the latest position of each train that has told a new one" });
  #leftOut = make("dd", { title: "Positions that newer ones of their train took the place of. On a good line there are none." });
  #repeated = make("dd", { title: "Told apart by their numbers" });
  #ignored = make("dd", { title: "Events of others, or with a time, place or train that cannot be" });
  #cursor = make("code");
  #copy = make("button", { type: "button", class: "plain" }, "Copy");
  #notes = make("ol", { class: "notes", tabindex: 0, "aria-label": "Journal of the connection" });
  #canvas = make("canvas", { "aria-hidden": "true" });
  #newest = -1;
  /** The centre's clock less ours, in whole seconds: the page has one clock only. */
  #shift = 0;
  /** @type {Record<string, string>} */ palette = {};

  connectedCallback() {
    const figure = (/** @type {HTMLElement} */ value, /** @type {string} */ name, /** @type {string} */ title) =>
      make("div", { title }, value, make("span", { class: "quiet" }, name));
    this.append(
      make("h2", { id: "connection-title" }, "The streams"),
      make(
        "div",
        { class: "figures" },
        figure(this.#lost, "lost", "Every train's events are numbered by the publisher. Of movements every one comes: a hole in the numbers would be a lost event."),
        figure(this.#rate, "events/s", "Over the last five seconds"),
        figure(this.#received, "received", "Since this page was opened"),
      ),
      make("div", { class: "chart" }, this.#canvas),
      make(
        "dl",
        {},
        make("dt", {}, "Last event"), this.#last,
        make("dt", {}, "Connected"), this.#since,
        make("dt", {}, "Snapshot"), this.#picture,
        make("dt", {}, "Positions"), this.#then,
        make("dt", {}, "Left out"), this.#leftOut,
        make("dt", {}, "Repeated"), this.#repeated,
        make("dt", {}, "Ignored"), this.#ignored,
        make("dt", {}, "Cursor"), make("dd", { class: "cursor" }, this.#cursor, this.#copy),
      ),
      make(
        "div",
        { class: "journal" },
        make("p", { class: "try" }, make("strong", {}, "Try it: "), "stop the server, start it again: nothing is lost."),
        this.#notes,
      ),
    );
    this.#copy.addEventListener("click", () => {
      void navigator.clipboard?.writeText(this.#cursor.textContent ?? "").then(() => {
        write(this.#copy, "Copied");
        setTimeout(() => write(this.#copy, "Copy"), 1500);
      });
    });
  }

  /**
   * @param {Connection} connection
   * @param {import("./clock.js").CentreClock} clock
   */
  update(connection, clock) {
    const { continuity, picture, state } = connection;
    const now = Date.now();
    const centre = clock.now();
    write(this.#lost, count(continuity.lost));
    this.#lost.dataset["grade"] = continuity.lost ? "bad" : "good";
    write(this.#rate, connection.rate(centre).toFixed(1));
    write(this.#received, count(continuity.received));
    write(this.#last, connection.lastEvent ? `${((now - connection.lastEvent) / 1000).toFixed(1)} s ago` : "none yet");
    write(this.#since, state.phase === "open" ? `for ${duration(now - state.since)}` : "not now");
    write(this.#picture, picture ? `${count(picture.trains)} trains` : "not yet");
    write(this.#then, `${count(picture?.since ?? 0)} since`);
    write(this.#leftOut, count(continuity.leftOut));
    write(this.#repeated, count(continuity.repeated));
    write(this.#ignored, count(connection.ignored));
    const cursor = connection.cursors.get(MOVEMENTS) ?? "";
    write(this.#cursor, cursor || "none yet");
    this.#cursor.title = `After the last movement: ${cursor || "none yet"}. The map has a cursor of its own: ${connection.cursors.get(POSITIONS) || "none yet"}.`;
    if (Math.abs(centre - now - this.#shift) > 1500) {
      this.#shift = Math.round((centre - now) / 1000) * 1000;
      this.#newest = -1;
    }
    this.#journal(connection);
    this.#chart(connection, centre);
  }

  /** @param {Connection} connection */
  #journal({ notes }) {
    const newest = notes[0]?.at ?? 0;
    if (newest === this.#newest && notes.length === this.#notes.childElementCount) return;
    this.#newest = newest;
    this.#notes.replaceChildren(
      ...notes.map((n) => make("li", { "data-kind": n.kind }, make("time", {}, clockSeconds(n.at + this.#shift)), " ", make("span", {}, n.text))),
    );
  }

  /**
   * Events in each of the last seconds, those that were read later in another colour; a second without connection is a
   * mark below.
   * @param {Connection} connection
   * @param {number} centre the centre's time
   */
  #chart(connection, centre) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = this.#canvas.clientWidth;
    const height = this.#canvas.clientHeight;
    const ctx = this.#canvas.getContext("2d");
    if (!ctx || !width) return;
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    const last = Math.floor(centre / 1000);
    const seconds = Array.from({ length: WINDOW }, (_, i) => connection.inSecond(last - WINDOW + 1 + i));
    const usual = seconds.map((s) => s.live + s.late).toSorted((a, b) => a - b)[Math.floor(WINDOW * 0.95)] ?? 0;
    const top = Math.max(12, usual * 1.4);
    const step = width / WINDOW;
    const local = Date.now() - centre;
    const bar = (/** @type {number} */ i, /** @type {number} */ from, /** @type {number} */ to, /** @type {string} */ colour) => {
      ctx.fillStyle = this.palette[colour] ?? "#888";
      ctx.fillRect(i * step, height - to, Math.max(step - 1, 1), to - from);
    };
    seconds.forEach(({ live, late }, i) => {
      const at = (last - WINDOW + 1 + i) * 1000 + local;
      const gone = connection.outages.some((o) => at >= o.lost - 999 && (!o.back || at < o.back - 500));
      const h = (/** @type {number} */ n) => Math.min(n / top, 1) * (height - 1);
      ctx.globalAlpha = i === WINDOW - 1 ? 0.45 : 1;
      if (live + late === 0) bar(i, 0, 2, gone ? "verylate" : "graticule");
      else {
        bar(i, 0, h(live), "ontime");
        bar(i, h(live), h(live + late), "accent");
      }
    });
    ctx.globalAlpha = 1;
  }
}
