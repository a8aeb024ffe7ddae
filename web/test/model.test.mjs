// @ts-check
/** The parts of the page that need no browser. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { CentreClock } from "../page/clock.js";
import { Connection } from "../page/connection.js";
import { Continuity } from "../page/continuity.js";
import { Fleet, SHOWN_AFTER, Train } from "../page/fleet.js";
import { Labels } from "../page/labels.js";
import { placeOf } from "../page/marks.js";
import { readNews } from "../page/news.js";
import { project } from "../page/projection.js";
import { Timetable } from "../page/timetable.js";
import { clockSeconds, clockTime, delayText, duration, grade } from "../page/words.js";

test("a hole in a train's numbers is a lost event, and nothing else is", () => {
  const c = new Continuity();
  for (const n of [7, 8, 9]) assert.equal(c.check("a", n), true);
  assert.equal(c.check("a", 8), false, "a repeated event is told apart");
  assert.equal(c.check("b", 3), true, "another row begins where it begins");
  assert.deepEqual([c.lost, c.repeated], [0, 1]);
  c.check("a", 12);
  assert.equal(c.lost, 2);
  assert.equal(c.check("a", 1), true, "a publisher that lost its place begins at 1");
  c.check("a", 2);
  assert.equal(c.lost, 2);
});

test("where only the latest comes, what is left out is no loss, and nothing goes back", () => {
  const c = new Continuity();
  assert.equal(c.latest("a", 7, 100), true);
  assert.equal(c.latest("a", 10, 110), true);
  assert.equal(c.latest("a", 10, 110), false, "a repeated event is told apart");
  assert.equal(c.latest("a", 9, 105), false, "an older one too");
  assert.deepEqual([c.leftOut, c.repeated, c.lost], [2, 2, 0]);
  assert.equal(c.latest("a", 3, 120), true, "a publisher that lost its place may have left out its 1");
  c.begin();
  assert.equal(c.latest("a", 9, 90), true, "a snapshot is what is true, whatever came before");
  assert.deepEqual([c.leftOut, c.lost], [2, 0]);
});

test("the centre's clock is that of the newest events, not of old ones that come late", () => {
  const clock = new CentreClock();
  const zero = 1_800_000_000_000;
  for (let i = 0; i < 20; i++) clock.hear(`${i}`, zero - 20_000 + i * 1000, 0); // what came before, at once
  assert.ok(Math.abs(clock.now(0) - (zero - 1000)) < 10);
  for (let t = 250; t < 20_000; t += 250) clock.hear(`${t % 20}`, zero + t - (t % 1000) / 5, t);
  assert.ok(Math.abs(clock.now(20_000) - (zero + 20_000)) < 400, String(clock.now(20_000) - zero));
});

test("a clock that was set back is noticed", () => {
  const clock = new CentreClock();
  const zero = 1_800_000_000_000;
  for (let t = 0; t < 10_000; t += 500) clock.hear(`${t % 3500}`, zero + t, t);
  for (let t = 10_000; t < 30_000; t += 500) clock.hear(`${t % 3500}`, zero + t - 600_000, t);
  assert.ok(Math.abs(clock.now(30_000) - (zero + 30_000 - 600_000)) < 1000);
});

test("a few trains that told a later time before the clock was set back do not tell the time", () => {
  const clock = new CentreClock();
  const zero = 1_800_000_000_000;
  for (let n = 0; n < 15; n++) clock.hear(`before ${n}`, zero + 300_000 - n * 100, 0);
  for (let n = 0; n < 85; n++) clock.hear(`${n}`, zero - 4200 + n * 50, 0);
  assert.ok(Math.abs(clock.now(0) - zero) < 2000, `${clock.now(0) - zero}`);
});

test("an event with a wrong date moves the clock nowhere and is not believed", () => {
  const zero = 1_800_000_000_000;
  const wrong = zero + 4 * 365 * 86_400_000;
  for (const running of [2, 8, 100]) {
    const clock = new CentreClock();
    clock.hear("999", wrong, 0); // before anybody else
    for (let t = 0; t < 30_000; t += 5000 / running) {
      clock.hear(`${Math.round((t * running) / 5000) % running}`, zero + t, t);
      if (t > 8500) assert.ok(clock.believes("positions", zero + t, t), `at ${t} with ${running} trains`);
    }
    for (const time of [wrong, zero - wrong, zero + 30_000 + 120_000]) {
      clock.hear("999", time, 30_000);
      assert.equal(clock.believes("positions", time, 30_000), false);
    }
    for (let n = 0; n < 3; n++) clock.hear(`${n}`, zero + 30_100, 30_100);
    assert.ok(Math.abs(clock.now(30_100) - zero - 30_100) < 1000, `${clock.now(30_100) - zero} with ${running} trains`);
  }
});

test("what came during an hour without connection is believed", () => {
  const clock = new CentreClock();
  const zero = 1_800_000_000_000;
  for (let t = 0; t < 10_000; t += 100) {
    clock.hear(`${(t / 100) % 50}`, zero + t, t);
    assert.ok(clock.believes("positions", zero + t, t) && clock.believes("movements", zero + t, t), `of ${t}`);
  }
  // Where the trains are comes at once, and what happened meanwhile after it.
  for (let t = 3_595_000; t < 3_600_000; t += 100) {
    clock.hear(`${(t / 100) % 50}`, zero + t, 3_600_000);
    assert.ok(clock.believes("positions", zero + t, 3_600_000), `of ${t}`);
  }
  for (let t = 10_000; t < 3_600_000; t += 1000) assert.ok(clock.believes("movements", zero + t, 3_601_000), `of ${t}`);
  for (let t = 3_600_000; t < 3_620_000; t += 100) {
    clock.hear(`${(t / 100) % 50}`, zero + t, t);
    assert.ok(clock.believes("positions", zero + t, t), `of ${t}`);
  }
  assert.ok(Math.abs(clock.now(3_620_000) - zero - 3_620_000) < 1000);
});

test("what the control centre would not say is not read", () => {
  const good = position(1_800_000_000_000, 60, 1);
  assert.equal(readNews(good)?.kind, "position");
  /** @type {any[]} */
  const bad = [
    { ...good, time: undefined }, { ...good, time: "soon" }, { ...good, source: "/x" }, { ...good, type: "no.banenor.train.position.v2" },
    { ...good, subject: "/train/62" }, { ...good, data: "garbage" }, { ...good, data: null }, { ...good, data: undefined },
  ];
  const wrong = {
    latitude: ["a", NaN, 90, 0, undefined, null, "60"], longitude: ["a", 200, undefined], train: [61, "", "<b>", undefined], sequence: [0, -1, 1.5, "1", undefined],
    delaySeconds: ["1", NaN, undefined], speed: ["80", undefined], bearing: [Infinity, undefined], expected: ["", undefined, 7], line: [1, undefined, "x".repeat(81)],
    to: [undefined, {}], next: [null], nextCall: ["3", 0.5], serviceDate: ["today", undefined],
  };
  for (const [key, values] of Object.entries(wrong)) for (const value of values) bad.push({ ...good, data: { ...good.data, [key]: value } });
  const moved = { ...good, type: "no.banenor.train.arrived.v1", data: { ...good.data, call: 2 } };
  assert.equal(readNews(moved)?.kind, "arrived");
  bad.push({ ...moved, data: { ...moved.data, call: "2" } }, { ...moved, data: { ...moved.data, call: undefined } });
  for (const event of bad) assert.equal(readNews(event), undefined, JSON.stringify(event));
});

