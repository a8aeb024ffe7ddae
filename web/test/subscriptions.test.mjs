// @ts-check
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { PATIENCE, Server, focused, forgive, launch, poorlyReadable, says, until, watch } from "./harness.mjs";
import { seedCatalog } from "./seed-catalog.mjs";
import { StandIn } from "./subscriptions-stand-in.mjs";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Server} */ let server;
/** @type {StandIn} */ let standIn;
/** @type {import("playwright-core").Browser} */ let browser;

const HOUR = 3_600_000;
const now = Date.now();

/**
 * @param {string} stream
 * @param {number} n
 * @param {number} lag of each
 */
const partitions = (stream, n, lag) => Array.from({ length: n }, (_, i) => ({ stream, partition: i, begin: 0, position: 50_000 + i, end: 50_000 + i + lag, uncommitted: lag ? 4 : 0, redeliveries: i }));

/** @param {number} n */
const sessions = (n) => Array.from({ length: n }, (_, i) => ({
  id: `session-${i}-0123456789`, replica: `replica-${i % 2}`, transport: ["sse", "websocket", "ndjson"][i % 3] ?? "", address: `10.0.0.${i}`, since: new Date(now - i * HOUR).toISOString(), uncommitted: i,
  groups: i < 3 ? [`orders/${i}`, `orders/${i + 3}`] : [], ...(i < 3 ? {} : { waiting: "partitions" }),
}));

const letters = Array.from({ length: 57 }, (_, i) => ({
  stream: "orders", partition: i % 3, offset: 100 + i, attempts: 10, reason: ["timeout", "nack", "sessionEnded"][i % 3] ?? "", at: new Date(now - (60 - i) * 60_000).toISOString(),
  event: { specversion: "1.0", id: `dead-${i}`, source: "/shop", type: "no.acme.order.placed.v1", subject: `/order/${i}`, data: { order: i, note: "<b>bold</b>" } },
}));

/** @type {string} */ let BILLING;
/** @type {string} */ let FRAUD;
/** @type {string} */ let MAIL;

before(async () => {
  server = await Server.start("--demo-time", "08:00");
  await seedCatalog(server.url);
  standIn = await StandIn.start(server.url);
  const history = Array.from({ length: 80 }, (_, i) => 100_000 + i * 100);
  BILLING = standIn.add(
    { name: "billing", description: "Makes an invoice of each order.", streams: ["orders"], types: ["no.acme.order.*"], filters: [{ any: [{ prefix: { subject: "/order/" } }, { exact: { source: "/shop" } }] }] },
    { partitions: partitions("orders", 6, 20_000), sessions: sessions(4), letters: [...Array(100).fill(null), ...letters], waiting: 240, history },
  ).about.id;
  standIn.add({ name: "search-index", streams: ["products", "prices"], config: { ordering: "none" } }, { partitions: partitions("products", 3, 0), sessions: sessions(2) });
  MAIL = standIn.add({ name: "mail", streams: ["parcels"] }, { partitions: partitions("parcels", 3, 400), waiting: 1320 }).about.id;
  FRAUD = standIn.add({ name: "fraud", streams: ["payments"], status: { state: "failing", reason: "the stream payments is gone" } }).about.id;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await standIn?.stop();
  await server?.remove();
});

/**
 * @param {string} hash
 * @param {(page: Page, faults: string[]) => Promise<void>} use
 * @param {import("playwright-core").BrowserContextOptions & {at?: string}} [options]
 */
async function withPage(hash, use, { at = standIn.url, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const faults = watch(page, at);
    await page.goto(`${at}/subscriptions/${hash}`);
    await page.waitForSelector("main:not([aria-busy]) h1");
    await use(page, faults);
    assert.deepEqual(faults, [], "the page complains or asks somebody else");
  } finally {
    await context.close();
  }
}

/** @param {Page} page */
const names = (page) => page.locator(".rows .name").allTextContents();

/**
 * @param {string} path
 * @param {unknown} [body]
 * @param {string} [method]
 */
