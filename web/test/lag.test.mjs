// @ts-check
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Unanswered } from "../catalog/api.js";
import { LagHistory, SPAN } from "../subscriptions/lag-history.js";
import { format, parse } from "../subscriptions/route.js";
import { IN_SIGHT, OUT_OF_SIGHT, StatsWatch } from "../subscriptions/stats-watch.js";
import { condition, groupsWords, lasting, resetWords } from "../subscriptions/words.js";

/** @typedef {import("../subscriptions/api.js").Stats} Stats */

const NOW = Date.parse("2026-11-28T02:00:00Z");

/**
 * @param {number} position
 * @param {number} end
 * @param {Partial<Stats>} [more]
 * @returns {Stats}
 */
const stats = (position, end, more = {}) => ({ id: "s", lag: end - position, lagSeconds: 30, sessions: [{ id: "a" }], partitions: [{ stream: "o", partition: 0, begin: 0, position, end, lag: end - position }], ...more });

/**
 * What was seen every two seconds.
 * @param {number} n
 * @param {(i: number) => Stats} of
 */
function seen(n, of) {
  const history = new LagHistory();
  for (let i = 0; i < n; i++) history.add(of(i), NOW - (n - 1 - i) * 2000);
  return history;
}

test("a history keeps a quarter of an hour and no more", () => {
  const history = seen(1000, (i) => stats(i, i + 5));
  const first = history.samples[0];
  assert.equal(first?.at, NOW - SPAN);
  assert.equal(history.samples.length, SPAN / 2000 + 1);
});

test("what the server remembers fills the beginning and later holes, and nothing that was seen", () => {
  const history = new LagHistory();
  const remembered = (/** @type {number} */ now) => Array.from({ length: 200 }, (_, i) => ({ at: new Date(now - i * 10_000).toISOString(), lag: 1000 + i }));
  history.add(stats(0, 7, { history: remembered(NOW) }), NOW);
  assert.equal(history.samples.at(-1)?.lag, 7);
  assert.equal(history.samples.length, SPAN / 10_000, "the present is what was seen, and what is older than that is left out");
  history.add(stats(0, 8, { history: remembered(NOW + 2000) }), NOW + 2000);
  assert.equal(history.samples.at(-3)?.lag, 1001, "nothing is filled where there is no hole");
  history.add(stats(0, 9, { history: remembered(NOW + 62_000) }), NOW + 62_000);
  const after = history.samples.filter((s) => s.at > NOW + 2000);
  assert.deepEqual(after.map((s) => s.lag), [1005, 1004, 1003, 1002, 1001, 9]);
  assert.equal(history.runs().length, 1);
});

test("a hole in what was seen stays one, and a clock that differs is allowed for", () => {
  const history = seen(3, () => stats(0, 1));
  history.add(stats(0, 1), NOW + 60_000);
  assert.deepEqual(history.runs().map((r) => r.length), [3, 1]);
  const left = new LagHistory();
  left.add(stats(0, 1, { history: [400, 390, 60, 50, 40].map((s) => ({ at: new Date(NOW - s * 1000).toISOString(), lag: 1 })) }), NOW - 35_000);
  assert.deepEqual(left.runs().map((r) => r.length), [2, 4], "nor is it known how it was while nobody read");
  const skewed = new LagHistory();
  skewed.add(stats(0, 1, { history: [{ at: new Date(NOW - 3_620_000).toISOString(), lag: 4 }] }), NOW, 3_600_000);
  assert.deepEqual(skewed.samples.map((s) => s.at - NOW), [-20_000, 0]);
});

test("the rates are of the last half minute, and begin anew after a reset", () => {
  const history = seen(60, (i) => stats(i * 20, 1000 + i * 10));
  assert.deepEqual(history.rates(), { incoming: 5, done: 10, span: 30 });
  history.add(stats(1590, 1600), NOW + 2000, 0, true);
  assert.equal(history.rates(), undefined, "what is skipped is not done");
  history.add(stats(0, 1600), NOW + 2000);
  assert.equal(history.rates(), undefined);
  history.add(stats(40, 1610), NOW + 4000);
  history.add(stats(80, 1620), NOW + 6000);
  history.add(stats(120, 1630), NOW + 8000);
  assert.deepEqual(history.rates(), { incoming: 5, done: 20, span: 6 });
});

const rates = (/** @type {number} */ incoming, /** @type {number} */ done, span = 30) => ({ incoming, done, span });