test("what is read from the log at the beginning is no burst of events", () => {
  const connection = new Connection(["one"], new Continuity());
  const zero = 1_800_000_000_000;
  const tell = (/** @type {Connection} */ to, /** @type {number} */ t) => to.onMovement("c", news(zero + t, 60, 1));
  for (let t = -45_000; t <= 0; t += 50) tell(connection, t); // twenty a second, all at once
  connection.settle(zero);
  assert.ok(Math.abs(connection.rate(zero) - 20) < 0.5, `${connection.rate(zero)} events/s`);
  const young = new Connection(["one"], new Continuity());
  for (let t = -4000; t <= 0; t += 50) tell(young, t);
  assert.ok(Math.abs(young.rate(zero) - 20) < 0.5, `${young.rate(zero)} events/s after four seconds`);
  connection.settle(zero - 20_000);
  for (let t = -45_000; t <= -20_000; t += 50) tell(connection, t);
  assert.ok(Math.abs(connection.rate(zero - 20_000) - 20) < 0.5, `${connection.rate(zero - 20_000)} events/s after the clock was set back`);
  assert.equal(new Connection(["one"], new Continuity()).rate(zero), 0);
});

/** @param {import("../client/eventissuer.js").State["phase"]} phase */
const phase = (phase) => ({ phase, since: Date.now(), attempt: 0 });