async function send(path, body, method = "POST") {
  const answer = await fetch(server.url + path, { method, headers: { "Content-Type": "application/json" }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : undefined, text };
}

/**
 * Makes a subscription on the server itself.
 * @param {Partial<import("../subscriptions/api.js").Subscription>} subscription
 * @returns {Promise<string>} its id
 */
async function makeOne(subscription) {
  const { status, body, text } = await send("/v1/subscriptions", subscription);
  assert.equal(status, 201, text);
  return body.id;
}

/**
 * @param {string} id
 * @returns {Promise<import("../subscriptions/api.js").Stats>}
 */
const statsOf = async (id) => (await send(`/v1/subscriptions/${id}/stats`, undefined, "GET")).body;

/** @param {...number} numbers */
async function publish(...numbers) {
  for (const n of numbers) {
    const answer = await fetch(`${server.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/cloudevents+json" }, body: JSON.stringify({ specversion: "1.0", id: `night-${n}`, source: "/railnet/trains", type: "no.railnet.app.night", subject: `/night/${n}`, data: n }) });
    assert.equal(answer.status, 200, await answer.text());
  }
}

/** A session of a subscription, on the server itself. */
class Reader {
  /** @type {{cursor: string, group: string, attempt: number, event: any}[]} */ events = [];
  /** Why the server ended it. @type {string[]} */ problems = [];
  #control = new AbortController();
  #reading;

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.#reading = this.#read().catch((error) => {
      if (!this.#control.signal.aborted) throw error;
    });
  }

  async #read() {
    const answer = await fetch(`${server.url}/v1/subscriptions/${this.id}/events`, { headers: { Accept: "application/x-ndjson" }, signal: this.#control.signal });
    assert.equal(answer.status, 200);
    let rest = "";
    const decoder = new TextDecoder();
    for await (const bytes of answer.body ?? []) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const said = line ? JSON.parse(line) : {};
        if (said.event) this.events.push(said);
        if (said.problem) this.problems.push(said.problem.type);
      }
    }
  }

  /** Waits until the server has ended it. */
  ended() {
    return this.#reading;
  }

  leave() {
    this.#control.abort();
    return this.#reading;
  }

  /** @param {object} body */
  async say(body) {
    return send(`/v1/subscriptions/${this.id}/cursors`, body);
  }
}

test("a subscription is made, falls behind, is read, reset and deleted", async () => {
  const id = await makeOne({ name: "night-shift", streams: ["rail-apps"], config: { from: "latest", maxAttempts: 1 } });
  await withPage("", async (page) => {
    const row = page.locator(`.rows li[data-id="${id}"]`);
    await row.locator("text=0 events").waitFor();
    await publish(1, 2, 3, 4, 5, 6);
    await says(page, `.rows li[data-id="${id}"]`, "Nobody reads it.*6 events wait.*6 events");
    await row.locator("a").click();
    await says(page, ".condition", "Nobody reads it");
    assert.equal(await page.textContent("h1"), "night-shift");
    await page.waitForFunction(() => [...document.querySelectorAll('#partitions td[data-title="Behind"]')].reduce((n, td) => n + Number(td.textContent), 0) === 6);
    await says(page, "#dead-letters", "None\\.");

    // Nobody reads it: a reset needs one click.
    const confirm = page.locator("dialog").getByRole("button", { name: "Reset" });
    const reset = async (/** @type {RegExp} */ choice, /** @type {string} */ effect, warned = false) => {
      await page.getByRole("button", { name: "Reset…" }).click();
      await page.getByRole("radio", { name: choice }).check();
      await says(page, "dialog .effect", effect);
      if (warned) {
        await says(page, "dialog .notice.warn", "^1 session reads it now, and goes on from the new place\\.");
        await page.getByLabel("Type night-shift to confirm").fill("night");
        assert.equal(await confirm.isDisabled(), true);
        await page.getByLabel("Type night-shift to confirm").fill("night-shift");
        await page.keyboard.press("Enter");
      } else {
        await confirm.click();
      }
      await page.waitForSelector("dialog", { state: "detached" });
    };
    const kept = ((await statsOf(id)).partitions ?? []).reduce((n, p) => n + p.end - (p.begin ?? 0), 0);
    await reset(/The end/, "^6 events that are not acknowledged are skipped, for good");
    await says(page, ".figures dd", "^0$");
    await reset(/The beginning/, `^${kept} events that are acknowledged already come again`);
    await says(page, ".figures dd", `^${kept}$`);

    // Somebody reads, acknowledges all but two, gives one of them back, for good, and acknowledges the last.
    const reader = new Reader(id);
    await says(page, "#sessions tbody tr", "NDJSON.*127\\.0\\.0\\.1.*rail-apps/0");
    await until("all of it is given", () => reader.events.length === kept);
    assert.deepEqual((await reader.say({ cursors: [reader.events.at(-3)?.cursor] })).body, { acknowledged: kept - 2, returned: 0 });
    await says(page, ".figures dd", "^2$");
    assert.deepEqual((await reader.say({ nacks: [{ to: reader.events.at(-2)?.cursor }] })).body, { acknowledged: 0, returned: 1 });
    await says(page, "dead-letters li", `${reader.events.at(-2)?.event.subject}was given back, 1 attempt · no\\.railnet\\.app\\.night`);
    assert.deepEqual((await reader.say({ cursors: [reader.events.at(-1)?.cursor] })).body, { acknowledged: 1, returned: 0 });
    await says(page, ".figures dd", "^0$");
    await says(page, ".condition", "Caught up");

    // It is reset under the session, which goes on; what it had before counts no more.
    await publish(7);
    await until("the new one is given", () => reader.events.length === kept + 1);
    await says(page, ".figures", "Behind1In time.*Held1Given");
    const before = reader.events.at(-1)?.cursor;
    await reset(/The beginning/, `^${kept} events that are acknowledged already come again.*with 1 event that is not acknowledged that makes ${kept + 1}\\.One event that a session holds now may come twice`, true);
    await until("all of it is given again", () => reader.events.length === 2 * (kept + 1));
    assert.deepEqual(reader.problems, []);
    assert.equal((await reader.say({ nacks: [{ from: reader.events[kept + 1]?.cursor, to: reader.events.at(-1)?.cursor }] })).body.returned, kept + 1);
    await page.waitForFunction((n) => document.querySelectorAll("dead-letters li").length === n, kept + 2);
    await says(page, ".figures", `Dead letters${kept + 2}$`);
    assert.equal((await reader.say({ cursors: [before] })).status, 409);
    await reader.ended();
    assert.deepEqual(reader.problems, ["/problems/reconnect"]);
    await page.waitForSelector("#sessions .nothing");

    // What the stats have forgotten is listed nevertheless.
    await until("the stats tell of no dead letters", async () => (await statsOf(id)).deadLetters === 0);
    await page.reload();
    await page.waitForFunction((n) => document.querySelectorAll("dead-letters li").length === n, kept + 2);
    await says(page, ".figures", `Dead letters${kept + 2}$`);

    // The code on the page joins it, until it is deleted.
    const code = (await page.textContent("#code-panel code")) ?? "";
    const joined = promisify(execFile)("bash", ["-c", `${code} -s --max-time 600`]);
    await says(page, "#sessions tbody tr", "SSE.*127\\.0\\.0\\.1");
    await page.getByRole("button", { name: "Delete…" }).click();
    await says(page, "dialog", "finds these dead letters\\.1 session reads it now, and is ended and told why");
    await page.getByLabel("Type night-shift to confirm").fill("night-shift");
    await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
    await page.waitForSelector("subscription-list");
    await page.waitForFunction((i) => !document.querySelector(`.rows li[data-id="${i}"]`), id);
    assert.match((await joined).stdout, /^event: problem\ndata: .*unknown-subscription/m);
    assert.equal((await send(`/v1/subscriptions/${id}`, undefined, "GET")).status, 404);
  }, { at: server.url });
});

test("what each session is fed from is told, or why it is fed from nothing", async () => {
  const tight = await makeOne({ name: "tight", streams: ["rail-apps"] });
  const loose = await makeOne({ name: "loose", streams: ["rail-apps"], config: { ordering: "none" } });
  const n = (await statsOf(tight)).partitions?.length ?? 0;
  const readers = [...Array.from({ length: n + 1 }, () => new Reader(tight)), new Reader(loose)];
  try {
    await withPage(`#/${tight}`, async (page) => {
      await page.waitForFunction((n) => document.querySelectorAll("#sessions tbody tr").length === n, n + 1);
      await says(page, "#sessions", "Waits for a partition: there are more sessions than partitions");
      await page.waitForFunction(() => ![...document.querySelectorAll('#partitions td[data-title="Session"]')].some((td) => td.textContent === "none"));
      await page.evaluate((id) => (location.hash = `#/${id}`), loose);
      await says(page, "#sessions tbody tr", "every partition");
      await says(page, "#partitions tbody tr", "any$");
    }, { at: server.url });
  } finally {
    for (const r of readers) await r.leave();
    for (const id of [tight, loose]) assert.equal((await send(`/v1/subscriptions/${id}`, undefined, "DELETE")).status, 204);
  }
});

