// @ts-check
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PATIENCE, Server, followed, launch, trainsShown, watch } from "./harness.mjs";

/** @type {Server} */ let server;
/** @type {import("playwright-core").Browser} */ let browser;

before(async () => {
  server = await Server.start("--demo-time", "08:00");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.remove();
});

/**
 * @param {import("playwright-core").BrowserContextOptions} options
 * @param {(page: import("playwright-core").Page, faults: string[]) => Promise<void>} use
 * @param {string} [path]
 */
async function withPage(options, use, path = "/") {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  try {
    const page = await context.newPage();
    const faults = watch(page, server.url);
    await page.goto(server.url + path);
    await trainsShown(page);
    await use(page, faults);
    assert.deepEqual(faults, [], "the page complains or asks somebody else");
  } finally {
    await context.close();
  }
}

/**
 * Where the trains are drawn, in kilometres.
 * @param {import("playwright-core").Page} page
 * @returns {Promise<Record<string, [number, number]>>}
 */
function places(page) {
  return page.evaluate(() => {
    const map = /** @type {any} */ (document.querySelector("train-map"));
    return Object.fromEntries([...map.fleet.trains.values()].map((t) => [t.number, [...t.shown]]));
  });
}

test("about a hundred trains move over the map", async () => {
  await withPage({}, async (page) => {
    const from = await places(page);
    const numbers = Object.keys(from);
    assert.ok(numbers.length >= 85 && numbers.length <= 130, `${numbers.length} trains`);
    await page.waitForFunction((was) => {
      const map = /** @type {any} */ (document.querySelector("train-map"));
      const moved = [...map.fleet.trains.values()].filter((t) => was[t.number] && Math.hypot(t.shown[0] - (was[t.number]?.[0] ?? 0), t.shown[1] - (was[t.number]?.[1] ?? 0)) > 0.01);
      return moved.length > 40;
    }, from);
    assert.match((await page.textContent("#clock")) ?? "", /^08:0\d:\d\d$/);
    assert.equal(await page.textContent(".figures output"), "0", "events are lost");
    const drawn = await page.evaluate(() => {
      const canvas = /** @type {HTMLCanvasElement} */ (document.querySelector('train-map[kind="country"] canvas'));
      const data = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
      const colours = new Set();
      for (let i = 0; i < data.length; i += 4) colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
      return colours.size;
    });
    assert.ok(drawn > 50, `the map has ${drawn} colours`);
  });
});

test("a page that is opened before the demo has made its streams waits for them", async () => {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  try {
    const page = await context.newPage();
    const faults = watch(page, server.url);
    let refused = 0;
    await page.route(/\/v1\/events\?/, (route) => {
      // Until the client has asked for the reason as well, and given up, twice.
      if (refused === 2) return route.continue();
      if (route.request().method() === "HEAD") refused++;
      // Streams of an earlier version are there, and have no state yet.
      return route.fulfill({ status: refused === 1 ? 409 : 404, contentType: "application/problem+json", body: "{}" });
    });
    await page.goto(server.url);
    await trainsShown(page);
    assert.equal(await page.textContent("connection-state strong"), "Live");
    // The browser itself notes such answers.
    assert.deepEqual(faults.filter((f) => !/status of 40[49]/.test(f)), []);
  } finally {
    await context.close();
  }
});

