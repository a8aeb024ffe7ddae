// @ts-check
/** <train-card>: the train that is followed: its calls, its delay over the last minutes, and its own stream. */
import { make, write } from "./dom.js";
import { clockTime, count, delayText, grade } from "./words.js";

/** @typedef {import("./fleet.js").Train} Train */
/** @typedef {import("./follow.js").Follow} Follow */
/** @typedef {import("./timetable.js").Timetable} Timetable */

/** @type {Record<string, string>} */
const OPERATORS = { NSB: "NSB", FLT: "Flytoget", GJB: "NSB Gjøvikbanen", CN: "CargoNet" };

export class TrainCard extends HTMLElement {
  /** @type {Timetable | undefined} */ timetable;
  /** @type {Record<string, string>} */ palette = {};
  #line = make("span", { class: "line" });
  #to = make("h2", { id: "card-title" });
  #sub = make("p", { class: "quiet" });
  #delay = make("strong");
  #speed = make("strong");
  #where = make("span", { class: "quiet" }, "Next");
  #next = make("strong");
  #due = make("span", { class: "quiet" });
  #calls = make("ol", { class: "calls", tabindex: 0, "aria-label": "Calls" });
  #canvas = make("canvas", { "aria-hidden": "true" });
  #caption = make("figcaption", { class: "quiet" });
  #stream = make("p", { class: "own quiet" });
  #again = make("button", { type: "button", hidden: true }, "Follow again");
  #number = "";
  #reached = -1;

  connectedCallback() {
    const close = make("button", { type: "button", class: "close", "aria-label": "Stop following", title: "Stop following (Escape)" }, "×");
    this.setAttribute("role", "region");
    this.setAttribute("aria-labelledby", "card-title");
    const name = (/** @type {string} */ text) => make("span", { class: "quiet" }, text);
    this.append(
      make("div", { class: "head" }, this.#line, make("div", {}, this.#to, this.#sub), close),
      make(
        "div",
        { class: "facts" },
        make("div", {}, name("Delay"), this.#delay),
        make("div", {}, name("Speed"), this.#speed),
        make("div", { class: "wide" }, this.#where, make("div", {}, this.#next, " ", this.#due)),
      ),
      make("figure", { class: "past" }, this.#caption, this.#canvas),
      this.#calls,
      this.#stream,
      this.#again,
    );
    close.addEventListener("click", () => this.dispatchEvent(new CustomEvent("choose", { detail: "", bubbles: true })));
    this.#again.addEventListener("click", () => this.dispatchEvent(new CustomEvent("again", { bubbles: true })));
  }

  set letGo(/** @type {boolean} */ yes) {
    this.#again.hidden = !yes;
  }

  /**
   * @param {string} number
   * @param {Train | undefined} train
   * @param {Follow | undefined} follow
   */
  update(number, train, follow) {
    this.hidden = number === "";
    if (!number) {
      this.#number = "";
      return;
    }
    const planned = this.timetable?.trains.get(number);
    write(this.#line, train?.line ?? planned?.line ?? "");
    write(this.#to, train?.to ?? planned?.to ?? `Train ${number}`);
    const operator = train?.operator ?? planned?.operator ?? "";
    write(this.#sub, `Train ${number} · ${OPERATORS[operator] ?? operator}`);
    write(this.#delay, train ? delayText(train.delay) : "not running");
    this.#delay.dataset["grade"] = train ? grade(train.delay) : "none";
    write(this.#speed, train ? (train.at ? "standing" : `${train.speed} km/h`) : "–");
    write(this.#where, train?.at ? "Stands at" : "Next");
    write(this.#next, train ? train.at || train.next : "–");
    write(this.#due, train ? (train.at ? `then ${train.next}` : clockTime(train.expected)) : "");
    this.#list(number, train);
    if (follow) {
      write(this.#stream, `Its own stream, subject=${follow.subject}: ${count(follow.events)} events, ${follow.continuity.lost} lost`);
      this.#past(follow);
    }
  }

  /**
   * @param {string} number
   * @param {Train | undefined} train
   */
  #list(number, train) {
    const planned = this.timetable?.trains.get(number);
    if (!planned || !this.timetable) {
      this.#calls.replaceChildren();
      return;
    }
    const { timetable } = this;
    if (number !== this.#number) {
      this.#number = number;
      this.#reached = -1;
      this.#calls.replaceChildren(
        ...planned.calls.map((call, i) => {
          const minute = i === planned.calls.length - 1 ? call.arrival : call.departure;
          return make("li", {}, make("time", {}, hhmm(minute)), make("span", {}, timetable.station(call.station).name), make("em"));
        }),
      );
    }
    const next = train?.nextCall ?? -1;
    [...this.#calls.children].forEach((row, i) => {
      const passed = i < next && !(train?.at && i === next - 1 && row.children[1]?.textContent === train.at);
      row.classList.toggle("passed", passed);
      row.classList.toggle("here", !passed && i === (train?.at ? next - 1 : next));
      const late = train && !passed && train.delay >= 180 && i >= next - 1;
      const delay = /** @type {HTMLElement} */ (row.children[2]);
      write(delay, late ? delayText(train.delay) : "");
      delay.dataset["grade"] = late ? grade(train.delay) : "none";
    });
    if (next !== this.#reached && next >= 0) {
      this.#reached = next;
      const row = /** @type {HTMLElement | undefined} */ (this.#calls.children[Math.max(next - 1, 0)]);
      if (row) this.#calls.scrollTop = row.offsetTop;
    }
  }

  /**
   * The delay over the past, read from the log.
   * @param {Follow} follow
   */
  #past(follow) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = this.#canvas.clientWidth;
    const height = this.#canvas.clientHeight;
    const ctx = this.#canvas.getContext("2d");
    const first = follow.fixes[0];
    const last = follow.fixes.at(-1);
    if (!ctx || !width) return;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    if (!first || !last || last.time === first.time) return;
    write(this.#caption, `Delay over the last ${Math.max(1, Math.round((last.time - first.time) / 60_000))} min, read from the log`);
    ctx.scale(ratio, ratio);
    const top = Math.max(240, ...follow.fixes.map((f) => f.delay)) * 1.1;
    const x = (/** @type {number} */ time) => ((time - first.time) / (last.time - first.time)) * (width - 4);
    const y = (/** @type {number} */ delay) => height - 2 - (delay / top) * (height - 6);
    ctx.lineWidth = 2;
    ctx.lineJoin = ctx.lineCap = "round";
    for (let i = 1; i < follow.fixes.length; i++) {
      const a = /** @type {import("./follow.js").Fix} */ (follow.fixes[i - 1]);
      const b = /** @type {import("./follow.js").Fix} */ (follow.fixes[i]);
      ctx.strokeStyle = this.palette[grade(b.delay)] ?? "#888";
      ctx.beginPath();
      ctx.moveTo(x(a.time) + 1, y(a.delay));
      ctx.lineTo(x(b.time) + 1, y(b.delay));
      ctx.stroke();
    }
  }
}

/** @param {number} minutes */
function hhmm(minutes) {
  const m = minutes % 1440;
  return `${String(Math.floor(m / 60)).padStart(2, "0")}:${String(m % 60).padStart(2, "0")}`;
}
