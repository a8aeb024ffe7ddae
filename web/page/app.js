// @ts-check
/** The page: everything is put together here. */
import { subscribe } from "../client/eventissuer.js";
import { CentreClock } from "./clock.js";
import { ConnectionPanel, ConnectionState, OutageBanner } from "./connection-panel.js";
import { Connection } from "./connection.js";
import { Continuity } from "./continuity.js";
import { calm, find, make, write } from "./dom.js";
import { Fleet, SHOWN_AFTER } from "./fleet.js";
import { Follow } from "./follow.js";
import { Land } from "./land.js";
import { PunctualityBar } from "./punctuality-bar.js";
import { StationBoard } from "./station-board.js";
import { ThemeSwitch } from "./theme-switch.js";
import { Timetable } from "./timetable.js";
import { TrainCard } from "./train-card.js";
import { TrainList } from "./train-list.js";
import { TrainMap, controls } from "./train-map.js";
import { clockSeconds, delayText } from "./words.js";

const STREAMS = ["train-positions", "train-movements"];
/** There is no snapshot to begin with: the last seconds hold a position of every train. */
const BEGIN = 20_000;

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
const connection = new Connection(continuity);
/** @type {Follow | undefined} */
let follow;
/** The server's clock less ours. */
let skew = 0;
/** The centre's time at which everything stands still while there is no connection; 0: it runs. */
let stopped = 0;
/** When it last went on, in milliseconds of the page. */
let resumed = 0;

const centreTime = () => stopped || clock.now();

/** @param {string} number of a train, or "" for none */
function choose(number) {
  if (number === parts.list.selected && number) number = parts.lens.following ? "" : number;
  if (number !== parts.list.selected) {
    follow?.close();
    follow = number ? new Follow(number, STREAMS, Date.now() + skew) : undefined;
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
  if (train) write(parts.say, `Following ${train.line} to ${train.to}, train ${number}, ${delayText(train.delay)}`);
  history.replaceState(null, "", number ? `#train/${number}` : location.pathname);
  update();
  parts.list.update();
}

/** What changes a few times a second. */
function update() {
  const now = centreTime();
  write(parts.clock, clock.known ? clockSeconds(now) : "––:––:––");
  connection.settle();
  parts.state.update(connection);
  parts.banner.update(connection);
  parts.panel.update(connection);
  parts.card.update(parts.list.selected, fleet.trains.get(parts.list.selected), follow);
  const floats = !parts.card.hidden && getComputedStyle(parts.card).position === "absolute" && parts.lens.clientWidth > 500;
  parts.lens.inset = floats ? parts.card.offsetWidth : 0;
}

/** What changes once a second. */
function updateLists() {
  parts.list.update();
  parts.board.update(centreTime());
  parts.bar.update(fleet);
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
  subscribe({
    streams: STREAMS,
    from: new Date(Date.now() + skew - BEGIN),
    silence: 60_000,
    onEvent(event, cursor) {
      const time = Date.parse(event.time ?? "");
      const { data } = event;
      if (typeof data?.sequence === "number") {
        const kind = event.type.includes(".position.") ? "position" : "movement";
        if (!continuity.check(`${kind}/${data.train}`, data.sequence)) return;
      }
      if (stopped) [stopped, resumed] = [0, performance.now()];
      clock.hear(time);
      connection.onEvent(cursor, time);
      fleet.apply(event);
    },
    onControl: (control) => connection.onControl(control),
    onState(state) {
      if (state.phase === "reconnecting" && !stopped && clock.known) stopped = clock.now();
      connection.onState(state, clock.now());
      update();
    },
  });
}

async function start() {
  const answer = await fetch("/data/norway.json");
  if (!answer.ok) throw new Error(`/data/norway.json: ${answer.status}`);
  const date = Date.parse(answer.headers.get("Date") ?? "");
  if (!Number.isNaN(date)) skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  const timetable = new Timetable(await answer.json());

  const land = new Land(timetable);
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
  find(document, ".lens .places", HTMLElement).append(
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
  parts.panel.update(connection);
  throw error;
});