test("the map opens with all trains at once, and they move", async () => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  try {
    const page = await context.newPage();
    /** @type {string[]} */
    const asked = [];
    page.on("request", (r) => r.url().includes("/v1/") && asked.push(r.url()));
    // How many trains there are on the map, frame by frame.
    await page.addInitScript(() => {
      const seen = /** @type {any} */ (globalThis);
      seen.frames = [];
      const look = () => {
        const trains = /** @type {any} */ (document.querySelector("train-map"))?.fleet?.trains;
        if (trains) seen.frames.push({ at: performance.now(), trains: trains.size, moving: [...trains.values()].filter((t) => t.speed > 0 && !t.at).map((t) => [t.number, ...t.shown]) });
        requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    });
    await page.goto(server.url);
    await trainsShown(page);
    await page.waitForFunction(() => /The picture: \d+ trains at once/.test(document.querySelector(".notes")?.textContent ?? ""));
    await page.waitForTimeout(1500);
    const frames = /** @type {{at: number, trains: number, moving: [string, number, number][]}[]} */ (await page.evaluate(() => /** @type {any} */ (globalThis).frames));
    const first = frames.find((f) => f.trains > 0);
    const all = frames.find((f) => f.trains >= 85);
    assert.ok(first && all && all.at - first.at < 2500, `from ${first?.trains} trains at ${first?.at} ms to ${all?.trains} at ${all?.at}: five seconds are what every train needs to tell its position`);
    const then = new Map(frames.find((f) => f.at > all.at + 1000)?.moving.map(([n, x, y]) => [n, [x, y]]));
    const early = frames.filter((f) => f.at > all.at && f.moving.some(([, x]) => !Number.isNaN(x)))[0]?.moving ?? [];
    const moved = early.filter(([n, x, y]) => Math.hypot((then.get(n)?.[0] ?? x) - x, (then.get(n)?.[1] ?? y) - y) > 0.002);
    assert.ok(moved.length > early.length / 2, `${moved.length} of ${early.length} trains under way move in the first second`);

    const url = new URL(asked[0] ?? "");
    assert.deepEqual(["stream", "from", "conflate", "overflow"].map((name) => url.searchParams.get(name)), ["train-positions", "snapshot", "1000ms", "snapshot"]);
    assert.equal(asked.filter((a) => a.includes("train-positions")).length, 1, "it is asked for more than once");
    const keys = Number(/Snapshot(\d+) trains/.exec((await page.textContent("connection-panel")) ?? "")?.[1]);
    assert.ok(keys >= 85 && keys <= 130, `the panel tells of ${keys} trains`);
  } finally {
    await context.close();
  }
});

test("a map that gets another size is not blank until it is drawn anew", async () => {
  await withPage({}, async (page) => {
    const colours = await page.evaluate(() => new Promise((resolve) => {
      const map = /** @type {HTMLElement} */ (document.querySelector('train-map[kind="country"]'));
      const canvas = /** @type {HTMLCanvasElement} */ (map.querySelector("canvas"));
      const width = map.clientWidth;
      // Begun after the map's own, and so told after it in the same frame.
      const observer = new ResizeObserver(() => {
        if (map.clientWidth === width) return;
        observer.disconnect();
        const data = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) seen.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
        resolve(seen.size);
      });
      observer.observe(map);
      map.style.width = `${width - 40}px`;
    }));
    assert.ok(colours > 50, `the map has ${colours} colours`);
  });
});

test("a train that is clicked on the map is followed by a stream of its own", async () => {
  await withPage({}, async (page) => {
    const own = page.waitForRequest((r) => r.url().includes("subject="));
    const spot = await page.evaluate(() => {
      const map = /** @type {any} */ (document.querySelector('train-map[kind="lens"]'));
      const box = map.getBoundingClientRect();
      const train = [...map.fleet.trains.values()]
        .map((t) => ({ x: (t.shown[0] - map.camera.x) * map.camera.scale + box.width / 2, y: (t.shown[1] - map.camera.y) * map.camera.scale + box.height / 2 }))
        .find((p) => p.x > 60 && p.y > 80 && p.x < box.width - 60 && p.y < box.height - 60);
      return { x: box.x + (train?.x ?? NaN), y: box.y + (train?.y ?? NaN) };
    });
    await page.mouse.click(spot.x, spot.y);
    const url = new URL((await own).url());
    const number = await followed(page);
    assert.equal(url.searchParams.get("subject"), `/train/${number}`);
    await page.waitForFunction(() => /: [1-9]\d* events, 0 lost/.test(document.querySelector("train-card .own")?.textContent ?? ""));
    assert.match((await page.textContent("train-card")) ?? "", new RegExp(`Train ${number} `));
    // The lens flies to it and stays with it.
    await page.waitForFunction((n) => {
      const map = /** @type {any} */ (document.querySelector('train-map[kind="lens"]'));
      const train = map.fleet.trains.get(n);
      return Math.hypot(train.shown[0] - map.inset / 2 / map.camera.scale - map.camera.x, train.shown[1] - map.camera.y) < 0.5;
    }, number);
    await page.keyboard.press("Escape");
    await page.waitForSelector("train-card", { state: "hidden" });
  });
});

