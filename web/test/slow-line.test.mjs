// @ts-check
/** The page on a line that is far too slow for every event, by the browser's own emulation of one. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PATIENCE, Server, launch, pause, trainsShown, watch } from "./harness.mjs";

/** @typedef {import("playwright-core").Page} Page */

/** Of the line: bytes a second, and milliseconds. */
const THROUGHPUT = 20 * 1024;
const LATENCY = 300;
/** How long the page is left to itself before it is looked at, and for how long then: milliseconds. */
const RUNNING = 20_000;
const WATCHED = 8000;

/** @type {Server} */ let server;
/** @type {import("playwright-core").Browser} */ let browser;
/** The demo's clock less ours. */
let shift = 0;

before(async () => {
  server = await Server.start("--demo-time", "08:00", "--plain-streams"); // so that the line is too slow
  browser = await launch();
  const events = await (await fetch(`${server.url}/v1/streams/train-positions/events?from=${new Date(Date.now() - 5000).toISOString()}&limit=1000`)).json();
  shift = Math.max(...events.map((/** @type {any} */ e) => Date.parse(e.time))) - Date.now();
});
after(async () => {
  await browser?.close();
  await server?.remove();
});

/** A train that tells a position in every so manieth step. */
const SELDOM = 10;

/** Trains that tell their positions far more often than those of the demo. */
class Traffic {
  /** @type {Map<string, number[]>} when each told what, by number: milliseconds of the epoch */ told = new Map();
  /** @type {Promise<void>} */ #run;
  #running = true;

  /**
   * @param {string[]} trains that tell a position in every step
   * @param {number} step milliseconds
   * @param {string} seldom one that does in some alone
   * @param {string} [url] of another server than that of all tests
   */
  constructor(trains, step, seldom, url) {
    this.trains = trains;
    this.url = url ?? server.url;
    for (const train of [...trains, seldom]) this.told.set(train, []);
    this.#run = (async () => {
      for (let n = 0; this.#running; n++) {
        const began = Date.now();
        await this.#tell(n % SELDOM === 0 ? [...trains, seldom] : trains);
        await pause(Math.max(0, step - (Date.now() - began)));
      }
    })();
  }

  /** @param {string[]} trains */
  async #tell(trains) {
    const now = Date.now();
    const time = new Date(now + shift).toISOString();
    const events = trains.map((train, i) => {
      const sequence = /** @type {number[]} */ (this.told.get(train)).push(now);
      return {
        specversion: "1.0", id: `${train}-${sequence}`, source: "/demo/control-centre", type: "no.banenor.train.position.v1", subject: `/train/${train}`, time, line: "L9", operator: "NSB",
        data: { train, line: "L9", to: "Everywhere", serviceDate: "2026-08-28", sequence, latitude: 60 + i / 100, longitude: 10, speed: 80, bearing: 10, delaySeconds: 0, next: "Gol", nextCall: 1, expected: time },
      };
    });
    const answer = await fetch(`${this.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/cloudevents-batch+json" }, body: JSON.stringify(events) });
    assert.equal(answer.status, 200, await answer.text());
  }

  /**
   * How long ago it was told what is the newest that is known of each train.
   * @param {number[]} known numbers, in the order of the trains
   */
  ages(known) {
    const now = Date.now();
    return this.trains.map((train, i) => now - (this.told.get(train)?.[(known[i] ?? 0) - 1] ?? 0));
  }

  async stop() {
    this.#running = false;
    await this.#run;
  }
}

/**
 * What the page asks for from now on comes slowly; what it reads already does not.
 * @param {Page} page
 */
async function slow(page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  await devtools.send("Network.emulateNetworkConditions", { offline: false, latency: LATENCY, downloadThroughput: THROUGHPUT, uploadThroughput: THROUGHPUT });
}

/**
 * Begins to read in the page what no map needs.
 * @param {Page} page
 * @param {any} options
 */
function read(page, options) {
  return page.evaluate(async (given) => {
    const { subscribe } = await import(/** @type {any} */ ("/client/eventissuer.js"));
    const seen = /** @type {any} */ (globalThis);
    seen.numbers = {};
    subscribe({ ...given, onEvent: (/** @type {any} */ event) => (seen.numbers[event.data.train] ??= []).push(event.data.sequence) });
  }, options);
}

/**
 * The newest number of each train that was read so.
 * @param {Page} page
 * @param {string[]} trains
 */
const newestRead = (page, trains) => page.evaluate((all) => all.map((t) => /** @type {any} */ (globalThis).numbers[t]?.at(-1) ?? 0), trains);

/**
 * The number of the position that the map knows of each train.
 * @param {Page} page
 * @param {string[]} trains
 */
const newestOnMap = (page, trains) => page.evaluate((all) => all.map((t) => /** @type {any} */ (document.querySelector("train-map")).fleet.trains.get(t)?.sequence ?? 0), trains);

/** @param {number} hundreds */
const trainsOf = (hundreds, /** @type {number} */ n) => Array.from({ length: n }, (_, i) => String(hundreds * 100 + i));

/**
 * Opens the map while trains tell far more than the line takes, and follows one of them.
 * @param {Traffic} traffic
 * @param {string} followed
 * @param {(page: Page) => Promise<void>} use
 */
async function withMap(traffic, followed, use) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  try {
    const page = await context.newPage();
    const faults = watch(page, server.url);
    // Once for the page itself, which the browser then has.
    await page.goto(`${server.url}/#train/${followed}`);
    await trainsShown(page);
    await slow(page);
    await page.reload();
    await trainsShown(page);
    await page.waitForFunction(() => /: [1-9]\d* events/.test(document.querySelector("train-card .own")?.textContent ?? ""));
    await use(page);
    assert.deepEqual(faults, [], "the page complains or asks somebody else");
  } finally {
    await traffic.stop();
    await context.close();
  }
}

