// @ts-check
/** <station-board>: what leaves and comes at one station, as planned and as the events tell. */
import { make, write } from "./dom.js";
import { delayText, grade, isoDate, sinceMidnight } from "./words.js";

/** @typedef {import("./timetable.js").Timetable} Timetable */
/** @typedef {import("./timetable.js").Visit} Visit */
/** @typedef {import("./fleet.js").Fleet} Fleet */

/**
 * @typedef {object} Row
 * @property {string} key
 * @property {number} aimed minutes since today's midnight
 * @property {string} line
 * @property {string} train
 * @property {string} where
 * @property {string} status
 * @property {string} grade
 * @property {boolean} gone
 */

const AHEAD = 120;
const KEPT = 1;
const ROWS = 24;

export class StationBoard extends HTMLElement {
  /** @type {Timetable | undefined} */ timetable;
  /** @type {Fleet | undefined} */ fleet;
  #station = "";
  #arrivals = false;
  #input = make("input", { type: "search", list: "stations", "aria-label": "Station", autocomplete: "off", spellcheck: "false" });
  #body = make("tbody");
  #where = make("th", { scope: "col" }, "To");
  #empty = make("p", { class: "empty", hidden: true }, "Nothing in the next two hours.");
  #shown = "";

  connectedCallback() {
    const tab = (/** @type {string} */ text, /** @type {boolean} */ arrivals) => {
      const b = make("button", { type: "button", "aria-pressed": String(arrivals === this.#arrivals) }, text);
      b.addEventListener("click", () => {
        this.#arrivals = arrivals;
        for (const other of b.parentElement?.children ?? []) other.setAttribute("aria-pressed", String(other === b));
        this.#shown = "";
        this.dispatchEvent(new CustomEvent("stale", { bubbles: true }));
      });
      return b;
    };
    this.append(
      make("div", { class: "head" }, make("h2", { id: "board-title" }, "Station board"), make("div", { class: "tabs" }, tab("Departures", false), tab("Arrivals", true))),
      this.#input,
      make("datalist", { id: "stations" }),
      make(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "board-title" },
        make(
          "table",
          {},
          make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Time"), make("th", { scope: "col" }, "Line"), this.#where, make("th", { scope: "col" }, "Status"))),
          this.#body,
        ),
        this.#empty,
      ),
    );
    this.#input.addEventListener("change", () => this.#pick(this.#input.value));
    this.#input.addEventListener("focus", () => this.#input.select());
    this.#body.addEventListener("click", (e) => {
      const button = e.target instanceof Element ? e.target.closest("button") : undefined;
      if (button) this.dispatchEvent(new CustomEvent("choose", { detail: button.dataset["train"], bubbles: true }));
    });
  }

  /** @param {Timetable} timetable */
  plan(timetable) {
    this.timetable = timetable;
    const names = timetable.stations.map((s) => s.name).sort((a, b) => a.localeCompare(b, "nb"));
    this.querySelector("datalist")?.replaceChildren(...names.map((name) => make("option", { value: name })));
  }

  get station() {
    return this.#station;
  }

  set station(name) {
    this.#station = name;
    this.#input.value = name;
    this.#shown = "";
  }