test("several connections are as good as the worst of them", () => {
  const connection = new Connection(["one", "two"], new Continuity());
  const told = [];
  for (const [stream, now] of /** @type {const} */ ([["one", "open"], ["two", "open"], ["two", "reconnecting"], ["one", "reconnecting"], ["two", "open"], ["one", "open"]])) {
    connection.onState(stream, phase(now), 0);
    told.push(connection.state.phase);
  }
  assert.deepEqual(told, ["connecting", "open", "reconnecting", "reconnecting", "reconnecting", "open"]);
  assert.equal(connection.outages.length, 1, "they were lost once");
  assert.ok(connection.outage?.back);
  assert.deepEqual(connection.notes.map((n) => n.text), ["Connection lost; the cursors are kept.", "Connected."]);
});

test("a picture is told once it is whole", () => {
  const connection = new Connection(["one"], new Continuity());
  const zero = 1_800_000_000_000;
  const tell = (/** @type {number} */ n) => connection.onPosition("c", /** @type {any} */ (news(zero, 60, n)));
  connection.onControl("one", { name: "snapshot", payload: { stream: "one", keys: 2 } });
  tell(1);
  // The connection is lost, and another begins it anew.
  connection.onControl("one", { name: "snapshot", payload: { stream: "one", keys: 2 } });
  tell(1);
  tell(2);
  assert.equal(connection.picture, undefined);
  connection.onControl("one", { name: "live", payload: { stream: "one" } });
  tell(3);
  assert.deepEqual(connection.picture, { trains: 2, since: 1 });
  assert.equal(connection.notes[0]?.text, "The picture: 2 trains at once.");
});

/**
 * @param {number} time
 * @param {number} latitude
 * @param {number} sequence
 */
function position(time, latitude, sequence) {
  return {
    specversion: "1.0", id: String(sequence), source: "/demo/control-centre", subject: "/train/61", type: "no.banenor.train.position.v1", time: new Date(time).toISOString(),
    data: { train: "61", line: "41", to: "Bergen", serviceDate: "2026-01-01", sequence, latitude, longitude: 10, speed: 80, bearing: 0, delaySeconds: 0, next: "Gol", nextCall: 3, expected: new Date(time + 60_000).toISOString() },
  };
}

/** @param {Parameters<typeof position>} about */
function news(...about) {
  const read = readNews(position(...about));
  assert.ok(read);
  return read;
}

test("a train moves evenly between its positions", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  fleet.apply(news(zero, 60, 1));
  fleet.apply(news(zero + 5000, 60.001, 2));
  const train = /** @type {Train} */ (fleet.trains.get("61"));
  /** @type {number[]} */
  const ys = [];
  for (let t = 0; t <= 5000; t += 1000) {
    fleet.move(zero + t + SHOWN_AFTER, 1000, false, false);
    ys.push(train.shown[1]);
  }
  const steps = ys.slice(1).map((y, i) => y - (ys[i] ?? 0));
  for (const step of steps) assert.ok(Math.abs(step - (steps[0] ?? 0)) < 1e-6, steps.join(" "));
  assert.ok(Math.abs((ys.at(-1) ?? 0) - project(60.001, 10)[1]) < 1e-6);
});

test("a jump is caught up with, not jumped", () => {
  const train = new Train("61");
  const zero = 1_800_000_000_000;
  train.add({ time: zero, at: [0, 0], bearing: 0, speed: 100 });
  train.move(zero, 16, false);
  train.add({ time: zero + 60_000, at: [0, 10], bearing: 0, speed: 100 });
  train.move(zero + 60_000, 16, false);
  assert.ok(train.shown[1] < 1, `${train.shown}`);
  for (let i = 0; i < 200; i++) train.move(zero + 60_000, 16, false);
  assert.ok(train.shown[1] > 9.9, `${train.shown}`);
  const still = new Train("62");
  still.add({ time: zero, at: [0, 0], bearing: 0, speed: 0 });
  still.move(zero, 500, true);
  still.add({ time: zero + 60_000, at: [0, 10], bearing: 0, speed: 0 });
  still.move(zero + 60_000, 500, true);
  assert.equal(still.shown[1], 10, "with reduced motion it is there at once");
});

