// @ts-check
/** The page: everything is put together here. */
import { CentreClock } from "./clock.js";
import { ConnectionPanel, ConnectionState, OutageBanner } from "./connection-panel.js";
import { Connection } from "./connection.js";
import { Continuity } from "./continuity.js";
import { calm, find, make, write } from "./dom.js";
import { Fleet, SHOWN_AFTER } from "./fleet.js";
import { Follow } from "./follow.js";
import { Land } from "./land.js";
import { MOVEMENTS, POSITIONS } from "./news.js";
import { PunctualityBar } from "./punctuality-bar.js";
import { Reading } from "./reading.js";
import { StationBoard } from "./station-board.js";
import { ThemeSwitch } from "./theme-switch.js";
import { Timetable } from "./timetable.js";
import { TrainCard } from "./train-card.js";
import { TrainList } from "./train-list.js";
import { TrainMap, controls } from "./train-map.js";
import { clockSeconds, delayText } from "./words.js";

/** So many trains make a picture: with fewer in it, the closer map opens where more of them are. */
const LIVELY = 6;

/** @type {[name: string, latitude: number, longitude: number, km: number][]} */
const PLACES = [
  ["Oslo", 59.92, 10.75, 64],
  ["Bergen", 60.5, 6.0, 100],
  ["Stavanger", 58.72, 5.9, 80],
  ["Trondheim", 63.45, 10.75, 110],
  ["Nordland", 66.6, 14.2, 220],
];

for (const [name, element] of /** @type {[string, CustomElementConstructor][]} */ ([
  ["train-map", TrainMap], ["train-list", TrainList], ["train-card", TrainCard], ["station-board", StationBoard],
  ["connection-state", ConnectionState], ["connection-panel", ConnectionPanel], ["outage-banner", OutageBanner],
  ["punctuality-bar", PunctualityBar], ["theme-switch", ThemeSwitch],
])) {
  customElements.define(name, element);
}

const parts = {
  country: find(document, 'train-map[kind="country"]', TrainMap),
  lens: find(document, 'train-map[kind="lens"]', TrainMap),
  card: find(document, "train-card", TrainCard),
  list: find(document, "train-list", TrainList),
  board: find(document, "station-board", StationBoard),
  panel: find(document, "connection-panel", ConnectionPanel),
  state: find(document, "connection-state", ConnectionState),
  banner: find(document, "outage-banner", OutageBanner),
  bar: find(document, "punctuality-bar", PunctualityBar),
  clock: find(document, "#clock", HTMLElement),
  say: find(document, "#say", HTMLElement),
};
const maps = [parts.country, parts.lens];

const fleet = new Fleet();
const clock = new CentreClock();
const continuity = new Continuity();
const connection = new Connection([POSITIONS, MOVEMENTS], continuity);
/** @type {Follow | undefined} */
let follow;
/** The server's clock less ours. */
let skew = 0;
/** The centre's time at which everything stands still while there is no connection; 0: it runs. */
let stopped = 0;
/** When it last went on, in milliseconds of the page. */
let resumed = 0;
/** When the first event came, in milliseconds of the page. */
let begun = Infinity;
/** The closer map has found its first view. */
let opened = false;

const centreTime = () => stopped || clock.now();
const serverTime = () => Date.now() + skew;

/** @param {string} number of a train, which is told of by a stream of its own from now on */
function followTrain(number) {
  return new Follow(number, {
    clock,
    now: serverTime,
    onPosition: (news) => fleet.apply(news),
    onGone: () => fleet.remove(number),
  });
}

/** @param {string} number of a train, or "" for none */
function choose(number) {
  if (number === parts.list.selected && number) number = parts.lens.following ? "" : number;
  if (number !== parts.list.selected) {
    follow?.close();
    follow = number ? followTrain(number) : undefined;
  }
  parts.list.selected = number;
  for (const map of maps) {
    map.selected = number;
    map.trail = [];
  }
  parts.lens.following = false;
  if (number) parts.lens.follow();
  parts.card.letGo = false;
  const train = fleet.trains.get(number);
  if (number) find(document, ".hint", HTMLElement).hidden = true;
  if (train) write(parts.say, `Following ${train.line} to ${train.to}, train ${number}, ${delayText(train.delay)}`);
  history.replaceState(null, "", number ? `#train/${number}` : location.pathname);
  update();
  parts.list.update();
  // Where the card is a sheet at the screen's end, the map may be out of sight.
  if (number && getComputedStyle(parts.card).position === "fixed") {
    parts.lens.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  }
}

/** By night few trains run: the closer map opens where most of them are. */
function openWhereTrainsRun() {
  const trains = [...fleet.trains.values()].filter((t) => !Number.isNaN(t.shown[0]));
  if (parts.list.selected || parts.lens.touched || parts.lens.inView(trains).length >= LIVELY) return;
  const near = (/** @type {import("./fleet.js").Train} */ a) => trains.filter((b) => Math.hypot(a.shown[0] - b.shown[0], a.shown[1] - b.shown[1]) < 60).length;
  const liveliest = trains.toSorted((a, b) => near(b) - near(a))[0];
  if (liveliest) parts.lens.centre(liveliest.shown);
}

/** @type {Set<string>} what went wrong in a part of the page, told once */
const failed = new Set();

/**
 * One part that fails stops neither the others nor the clock.
 * @param {...() => void} parts
 */
