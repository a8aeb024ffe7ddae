// @ts-check
/** The parts of the page that need no browser. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { CentreClock } from "../page/clock.js";
import { Continuity } from "../page/continuity.js";
import { Fleet, SHOWN_AFTER, Train } from "../page/fleet.js";
import { project } from "../page/projection.js";
import { Timetable } from "../page/timetable.js";
import { delayText, duration, grade } from "../page/words.js";

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

test("the centre's clock is that of the newest events, not of old ones that come late", () => {
  const clock = new CentreClock();
  const zero = 1_800_000_000_000;
  for (let i = 0; i < 20; i++) clock.hear(zero - 20_000 + i * 1000, 0); // what came before, at once
  assert.ok(Math.abs(clock.now(0) - (zero - 1000)) < 10);
  for (let t = 250; t < 20_000; t += 250) clock.hear(zero + t - (t % 1000) / 5, t);
  assert.ok(Math.abs(clock.now(20_000) - (zero + 20_000)) < 400, String(clock.now(20_000) - zero));
});

test("a clock that was set back is noticed", () => {
  const clock = new CentreClock();
  const zero = 1_800_000_000_000;
  for (let t = 0; t < 10_000; t += 500) clock.hear(zero + t, t);
  for (let t = 10_000; t < 30_000; t += 500) clock.hear(zero + t - 600_000, t);
  assert.ok(Math.abs(clock.now(30_000) - (zero + 30_000 - 600_000)) < 1000);
});

/**
 * @param {number} time
 * @param {number} latitude
 * @param {number} sequence
 */
function position(time, latitude, sequence) {
  return {
    specversion: "1.0", id: String(sequence), source: "/test", type: "no.banenor.train.position.v1", time: new Date(time).toISOString(),
    data: { train: "61", line: "41", to: "Bergen", serviceDate: "2026-01-01", sequence, latitude, longitude: 10, speed: 80, bearing: 0, delaySeconds: 0, next: "Gol", nextCall: 3, expected: new Date(time + 60_000).toISOString() },
  };
}

test("a train moves evenly between its positions", () => {
  const fleet = new Fleet();
  const zero = 1_800_000_000_000;
  fleet.apply(position(zero, 60, 1));
  fleet.apply(position(zero + 5000, 60.001, 2));
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
  fleet.apply(position(zero, 60, 1));
  fleet.move(zero + 600_000, 16, false, true);
  assert.equal(fleet.trains.size, 1);
  fleet.move(zero + 600_000, 16, false, false);
  assert.equal(fleet.trains.size, 0);
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