test("everything can be done by keyboard", async () => {
  await withPage({}, async (page) => {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Skip to the list of trains");

    await page.focus("train-list ul");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.waitForSelector("train-card:not([hidden])");
    const first = await page.textContent("train-card .head p");
    assert.equal(await page.locator('train-list li[aria-selected="true"]').count(), 1);
    assert.ok(await page.getAttribute("train-list ul", "aria-activedescendant"));
    await page.keyboard.press("Escape");
    await page.waitForSelector("train-card", { state: "hidden" });

    await page.focus('train-map[kind="lens"] canvas');
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction(() => (document.querySelector("#say")?.textContent ?? "") !== "");
    await page.keyboard.press("Enter");
    await page.waitForSelector("train-card:not([hidden])");
    assert.match((await page.textContent("train-card .head p")) ?? "", /^Train \d+/);
    assert.notEqual(first, "");

    // Everything that takes the focus shows it.
    const hidden = await page.evaluate(() => [...document.querySelectorAll("button, input, select, [tabindex='0']")].filter((e) => e instanceof HTMLElement && e.offsetParent && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby") && !e.textContent?.trim()).length);
    assert.equal(hidden, 0, "something that takes the focus has no name");
  });
});

test("the board shows a chosen station, as planned and as it is", async () => {
  await withPage({}, async (page) => {
    const input = page.locator("station-board input");
    await input.fill("trondheim s");
    await input.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("station-board tbody tr").length > 3);
    assert.equal(await input.inputValue(), "Trondheim S");
    const live = page.locator("station-board tbody tr", { hasText: /on time|\+\d+ min|at platform|departed/ });
    await live.first().waitFor();
    const rows = await page.locator("station-board tbody tr").allTextContents();
    assert.ok(rows.every((r) => /^\d\d:\d\d/.test(r)), rows.join("\n"));
    await page.getByRole("button", { name: "Arrivals" }).click();
    await page.waitForFunction(() => document.querySelector("station-board th:nth-child(3)")?.textContent === "From");
  });
});

test("on a phone nothing is wider than the screen", async () => {
  await withPage({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }, async (page) => {
    const width = await page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth));
    assert.ok(width <= 360, `the page is ${width} wide`);
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("button")].filter((b) => b.offsetParent && !b.classList.contains("plain") && (b.offsetHeight < 24 || b.offsetWidth < 24)).map((b) => b.textContent),
    );
    assert.deepEqual(small, [], "buttons too small for a finger");
    await page.locator("train-list li").nth(4).tap();
    await page.waitForSelector("train-card:not([hidden])");
    // What was tapped far below is to be seen: the map above, and the card over the screen's end.
    await page.waitForFunction(() => {
      const map = document.querySelector('train-map[kind="lens"]')?.getBoundingClientRect();
      const card = document.querySelector("train-card")?.getBoundingClientRect();
      return map && card && map.top > -2 && map.top < 200 && card.top - map.top > 150 && card.top > innerHeight / 2 && card.bottom <= innerHeight;
    });
    await page.waitForFunction(() => {
      const map = /** @type {any} */ (document.querySelector('train-map[kind="lens"]'));
      const train = map.fleet.trains.get(map.selected);
      const y = (train.shown[1] - map.camera.y) * map.camera.scale + map.clientHeight / 2 + map.getBoundingClientRect().top;
      return y > map.getBoundingClientRect().top && y < (document.querySelector("train-card")?.getBoundingClientRect().top ?? 0);
    });
    const after = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(after <= 360, `with a train followed the page is ${after} wide`);
  });
});

test("the page is dark where the system is, and by its switch, and remembers", async () => {
  await withPage({ colorScheme: "dark" }, async (page) => {
    const dark = () => page.evaluate(() => [document.documentElement.dataset["theme"], getComputedStyle(document.body).backgroundColor]);
    const [theme, colour] = await dark();
    assert.equal(theme, "dark");
    await page.locator("theme-switch button").click();
    const [light, other] = await dark();
    assert.equal(light, "light");
    assert.notEqual(colour, other);
    await page.reload();
    await trainsShown(page);
    assert.equal((await dark())[0], "light");
  });
});

