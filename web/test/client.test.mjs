// @ts-check
/** The JavaScript client in Chromium, against servers that misbehave on purpose. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { PATIENCE, launch } from "./harness.mjs";

/** @typedef {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, url: URL) => void} Behaviour */

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {import("node:http").Server} */ let server;
/** @type {Behaviour} */ let behave;
/** @type {URL[]} */ let asked = [];
let origin = "";

before(async () => {
  const module = await readFile(new URL("../client/eventissuer.js", import.meta.url));
  server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://test");
    if (url.pathname === "/client.js") response.writeHead(200, { "Content-Type": "text/javascript" }).end(module);
    else if (url.pathname === "/v1/events") {
      if (request.method === "GET") asked.push(url);
      behave(request, response, url);
    } else response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>test</title>");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const address = server.address();
  origin = `http://127.0.0.1:${typeof address === "object" && address ? address.port : 0}`;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
});

/**
 * @param {Behaviour} behaviour
 * @param {any} options
 * @param {(page: import("playwright-core").Page) => Promise<void>} use
 */
async function reading(behaviour, options, use) {
  behave = behaviour;
  asked = [];
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  try {
    const page = await context.newPage();
    await begin(page, options);
    await use(page);
  } finally {
    await context.close();
  }
}

/**
 * @param {import("playwright-core").Page} page
 * @param {any} options
 */
async function begin(page, options) {
  await page.goto(origin);
  await page.evaluate(async (given) => {
    const { EventIssuer } = await import(/** @type {any} */ ("/client.js"));
    const seen = /** @type {any} */ (globalThis);
    Object.assign(seen, { events: [], controls: [], states: [] });
    seen.reading = new EventIssuer().subscribe({
      ...given,
      onEvent: (/** @type {any} */ event, /** @type {string} */ cursor) => seen.events.push([event.id, cursor]),
      onControl: (/** @type {any} */ control) => seen.controls.push(control),
      onState: (/** @type {any} */ state) => seen.states.push(state),
    });
  }, options);
}

/**
 * @param {import("node:http").ServerResponse} response
 * @param {string} blocks
 */
function stream(response, blocks) {
  if (!response.headersSent) response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(blocks);
}

/**
 * @param {import("playwright-core").Page} page
 * @param {number} n
 */
async function events(page, n) {
  await page.waitForFunction((count) => /** @type {any} */ (globalThis).events.length >= count, n, { timeout: PATIENCE });
  return page.evaluate(() => /** @type {any} */ (globalThis).events);
}

const block = (/** @type {string} */ cursor, /** @type {string} */ id) => `id: ${cursor}\ndata: {"specversion":"1.0","id":"${id}","source":"/test","type":"test"}\n\n`;

test("streams, filter and start are asked for as the API has them", async () => {
  await reading(
    (_, response) => stream(response, "id: c0\n\n" + block("c1", "a")),
    { streams: ["one", "two"], filter: { subject: ["/train/1", "/train/2*"], type: "test", sql: "line = 'L1'" }, from: "2026-01-01T00:00:00Z" },
    async (page) => {
      assert.deepEqual(await events(page, 1), [["a", "c1"]]);
      const query = asked[0]?.searchParams;
      assert.deepEqual(query?.getAll("stream"), ["one", "two"]);
      assert.deepEqual(query?.getAll("subject"), ["/train/1", "/train/2*"]);
      assert.equal(query?.get("type"), "test");
      assert.equal(query?.get("filter"), "line = 'L1'");
      assert.equal(query?.get("from"), "2026-01-01T00:00:00Z");
    },
  );
});

test("after an answer at which an EventSource gives up it comes back with its cursor", async () => {
  let n = 0;
  await reading(
    (request, response) => {
      if (request.method === "HEAD") return void response.writeHead(503).end();
      n++;
      if (n === 1) {
        stream(response, "retry: 100\n" + block("c1", "a"));
        setTimeout(() => response.end(), 100);
      } else if (n < 4) response.writeHead(503, { "Content-Type": "application/problem+json" }).end("{}");
      else stream(response, block("c2", "b"));
    },
    { streams: "one" },
    async (page) => {
      assert.deepEqual(await events(page, 2), [["a", "c1"], ["b", "c2"]]);
      assert.equal(asked.at(-1)?.searchParams.get("after"), "c1");
      const states = await page.evaluate(() => /** @type {any} */ (globalThis).states);
      assert.ok(states.some((/** @type {any} */ s) => s.phase === "reconnecting" && s.retryAt > s.since), JSON.stringify(states));
      assert.equal(states.at(-1).phase, "open");
    },
  );
});

