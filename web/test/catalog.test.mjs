// @ts-check
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { PATIENCE, Server, launch, poorlyReadable, watch } from "./harness.mjs";
import { OLD_POSITION, PATTERN, POSITION, RESTRICTION, publishPositions, seedCatalog } from "./seed-catalog.mjs";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Server} */ let server;
/** @type {import("playwright-core").Browser} */ let browser;
let published = 0;

/** @param {number} n */
async function publish(n) {
  await publishPositions(server.url, published, n);
  published += n;
}

before(async () => {
  server = await Server.start("--demo-time", "08:00");
  await seedCatalog(server.url);
  await publish(8);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.remove();
});

/**
 * @param {string} hash
 * @param {(page: Page, faults: string[]) => Promise<void>} use
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
async function withPage(hash, use, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const faults = watch(page, server.url);
    await page.goto(`${server.url}/catalog/${hash}`);
    await page.waitForSelector("main:not([aria-busy]) h1");
    await use(page, faults);
    assert.deepEqual(faults, [], "the page complains or asks somebody else");
  } finally {
    await context.close();
  }
}

/** @param {Page} page */
const names = (page) => page.locator(".results .what").allTextContents();

/**
 * The element that has the focus, as told by a selector that it fits.
 * @param {Page} page
 * @param {string} selector
 */
const focused = (page, selector) => page.waitForFunction((s) => document.activeElement?.matches(s), selector);

test("the list has every type, says what each is, and marks what is deprecated", async () => {
  await withPage("", async (page) => {
    const all = await names(page);
    for (const type of [POSITION, OLD_POSITION, RESTRICTION, PATTERN, "no.banenor.train.position.v1"]) assert.ok(all.includes(type), `${type} is not in ${all}`);
    const old = page.locator(".results li", { hasText: OLD_POSITION });
    assert.match((await old.textContent()) ?? "", /deprecated, until 31 January 2027/);
    assert.match((await page.locator(".results li", { hasText: POSITION }).textContent()) ?? "", /how late it is.*public.*rail-positions.*traffic-data.*schema v3/);
    assert.match((await page.textContent(".hero .lead")) ?? "", /\d+ types of events on \d+ streams/);
  });
});

test("searching narrows the list as one types, by keyboard alone, and the address keeps it", async () => {
  await withPage("", async (page) => {
    await page.keyboard.press("/");
    await focused(page, "type-list input");
    await page.keyboard.type("slower track");
    await page.waitForFunction(() => document.querySelectorAll(".results a").length === 1);
    assert.deepEqual(await names(page), [RESTRICTION]);
    assert.match(page.url(), /#\/\?q=slower\+track$/);
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelectorAll(".results a").length > 4);
    await page.keyboard.type("railnet position");
    await page.waitForFunction(() => document.querySelectorAll(".results a").length === 2);
    assert.deepEqual(await names(page), [POSITION, OLD_POSITION], "what is deprecated comes last among equals");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    await page.waitForSelector("type-page h1");
    assert.equal(await page.textContent("type-page h1"), POSITION);
    await page.goBack();
    await page.waitForSelector("type-list");
    assert.equal(await page.inputValue("type-list input"), "railnet position");
  });
});

test("stream, owner, audience and state narrow the list together, and nothing found says so", async () => {
  await withPage("", async (page) => {
    await page.locator('.facets button[data-value="rail-positions"]').click();
    assert.deepEqual((await names(page)).toSorted(), [OLD_POSITION, POSITION]);
    await page.locator('.facets button[data-value="deprecated"]').click();
    assert.deepEqual(await names(page), [OLD_POSITION]);
    assert.match(page.url(), /stream=rail-positions&state=deprecated/);
    await page.reload();
    await page.waitForSelector(".results a");
    assert.deepEqual(await names(page), [OLD_POSITION]);
    await page.fill("type-list input", "nothing has this");
    await page.waitForSelector(".results .nothing");
    await page.getByRole("button", { name: "Show all types" }).click();
    assert.ok((await names(page)).length > 4);
  });
});

