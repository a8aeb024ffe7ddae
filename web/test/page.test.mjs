// @ts-check
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, launch, pause, trainsShown, watch } from "./harness.mjs";

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
    await page.waitForTimeout(4000);
    const to = await places(page);
    const numbers = Object.keys(from);
    assert.ok(numbers.length >= 85 && numbers.length <= 130, `${numbers.length} trains`);
    const moved = numbers.filter((n) => to[n] && Math.hypot((to[n]?.[0] ?? 0) - (from[n]?.[0] ?? 0), (to[n]?.[1] ?? 0) - (from[n]?.[1] ?? 0)) > 0.01);
    assert.ok(moved.length > 40, `${moved.length} trains moved in four seconds`);
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
    const number = new URL(page.url()).hash.replace("#train/", "");
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
    const rows = await page.locator("station-board tbody tr").allTextContents();
    assert.ok(rows.every((r) => /^\d\d:\d\d/.test(r)), rows.join("\n"));
    assert.ok(rows.some((r) => /on time|\+\d+ min|at platform|departed/.test(r)), `no row is live:\n${rows.join("\n")}`);
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
    await page.locator("train-list li").first().tap();
    await page.waitForSelector("train-card:not([hidden])");
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
    const before = await page.evaluate(() => /** @type {any} */ (document.querySelector('train-map[kind="lens"]')).camera.x);
    await page.locator(".places").getByRole("button", { name: "Bergen" }).click();
    await page.waitForTimeout(700);
    const [here, later] = [await page.evaluate(() => /** @type {any} */ (document.querySelector('train-map[kind="lens"]')).camera.x), before];
    assert.ok(here < later - 100, "the lens is at Bergen at once");
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
    const directive = await Promise.race([violations, new Promise((r) => setTimeout(() => r("none"), 2000))]);
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
    await pause(100);
    assert.match((await page.textContent("connection-state")) ?? "", /^Live/);
  });
});