test("an answer that will stay the same ends it, with the reason", async () => {
  await reading((_, response) => void response.writeHead(404).end(), { streams: "gone" }, async (page) => {
    await page.waitForFunction(() => /** @type {any} */ (globalThis).states.at(-1)?.phase === "closed");
    const reason = await page.evaluate(() => /** @type {any} */ (globalThis).states.at(-1).reason);
    assert.match(reason, /404/);
    const before = asked.length;
    await page.waitForTimeout(2500);
    assert.equal(asked.length, before, "it asks again all the same");
  });
});

test("control messages arrive by name, and their cursor counts", async () => {
  let n = 0;
  await reading(
    (_, response) => {
      if (n++ > 0) return stream(response, block("c9", "z"));
      stream(response, block("c1", "a"));
      stream(response, 'id: c5\nevent: gap\ndata: {"stream":"one","partition":0,"from":1,"to":5,"reason":"retention"}\n\n');
      stream(response, 'retry: 50\nevent: drain\ndata: {"retryAfter":0.05}\n\n');
      setTimeout(() => response.end(), 50);
    },
    { streams: "one" },
    async (page) => {
      await events(page, 2);
      const controls = await page.evaluate(() => /** @type {any} */ (globalThis).controls);
      assert.deepEqual(controls.map((/** @type {any} */ c) => c.name), ["gap", "drain"]);
      assert.equal(controls[0].payload.reason, "retention");
    },
  );
});

test("a problem that is final ends it", async () => {
  await reading(
    (_, response) => stream(response, block("c1", "a") + 'event: problem\ndata: {"title":"The stream is gone","status":404}\n\n'),
    { streams: "one" },
    async (page) => {
      await page.waitForFunction(() => /** @type {any} */ (globalThis).states.at(-1)?.phase === "closed");
      assert.equal(await page.evaluate(() => /** @type {any} */ (globalThis).states.at(-1).reason), "The stream is gone");
    },
  );
});

test("a page that is loaded again goes on after the cursor it remembers", async () => {
  const options = { streams: "one", remember: "test.cursor", from: "oldest" };
  await reading(
    (_, response, url) => stream(response, url.searchParams.has("after") ? block("c3", "later") : block("c1", "a") + block("c2", "b")),
    options,
    async (page) => {
      await events(page, 2);
      await begin(page, options);
      assert.deepEqual(await events(page, 1), [["later", "c3"]]);
      assert.equal(asked.at(-1)?.searchParams.get("after"), "c2");
      assert.equal(asked.at(-1)?.searchParams.get("from"), null);
    },
  );
});

test("a remembered cursor that the server does not take is forgotten", async () => {
  const options = { streams: "one", remember: "test.bad", from: "oldest" };
  await reading(
    (_, response, url) => (url.searchParams.has("after") ? void response.writeHead(400).end() : stream(response, block("c1", "a"))),
    options,
    async (page) => {
      await events(page, 1);
      await begin(page, options);
      assert.deepEqual(await events(page, 1), [["a", "c1"]]);
      assert.equal(asked.at(-1)?.searchParams.get("from"), "oldest");
    },
  );
});

test("a stream that falls silent is opened anew where it was", async () => {
  await reading(
    (_, response, url) => stream(response, url.searchParams.has("after") ? block("c2", "b") : block("c1", "a")),
    { streams: "one", silence: 700 },
    async (page) => {
      assert.deepEqual((await events(page, 2)).slice(0, 2), [["a", "c1"], ["b", "c2"]]);
      const states = await page.evaluate(() => /** @type {any} */ (globalThis).states);
      assert.equal(states.find((/** @type {any} */ s) => s.phase === "reconnecting").reason, "nothing came for 0.7 s");
    },
  );
});

test("after close nothing is called any more", async () => {
  await reading(
    (_, response) => {
      stream(response, block("c1", "a"));
      const timer = setInterval(() => stream(response, block("c2", "more")), 50);
      response.once("close", () => clearInterval(timer));
    },
    { streams: "one" },
    async (page) => {
      await events(page, 3);
      const [before, states] = await page.evaluate(() => {
        const seen = /** @type {any} */ (globalThis);
        seen.reading.close();
        return [seen.events.length, seen.states.length];
      });
      await page.waitForTimeout(400);
      assert.deepEqual(await page.evaluate(() => [/** @type {any} */ (globalThis).events.length, /** @type {any} */ (globalThis).states.length]), [before, states]);
    },
  );
});