test("a type's page tells what it is, whose, and what is promised", async () => {
  await withPage(`#/${POSITION}`, async (page) => {
    assert.equal(await page.title(), `${POSITION} · Event catalogue`);
    const head = (await page.textContent(".type-head")) ?? "";
    for (const part of ["how late it is", "rail-positions", "traffic-data", "Anyone may read it", "same subject"]) assert.ok(head.includes(part), part);
    assert.equal(await page.textContent(".markdown h2"), "What to know");
    assert.equal(await page.locator(".markdown li").count(), 3);
    const link = page.locator(".markdown a");
    assert.deepEqual([await link.getAttribute("href"), await link.getAttribute("rel")], ["https://stoppested.entur.org/", "noopener noreferrer"]);
    const rules = (await page.textContent("#rules")) ?? "";
    for (const part of ["backward", "can read all older events", "within 1 hour", "/railnet/trains", "trainstate", "500 events a second"]) assert.ok(rules.includes(part), part);
    assert.equal(await page.locator(".versions li").count(), 3);
    assert.match((await page.textContent(".versions li")) ?? "", /Version 3.*by local.*latest.*What changed since 2/);
    assert.match((await page.textContent("#examples code")) ?? "", /"stop": "NSR:StopPlace:59872"/);
  });
  await withPage(`#/${OLD_POSITION}`, async (page) => {
    assert.match((await page.textContent(".notice")) ?? "", /until 31 January 2027.*Use no\.railnet\.train\.position\.v2 instead/);
    await page.locator(".notice a").click();
    await page.waitForFunction((t) => document.querySelector("h1")?.textContent === t, POSITION);
  });
});

test("the schema is a tree that is gone through by keyboard, with an address and a pointer of each place", async () => {
  await withPage(`#/${POSITION}`, async (page, faults) => {
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    const tree = page.locator("schema-view [role=tree]");
    await tree.waitFor();
    const label = (/** @type {string} */ key) => page.locator(`schema-view [data-key="${key}"]`);
    assert.match((await label("/position/latitude").getAttribute("aria-label")) ?? "", /latitude, number, required, −90 to 90. Degrees north/);
    assert.equal(await label("/state").locator(".values code").count(), 3);
    assert.match((await label("/at?oneOf0/stop").textContent()) ?? "", /^stopstringrequired\^NSR:StopPlace/);

    await label("").focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown"]) await page.keyboard.press(key);
    await focused(page, '[data-key="/position"]');
    await page.keyboard.press("ArrowLeft");
    assert.equal(await label("/position").getAttribute("aria-expanded"), "false");
    assert.equal(await label("/position/latitude").isVisible(), false);
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await focused(page, '[data-key="/position/latitude"]');
    assert.equal(await page.locator('schema-view [role=treeitem][tabindex="0"]').count(), 1, "Tab stops once");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => /Copied/.test(document.activeElement?.textContent ?? ""));
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "/position/latitude");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash.endsWith("/schema?at=/position/latitude"));
    await label("").focus();
    await page.keyboard.press("End");
    await page.keyboard.press("Home");
    await page.keyboard.type("un");
    await focused(page, '[data-key="/units"]');

    // What leads back into itself is a link to where it is described.
    await page.getByRole("button", { name: "Open all" }).click();
    await label("/units/*/coupled").locator("a", { hasText: "unit" }).click();
    await page.waitForSelector('[data-key="/units/*"].target');
    assert.deepEqual(faults, []);
  });
});

test("an address of a place opens the tree there, of an older version too", async () => {
  await withPage(`#/${POSITION}/versions/1?at=/at%3FoneOf1/from`, async (page) => {
    await page.waitForSelector('[data-key="/at?oneOf1/from"].target');
    assert.ok(await page.locator(".target > .row").evaluate((e) => e.getBoundingClientRect().top > 0 && e.getBoundingClientRect().bottom < innerHeight));
    assert.equal(await page.locator('[data-key="/units"]').count(), 0);
    assert.equal(await page.locator(".tools select").first().inputValue(), "1");
  });
  await withPage(`#/${POSITION}/schema?at=/nowhere`, async (page) => {
    await page.waitForSelector("schema-view .notice");
  });
});

