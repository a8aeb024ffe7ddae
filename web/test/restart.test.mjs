// @ts-check
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PATIENCE, Server, launch, pause, readAll, trainsShown } from "./harness.mjs";

const STREAMS = ["train-positions", "train-movements"];

/** @type {Server} */ let server;
/** @type {import("playwright-core").Browser} */ let browser;

before(async () => {
  // Half past one in the afternoon, whatever the time: a shifted clock goes back at each restart, as no real one does.
  server = await Server.start("--demo-time", "13:30");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.remove();
});

/**
 * Counts what the page's own EventSources give, beside the page.
 * @param {import("playwright-core").Page} page
 */
async function listen(page) {
  await page.evaluate(async (streams) => {
    const { subscribe } = await import(/** @type {any} */ ("/client/eventissuer.js"));
    const seen = /** @type {any} */ (globalThis);
    seen.events = [];
    seen.controls = [];
    seen.opened = 0;
    subscribe({
      streams,
      onEvent: (/** @type {any} */ event, /** @type {string} */ cursor) => seen.events.push({ id: event.id, subject: event.subject, sequence: event.data.sequence, type: event.type, cursor }),
      onControl: (/** @type {any} */ control) => seen.controls.push(control.name),
      onState: (/** @type {any} */ state) => (seen.opened += state.phase === "open" ? 1 : 0),
    });
  }, STREAMS);
  await page.waitForFunction(() => /** @type {any} */ (globalThis).events.length > 40);
}

/** @param {import("playwright-core").Page} page */
function seen(page) {
  return page.evaluate(() => {
    const { events, controls, opened } = /** @type {any} */ (globalThis);
    return { events, controls, opened };
  });
}

/**
 * Holds what the page saw against the log: all of it, once, and each train's events in order.
 * @param {any[]} events
 */
async function compare(events) {
  const got = new Set(events.map((e) => e.id));
  assert.equal(got.size, events.length, "an event came twice");
  const log = (await Promise.all(STREAMS.map((stream) => readAll(server.url, stream)))).flat();
  const known = new Map(log.map((e) => [e.id, e]));
  for (const e of events) assert.ok(known.has(e.id), `${e.id} is not in the log`);

  // Ids end with a mark of the run that published them. Of the first run everything after the first moments has to be
  // there, up to the last event before the end; of later runs everything until a moment ago.
  const run = (/** @type {string} */ id) => id.slice(id.indexOf("~"));
  const time = (/** @type {any} */ e) => Date.parse(known.get(e.id).time);
  const runs = [...new Set(events.map((e) => run(e.id)))];
  assert.equal(runs.length, 2, `events of the runs ${runs}`);
  let held = 0;
  for (const [i, mark] of runs.entries()) {
    const times = events.filter((e) => run(e.id) === mark).map(time);
    const from = i === 0 ? Math.min(...times) + 1500 : -Infinity;
    const to = i === 0 ? Infinity : Math.max(...times) - 2500;
    const due = log.filter((e) => run(e.id) === mark && Date.parse(e.time) > from && Date.parse(e.time) < to);
    const missing = due.filter((e) => !got.has(e.id)).map((e) => `${e.id} of ${e.time}`);
    assert.deepEqual(missing, [], `lost of run ${i}`);
    held += due.length;
  }
  assert.ok(held > 150, `${held} events were held against the log`);

  /** @type {Map<string, number>} */
  const last = new Map();
  for (const e of events) {
    const row = `${e.type.includes(".position.")} ${e.subject}`;
    const before = last.get(row);
    assert.ok(before === undefined || e.sequence === before + 1, `${row}: ${e.sequence} after ${before}`);
    last.set(row, e.sequence);
  }
}

for (const [signal, name] of /** @type {["SIGKILL" | "SIGTERM", string][]} */ ([["SIGKILL", "killed"], ["SIGTERM", "stopped"]])) {
  test(`a page whose server is ${name} and started again has lost nothing`, async () => {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    context.setDefaultTimeout(PATIENCE);
    try {
      const page = await context.newPage();
      await page.goto(server.url);
      await trainsShown(page);
      await listen(page);
      await page.locator("train-list li").nth(2).click();
      await page.waitForSelector("train-card:not([hidden])");
      const before = await seen(page);

      await server.stop(signal);
      await page.waitForFunction(() => document.querySelector("connection-state")?.textContent?.startsWith("Reconnecting"));
      await page.waitForFunction(() => /Connection lost/.test(document.querySelector("outage-banner:not([hidden])")?.textContent ?? ""));
      assert.ok((await page.locator("train-list li").count()) >= 85, "the trains are gone from the page");
      await pause(2000);
      await server.start();

      await page.waitForFunction(() => document.querySelector("connection-state")?.textContent?.startsWith("Live"));
      await page.waitForFunction(() => /Nothing missed.*0 lost/.test(document.querySelector("outage-banner:not([hidden])")?.textContent ?? ""));
      await page.waitForFunction((n) => /** @type {any} */ (globalThis).events.length > n + 260, before.events.length);

      const { events, controls, opened } = await seen(page);
      assert.ok(opened >= 2, "the stream was not opened again");
      assert.ok(!controls.includes("gap"), `control messages: ${controls}`);
      if (signal === "SIGTERM") assert.ok(controls.includes("drain"), "a server that stops says so");
      await compare(events);
      assert.equal(await page.textContent(".figures output"), "0");
      assert.match((await page.textContent("train-card .own")) ?? "", / 0 lost$/);
      assert.match((await page.textContent(".notes")) ?? "", /Back after .*: \d+ movements came meanwhile, 0 lost, and the latest of \d+ trains\./);
    } finally {
      await context.close();
    }
  });
}