const snapshot = (/** @type {number} */ keys) => `event: snapshot\ndata: {"stream":"one","keys":${keys}}\n\n`;
const live = (/** @type {string} */ cursor) => `id: ${cursor}\nevent: live\ndata: {"stream":"one"}\n\n`;
const plain = (/** @type {string} */ id) => block("", id).replace("id: \n", "");
const picture = { streams: "one", from: "snapshot", conflate: 2000, overflow: "snapshot" };

/**
 * How a connection was asked for.
 * @param {URL | undefined} url
 */
const began = (url) => ["from", "after", "conflate", "overflow"].map((name) => url?.searchParams.get(name) ?? "");

/** @param {import("playwright-core").Page} page */
const controls = (page) => page.evaluate(() => /** @type {any} */ (globalThis).controls);

test("a snapshot begins a picture, which goes on from the cursor and is asked for in the same way", async () => {
  let n = 0;
  await reading(
    (request, response) => {
      if (request.method === "HEAD") return void response.writeHead(503).end();
      n++;
      if (n === 1) {
        stream(response, 'event: waiting\ndata: {"reason":"snapshot","detail":"the state is being read"}\n\n');
        stream(response, snapshot(2) + plain("a") + plain("b") + live("c1") + plain("c") + "id: c2\n\n" + plain("d"));
        stream(response, 'event: removed\ndata: {"stream":"one","subject":"/a","source":"/test","type":"test","id":"a","reason":"dropped"}\n\nid: c3\n\n');
        setTimeout(() => response.end(), 100);
      } else if (n === 2) response.writeHead(503).end();
      else stream(response, plain("e") + "id: c4\n\n");
    },
    picture,
    async (page) => {
      // What comes between cursors has that before it: after a loss it comes again.
      assert.deepEqual(await events(page, 5), [["a", ""], ["b", ""], ["c", "c1"], ["d", "c2"], ["e", "c2"]]);
      assert.deepEqual((await controls(page)).map((/** @type {any} */ c) => c.name), ["waiting", "snapshot", "live", "removed"]);
      assert.deepEqual((await controls(page))[3].payload, { stream: "one", subject: "/a", source: "/test", type: "test", id: "a", reason: "dropped" });
      assert.deepEqual(began(asked[0]), ["snapshot", "", "2000ms", "snapshot"]);
      assert.deepEqual(began(asked.at(-1)), ["snapshot", "c2", "2000ms", "snapshot"]);
    },
  );
});

test("a connection that is lost within a snapshot gets a whole one again, also where there was a cursor before it", async () => {
  /** @type {(string | undefined)[]} */
  const presented = [];
  await reading(
    (request, response) => {
      if (request.method === "HEAD") return void response.writeHead(200).end();
      presented.push(request.headers["last-event-id"]?.toString());
      const n = presented.length;
      if (n === 1) stream(response, "retry: 50\n\n" + snapshot(2) + plain("a"));
      else if (n === 2) stream(response, "retry: 50\n\n" + snapshot(2) + plain("a") + plain("b") + live("c1") + block("c2", "c") + snapshot(2) + plain("b"));
      else return stream(response, snapshot(2) + plain("b") + plain("d") + live("c5"));
      setTimeout(() => response.end(), 100);
    },
    { ...picture, conflate: "1s" },
    async (page) => {
      assert.deepEqual((await events(page, 7)).map((/** @type {any} */ e) => e[0]), ["a", "a", "b", "c", "b", "b", "d"]);
      assert.deepEqual(asked.map(began), Array(3).fill(["snapshot", "", "1s", "snapshot"]));
      assert.deepEqual(presented, [undefined, undefined, undefined]);
      await page.waitForFunction(() => /** @type {any} */ (globalThis).reading.cursor === "c5");
    },
  );
});

test("a page that is loaded again has no picture, and begins with a snapshot whatever it is to remember", async () => {
  const options = { ...picture, remember: "test.picture" };
  await reading(
    (_, response) => stream(response, snapshot(1) + plain("a") + live("c1") + block("c2", "b")),
    options,
    async (page) => {
      await events(page, 2);
      await page.evaluate(() => localStorage.setItem("test.picture", "c0"));
      await begin(page, options);
      await events(page, 2);
      assert.deepEqual(began(asked.at(-1)), ["snapshot", "", "2000ms", "snapshot"]);
      assert.equal(await page.evaluate(() => localStorage.getItem("test.picture")), "c0");
    },
  );
});

test("a stream without a state ends what asks for its snapshot", async () => {
  await reading((_, response) => void response.writeHead(409).end(), picture, async (page) => {
    await page.waitForFunction(() => /** @type {any} */ (globalThis).states.at(-1)?.phase === "closed");
    assert.equal(await page.evaluate(() => /** @type {any} */ (globalThis).states.at(-1).status), 409);
  });
});