test("the schema is text too, as it was registered", async () => {
  await withPage(`#/${POSITION}/schema`, async (page) => {
    await page.locator("schema-view").getByRole("button", { name: "Text" }).click();
    await page.waitForSelector("schema-view pre");
    assert.match(page.url(), /view=text/);
    const text = JSON.parse((await page.textContent("schema-view pre")) ?? "");
    assert.deepEqual(text, await (await fetch(`${server.url}/v1/event-types/${POSITION}/schemas/3`)).json());
    assert.ok((await page.locator("schema-view pre .j-key").count()) > 50);
    await page.locator(".tools select").first().selectOption("1");
    await page.waitForFunction(() => !document.querySelector("schema-view pre")?.textContent?.includes("units"));
    assert.match(page.url(), /versions\/1\?view=text/);
  });
});

test("what changed between two versions is told on the tree and as text, with what breaks", async () => {
  await withPage(`#/${POSITION}`, async (page) => {
    await page.getByRole("link", { name: "What changed since 2" }).click();
    await page.waitForSelector(".summary");
    assert.match(page.url(), /versions\/2\.\.3$/);
    const text = (await page.textContent(".changes-of")) ?? "";
    assert.match(text, /none breaks/);
    assert.match(text, /units is new, an optional property: array of object/);
    assert.match(text, /speed maximum: was 300, is 350/);
    assert.equal(await page.locator('[data-key="/units"]').getAttribute("data-change"), "added");
    assert.equal(await page.locator('[data-key="/speed"]').getAttribute("data-change"), "changed");
    await page.locator(".summary a", { hasText: "speed" }).click();
    await page.waitForSelector('[data-key="/speed"].target');
    assert.match(page.url(), /versions\/2\.\.3\?at=\/speed/);
  });
  await withPage(`#/${RESTRICTION}/versions/1..2`, async (page) => {
    await page.waitForSelector(".summary");
    assert.match((await page.textContent(".verdict")) ?? "", /1 added, 1 removed, 2 changed\s*3 breaking/);
    assert.match((await page.locator(".summary li", { hasText: "limit" }).textContent()) ?? "", /a required property: object.*breaks old events/);
    const gone = page.locator('schema-view [data-change="removed"]');
    assert.equal(await gone.locator(".name").textContent(), "speed");
    await page.locator("schema-view").getByRole("button", { name: "Text" }).click();
    await page.waitForSelector(".diff");
    const removed = await page.locator(".diff .removed code").allTextContents();
    assert.ok(removed.some((l) => l.includes('"speed"')), removed.join("\n"));
    const lines = await page.locator(".diff > div").count();
    await page.locator(".fold button").first().click();
    assert.ok((await page.locator(".diff > div").count()) > lines);
  });
});