  /** @param {string} typed */
  #pick(typed) {
    const want = typed.trim().toLocaleLowerCase("nb");
    const names = this.timetable?.stations.map((s) => s.name) ?? [];
    const found =
      names.find((n) => n.toLocaleLowerCase("nb") === want) ??
      names.filter((n) => want && n.toLocaleLowerCase("nb").startsWith(want)).sort((a, b) => a.length - b.length)[0];
    this.station = found ?? this.#station;
    if (found) this.dispatchEvent(new CustomEvent("station", { detail: found, bubbles: true }));
  }

  /** @param {number} now the centre's time, milliseconds of the epoch */
  update(now) {
    const rows = this.#rows(now);
    write(this.#where, this.#arrivals ? "From" : "To");
    this.#empty.hidden = rows.length > 0;
    const shown = JSON.stringify(rows);
    if (shown === this.#shown) return;
    this.#shown = shown;
    /** @type {Map<string, HTMLTableRowElement>} */
    const old = new Map([...this.#body.rows].map((r) => [r.dataset["key"] ?? "", r]));
    // A row with the keyboard's focus stays the same node.
    const next = rows.map((row) => this.#render(row, old.get(row.key)));
    const keep = new Set(next);
    for (const row of [...this.#body.rows]) if (!keep.has(row)) row.remove();
    next.forEach((row, i) => {
      if (this.#body.rows[i] !== row) this.#body.insertBefore(row, this.#body.rows[i] ?? null);
    });
  }

  /**
   * @param {Row} row
   * @param {HTMLTableRowElement | undefined} old
   */
  #render(row, old) {
    const tr = old ?? make("tr", { "data-key": row.key }, make("td"), make("td", {}, make("span", { class: "line" })), make("td", {}, make("button", { type: "button", class: "plain", "data-train": row.train })), make("td"));
    const [time, line, where, status] = /** @type {[HTMLElement, HTMLElement, HTMLElement, HTMLElement]} */ (/** @type {unknown} */ ([...tr.cells]));
    write(time, hhmm(row.aimed));
    write(line.firstElementChild ?? line, row.line);
    write(where.firstElementChild ?? where, row.where);
    if (status.textContent && status.textContent !== row.status) {
      tr.classList.remove("changed");
      void tr.offsetWidth; // begins the animation anew
      tr.classList.add("changed");
    }
    write(status, row.status);
    status.dataset["grade"] = row.grade;
    tr.classList.toggle("gone", row.gone);
    return tr;
  }

  /**
   * @param {number} now
   * @returns {Row[]}
   */
  #rows(now) {
    const station = this.timetable?.byName.get(this.#station);
    if (!station || !this.timetable) return [];
    const minute = sinceMidnight(now) / 60_000;
    const today = isoDate(now);
    const yesterday = isoDate(now - sinceMidnight(now) - 12 * 3_600_000);
    const tomorrow = isoDate(now - sinceMidnight(now) + 36 * 3_600_000);
    /** @type {(Row & {expected: number})[]} */
    const rows = [];
    for (const visit of this.timetable.visits[station.index] ?? []) {
      const { train, call } = visit;
      if (this.#arrivals ? call === 0 : call === train.calls.length - 1) continue;
      for (const [date, shift] of /** @type {[string, number][]} */ ([[yesterday, -1440], [today, 0], [tomorrow, 1440]])) {
        const row = this.#row(visit, date, shift, minute, now);
        if (row) rows.push(row);
      }
    }
    rows.sort((a, b) => a.aimed - b.aimed || a.key.localeCompare(b.key));
    return rows.slice(0, ROWS).map(({ expected: _, ...row }) => row);
  }

  /**
   * @param {Visit} visit
   * @param {string} date
   * @param {number} shift minutes from today's midnight to that of the service day
   * @param {number} minute now
   * @param {number} now
   * @returns {(Row & {expected: number}) | undefined}
   */
  #row({ train, call }, date, shift, minute, now) {
    const planned = train.calls[call];
    if (!planned) return undefined;
    const aimed = (this.#arrivals ? planned.arrival : planned.departure) + shift;
    if (aimed > minute + AHEAD || aimed < minute - 60) return undefined;
    const running = this.fleet?.trains.get(train.number);
    const live = running?.serviceDate === date ? running : undefined;
    const told = this.fleet?.told(date, train.number, call) ?? {};
    const event = this.#arrivals ? told.arrived : told.departed;
    const done = event !== undefined || (live !== undefined && (this.#arrivals ? live.nextCall > call || live.at === this.#station : live.nextCall > call && live.at !== this.#station));
    const ended = event === undefined ? aimed + (live?.delay ?? 0) / 60 : minute - (now - event) / 60_000;
    if (done ? minute - ended > KEPT : aimed < minute - 30 || (!live && aimed < minute - 3)) return undefined;

    const delay = live?.delay ?? 0;
    const expected = aimed + delay / 60;
    const end = train.calls[this.#arrivals ? 0 : train.calls.length - 1];
    let status = live ? (delay < 180 ? "on time" : `${hhmm(Math.floor(expected))} ${delayText(delay)}`) : "planned";
    if (done) status = this.#arrivals ? "arrived" : "departed";
    else if (live?.at === this.#station) status = "at platform";
    return {
      key: `${date}/${train.number}`, aimed, expected: done ? ended : expected, line: train.line, train: train.number, status,
      where: this.#arrivals && end ? (this.timetable?.station(end.station).name ?? "") : train.to,
      grade: done || !live ? "none" : grade(delay), gone: done,
    };
  }
}

/** @param {number} minutes */
function hhmm(minutes) {
  const m = ((Math.round(minutes) % 1440) + 1440) % 1440;
  return `${String(Math.floor(m / 60)).padStart(2, "0")}:${String(m % 60).padStart(2, "0")}`;
}