function each(...parts) {
  for (const part of parts) {
    try {
      part();
    } catch (error) {
      if (failed.has(String(error))) continue;
      failed.add(String(error));
      connection.note("bad", `A part of this page has failed: ${error}`);
      reportError(error);
    }
  }
}

/** What changes a few times a second. */
function update() {
  const now = centreTime();
  each(
    () => write(parts.clock, clockSeconds(clock.known ? now : NaN)),
    () => connection.settle(clock.now()),
    () => parts.state.update(connection),
    () => parts.banner.update(connection),
    () => parts.panel.update(connection, clock),
    () => parts.card.update(parts.list.selected, fleet.trains.get(parts.list.selected), follow),
    makeRoom,
  );
}

/** Keeps a followed train in the middle of what the card leaves of the map. */
function makeRoom() {
  const { card, lens } = parts;
  const place = card.hidden ? "" : getComputedStyle(card).position;
  lens.inset = place === "absolute" && lens.clientWidth > 500 ? card.offsetWidth : 0;
  lens.insetBelow = place === "fixed" ? Math.max(lens.getBoundingClientRect().bottom - card.getBoundingClientRect().top, 0) : 0;
}

/** What changes once a second. */
function updateLists() {
  each(
    () => parts.list.update(),
    () => parts.board.update(centreTime()),
    () => parts.bar.update(fleet),
  );
  if (!opened && connection.lastEvent && performance.now() - begun > 2500) {
    opened = true;
    openWhereTrainsRun();
  }
}

function dress() {
  for (const map of maps) map.dress();
  parts.panel.palette = parts.card.palette = parts.lens.palette;
}

let painted = 0;
/** @param {number} now */
function frame(now) {
  requestAnimationFrame(frame);
  const passed = now - painted;
  if (calm() && passed < 500) return;
  painted = now;
  const frozen = stopped !== 0;
  const time = centreTime();
  if (!frozen) fleet.move(time, Math.min(passed, 1000), calm(), now - resumed < 15_000);
  const trail = follow?.trail(time - SHOWN_AFTER) ?? [];
  for (const map of maps) {
    map.frozen = frozen;
    map.trail = trail;
    map.frame(now, Math.min(passed, 100));
  }
}

function read() {
  new Reading({
    clock,
    fleet,
    connection,
    now: serverTime,
    onNews(stream) {
      begun = Math.min(begun, performance.now());
      if (stopped && stream === POSITIONS) [stopped, resumed] = [0, performance.now()];
    },
    onState(stream, state) {
      if (stream === POSITIONS && state.phase === "reconnecting" && !stopped && clock.known) stopped = clock.now();
      update();
    },
  });
}

/** @param {string} path */
async function load(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return { content: await answer.json(), date: Date.parse(answer.headers.get("Date") ?? "") };
}

async function start() {
  const [day, shape] = await Promise.all([load("/data/norway.json"), load("/data/land.json")]);
  if (!Number.isNaN(day.date)) skew = Math.abs(day.date - Date.now()) > 2000 ? day.date - Date.now() : 0;
  const timetable = new Timetable(day.content);
  const land = new Land(timetable, shape.content);
  for (const map of maps) {
    map.land = land;
    map.fleet = fleet;
  }
  parts.country.framed = parts.lens;
  parts.country.fit();
  const [, latitude, longitude, km] = PLACES[0] ?? ["", 60, 10, 100];
  parts.lens.show(latitude, longitude, km, false);
  parts.list.fleet = parts.board.fleet = fleet;
  parts.card.timetable = timetable;
  parts.board.plan(timetable);
  parts.board.station = "Oslo S";
  const norway = make("button", { type: "button" }, "Norway");
  norway.addEventListener("click", () => {
    parts.card.letGo = parts.list.selected !== "";
    parts.lens.fit(true);
  });
  find(document, ".lens .places", HTMLElement).append(
    norway,
    ...PLACES.map(([name, lat, lon, across]) => {
      const button = make("button", { type: "button" }, name);
      button.addEventListener("click", () => {
        parts.lens.following = false;
        parts.card.letGo = parts.list.selected !== "";
        parts.lens.show(lat, lon, across);
      });
      return button;
    }),
    controls(parts.lens),
  );

  if (matchMedia("(pointer: coarse)").matches) write(find(document, ".hint", HTMLElement), "Tap a train to follow it");
  document.addEventListener("choose", (e) => choose(/** @type {CustomEvent<string>} */ (e).detail));
  document.addEventListener("letgo", () => (parts.card.letGo = true));
  document.addEventListener("again", () => {
    parts.lens.follow();
    parts.card.letGo = false;
  });
  document.addEventListener("say", (e) => write(parts.say, /** @type {CustomEvent<string>} */ (e).detail));
  document.addEventListener("stale", updateLists);
  document.addEventListener("station", (e) => {
    const station = timetable.byName.get(/** @type {CustomEvent<string>} */ (e).detail);
    if (station && !parts.lens.following) parts.lens.show(station.latitude, station.longitude, 40);
    updateLists();
  });
  document.addEventListener("theme", dress);
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && parts.list.selected) choose("");
  });
  dress();
  read();
  const wanted = /^#train\/(\w+)$/.exec(location.hash)?.[1];
  if (wanted) choose(wanted);
  setInterval(update, 250);
  setInterval(updateLists, 1000);
  requestAnimationFrame(frame);
}

start().catch((error) => {
  connection.note("bad", `The page could not begin: ${error.message}`);
  parts.panel.update(connection, clock);
  throw error;
});