test("the code runs: curl reads, curl publishes what is valid, and a browser reads by both ways", async () => {
  const run = promisify(execFile);
  for (const type of [POSITION, RESTRICTION, OLD_POSITION, PATTERN, "no.banenor.train.arrived.v1"]) {
    await withPage(`#/${type}`, async (page) => {
      await page.getByRole("tab", { name: "Publish" }).click();
      const code = (await page.textContent("#code-panel code")) ?? "";
      const { stdout } = await run("bash", ["-c", code]);
      assert.match(stdout, /"status":"persisted"/, `${code}\n${stdout}`);
    });
  }
  await withPage(`#/${POSITION}`, async (page) => {
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.locator("#code-panel .copy").click();
    await page.waitForFunction(() => document.querySelector("#code-panel .copy")?.textContent === "Copied");
    const code = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(code.startsWith("curl -N ") && code.includes(`'${server.url}/v1/`), code);
    const { stdout } = await run("bash", ["-c", `${code.replace("?type", "?from=oldest&type")} -s --max-time 3 || true`]);
    assert.match(stdout, /^id: /m);
    assert.match(stdout, /^data: \{.*"type":"no\.railnet\.train\.position\.v2"/m);
  });
  // Not on the catalogue's page, whose policy lets no other script in: on one of the same origin without it.
  for (const tab of ["JavaScript", "Client"]) {
    let code = "";
    await withPage(`#/${POSITION}`, async (page) => {
      await page.getByRole("tab", { name: tab }).click();
      code = (await page.textContent("#code-panel code")) ?? "";
    });
    const context = await browser.newContext({ bypassCSP: true });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    const heard = page.waitForEvent("console", { predicate: (m) => m.text().includes("/train/"), timeout: PATIENCE });
    const opened = page.waitForResponse((r) => r.url().includes("/events?") && r.ok());
    await page.goto(`${server.url}/problems`);
    await page.addScriptTag({ type: "module", content: code });
    await opened;
    await publish(1);
    await heard;
    await context.close();
  }
});

test("events are shown as they come, the newest first, and wait while one is read", async () => {
  await withPage(`#/${POSITION}`, async (page) => {
    await page.waitForFunction(() => document.querySelectorAll(".events li").length >= 5);
    await page.waitForFunction(() => document.querySelector("live-events .state")?.textContent === "Live");
    const cursor = await page.textContent(".at code");
    await publish(3);
    await page.waitForFunction((n) => document.querySelector(".events .subject")?.textContent === `/train/${60 + ((n - 1) % 5)}`, published);
    await page.waitForFunction((c) => document.querySelector(".at code")?.textContent !== c, cursor);

    await page.locator(".events summary").first().click();
    const shown = JSON.parse((await page.textContent(".events details[open] pre")) ?? "");
    assert.equal(shown.id, `p-${published - 1}`);
    const before = await page.locator(".events li").count();
    await publish(2);
    await page.waitForFunction(() => document.querySelector(".held")?.textContent === "2 more have come. Go on");
    assert.equal(await page.locator(".events li").count(), before);
    await page.locator(".held").click();
    await page.waitForFunction((n) => document.querySelectorAll(".events li").length === n, before + 2);

    for (let i = 0; i < 3; i++) await publish(30);
    await page.waitForFunction(() => document.querySelectorAll(".events li").length === 50);
  });
});

test("a type that is not there, one without a schema, and a pattern say so", async () => {
  await withPage(`#/${RESTRICTION.replace("restriction.v1", "nothing")}`, async (page, faults) => {
    assert.equal(await page.textContent("h1"), "There is no such type");
    const near = await page.locator(".state-page li").allTextContents();
    assert.ok(near.includes(RESTRICTION), near.join());
    // The browser itself notes an answer of 404.
    faults.splice(0, faults.length, ...faults.filter((f) => !f.includes("status of 404")));
  });
  await withPage(`#/${PATTERN}`, async (page) => {
    assert.match((await page.textContent("#schema")) ?? "", /stands for all types whose names begin like it/);
    await page.waitForFunction(() => document.querySelector("live-events .state")?.textContent === "Live");
  });
  await withPage("#/no.banenor.train.arrived.v1", async (page) => {
    await page.waitForFunction(() => document.querySelectorAll(".events li").length > 0);
    assert.ok(await page.locator("#schema").isVisible());
  });
});

test("while the server is away the page says so, and goes on by itself", async () => {
  const own = await Server.start("--demo-time", "08:00");
  const context = await browser.newContext();
  try {
    await seedCatalog(own.url);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(`${own.url}/catalog/`);
    await page.waitForSelector(".results a");
    await own.stop("SIGKILL");
    await page.evaluate((t) => (location.hash = `#/${t}`), POSITION);
    await page.waitForSelector(".state-page[role=alert]");
    assert.equal(await page.textContent("h1"), "The server is away");
    await own.start();
    await page.waitForSelector("type-page h1");
    await page.waitForFunction(() => document.querySelector("live-events .state")?.textContent === "Live");
    await own.stop("SIGKILL");
    await page.waitForFunction(() => document.querySelector("live-events .state")?.textContent === "Reconnecting");
    await own.start();
    await page.waitForFunction(() => document.querySelector("live-events .state")?.textContent === "Live");
  } finally {
    await Promise.all([context.close(), own.remove()]);
  }
});

test("text from a type never becomes markup, and the page's policy lets no script in", async () => {
  const evil = '<img src=x onerror="globalThis.injected=1"><script>globalThis.injected=1</script>';
  const type = "no.railnet.evil.v1";
  const answer = await fetch(`${server.url}/v1/event-types`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      type, stream: "rail-apps", owner: evil, description: evil, documentation: `${evil}\n\n[a](javascript:globalThis.injected=1) **${evil}**\n\n\`\`\`\n${evil}\n\`\`\``,
      schema: { title: evil, description: evil, type: "object", properties: { [evil]: { description: evil, enum: [evil], $comment: evil } } },
      examples: [{ [evil]: evil }], deprecation: { date: "2027-01-31", note: evil },
    }),
  });
  assert.equal(answer.status, 201, await answer.text());
  await fetch(`${server.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/cloudevents+json" }, body: JSON.stringify({ specversion: "1.0", id: "1", source: "/x", type, subject: evil, data: { [evil]: evil } }) });
  await withPage(`#/${type}`, async (page) => {
    await page.waitForSelector(".events summary");
    await page.locator(".events summary").click();
    await page.goto(`${server.url}/catalog/#/?q=onerror`);
    await page.waitForSelector(".results a");
    await page.goBack();
    await page.waitForSelector("schema-tree .row");
    assert.equal(await page.evaluate(() => "injected" in globalThis || document.querySelector("main img, main script") !== null), false);
    assert.equal(await page.locator('.markdown a[href^="javascript"]').count(), 0);
    const policy = await page.evaluate(async () => (await fetch("/catalog/")).headers.get("content-security-policy") ?? "");
    assert.match(policy, /default-src 'none'.*require-trusted-types-for 'script'/);
    assert.doesNotMatch(policy, /unsafe/);
  });
});

