// @ts-check
/** <delivery-history>: the chart of deliveries, over a span that is chosen, and the same as a table. */
import { make, write } from "../page/dom.js";
import { Again } from "./again.js";
import { DeliveryChart, PARTS, SHARES, spanWords, total } from "./delivery-chart.js";
import { listDeliveries } from "./webhook-api.js";
import { latency } from "./webhook-words.js";
import { count } from "./words.js";

/** Hours, and minutes of each step. */
const SPANS = /** @type {const} */ ([[1, 1], [6, 5], [24, 15]]);
/** How often it is asked anew: milliseconds. */
const EVERY = 10_000;

/** The span that was looked at last: it stays from one to the next. */
let chosen = 0;

export class DeliveryHistory extends HTMLElement {
  #id = "";
  /** @type {AbortController | undefined} */ #asking;
  #loads = new Again(() => void this.#load());
  #chart = new DeliveryChart();
  #spans = make("div", { class: "tabs", role: "group", "aria-label": "Over how long" });
  #note = make("p", { class: "note", role: "status" });
  #body = make("tbody");
  #table = make("details", { class: "same" },
    make("summary", {}, "The same as a table"),
    make("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Deliveries over time, as a table" },
      make("table", {}, make("caption", { class: "unseen" }, "Deliveries over time, newest first"), make("thead", {}, make("tr", {}, ...["Time", "Delivered", "Refused", "Failed", ...SHARES].map((title) => make("th", { scope: "col" }, title)))), this.#body)),
  );

  constructor() {
    super();
    SPANS.forEach(([hours], n) => {
      const button = make("button", { type: "button" }, `${hours} h`);
      button.addEventListener("click", () => {
        chosen = n;
        this.#choose();
        this.#loads.plan(0);
      });
      this.#spans.append(button);
    });
    this.#choose();
    this.#table.addEventListener("toggle", () => this.#fill());
  }

  connectedCallback() {
    if (!this.childElementCount) this.append(make("div", { class: "tools spans" }, make("h3", {}, "Deliveries"), make("span", { class: "spring" }), this.#spans), this.#chart, this.#note, this.#table);
    if (this.#id) this.#loads.start();
  }

  disconnectedCallback() {
    this.#loads.stop();
    this.#asking?.abort();
  }

  /** @param {string} id of the subscription */
  show(id) {
    this.#id = id;
    if (this.isConnected) this.#loads.start();
  }

  #choose() {
    [...this.#spans.children].forEach((b, n) => b.setAttribute("aria-pressed", String(n === chosen)));
  }

  async #load() {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const [hours, minutes] = SPANS[chosen] ?? SPANS[0];
    const now = Date.now();
    const from = now - hours * 3_600_000;
    try {
      const items = await listDeliveries(this.#id, new Date(from), minutes, asking.signal);
      if (asking.signal.aborted) return;
      this.#chart.show(items, minutes, from, now, hours === 1 ? "The last hour" : `The last ${hours} hours`);
      write(this.#note, "");
      this.#fill();
    } catch (error) {
      if (!asking.signal.aborted) write(this.#note, error instanceof Error ? error.message : String(error));
    } finally {
      if (this.#asking === asking) this.#loads.plan(EVERY);
    }
  }

  /** The table has those steps in which there was anything. */
  #fill() {
    if (!this.#table.open) return;
    const rows = this.#chart.steps.filter((s) => total(s) > 0).toReversed().map((s) =>
      make("tr", {}, make("th", { scope: "row" }, spanWords(s)), ...PARTS.toReversed().map((p) => make("td", {}, count(s[p]))), ...SHARES.map((k) => make("td", {}, s[k] === undefined ? "–" : latency(s[k])))),
    );
    this.#body.replaceChildren(...(rows.length ? rows : [make("tr", {}, make("td", { colspan: 7 }, "There were no attempts."))]));
  }
}