test("a train that tells nothing any more is taken off the map, but not while the connection is only just back", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  fleet.apply(news(zero, 60, 1));
  fleet.move(zero + 600_000, 16, false, true);
  assert.equal(fleet.trains.size, 1);
  fleet.move(zero + 600_000, 16, false, false);
  assert.equal(fleet.trains.size, 0);
});

test("a snapshot takes the place of the picture once it is whole, and what is removed goes", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  const tell = (/** @type {string} */ train, /** @type {number} */ n) => fleet.apply({ ...news(zero + n, 60, n), train });
  const shown = () => {
    fleet.move(zero + 20, 16, false, false);
    return [...fleet.trains.keys()].join(" ");
  };
  fleet.begin();
  for (const train of ["1", "2", "3"]) tell(train, 1);
  fleet.whole();
  assert.equal(shown(), "1 2 3");
  fleet.begin();
  tell("2", 2);
  tell("4", 1);
  assert.equal(shown(), "1 2 3 4", "nothing goes before it is whole");
  tell("3", 1);
  fleet.whole();
  assert.equal(shown(), "2 3 4");
  fleet.remove("2");
  fleet.remove("9");
  fleet.remove("3");
  tell("3", 2);
  assert.equal(shown(), "3 4", "what is told of again is there again");
});

test("a train that is told of twice is where the newest position says, and keeps its way", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  for (const n of [1, 2, 4, 3, 4, 2]) fleet.apply(news(zero + n * 5000, 60 + n / 1000, n));
  const train = /** @type {Train} */ (fleet.trains.get("61"));
  assert.deepEqual(train.samples.slice(-3).map((s) => s.time - zero), [5000, 10_000, 20_000]);
});

test("a train moves from its first position on, and has come from somewhere", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  fleet.apply(news(zero, 60, 1));
  const train = /** @type {Train} */ (fleet.trains.get("61"));
  fleet.move(zero, 16, false, false);
  const [x, y] = project(60, 10);
  const km = (80 / 3_600_000) * SHOWN_AFTER;
  assert.ok(Math.abs(train.shown[0] - x) < 1e-6 && Math.abs(train.shown[1] - y - km) < 1e-6, `${train.shown} for ${[x, y + km]}`);
  assert.equal(train.wake(train.drawn, zero - 60_000).length, 8);
  const standing = new Train("62");
  standing.at = "Gol";
  standing.add({ time: zero, at: [0, 0], bearing: 0, speed: 0 });
  assert.equal(standing.samples.length, 1);
});

test("the timetable that is served has every train's calls", async () => {
  const file = await readFile(new URL("../../internal/demo/timetable/norway.json", import.meta.url), "utf8");
  const timetable = new Timetable(JSON.parse(file));
  assert.equal(timetable.stations.length, 324);
  assert.equal(timetable.trains.size, 1277);
  for (const train of timetable.trains.values()) {
    let at = -1;
    for (const call of train.calls) {
      assert.ok(call.arrival >= at && call.departure >= call.arrival, train.number);
      at = call.departure;
    }
  }
  assert.match(timetable.about, /NLOD.*Entur.*Bane NOR/);
});

test("words for delays and times", () => {
  assert.deepEqual([0, 179, 180, 299, 300, 600].map(grade), ["ontime", "ontime", "slight", "slight", "late", "verylate"]);
  assert.deepEqual([59, 200, 899].map(delayText), ["on time", "+3 min", "+14 min"]);
  assert.deepEqual([900, 61_000, 3_720_000].map(duration), ["0 s", "1 min 01 s", "1 h 02 min"]);
});

test("what is no time is told as none", () => {
  assert.deepEqual([clockTime(NaN), clockSeconds(NaN), clockTime(Infinity)], ["––:––", "––:––:––", "––:––"]);
});

test("trains that meet are drawn beside each other, each on its right-hand track", () => {
  const [up, down] = [new Train("1"), new Train("2")];
  up.shown = down.shown = [0, 0];
  [up.bearing, down.bearing] = [0, Math.PI];
  const view = { kind: /** @type {const} */ ("lens"), camera: { x: 0, y: 0, scale: 12 }, width: 100, height: 100 };
  const [[x1], [x2]] = [placeOf(up, view), placeOf(down, view)];
  assert.ok(x1 - x2 > 6, `${x1} ${x2}`);
});

