// @ts-check
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { receiverCode } from "../subscriptions/receiver-code.js";
import { PATIENCE, Server, focused, forgive, freePort, launch, poorlyReadable, says, until, watch } from "./harness.mjs";
import { seedCatalog } from "./seed-catalog.mjs";
import { StandIn } from "./subscriptions-stand-in.mjs";
import { Receiver } from "./webhook-receiver.mjs";

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {import("../subscriptions/webhook-api.js").Attempt} Attempt */

/** @type {Server} */ let server;
/** @type {StandIn} */ let standIn;
/** @type {import("playwright-core").Browser} */ let browser;
/** @type {Receiver} */ let endpoint;

const MINUTE = 60_000;
const now = Date.now();

/** @type {Attempt[]} */
const attempts = Array.from({ length: 120 }, (_, i) => ({
  id: `a${i}`, time: new Date(now - i * MINUTE).toISOString(), took: `${5 + i}ms`, event: `order-${i}`, type: "no.acme.order.placed.v1", stream: "orders", partition: 0, offsets: [1000 - i], message: `msg_${i}`, attempt: 1,
  ...(i % 4 === 3 ? { state: "failed", status: 503, reason: "the endpoint answered 503 Service Unavailable", answer: "<b>closed</b>", nextAttempt: new Date(now - i * MINUTE + 30_000).toISOString() } : { state: "delivered", status: 204 }),
}));

/**
 * Of each step ten deliveries, and of every third a failure too.
 * @param {number} minutes
 * @param {number} since
 */
function deliveries(minutes, since) {
  const length = minutes * MINUTE;
  const first = Math.floor(since / length);
  return Array.from({ length: Math.floor(Date.now() / length) - first + 1 }, (_, i) => ({ at: new Date((first + i) * length).toISOString(), delivered: 10, refused: 0, failed: i % 3 === 2 ? 1 : 0, p50: "8ms", p95: "22ms", p99: i % 3 === 2 ? "1.5s" : "40ms" }));
}

const sink = { sink: "https://warehouse.example.com/hooks", protocolsettings: { mode: /** @type {const} */ ("structured"), headers: { "X-Tenant": "" } }, sinkcredential: { credentialtype: "OAUTH2", tokenUrl: "https://id.example.com/token", clientId: "events" }, publicKey: "whpk_Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=" };
const STATES = {
  active: { state: "active" },
  pending: { state: "pending", reason: "the endpoint has not proven yet that it wants the events", proof: { state: /** @type {const} */ ("pending"), next: new Date(now + 5 * 3_600_000).toISOString() } },
  failing: { state: "failing", reason: "the endpoint answered 503 Service Unavailable" },
  disabled: { state: "disabled", reason: "the endpoint answered 410 Gone" },
  paused: { state: "paused" },
};
/** @type {Record<keyof typeof STATES, string>} */
const ids = { active: "", pending: "", failing: "", disabled: "", paused: "" };