test("text can be read on its ground, light and dark", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await withPage({ colorScheme }, async (page) => {
      const poor = await page.evaluate(() => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 1;
        const ctx = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
        const rgb = (/** @type {string} */ colour, /** @type {string} */ ground) => {
          ctx.fillStyle = ground;
          ctx.fillRect(0, 0, 1, 1);
          ctx.fillStyle = colour;
          ctx.fillRect(0, 0, 1, 1);
          return [...ctx.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const light = (/** @type {number[]} */ c) => {
          const [r = 0, g = 0, b = 0] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const out = [];
        for (const e of document.querySelectorAll("h1, h2, .quiet, .title p, footer p, connection-panel dt, connection-panel dd, .notes span, train-list .to, train-list .next, train-list .delay, punctuality-bar li, th, tr:not(.gone) td, .tabs button, .places button")) {
          if (!(e instanceof HTMLElement) || !e.offsetParent || !e.textContent?.trim()) continue;
          let ground = "rgba(0, 0, 0, 0)";
          for (let at = /** @type {Element | null} */ (e); at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (/rgba\(.*, 0\)|transparent/.test(colour)) continue;
            ground = colour;
            break;
          }
          const base = getComputedStyle(document.body).backgroundColor;
          const under = rgb(ground, base);
          const over = rgb(getComputedStyle(e).color, ground);
          const [a, b] = [light(over), light(under)].sort((x, y) => y - x);
          const contrast = ((a ?? 0) + 0.05) / ((b ?? 0) + 0.05);
          const size = parseFloat(getComputedStyle(e).fontSize);
          const bold = Number(getComputedStyle(e).fontWeight) >= 600;
          if (contrast < (size >= 24 || (bold && size >= 18.6) ? 3 : 4.5)) out.push(`${e.tagName}.${e.className} ${e.dataset["grade"] ?? ""} "${e.textContent.slice(0, 20)}" ${contrast.toFixed(2)}`);
        }
        return [...new Set(out)];
      });
      assert.deepEqual(poor, [], colorScheme);
    });
  }
});

test("with reduced motion nothing glides or pulses", async () => {
  await withPage({ reducedMotion: "reduce" }, async (page) => {
    assert.equal(await page.evaluate(() => getComputedStyle(/** @type {Element} */ (document.querySelector("connection-state .dot"))).animationName), "none");
    const [before, after] = await page.evaluate(() => {
      const map = /** @type {any} */ (document.querySelector('train-map[kind="lens"]'));
      const was = map.camera.x;
      [...document.querySelectorAll("button")].find((b) => b.textContent === "Bergen")?.click();
      return [was, map.camera.x];
    });
    assert.ok(after < before - 100, "the lens is at Bergen at once");
  });
});

test("the policy of the page lets no script in that is not its own", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const answer = await page.goto(server.url);
  const policy = (await answer?.headerValue("content-security-policy")) ?? "";
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  await trainsShown(page);
  const refused = await page.evaluate(async () => {
    const violations = new Promise((resolve) => document.addEventListener("securitypolicyviolation", (e) => resolve(e.violatedDirective), { once: true }));
    const script = document.createElement("script");
    let text;
    try {
      script.textContent = "globalThis.injected = true";
      document.body.append(script);
    } catch (error) {
      text = String(error);
    }
    const directive = await Promise.race([violations, new Promise((r) => setTimeout(() => r("none"), 15_000))]);
    return { directive, text, injected: "injected" in globalThis };
  });
  assert.equal(refused.injected, false, JSON.stringify(refused));
  assert.notEqual(refused.directive, "none");
  await context.close();
});

test("a reload goes on at once", async () => {
  await withPage({}, async (page) => {
    await page.reload();
    await trainsShown(page);
    await page.waitForFunction(() => document.querySelector("connection-state")?.textContent?.startsWith("Live"));
  });
});

/**
 * @param {any[]} events
 */