test("trains that stand at one station stand side by side, and closer again when one leaves", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  for (const number of ["1", "2", "3"]) {
    const train = new Train(number);
    fleet.trains.set(number, train);
    [train.at, train.told] = [number === "3" ? "" : "Oslo S", zero];
    train.add({ time: zero, at: [0, 0], bearing: 0, speed: 0 });
  }
  const aside = () => [...fleet.trains.values()].map((t) => Math.round(t.aside * 100) / 100);
  fleet.move(zero, 16, true, false);
  assert.deepEqual(aside(), [0, 1, 0]);
  /** @type {Train} */ (fleet.trains.get("1")).at = "";
  for (let i = 0; i < 300; i++) fleet.move(zero, 16, false, false);
  assert.deepEqual(aside(), [0, 0, 0]);
});

/** @param {string} path */
async function json(path) {
  return JSON.parse(await readFile(new URL(path, import.meta.url), "utf8"));
}

test("names lie on no other name, and hardly on the tracks", async () => {
  const timetable = new Timetable(await json("../../internal/demo/timetable/norway.json"));
  const tracks = timetable.tracks.map((flat) => Array.from({ length: flat.length / 2 }, (_, i) => project(flat[2 * i] ?? 0, flat[2 * i + 1] ?? 0)));
  const places = timetable.stations.map((s) => ({ name: s.name, at: project(s.latitude, s.longitude), big: s.trains >= 330 })).sort((a, b) => Number(b.big) - Number(a.big));
  const labels = new Labels(tracks);
  for (const scale of [3, 7, 12, 30]) {
    const laid = labels.lay("stations", places, scale, (text, size) => text.length * size * 0.55);
    const boxes = laid.map(({ place, dx, dy, size }) => ({ name: place.name, l: place.at[0] * scale + dx, t: place.at[1] * scale + dy - size / 2, w: place.name.length * size * 0.55, h: size }));
    for (const [i, a] of boxes.entries()) {
      for (const b of boxes.slice(i + 1)) assert.ok(a.l + a.w <= b.l || b.l + b.w <= a.l || a.t + a.h <= b.t || b.t + b.h <= a.t, `${a.name} lies on ${b.name} at ${scale}`);
    }
    assert.ok(laid.length > places.length * (scale < 7 ? 0.3 : 0.7), `${laid.length} names at ${scale}`);
    const crossed = boxes.filter((b) => tracks.some((t) => t.some(([x, y]) => x * scale > b.l && x * scale < b.l + b.w && y * scale > b.t && y * scale < b.t + b.h)));
    assert.ok(crossed.length < laid.length * 0.12, `${crossed.length} of ${laid.length} names lie on tracks at ${scale}: ${crossed.map((b) => b.name)}`);
  }
});

test("stations lie on the land", async () => {
  const shape = await json("../page/data/land.json");
  assert.match(shape.about, /Natural Earth.*public domain/);
  const timetable = new Timetable(await json("../../internal/demo/timetable/norway.json"));
  const rings = [...shape.norway, ...shape.neighbours].map((/** @type {number[]} */ steps) => {
    let [lat, lon] = [0, 0];
    return Array.from({ length: steps.length / 2 }, (_, i) => project((lat += steps[2 * i] ?? 0) / 1000, (lon += steps[2 * i + 1] ?? 0) / 1000));
  });
  const inside = (/** @type {[number, number]} */ [x, y]) =>
    rings.some((ring) => ring.reduce((odd, [x1, y1], i) => {
      const [x2, y2] = ring.at(i - 1) ?? [0, 0];
      return y1 > y !== y2 > y && x < x1 + ((x2 - x1) * (y - y1)) / (y2 - y1) ? !odd : odd;
    }, false));
  // The map is 1:10 million: two kilometres is what it may be wrong.
  const near = (/** @type {[number, number]} */ [x, y]) => [...Array(8).keys()].some((i) => inside([x + 2 * Math.cos((i * Math.PI) / 4), y + 2 * Math.sin((i * Math.PI) / 4)]));
  const wet = timetable.stations.filter((s) => !inside(project(s.latitude, s.longitude)));
  assert.ok(wet.length < 16, `${wet.map((s) => s.name)} lie in the sea`);
  assert.deepEqual(wet.filter((s) => !near(project(s.latitude, s.longitude))).map((s) => s.name), [], "far out at sea");
});