test("how it stands with a subscription", () => {
  for (const { of, at, some = false, grade, title, says } of [
    { of: stats(0, 0, { state: "failing", reason: "the stream o is gone" }), at: undefined, grade: "bad", title: "Failing", says: "The stream o is gone." },
    { of: stats(9, 9), at: undefined, grade: "good", title: "Caught up", says: "No event waits." },
    { of: stats(9, 9), at: rates(4, 4), grade: "good", title: "Caught up", says: "4 events a second come and are done." },
    { of: stats(9, 9, { sessions: [] }), at: rates(0, 0), grade: "idle", title: "Nobody reads it", says: "No event waits." },
    { of: stats(0, 9, { sessions: [] }), at: rates(0, 0), some: true, grade: "warn", title: "Nobody reads it", says: "Up to 9 events wait, the oldest for 30 s." },
    { of: stats(8, 9, { sessions: [], lagSeconds: 3700 }), at: rates(0, 0), grade: "warn", title: "Nobody reads it", says: "1 event waits, the oldest for 1 h 1 min." },
    { of: stats(0, 9, { lagSeconds: 0.4 }), at: rates(90, 70), grade: "good", title: "Keeps up", says: "90 events a second come, 70 are done." },
    { of: stats(0, 6000), at: rates(100, 200), grade: "warn", title: "Catching up", says: "100 events a second come, 200 are done: caught up in about 1 min." },
    { of: stats(0, 6000), at: rates(100, 50), grade: "bad", title: "Falling behind", says: "100 events a second come, 50 are done." },
    { of: stats(0, 6000), at: rates(100, 100), grade: "warn", title: "Stays behind", says: "100 events a second come, 100 are done: at this pace it does not catch up." },
    { of: stats(0, 6000, { lagSeconds: 90 }), at: rates(100, 0), grade: "bad", title: "Stands still", says: "Nothing has been acknowledged for 30 s; the oldest event waits for 1 min 30 s." },
    { of: stats(0, 6000), at: undefined, grade: "warn", title: "Behind", says: "The oldest event waits for 30 s." },
  ]) {
    assert.deepEqual(condition(of, at, some ? { types: ["no.acme.*"] } : {}), { grade, title, says });
  }
});

test("how it stands with a webhook is told without how long its oldest event waits", () => {
  const of = (/** @type {number} */ lag, /** @type {Partial<import("../subscriptions/api.js").Stats>} */ more = {}) => ({ id: "x", lag, ...more });
  const about = { sink: "https://example.com/" };
  for (const { stats, at, grade, title, says } of [
    { stats: of(0), at: undefined, grade: "good", title: "Caught up", says: "No event waits." },
    { stats: of(900), at: undefined, grade: "good", title: "Delivers", says: "" },
    { stats: of(90), at: rates(90, 70), grade: "good", title: "Keeps up", says: "90 events a second come, 70 are done." },
    { stats: of(9000), at: rates(90, 70), grade: "bad", title: "Falling behind", says: "90 events a second come, 70 are done." },
    { stats: of(9000), at: rates(10, 100), grade: "warn", title: "Catching up", says: "10 events a second come, 100 are done: caught up in about 2 min." },
    { stats: of(30), at: rates(1, 0), grade: "good", title: "Keeps up", says: "1 events a second come, 0 are done." },
    { stats: of(300), at: rates(1, 0), grade: "warn", title: "Stands still", says: "Nothing has been delivered for 30 s." },
    { stats: of(3, { undone: 3 }), at: rates(0, 0), grade: "warn", title: "Tries again", says: "3 events wait for the next try." },
    { stats: of(3, { state: "pending", reason: "it said nothing" }), at: undefined, grade: "warn", title: "Not proven", says: "It said nothing." },
    { stats: of(3, { state: "failing", reason: "it answered 503" }), at: undefined, grade: "bad", title: "Failing", says: "It answered 503." },
    { stats: of(3, { state: "disabled", reason: "it answered 410" }), at: undefined, grade: "bad", title: "Disabled", says: "It answered 410." },
    { stats: of(3, { state: "paused" }), at: undefined, grade: "idle", title: "Paused", says: "" },
  ]) {
    assert.deepEqual(condition(stats, at, about), { grade, title, says });
  }
});

test("a reset is told in words before it is done", () => {
  const history = seen(31, (i) => stats(1000, 1100 + i * 10));
  const now = stats(1000, 1400, { uncommitted: 0 });
  const say = (/** @type {"oldest" | "latest" | "time"} */ choice, at = NaN, of = now, past = history) => resetWords({ choice, at, stats: of, history: past, now: NOW });
  const first = (/** @type {{says: string[]}} */ { says }) => says[0] ?? "";
  assert.match(first(say("latest")), /^400 events that are not acknowledged are skipped, for good/);
  assert.match(first(say("latest", NaN, stats(9, 9))), /^Nothing is skipped/);
  assert.equal(first(say("oldest")), "1,000 events that are acknowledged already come again, from the oldest on that its streams still keep; with 400 events that are not acknowledged that makes 1,400.");
  assert.equal(first(say("oldest", NaN, stats(0, 9))), "Nothing comes again: of what its streams still keep nothing is acknowledged.");
  assert.match(first(say("time", NOW - 20_000)), /^About 300 events of the 400 that are not acknowledged are skipped, for good; the 100 since then stay/);
  assert.match(first(say("time", NOW - 20_000, stats(1380, 1400))), /^About 80 events that have been acknowledged since then come again, and with them 20 events/);
  assert.match(first(say("time", NOW - 3_600_000)), /^Everything since then comes again: 400 events.*, 1,000 at most.*has not seen that time/);
  assert.match(first(say("time", NOW - 10_000, now, new LagHistory())), /older than that is skipped, for good.*the oldest is from/);
  assert.equal(say("time", NOW + 1).can, false);
  assert.equal(say("time").can, false);
  const above = stats(1000, 1400, { uncommitted: 3, partitions: [{ stream: "o", partition: 0, begin: 900, position: 1000, end: 1400, lag: 400, acknowledgedAbove: 150 }] });
  assert.match(first(say("latest", NaN, above)), /^250 events/, "what is acknowledged above the position is not skipped");
  assert.match(first(say("oldest", NaN, above)), /^250 events that are acknowledged already come again.*with 250 events.*makes 500/, "what the streams keep no more does not come again");
  assert.match(say("oldest", NaN, above).says[1] ?? "", /^3 events that sessions hold now may come twice/);
  assert.match(resetWords({ choice: "latest", at: NaN, stats: now, history, now: NOW, some: true }).says[1] ?? "", /its filters let fewer through/);
});