before(async () => {
  server = await Server.start("--demo-time", "08:00", "--allow-loopback-sinks");
  await seedCatalog(server.url);
  standIn = await StandIn.start(server.url);
  endpoint = await Receiver.start();
  const partitions = Array.from({ length: 3 }, (_, i) => ({ stream: "orders", partition: i, position: 50_000, end: 50_000 + i * 20, undone: i }));
  const letters = Array.from({ length: 3 }, (_, i) => ({ id: `${i}`, stream: "orders", partition: 0, offset: i, attempts: 11, reason: "the endpoint answered 503", at: new Date(now).toISOString(), redelivered: i === 1, event: { specversion: "1.0", id: `dead-${i}`, source: "/shop", type: "no.acme.order.placed.v1" } }));
  for (const [name, status] of Object.entries(STATES)) {
    const kept = standIn.add({ name: `hook-${name}`, description: "Tells the warehouse.", streams: ["orders"], filters: [{ sql: "amount > 100" }], ...sink, status, config: { ordering: "none", timeout: "15s", retry: { schedule: ["5s", "2m0s", "1h30m0s"] }, disableAfter: "120h0m0s" } }, { partitions, attempts, deliveries, letters, push: { undone: 3, inFlight: 1, lagSeconds: undefined } });
    ids[/** @type {keyof typeof STATES} */ (name)] = kept.about.id;
  }
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await standIn?.stop();
  await endpoint?.stop();
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

/**
 * @param {string} path
 * @param {unknown} [body]
 * @param {string} [method]
 */
async function send(path, body, method = "POST") {
  const answer = await fetch(server.url + path, { method, headers: { "Content-Type": "application/json" }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** @param {...number} numbers */
async function publish(...numbers) {
  for (const n of numbers) {
    const event = { specversion: "1.0", id: `night-${n}`, source: "/railnet/trains", type: "no.railnet.app.night", subject: `/night/${n}`, data: n };
    const answer = await fetch(`${server.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/cloudevents+json" }, body: JSON.stringify(event) });
    assert.equal(answer.status, 200, await answer.text());
  }
}

/** How often the endpoint was sent an event. @param {string} id */
const given = (id) => endpoint.events.filter((e) => e.id === id).length;

/** @param {Page} page @param {string} title */
const press = (page, title) => page.getByRole("button", { name: title, exact: true }).click();

test("a webhook is made, proves itself, is sent events, and is helped where that goes wrong", async () => {
  await withPage("#/new-webhook?stream=rail-apps", async (page, faults) => {
    const make = page.getByRole("button", { name: "Make it" });
    assert.equal(await make.isDisabled(), true);
    await page.getByLabel("Endpoint", { exact: true }).fill("ftp://127.0.0.1/hooks");
    await page.getByLabel("Name", { exact: true }).fill("night-hook");
    await page.getByLabel("Filter, CESQL").fill("subject LIKE (");
    await page.getByRole("button", { name: "Add a header" }).click();
    await focused(page, '[aria-label="Name of header 1"]');
    await page.keyboard.type("Host");
    await page.getByLabel("Value of header 1").fill("x");
    await make.click();
    await says(page, ".field:has(> .field > [type=url]) > .wrong", "https?");
    await says(page, ".header-row .wrong", ".");
    await focused(page, "[type=url][aria-invalid=true]");
    await page.getByLabel("Endpoint", { exact: true }).fill(endpoint.url);
    await page.getByLabel("Name of header 1").fill("X-Tenant");
    await make.click();
    await says(page, ".field:has(> .field > textarea) > .wrong", ".");
    await page.getByLabel("Filter, CESQL").fill("subject LIKE '/night/%'");
    await page.getByLabel("The endpoint knows it by").selectOption("APIKEY");
    await page.getByLabel("Header", { exact: true }).fill("X-Api-Key");
    await make.click();
    await says(page, ".parts-of > .field:nth-child(2) > .wrong", "needs it");
    await page.getByLabel("Key", { exact: true }).fill("open-sesame");
    await make.click();

    await says(page, "h1", "^night-hook is made$");
    const secret = (await page.textContent(".secret code")) ?? "";
    assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
    await says(page, "#code-panel", "createHmac");
    await page.getByRole("link", { name: "I have kept it" }).click();
    await page.waitForSelector("webhook-page");
    assert.doesNotMatch((await page.textContent("main")) ?? "", /whsec_[A-Za-z0-9+/]{9}/, "the secret is shown once");
    const id = page.url().split("#/")[1] ?? "";

    // Nothing is sent before the endpoint has proven that it wants it.
    await says(page, ".condition", "Not proven.*it answered 404 to the challenge");
    await says(page, ".now", "It is asked again at .* in \\d+ s");
    await says(page, "#proof-panel", '"response":"<base64 of HMAC-SHA256\\(secret, challenge\\)>"');
    await page.getByRole("tab", { name: "OPTIONS" }).click();
    await says(page, "#proof-panel", "WebHook-Allowed-Origin");
    assert.equal(await page.getByRole("button", { name: "Send a test" }).isDisabled(), true);
    await press(page, "Verify");
    await says(page, ".told.bad", "404 to the challenge");
    endpoint.secret = secret;
    await press(page, "Verify");
    await says(page, ".told", "has proven that it wants the events");
    await says(page, ".condition", "Caught up|Keeps up");
    await page.waitForSelector("#proof", { state: "detached" });

    await press(page, "Send a test");
    await says(page, ".told", "^Delivered: answered 204 in ");
    await says(page, ".attempts tbody tr", "subscription\\.test\\.v1Delivered 204");
    assert.equal(endpoint.events[0]?.headers["x-api-key"], "open-sesame");
    assert.equal(endpoint.events[0]?.headers["x-tenant"], "x");
    await publish(101, 102);
    await until("the events are sent", () => given("night-101") === 1 && given("night-102") === 1);

    // One that is refused is tried again, and becomes a dead letter.
    const was = await send(`/v1/subscriptions/${id}`, undefined, "GET");
    await send(`/v1/subscriptions/${id}`, { ...was, config: { ...was.config, retry: { schedule: ["1s"] } } }, "PUT");
    endpoint.answer = { status: 422, body: "no <b>such</b> train" };
    await publish(103, 113);
    await says(page, "#attempts .attempts tbody", "night-103.*Refused 422.*none: a dead letter");
    await says(page, ".figures", "Dead letters2$");
    const rows = (/** @type {number} */ n) => page.waitForFunction((n) => document.querySelectorAll(".attempts tbody tr:not(.below)").length === n, n);
    await page.getByLabel("State", { exact: true }).selectOption("refused");
    await rows(4);
    await page.getByLabel("Event id").fill("night-103");
    await rows(2);
    await page.locator(".opener").first().click();
    await says(page, ".below:not([hidden])", "answered 422 Unprocessable Entity.*rail-apps/\\d+, offset \\d+.*number 2, the last: its events are dead letters.*no <b>such</b> train");
    assert.equal(await page.locator(".below b").count(), 0, "what an endpoint answers is text");

    // Both ways to send it again.
    const before = given("night-103");
    await page.locator(".attempts tbody input").first().check();
    await press(page, "Send again");
    await says(page, "attempt-list .told.bad", "^Refused: the endpoint answered 422");
    await rows(3);
    endpoint.answer = { status: 204 };
    await page.locator(".attempts tbody input").first().check();
    await press(page, "Send again");
    await says(page, "attempt-list .told:not(.bad)", "^Delivered: answered 204");
    await page.locator("dead-letters li", { hasText: "/night/103" }).locator("input").check();
    await press(page, "Send chosen again");
    await says(page, "dead-letters .told:not(.bad)", "^1 was delivered\\.");
    await page.locator("dead-letters li", { hasText: "/night/103delivered since" }).locator("input:disabled").waitFor();
    assert.equal(given("night-103"), before + 3);
    await press(page, "Send all again…");
    await page.locator("dialog").getByRole("button", { name: "Send all" }).click();
    await page.waitForFunction(() => document.querySelectorAll("dead-letters li input:disabled").length === 2);
    assert.equal(given("night-113"), 3);
    assert.equal(await page.getByRole("button", { name: "Send all again" }).isVisible(), false);

    // Paused, nothing is sent; resumed, what waits is.
    await press(page, "Pause");
    await says(page, ".condition", "^Paused");
    await focused(page, "webhook-page .acts button");
    await publish(104);
    await says(page, ".figures", "Behind[1-9]");
    assert.equal(given("night-104"), 0);
    await press(page, "Resume");
    await until("what waits is sent", () => given("night-104") === 1);

    await press(page, "Replay…");
    const again = page.locator("dialog").getByRole("button", { name: "Send again" });
    assert.equal(await again.isDisabled(), true);
    await page.getByRole("radio", { name: /The beginning/ }).check();
    await says(page, "dialog .effect", "beside those that come now");
    await again.click();
    await says(page, ".now .told", "^They are being sent beside the new ones: \\d+ events");
    await until("it is sent again", () => given("night-101") === 2 && given("night-104") === 2);

    await press(page, "Replace secret…");
    await page.getByLabel("Keep the old one valid for").selectOption("1h");
    await page.locator("dialog").getByRole("button", { name: "Replace" }).click();
    await says(page, "dialog", "The new secret.*stays valid beside it for an hour");
    await page.keyboard.press("Escape");
    const next = (await page.textContent("dialog .secret code")) ?? "";
    assert.match(next, /^whsec_/);
    assert.notEqual(next, secret);
    await press(page, "I have kept it");
    await publish(105);
    await until("it is signed with both", () => endpoint.events.at(-1)?.headers["webhook-signature"]?.toString().match(/v1,/g)?.length === 2);

    // The chart has what was sent, once the server has counted it.
    await page.waitForFunction(() => (document.querySelector(".plot")?.getAttribute("aria-valuetext") ?? "").match(/^The last hour: [1-9]\d* delivered, [1-9]/));
    await page.locator("summary", { hasText: "The same as a table" }).click();
    await says(page, ".same tbody", "\\d\\d:\\d\\d–\\d\\d:\\d\\d");

    await page.getByRole("button", { name: "Delete…" }).click();
    await page.getByLabel("Type night-hook to confirm").fill("night-hook");
    await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
    await page.waitForSelector("subscription-list");
    forgive(faults, "status of 422");
    forgive(faults, "status of 400");
  }, { at: server.url });
});

for (const mode of /** @type {const} */ (["structured", "binary"])) {
  for (const { id, title, text } of receiverCode({ id: "", protocolsettings: { mode } })) {
    test(`the receiver in ${title} proves itself and takes what is signed, ${mode}`, async () => {
      const folder = await mkdtemp(join(tmpdir(), "eventissuer-receiver-"));
      const port = await freePort();
      const file = join(folder, { node: "receiver.mjs", go: "receiver.go", python: "receiver.py" }[id] ?? "");
      const secret = `whsec_${Buffer.from("a secret of thirty-two bytes ....").toString("base64")}`;
      await writeFile(file, text.replace(/\b8000\b/, String(port)).replace('":8000"', `"127.0.0.1:${port}"`));
      const [command = "", ...before] = { node: ["node"], go: ["go", "run"], python: ["python3"] }[id] ?? [];
      const child = spawn(command, [...before, file], { env: { ...process.env, WEBHOOK_SECRET: secret }, stdio: ["ignore", "pipe", "pipe"], detached: true });
      let said = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (b) => (said += b));
      let ended = false;
      child.once("exit", () => (ended = true));
      const url = `http://127.0.0.1:${port}/`;
      try {
        await until(`it listens; it says ${said}`, async () => {
          assert.equal(ended, false, said);
          return (await fetch(url, { method: "POST", body: "{}" }).catch(() => undefined))?.status === 401;
        });
        const made = await send("/v1/subscriptions", { name: `receiver-${id}-${mode}`, streams: ["rail-apps"], sink: url, secret, protocolsettings: { mode } });
        await until("it has proven itself", async () => (await send(`/v1/subscriptions/${made.id}`, undefined, "GET")).status.state === "active");
        const tried = await send(`/v1/subscriptions/${made.id}:test`);
        assert.equal(tried.status, 204, said);
        await until("it says what it took", () => said.includes(tried.message) && said.includes("no.eventissuer.subscription.test.v1"));
        await send(`/v1/subscriptions/${made.id}`, undefined, "DELETE");
      } finally {
        if (child.pid && !ended) process.kill(-child.pid, "SIGKILL");
        await rm(folder, { recursive: true, force: true });
      }
    });
  }
}

test("each state says what to do about it", async () => {
  const want = /** @type {Record<keyof typeof STATES, [string, string[]]>} */ ({
    active: ["", ["Pause", "Send a test"]],
    pending: ["It is asked again by itself", ["Pause", "Verify"]],
    failing: ["After 5 days of nothing but failures the webhook is disabled", ["Pause", "Send a test"]],
    disabled: ["Mend the endpoint, send a test, and resume", ["Resume", "Send a test"]],
    paused: ["Nothing is sent until it is resumed", ["Resume", "Send a test"]],
  });
  for (const [state, id] of Object.entries(ids)) {
    const [advice, buttons] = want[/** @type {keyof typeof STATES} */ (state)];
    await withPage(`#/${id}`, async (page) => {
      await page.waitForFunction(() => /\d/.test(document.querySelector(".figures dd")?.textContent ?? ""));
      await says(page, ".advice", advice);
      const shown = await page.locator(".acts button:visible:not(:disabled)").allTextContents();
      assert.deepEqual(shown.slice(0, 2), buttons, state);
      await says(page, "#endpoint", "warehouse\\.example\\.com.*X-Tenant.*OAuth 2, client credentials: events at https://id\\.example\\.com/token.*whpk_");
      await says(page, "#rules", "5 s, 2 min, 1 h 30 min; then an event becomes a dead letter");
      if (state === "pending") await says(page, ".now", "It is asked again at \\d\\d:\\d\\d:\\d\\d, in 4 h 59 min|It is asked again at \\d");
    });
  }
});

test("attempts are filtered, paged, and not moved under whoever reads them", async () => {
  await withPage(`#/${ids.active}`, async (page) => {
    const rows = page.locator(".attempts tbody tr:not(.below)");
    const count = (/** @type {number} */ n) => page.waitForFunction((n) => document.querySelectorAll(".attempts tbody tr:not(.below)").length === n, n);
    await count(50);
    await press(page, "Show older ones");
    await count(100);
    await focused(page, ".attempts tbody tr:nth-child(101) .opener");
    await press(page, "Show older ones");
    await count(120);
    await page.mouse.move(5, 5);
    await page.getByLabel("State", { exact: true }).selectOption("failed");
    await count(30);
    await page.getByLabel("Event id").fill("order-7");
    await count(1);
    assert.match((await rows.first().textContent()) ?? "", /order-7.*order\.placed\.v1.*Failed 503.*12 ms.*503 Service Unavailable/);
    await page.getByLabel("Event id").fill("");
    await page.getByLabel("State", { exact: true }).selectOption("");
    await count(50);

    // What comes is put before them; while somebody reads, it waits.
    const kept = /** @type {import("./subscriptions-stand-in.mjs").Kept} */ (standIn.kept.get(ids.active));
    const first = /** @type {Attempt} */ (attempts[0]);
    const comes = (/** @type {string} */ id) => (kept.attempts = [{ ...first, id, event: id, time: new Date().toISOString() }, ...kept.attempts]);
    try {
      comes("fresh-1");
      await says(page, ".attempts tbody tr", "fresh-1");
      await rows.first().locator(".opener").click();
      comes("fresh-2");
      await page.getByRole("button", { name: "Show 1 new" }).waitFor();
      assert.equal(await rows.count(), 51);
      await page.getByRole("button", { name: "Show 1 new" }).click();
      await says(page, ".attempts tbody tr", "fresh-2");
      await focused(page, ".attempts tbody tr:first-child .opener");
      await page.getByLabel("Choose all that are shown").check();
      await says(page, ".choosing", "52 attempts chosen");
    } finally {
      kept.attempts = attempts;
    }
  });
});

test("deliveries over time are read out by keyboard, over the span that is chosen, and are a table", async () => {
  await withPage(`#/${ids.active}`, async (page) => {
    const plot = page.locator("delivery-chart .plot");
    const value = (/** @type {string} */ text) => page.waitForFunction((t) => new RegExp(t).test(document.querySelector("delivery-chart .plot")?.getAttribute("aria-valuetext") ?? ""), text);
    await value("^The last hour: 6[01]0 delivered, 0 refused, (19|20|21) failed$");
    assert.ok((await plot.locator(".stack.delivered").count()) >= 60);
    await plot.focus();
    await page.keyboard.press("Home");
    await value("^\\d\\d:\\d\\d–\\d\\d:\\d\\d: 10 delivered, 0 refused, 0 failed; p50 8 ms, p95 22 ms, p99 40 ms$");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await value(": 10 delivered, 0 refused, 1 failed; p50 8 ms, p95 22 ms, p99 1\\.5 s$");
    await says(page, "delivery-chart .readout", "10 delivered0 refused1 failed8 ms p5022 ms p951\\.5 s p99$");
    await press(page, "24 h");
    await value("^The last 24 hours: 9[67]0 delivered");
    assert.equal(await page.getByRole("button", { name: "24 h" }).getAttribute("aria-pressed"), "true");
    await page.locator("summary", { hasText: "The same as a table" }).click();
    await page.waitForFunction(() => document.querySelectorAll(".same tbody tr").length >= 96);
    await press(page, "1 h");
  });
});

test("on a phone nothing is wider than the screen, and all can be reached by finger", async () => {
  for (const hash of [`#/${ids.active}`, `#/${ids.pending}`, "#/new-webhook"]) {
    await withPage(hash, async (page) => {
      if (hash.endsWith("webhook")) {
        await page.getByLabel("The endpoint knows it by").selectOption("MTLS");
        await press(page, "Add a header");
      } else {
        await page.locator(".opener").first().click();
        await page.getByLabel("Time", { exact: true }).selectOption("own");
      }
      const wide = await page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth));
      assert.ok(wide <= 360, `${hash} is ${wide} wide`);
      const small = await page.evaluate(() =>
        [...document.querySelectorAll("button, select, .choose label, summary")].filter((b) => b instanceof HTMLElement && b.offsetParent && (b.offsetHeight < 24 || b.offsetWidth < 24)).map((b) => `${b.className} ${b.textContent}`),
      );
      assert.deepEqual(small, [], "too small for a finger");
    }, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  }
});

test("text can be read on its ground, all has a name, and ids are there once", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    for (const hash of [...Object.values(ids).map((id) => `#/${id}`), "#/new-webhook"]) {
      await withPage(hash, async (page) => {
        if (!hash.endsWith("webhook")) await page.locator(".opener").nth(3).click();
        assert.deepEqual(await page.evaluate(poorlyReadable), [], `${colorScheme} ${hash}`);
        const found = await page.evaluate(() => {
          const nameless = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")].filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby") && !e.textContent?.trim() && !e.closest("label")?.textContent?.trim());
          const all = [...document.querySelectorAll("[id]")].map((e) => e.id);
          return { nameless: nameless.map((e) => `${e.tagName}.${e.className}`), twice: all.filter((id, i) => all.indexOf(id) !== i), h1: document.querySelectorAll("h1").length, moving: document.getAnimations().length };
        });
        assert.deepEqual(found, { nameless: [], twice: [], h1: 1, moving: 0 }, hash);
      }, { colorScheme, reducedMotion: "reduce" });
    }
  }
});