test("the list says how each stands, what is most behind first", async () => {
  await withPage("", async (page) => {
    await says(page, ".lead", "^4 subscriptions\\. 3 need a look; 121,200 events wait\\.");
    await page.waitForFunction(() => document.querySelector(".rows .name")?.textContent === "billing");
    assert.deepEqual(await names(page), ["billing", "mail", "fraud", "search-index"]);
    const row = (/** @type {string} */ name) => page.locator(".rows li", { hasText: name }).textContent();
    assert.match((await row("billing")) ?? "", /orders · ordered by key.*4 sessions.*120,000 events4 min behind/);
    assert.match((await row("mail")) ?? "", /Nobody reads it.*1,200 events wait, the oldest for 22 min.*no sessions/);
    assert.match((await row("fraud")) ?? "", /Failing.*The stream payments is gone/);
    assert.match((await row("search-index")) ?? "", /products, prices · no order.*Caught up.*2 sessions.*0 events/);
    assert.ok(((await page.locator(".rows li", { hasText: "billing" }).locator("lag-spark .line").getAttribute("d")) ?? "").split("L").length > 50, "the server's memory is drawn");
    await page.getByRole("button", { name: "Name" }).click();
    assert.deepEqual(await names(page), ["billing", "fraud", "mail", "search-index"]);
    assert.match(page.url(), /#\/\?sort=name$/);
    await page.reload();
    await page.waitForSelector(".rows a");
    assert.deepEqual(await names(page), ["billing", "fraud", "mail", "search-index"]);
  });
});

test("searching and choosing works by keyboard alone, and the address keeps it", async () => {
  await withPage("", async (page) => {
    await page.waitForSelector(".rows a");
    await page.keyboard.press("/");
    await focused(page, "subscription-list input");
    await page.keyboard.type("orders no.acme");
    await page.waitForFunction(() => document.querySelectorAll(".rows a").length === 1);
    assert.equal(await page.textContent("#found"), "1 of 4 subscriptions");
    assert.match(page.url(), /#\/\?q=orders\+no\.acme$/);
    await page.keyboard.press("ArrowDown");
    await focused(page, ".rows a");
    await page.keyboard.press("Enter");
    await page.waitForSelector("subscription-page h1");
    await focused(page, "h1");
    await page.goBack();
    await page.waitForSelector("subscription-list");
    assert.equal(await page.inputValue("subscription-list input"), "orders no.acme");
    await page.fill("subscription-list input", "nothing has this");
    await page.waitForSelector(".rows .nothing");
    await page.getByRole("button", { name: "Show all" }).click();
    assert.equal((await names(page)).length, 4);
  });
});

test("a subscription's page tells what it is, who reads it and where it is", async () => {
  await withPage(`#/${BILLING}`, async (page) => {
    assert.equal(await page.title(), "billing · Subscriptions");
    await says(page, ".figures", "Behind120,000In time4 min.*Held24Given again15Dead letters50\\+$");
    assert.match((await page.textContent("#rules")) ?? "", /no\.acme\.order\.\*.*one at a time.*1 minute.*1,000 events.*prefix/s);
    const rows = page.locator("#sessions tbody tr");
    assert.equal(await rows.count(), 4);
    assert.match((await rows.nth(1).textContent()) ?? "", /session-1-….*WebSocket, 10\.0\.0\.1.*replica-1.*orders\/1, 4/);
    assert.match((await rows.nth(3).textContent()) ?? "", /Waits for a partition: there are more sessions than partitions/);
    const parts = page.locator("#partitions tbody tr");
    assert.equal(await parts.count(), 6);
    assert.match((await parts.first().textContent()) ?? "", /orders\/0.*50,000.*70,000.*20,000.*4 min.*session-0-…/);
    const kept = /** @type {import("./subscriptions-stand-in.mjs").Kept} */ (standIn.kept.get(BILLING));
    const part = /** @type {{end: number}} */ (kept.partitions[4]);
    part.end += 5000;
    await page.getByRole("button", { name: "Most behind first" }).click();
    await says(page, "#partitions tbody tr td", "orders/4");
    part.end -= 5000;
    assert.equal(await page.locator('.head-of a[href="/catalog/#/?stream=orders"]').count(), 1);
  });
});

test("the lag over time is read out by pointer and by keyboard", async () => {
  await withPage(`#/${BILLING}`, async (page) => {
    const plot = page.locator(".plot");
    await plot.locator(".line.lag").waitFor();
    assert.ok(((await plot.locator(".line.lag").getAttribute("d")) ?? "").split("L").length > 50);
    await page.waitForFunction(() => document.querySelector(".readout .when")?.textContent === "Now");
    await plot.hover({ position: { x: 120, y: 100 } });
    await says(page, ".readout .when", "^\\d\\d:\\d\\d:\\d\\d$");
    await says(page, ".readout .lag", "^10\\d,\\d00 events behind$");
    assert.equal(await page.locator(".readout .time").isVisible(), false, "what the server remembers has no time");
    await page.mouse.move(5, 5);
    await says(page, ".readout", "^Now120,000 events behind4 min behind$");
    await plot.focus();
    await page.keyboard.press("Home");
    await page.waitForFunction(() => document.querySelector(".plot")?.getAttribute("aria-valuenow") === "0");
    assert.match((await plot.getAttribute("aria-valuetext")) ?? "", /^\d\d:\d\d:\d\d: 100,\d00 events behind$/);
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction(() => document.querySelector(".plot")?.getAttribute("aria-valuenow") === "1");
    await page.keyboard.press("PageUp");
    await page.waitForFunction(() => Number(document.querySelector(".plot")?.getAttribute("aria-valuenow")) >= 6);
    await page.keyboard.press("End");
    await page.waitForFunction(() => /120,000 events behind, 4 min$/.test(document.querySelector(".plot")?.getAttribute("aria-valuetext") ?? ""));
  });
});

test("dead letters are listed with why, and opened on demand", async () => {
  await withPage(`#/${BILLING}`, async (page) => {
    const items = page.locator("dead-letters li");
    await items.first().waitFor();
    assert.equal(await items.count(), 50);
    assert.match((await items.nth(1).textContent()) ?? "", /\/order\/1was given back, 10 attempts · no\.acme\.order\.placed\.v1 · orders\/1, offset 101/);
    await items.first().locator("summary").click();
    const shown = JSON.parse((await items.first().locator("pre").textContent()) ?? "");
    assert.deepEqual(shown, letters[0]?.event);
    assert.equal(await page.locator("dead-letters b").count(), 0, "text from an event is text");
    const kept = /** @type {import("./subscriptions-stand-in.mjs").Kept} */ (standIn.kept.get(BILLING));
    const more = (/** @type {number} */ offset) => {
      kept.letters = [...kept.letters, /** @type {any} */ ({ ...letters[0], offset, event: null })];
      kept.told++;
    };
    const listed = (/** @type {number} */ n) => page.waitForFunction((n) => document.querySelectorAll("dead-letters li").length === n, n);
    const [before, told] = [kept.letters, kept.told];
    try {
      more(900);
      await page.getByRole("button", { name: "Show more" }).click();
      await listed(58);
      await focused(page, "dead-letters li:nth-child(51) summary");
      await says(page, ".figures", "Dead letters58$");
      await items.last().locator("summary").click();
      await says(page, "dead-letters li:last-child", "A large event.*orders/0, offset 900It is too large to be kept here once more\\. Its stream has it: orders/0, offset 900\\.");
      more(901);
      await listed(59);
      await says(page, ".figures", "Dead letters59$");
      assert.equal(await items.first().locator("details[open]").count(), 1, "what is read stays as it is");
      more(902);
      kept.told--; // who told of it has left since
      for (const p of kept.partitions) [p.position, p.end] = [p.position + 1, p.end + 1];
      await listed(60);
    } finally {
      for (const p of kept.partitions) [p.position, p.end] = [p.position - 1, p.end - 1];
      [kept.letters, kept.told] = [before, told];
    }
  });
});

test("a reset that is refused says why, and goes on when it is confirmed", async () => {
  const { about, ...kept } = standIn.add({ name: "just-left", streams: ["orders"] }, { partitions: partitions("orders", 3, 400), left: true });
  try {
    await withPage(`#/${about.id}`, async (page, faults) => {
      await page.getByRole("button", { name: "Reset…" }).click();
      await page.getByRole("radio", { name: /The end/ }).check();
      const confirm = page.locator("dialog").getByRole("button", { name: "Reset" });
      const asked = standIn.asked.get(about.id) ?? 0;
      await confirm.click();
      await says(page, "dialog [role=alert]", "Sessions read it, or did a moment ago\\. Nothing was reset\\.");
      await says(page, "dialog .notice.warn", "Sessions that still read it go on from the new place");
      assert.equal(await confirm.isDisabled(), true);
      await page.getByLabel("Type just-left to confirm").fill("just-left");
      while ((standIn.asked.get(about.id) ?? 0) === asked) await page.waitForResponse((r) => r.url().endsWith("/stats"));
      await page.keyboard.press("Escape");
      await page.waitForSelector("dialog", { state: "detached" });
      await focused(page, ".acts button");
      assert.equal(kept.partitions[0]?.position, 50_000);

      await page.getByRole("button", { name: "Reset…" }).click();
      await page.getByRole("radio", { name: /The end/ }).check();
      await confirm.click();
      await page.getByLabel("Type just-left to confirm").fill("just-left");
      await confirm.click();
      await page.waitForSelector("dialog", { state: "detached" });
      await says(page, ".figures dd", "^0$");
      forgive(faults, "status of 409");
    });
  } finally {
    standIn.kept.delete(about.id);
  }
});

test("a time to go on from is told in words, and one that is to come is not taken", async () => {
  await withPage(`#/${MAIL}`, async (page) => {
    await page.getByRole("button", { name: "Reset…" }).click();
    await page.getByRole("radio", { name: /A time/ }).check();
    await page.getByLabel("Time to go on from").fill("2026-01-01T00:00:00");
    await says(page, "dialog .effect", "Everything since then comes again: 1,200 events");
    await page.getByLabel("Time to go on from").fill("2999-01-01T00:00:00");
    await says(page, "dialog .effect", "still to come");
    assert.equal(await page.locator("dialog").getByRole("button", { name: "Reset" }).isDisabled(), true);
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.waitForSelector("dialog", { state: "detached" });
  });
});

test("only what is in sight is asked for again and again", async () => {
  const many = Array.from({ length: 60 }, (_, i) => standIn.add({ name: `zz-${String(i).padStart(2, "0")}`, streams: ["orders"] }, { partitions: partitions("orders", 1, 1) }).about.id);
  try {
    await withPage("#/?q=zz&sort=name", async (page) => {
      await page.waitForFunction(() => document.querySelectorAll(".rows li").length === 60);
      standIn.asked.clear();
      const [first = "", last = ""] = [many[0], many.at(-1)];
      while ((standIn.asked.get(first) ?? 0) < 3) await page.waitForResponse((r) => r.url().endsWith(`${first}/stats`));
      assert.ok((standIn.asked.get(last) ?? 0) < 3, `${standIn.asked.get(last)}`);
      await page.locator(`.rows li[data-id="${last}"]`).scrollIntoViewIfNeeded();
      while ((standIn.asked.get(last) ?? 0) < 3) await page.waitForResponse((r) => r.url().endsWith(`${last}/stats`));
    });
  } finally {
    for (const id of many) standIn.kept.delete(id);
  }
});

test("a server that goes away is told and recovered from", async () => {
  await withPage(`#/${BILLING}`, async (page, faults) => {
    await page.waitForSelector(".figures");
    standIn.away = true;
    await page.waitForSelector("#away:not([hidden])");
    assert.match((await page.textContent("#away")) ?? "", /The server does not answer\. What is shown is of \d\d:\d\d:\d\d; the page goes on by itself\./);
    standIn.away = false;
    await page.waitForSelector("#away", { state: "hidden" });
    standIn.away = true;
    await page.evaluate(() => (location.hash = "#/"));
    await page.waitForSelector(".state-page[role=alert]");
    assert.equal(await page.textContent("h1"), "The server is away");
    standIn.away = false;
    await page.getByRole("button", { name: "Try now" }).click();
    await page.waitForSelector(".rows a");
    forgive(faults, "Failed to load resource");
  });
});

test("one that is deleted meanwhile, or was never there, is told of", async () => {
  const id = await makeOne({ name: "short-lived", streams: ["rail-apps"] });
  await withPage(`#/${id}`, async (page, faults) => {
    await page.waitForSelector(".figures");
    assert.equal((await send(`/v1/subscriptions/${id}`, undefined, "DELETE")).status, 204);
    await says(page, "h1", "There is no such subscription");
    await page.getByRole("link", { name: "All subscriptions", exact: true }).click();
    await page.waitForSelector("subscription-list");
    await page.evaluate(() => (location.hash = "#/unheard-of"));
    await says(page, ".state-page", "unheard-of is not here");
    forgive(faults, "status of 404");
  }, { at: server.url });
});

test("one is made by a form, of types that are in the catalogue, and what is wrong is shown", async () => {
  await makeOne({ name: "taken", streams: ["rail-apps"] });
  await withPage("", async (page, faults) => {
    await page.getByRole("link", { name: "New subscription" }).click();
    await says(page, "h1", "New subscription");
    const make = page.getByRole("button", { name: "Make it" });
    assert.equal(await make.isDisabled(), true);
    await page.getByRole("searchbox", { name: "Find types" }).fill("slower track");
    await page.waitForFunction(() => document.querySelectorAll(".choose li").length === 1);
    await page.locator(".choose input").check();
    await page.getByLabel("Name", { exact: false }).first().fill("no spaces");
    await make.click();
    await says(page, "form .wrong:not([hidden])", "^1 to 200 letters, digits");
    await focused(page, "input[aria-invalid=true]");
    await page.getByLabel("Name", { exact: false }).first().fill("taken");
    await make.click();
    await says(page, "form [role=alert]", "choose another name");
    await page.getByLabel("Name", { exact: false }).first().fill("made-here");
    await page.getByLabel("Order").selectOption("none");
    await make.click();
    await says(page, "h1", "made-here");
    await says(page, "#rules", "no.railnet.track.restriction.v1.*None is kept");
    await page.evaluate(() => (location.hash = "#/"));
    await page.waitForSelector("subscription-list");
    forgive(faults, "status of 4");
  }, { at: server.url });
  await withPage("#/new?type=no.railnet.app.*", async (page) => {
    assert.equal(await page.locator('.choose input[value="no.railnet.app.*"]').isChecked(), true);
    await page.getByRole("button", { name: "Whole streams" }).click();
    await says(page, ".choose", "train-positions");
  });
});

test("the pages lead to each other", async () => {
  await withPage("", async (page) => {
    await page.getByRole("link", { name: "Catalogue" }).click();
    await page.waitForSelector("type-list h1");
    await page.getByRole("link", { name: "Subscriptions" }).click();
    await page.waitForSelector("subscription-list h1");
    await page.getByRole("link", { name: "Live trains" }).click();
    await page.getByRole("link", { name: "Subscriptions" }).click();
    await page.waitForSelector("subscription-list h1");
  });
});

test("on a phone nothing is wider than the screen, and all can be reached by finger", async () => {
  for (const hash of ["", `#/${BILLING}`, "#/new"]) {
    await withPage(hash, async (page) => {
      if (hash.length > 10) await page.waitForSelector("dead-letters li");
      const wide = async () => page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth));
      assert.ok((await wide()) <= 360, `${hash} is ${await wide()} wide`);
      if (hash.length > 10) {
        await page.getByRole("button", { name: "Reset…" }).click();
        await page.getByRole("radio", { name: /A time/ }).check();
        assert.ok(await page.locator("dialog").evaluate((d) => d.scrollWidth <= d.clientWidth && d.getBoundingClientRect().right <= 360), "the dialog is too wide");
      }
      const small = await page.evaluate(() =>
        [...document.querySelectorAll("button, select, .choices label, .choose label")].filter((b) => b instanceof HTMLElement && b.offsetParent && (b.offsetHeight < 24 || b.offsetWidth < 24)).map((b) => `${b.className} ${b.textContent}`),
      );
      assert.deepEqual(small, [], "too small for a finger");
    }, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  }
});

test("text can be read on its ground, light and dark", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    for (const hash of ["", `#/${BILLING}`, `#/${FRAUD}`, "#/new"]) {
      await withPage(hash, async (page) => {
        if (hash === "") await page.waitForFunction(() => document.querySelectorAll('.rows a:not([data-grade="idle"])').length >= 3);
        assert.deepEqual(await page.evaluate(poorlyReadable), [], `${colorScheme} ${hash}`);
        if (hash !== `#/${BILLING}`) return;
        await page.getByRole("button", { name: "Reset…" }).click();
        await page.getByRole("radio", { name: /The end/ }).check();
        await page.getByLabel("Type billing to confirm").fill("billing");
        assert.deepEqual(await page.evaluate(poorlyReadable), [], `${colorScheme} the reset`);
      }, { colorScheme });
    }
  }
});

test("everything that takes the focus has a name, ids are there once, and nothing moves where motion is not wanted", async () => {
  for (const hash of ["", `#/${BILLING}`, "#/new"]) {
    await withPage(hash, async (page) => {
      if (hash.length > 10) await page.waitForSelector("dead-letters li");
      const found = await page.evaluate(() => {
        const nameless = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby") && !e.textContent?.trim() && !e.closest("label")?.textContent?.trim());
        const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
        const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((e) => Number(e.tagName[1]));
        return { nameless: nameless.map((e) => `${e.tagName}.${e.className}`), twice: ids.filter((id, i) => ids.indexOf(id) !== i), h1: levels.filter((l) => l === 1).length, moving: document.getAnimations().length };
      });
      assert.deepEqual(found, { nameless: [], twice: [], h1: 1, moving: 0 }, hash);
    }, { reducedMotion: "reduce" });
  }
});
