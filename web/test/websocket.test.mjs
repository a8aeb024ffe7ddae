// @ts-check
/** Chromium's own WebSocket, which takes compressed messages, reads what pages of JSON say. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PATIENCE, Server, launch } from "./harness.mjs";

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {Server} */ let server;
before(async () => {
  server = await Server.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.remove();
});

const EVENTS = 500;
const PATH = "/v1/streams/train-positions/events?from=oldest";

for (const subprotocol of ["cloudevents.json", "eventissuer.v1"]) {
  test(`compressed messages of ${subprotocol} are what the log has`, async () => {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE);
    try {
      const page = await context.newPage();
      await page.goto(`${server.url}/openapi.json`); // any page of its origin
      const heard = await page.evaluate(hear, { url: server.url.replace("http", "ws") + PATH, subprotocol, events: EVENTS });
      assert.equal(heard.extensions, "permessage-deflate; client_no_context_takeover");
      assert.ok(heard.events.length >= EVENTS);
      const log = await logged(heard.events.map((event) => event.id));
      for (const event of heard.events) assert.deepEqual(event, log.get(event.id));
    } finally {
      await context.close();
    }
  });
}

/**
 * Runs in the page: reads so many events, without the cursors that messages of one event carry in them.
 * @param {{url: string, subprotocol: string, events: number}} want
 * @returns {Promise<{extensions: string, events: any[]}>}
 */
function hear(want) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(want.url, [want.subprotocol]);
    /** @type {any[]} */ const events = [];
    socket.onclose = (e) => reject(new Error(`closed with ${e.code} ${e.reason} after ${events.length} events`));
    socket.onmessage = (message) => {
      const said = JSON.parse(message.data);
      for (const event of said.specversion ? [said] : said.events ?? []) {
        if (event.type.startsWith("no.eventissuer.")) continue;
        delete event.eventissuercursor;
        events.push(event);
      }
      if (events.length < want.events) return;
      socket.onclose = null;
      socket.close();
      resolve({ extensions: socket.extensions, events });
    };
  });
}

/**
 * Polls until all these events have come.
 * @param {string[]} ids
 * @returns {Promise<Map<string, any>>} the log's events by their ids
 */
async function logged(ids) {
  /** @type {Map<string, any>} */ const events = new Map();
  let next = `${PATH}&limit=200`;
  while (next && !ids.every((id) => events.has(id))) {
    /** @type {Response} */ const answer = await fetch(new URL(next, server.url), { headers: { Accept: "application/cloudevents-batch+json" } });
    assert.equal(answer.status, 200);
    for (const event of /** @type {any[]} */ (await answer.json())) events.set(event.id, event);
    next = /<([^>]+)>;\s*rel="next"/.exec(answer.headers.get("Link") ?? "")?.[1] ?? "";
  }
  return events;
}