test("on a phone nothing is wider than the screen, and all can be reached by finger", async () => {
  for (const hash of ["", `#/${POSITION}`, `#/${RESTRICTION}/versions/1..2`, `#/${POSITION}/versions/1..3?view=text`]) {
    await withPage(hash, async (page) => {
      if (hash) await page.waitForSelector("schema-view .body > *");
      const width = await page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth));
      assert.ok(width <= 360, `${hash} is ${width} wide`);
      const small = await page.evaluate(() =>
        [...document.querySelectorAll("button, select")].filter((b) => b instanceof HTMLElement && b.offsetParent && (b.offsetHeight < 24 || b.offsetWidth < 24)).map((b) => `${b.className} ${b.textContent} ${/** @type {HTMLElement} */ (b).offsetHeight}`),
      );
      assert.deepEqual([...new Set(small)], [], "buttons too small for a finger");
    }, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  }
});

test("text can be read on its ground, light and dark", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    for (const hash of ["", `#/${POSITION}`, `#/${OLD_POSITION}`, `#/${RESTRICTION}/versions/1..2`, `#/${RESTRICTION}/versions/1..2?view=text`]) {
      await withPage(hash, async (page) => {
        if (hash) await page.waitForSelector("schema-view .body > *");
        assert.deepEqual(await page.evaluate(poorlyReadable), [], `${colorScheme} ${hash}`);
      }, { colorScheme });
    }
  }
});

test("everything that takes the focus has a name, ids are there once, and nothing moves where motion is not wanted", async () => {
  await withPage(`#/${POSITION}`, async (page) => {
    await page.waitForSelector("schema-tree .row");
    await page.waitForSelector(".events summary");
    const found = await page.evaluate(() => {
      const nameless = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby") && !e.textContent?.trim());
      const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
      const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((e) => Number(e.tagName[1]));
      return { nameless: nameless.map((e) => `${e.tagName}.${e.className}`), twice: ids.filter((id, i) => ids.indexOf(id) !== i), h1: levels.filter((l) => l === 1).length, moving: document.getAnimations().length };
    });
    assert.deepEqual(found, { nameless: [], twice: [], h1: 1, moving: 0 });
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Skip to the content");
    await page.keyboard.press("Enter");
    await focused(page, "main");
    assert.match(page.url(), new RegExp(`${POSITION}$`), "the skip link leaves the address alone");
    await page.keyboard.press("/");
    await focused(page, "type-rail input");
    await page.keyboard.type("restriction");
    await page.keyboard.press("Enter");
    await page.waitForFunction((t) => document.querySelector("h1")?.textContent === t, RESTRICTION);
    await focused(page, "h1");
  }, { reducedMotion: "reduce" });
});

test("leaving a type's page ends its stream", async () => {
  await withPage(`#/${POSITION}`, async (page) => {
    const ours = async () => (await (await fetch(`${server.url}/v1/admin/sessions`)).json()).items.filter((/** @type {any} */ s) => s.streams.includes("rail-positions")).length;
    await page.waitForFunction(() => document.querySelector("live-events .state")?.textContent === "Live");
    assert.ok((await ours()) >= 1);
    await page.locator("type-rail .back").click();
    await page.waitForSelector("type-list");
    const deadline = Date.now() + PATIENCE;
    while ((await ours()) > 0) {
      assert.ok(Date.now() < deadline, "the session stays");
      await publish(1); // a session that is gone is found when something is written to it
    }
  });
});