/**
 * The oldest of what the map knows, in milliseconds, again and again.
 * @param {Page} page
 * @param {Traffic} traffic
 */
async function watched(page, traffic) {
  /** @type {number[]} */
  const oldest = [];
  for (const end = Date.now() + WATCHED; Date.now() < end; await pause(250)) oldest.push(Math.max(...traffic.ages(await newestOnMap(page, traffic.trains))));
  return oldest;
}

test("on a line that takes a quarter of what trains tell the map stays current, and of a followed train every event comes", async (t) => {
  const [trains, followed] = [trainsOf(800, 5), "80100"];
  const traffic = new Traffic(trains, 40, followed);
  const plain = await (await browser.newContext()).newPage();
  await withMap(traffic, followed, async (page) => {
    // What reads every event of all trains on such a line falls behind by the second.
    await plain.goto(`${server.url}/icon.svg`);
    await slow(plain);
    await read(plain, { streams: "train-positions" });

    await pause(RUNNING);
    const oldest = await watched(page, traffic);
    const behind = Math.min(...traffic.ages(await newestRead(plain, trains)));
    t.diagnostic(`the map is up to ${Math.max(...oldest)} ms old, what reads every event ${behind} ms`);
    assert.ok(Math.max(...oldest) < 8000, `positions on the map are ${Math.max(...oldest)} ms old`);
    assert.ok(behind > 12_000, `what reads every event is ${behind} ms behind only: the line is too good for this test`);

    const panel = (await page.textContent("connection-panel dl")) ?? "";
    assert.ok(Number(/Left out([\d,]+)/.exec(panel)?.[1]?.replaceAll(",", "")) > 200, panel);
    assert.equal(await page.textContent(".figures output"), "0", "what newer positions took the place of counts as lost");

    await traffic.stop();
    const told = traffic.told.get(followed)?.length ?? 0;
    await page.waitForFunction((n) => document.querySelector("train-card .own")?.textContent?.endsWith(`: ${n} events, 0 lost`), told);
  });
  await plain.context().close();
});

test("on a line that takes not even each train's latest position, what the map shows does not grow older and older", async (t) => {
  const [trains, followed] = [trainsOf(810, 60), "81100"];
  const traffic = new Traffic(trains, 100, followed);
  await withMap(traffic, followed, async (page) => {
    await pause(RUNNING);
    const first = Math.max(...(await watched(page, traffic)));
    await pause(RUNNING);
    const second = Math.max(...(await watched(page, traffic)));
    t.diagnostic(`the map is up to ${first} ms old, and ${(RUNNING + WATCHED) / 1000} s later up to ${second} ms`);
    // What the browser's own kernel holds is some seconds on such a line, of which the map has a part.
    assert.ok(second < 25_000 && second < first + 4000, `positions on the map are up to ${first} ms old, and then up to ${second} ms`);
    assert.equal(await page.textContent(".figures output"), "0", "what newer positions took the place of counts as lost");
  });
});

test("compressed, as browsers ask for it, every event of all trains comes in time on that line", async (t) => {
  const other = await Server.start("--demo-time", "08:00");
  const traffic = new Traffic(trainsOf(820, 5), 40, "82100", other.url);
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(`${other.url}/icon.svg`);
    await slow(page);
    await read(page, { streams: "train-positions" });
    await pause(RUNNING);
    const behind = Math.max(...traffic.ages(await newestRead(page, traffic.trains)));
    t.diagnostic(`what reads every event is ${behind} ms behind`);
    assert.ok(behind < 8000, `it is ${behind} ms behind`);
  } finally {
    await traffic.stop();
    await context.close();
    await other.remove();
  }
});