test("lengths of time and groups are short", () => {
  assert.deepEqual([0, 0.42, 9.96, 59.6, 65, 3600, 7260, 90_000, 86_400 * 30].map(lasting), ["0 s", "0.4 s", "10 s", "1 min", "1 min 5 s", "1 h", "2 h 1 min", "1 d 1 h", "30 d"]);
  assert.equal(groupsWords(["orders/3", "orders/0", "orders/1", "orders/2", "mail/4", "mail/6", "mail/7"]), "orders/0–3, mail/4, 6, 7");
});

test("an address is read as it is written", () => {
  for (const hash of ["#/", "#/?q=a+b&sort=name", "#/a%2Fb", "#/new", "#/new?stream=x", "#/new?type=no.x.*"]) assert.equal(format(parse(hash)), hash);
  assert.deepEqual(parse(""), { page: "list", q: "", sort: "lag" });
});

/** Lets answers arrive. */
const settle = async () => {
  for (let i = 0; i < 8; i++) await Promise.resolve();
};

/** @param {number} ms */
async function pass(ms) {
  for (let i = 0; i < ms; i += 20) {
    mock.timers.tick(20);
    await settle();
  }
}

test("what is in sight is asked for often, the rest seldom, and never many at once", async (t) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  t.after(() => mock.timers.reset());
  /** @type {Map<string, number>} */
  const asked = new Map();
  let now = 0;
  let most = 0;
  const watch = new StatsWatch({
    ask: async (id) => {
      asked.set(id, (asked.get(id) ?? 0) + 1);
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(() => resolve(undefined), 200));
      now--;
      return { stats: stats(0, 0), skew: 0 };
    },
    took: () => {}, gone: () => {}, away: () => {},
  });
  const ids = Array.from({ length: 24 }, (_, i) => `s${i}`);
  watch.follow(ids);
  for (const id of ids.slice(0, 10)) watch.see(id, true);
  await pass(IN_SIGHT * 5);
  assert.ok((asked.get("s0") ?? 0) >= 4, `${asked.get("s0")}`);
  assert.equal(asked.get("s23"), 1);
  assert.equal(most, 4);
  watch.visible = false;
  await pass(1000);
  const before = [...asked.values()].reduce((a, b) => a + b);
  await pass(OUT_OF_SIGHT);
  assert.equal([...asked.values()].reduce((a, b) => a + b), before, "nobody looks, so nothing is asked");
  watch.visible = true;
  await pass(IN_SIGHT);
  assert.ok((asked.get("s23") ?? 0) === 2);
  watch.follow([]);
});

test("while the server is away one question at a time finds out whether it is back", async (t) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  t.after(() => mock.timers.reset());
  let up = true;
  let asked = 0;
  /** @type {string[]} */
  const told = [];
  const watch = new StatsWatch({
    ask: async (id) => {
      asked++;
      if (!up) throw new Unanswered(0, "The server cannot be reached.");
      if (id === "deleted") throw new Unanswered(404, "no such subscription");
      return { stats: stats(0, 0), skew: 0 };
    },
    took: (id) => told.push(`took ${id}`),
    gone: (id) => told.push(`gone ${id}`),
    away: (error) => told.push(error ? "away" : "back"),
  });
  watch.follow(["a", "deleted", "b"]);
  for (const id of ["a", "deleted", "b"]) watch.see(id, true);
  await pass(200);
  assert.deepEqual(told.toSorted(), ["gone deleted", "took a", "took b"]);
  up = false;
  told.length = 0;
  await pass(30_000);
  const tried = asked;
  assert.ok(told.every((w) => w === "away") && told.length >= 4, told.join());
  await pass(30_000);
  assert.ok(asked - tried <= 5, `${asked - tried} questions in half a minute`);
  up = true;
  told.length = 0;
  watch.hurry();
  await pass(IN_SIGHT); // the one that was tried last is not due before
  assert.match(told.join(), /^back,took (a,took b|b,took a)/);
  watch.follow([]);
});