async function publish(events) {
  const answer = await fetch(`${server.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/cloudevents-batch+json" }, body: JSON.stringify(events) });
  assert.equal(answer.status, 200, await answer.text());
}

/** A position that was just told. */
async function newest() {
  const since = new Date(Date.now() - 5000).toISOString();
  const answer = await fetch(`${server.url}/v1/streams/train-positions/events?from=${since}&limit=1000`);
  const events = /** @type {any[]} */ (await answer.json());
  const event = events.findLast((e) => e.source === "/demo/control-centre" && Date.parse(e.time) > 0 && e.data.speed > 0);
  assert.ok(event, `none of ${events.length} events`);
  return event;
}

/** Lets the demo's types take every event: what an operator may do, the page has to live with. */
async function loosen() {
  for (const [name, stream] of [["position", "train-positions"], ["delayed", "train-movements"], ["arrived", "train-movements"]]) {
    const answer = await fetch(`${server.url}/v1/event-types/no.banenor.train.${name}.v1`, {
      method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ stream, audience: "public", compatibility: "none", schema: {} }),
    });
    assert.equal(answer.status, 200, await answer.text());
  }
}

test("events that are none, or of another time, stop nothing and are counted", async () => {
  await loosen();
  await withPage({}, async (page) => {
    await page.locator("train-list li").first().click();
    await page.waitForFunction(() => /: [1-9]\d* events/.test(document.querySelector("train-card .own")?.textContent ?? ""));
    const number = await followed(page);
    const event = (/** @type {string} */ id, /** @type {any} */ more, /** @type {any} */ data) => ({
      specversion: "1.0", id: `bad-${id}`, source: "/demo/control-centre", type: "no.banenor.train.position.v1", subject: `/train/${number}`, time: new Date().toISOString(), ...more,
      data: typeof data === "string" ? data : { train: number, line: "L1", to: "Nowhere", serviceDate: "2030-01-01", sequence: 1, latitude: 60, longitude: 10, speed: 1, bearing: 1, delaySeconds: 0, next: "X", nextCall: 1, expected: "2030-01-01T00:00:00Z", ...data },
    });
    const future = "2030-01-01T02:00:00Z";
    // Where the train is that is followed, and each as a train of its own: of one train only the latest comes.
    const wrong = /** @type {[any, any][]} */ ([
      [{ source: "/x", time: undefined }, "garbage"], [{ time: undefined }, {}], [{ time: future }, {}], [{ source: "/x" }, {}], [{}, { latitude: "a" }], [{}, "garbage"],
    ]);
    const own = wrong.map(([more, data], i) => event(`own-${i}`, more, data));
    const bad = [
      ...wrong.map(([more, data], i) => event(`${i}`, { subject: `/train/90${i}`, ...more }, typeof data === "string" ? data : { train: `90${i}`, ...data })),
      event("7", { type: "no.banenor.train.delayed.v1" }, { call: "x" }),
      event("8", { type: "no.banenor.train.arrived.v1", subject: "/train/999", time: future }, { train: "999", call: 3 }),
    ];
    await publish([...own, ...bad]);
    await page.waitForFunction((n) => Number([...document.querySelectorAll("connection-panel dt")].find((e) => e.textContent === "Ignored")?.nextElementSibling?.textContent) >= n, bad.length);
    const clock = await page.textContent("#clock");
    assert.match(clock ?? "", /^08:/);
    await page.waitForFunction((was) => document.querySelector("#clock")?.textContent !== was, clock);
    assert.match((await page.textContent("train-card")) ?? "", new RegExp(`Train ${number} `));
    assert.doesNotMatch((await page.textContent("train-list")) ?? "", /Nowhere/);
    assert.equal(await page.textContent(".figures output"), "0", "what was ignored counts as lost");
    // They lie in the log: a page that reads it anew is none the worse.
    await page.reload();
    await trainsShown(page);
    await page.waitForFunction(() => /^08:/.test(document.querySelector("#clock")?.textContent ?? ""));
    await page.waitForFunction(() => /: [1-9]\d* events, 0 lost/.test(document.querySelector("train-card .own")?.textContent ?? ""));
  });
});

test("a train of which the server says that it is gone is taken off the map", async () => {
  const window = async (/** @type {string} */ long) => {
    const answer = await fetch(`${server.url}/v1/streams/train-positions`, {
      method: "PATCH", headers: { "Content-Type": "application/merge-patch+json" }, body: JSON.stringify({ state: { window: long } }),
    });
    assert.equal(answer.status, 200, await answer.text());
  };
  await window("8s");
  try {
    await withPage({}, async (page) => {
      const event = await newest();
      await publish([{ ...event, id: "brief", subject: "/train/9001", data: { ...event.data, train: "9001", to: "Briefly", sequence: 1 } }]);
      await page.waitForFunction(() => /Briefly/.test(document.querySelector("train-list")?.textContent ?? ""));
      // Left to itself the page would keep it for two minutes.
      await page.waitForFunction(() => !/Briefly/.test(document.querySelector("train-list")?.textContent ?? ""));
    });
  } finally {
    await window("90s");
  }
});

test("a train that was marked by keyboard is marked no longer than one looks at it", async () => {
  await withPage({}, async (page) => {
    const lens = 'train-map[kind="lens"]';
    const marked = () => page.evaluate((s) => document.querySelector(s)?.classList.contains("over-train"), lens);
    for (const leave of [
      () => page.getByRole("button", { name: "Nordland" }).click(),
      () => page.getByRole("button", { name: "Norway", exact: true }).click(),
      () => page.keyboard.press("Escape"),
      () => page.focus("station-board input"),
    ]) {
      await page.focus(`${lens} canvas`);
      await page.evaluate((s) => /** @type {any} */ (document.querySelector(s)).show(59.92, 10.75, 64, false), lens);
      await page.keyboard.press("ArrowRight");
      assert.equal(await marked(), true);
      await leave();
      assert.equal(await marked(), false, String(leave));
    }
  });
});

test("the followed train lies above the others", async () => {
  await withPage({}, async (page) => {
    const seen = await page.evaluate(async () => {
      const map = /** @type {any} */ (document.querySelector('train-map[kind="lens"]'));
      const { placeOf } = await import(/** @type {any} */ ("/marks.js"));
      const trains = [...map.fleet.trains.values()];
      // Another one, later and so above it otherwise, is put where it is.
      const [under, over] = [trains.find((t) => t.delay < 180), trains.find((t) => t.delay >= 180)];
      map.show(59.92, 10.75, 64, false);
      map.selected = under.number;
      for (const train of [under, over]) {
        train.freshness = 1;
        [train.shown, train.bearing, train.aside] = [[map.camera.x, map.camera.y], 0, 0];
      }
      map.frame(performance.now() + 1000, 16);
      const canvas = map.querySelector("canvas");
      const [x, y] = placeOf(under, { kind: "lens", camera: map.camera, width: map.clientWidth, height: map.clientHeight });
      const k = canvas.width / map.clientWidth;
      const [r, g, b] = canvas.getContext("2d").getImageData(x * k, y * k, 1, 1).data;
      map.selected = "";
      return { seen: `#${[r, g, b].map((v) => v.toString(16).padStart(2, "0")).join("")}`, want: map.palette.ontime };
    });
    assert.equal(seen.seen, seen.want);
  });
});

test("all times on the page are of one clock", async () => {
  await withPage({}, async (page) => {
    await page.waitForFunction(() => /Connected/.test(document.querySelector(".notes")?.textContent ?? ""));
    await page.waitForFunction(() => /^08:/.test(document.querySelector(".notes time")?.textContent ?? ""));
    assert.match((await page.textContent("#clock")) ?? "", /^08:/);
    assert.doesNotMatch((await page.textContent("connection-state")) ?? "", /\d\d:\d\d/);
  });
});

test("by night the closer map opens where trains run", async () => {
  const night = await Server.start("--demo-time", "03:00");
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  try {
    const page = await context.newPage();
    await page.goto(night.url);
    await page.waitForFunction(() => document.querySelectorAll("train-list li").length >= 3);
    await page.waitForFunction(() => {
      const map = /** @type {any} */ (document.querySelector('train-map[kind="lens"]'));
      return map.inView([...map.fleet.trains.values()]).length > 0;
    });
    assert.equal(new URL(page.url()).hash, "", "nobody asked to follow a train");
  } finally {
    await Promise.all([context.close(), night.remove()]);
  }
});
