// @ts-check
/** A server and a browser for the tests. */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const BINARY = process.env["EVENTISSUER_BIN"] ?? "";
const CHROMIUM = process.env["EVENTISSUER_TEST_CHROMIUM"] ?? "/usr/bin/chromium";

/** How long anything may take that a page or a server does, on a machine that has much else to do: milliseconds. */
export const PATIENCE = 60_000;

/** @typedef {import("playwright-core").Page} Page */

/**
 * A port nobody listens on, below the range from which the kernel takes those of outgoing connections: a server that is
 * started again on its port would else find it taken by a browser's connection.
 * @returns {Promise<number>}
 */
export async function freePort() {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await isFree(port)) return port;
  }
  throw new Error("no free port between 20000 and 32000");
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** @type {Set<import("node:child_process").ChildProcess>} */
const running = new Set();
// A file that takes too long is sent SIGTERM by the test runner, which then waits for its end.
process.once("SIGTERM", () => process.exit(143));
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** An Event Issuer with the demo, on a data folder of its own. */
export class Server {
  /** @type {import("node:child_process").ChildProcess | undefined} */ #process;
  /** @type {Promise<number | null> | undefined} */ #exit;
  #log = "";

  /**
   * @param {number} port
   * @param {string} folder
   * @param {string[]} flags
   */
  constructor(port, folder, flags) {
    this.port = port;
    this.folder = folder;
    this.flags = flags;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** @param {string[]} flags */
  static async start(...flags) {
    if (!BINARY) throw new Error("EVENTISSUER_BIN names no server: run the tests by deploy/local/browser-tests");
    const server = new Server(await freePort(), await mkdtemp(join(tmpdir(), "eventissuer-web-")), flags);
    await server.start();
    return server;
  }

  /**
   * Starts it, again on the same port and folder, and waits until there are trains to be read. A server is ready before
   * the demo has made its streams, and until then a browser complains of an answer of 404.
   */
  async start() {
    const args = ["serve", "--demo", "--listen", `127.0.0.1:${this.port}`, "--data-dir", this.folder, "--drain-timeout", "2s", "--lame-duck", "0s", ...this.flags];
    const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    running.add(child);
    this.#exit = new Promise((resolve) => child.once("exit", resolve));
    child.once("exit", () => running.delete(child));
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (b) => (this.#log = (this.#log + b).slice(-4000)));
    const deadline = Date.now() + PATIENCE;
    while (!(await this.#runs())) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the server does not come to run its trains; its log ends with\n${this.#log}`);
      await pause(50);
    }
  }

  async #runs() {
    const ready = await fetch(`${this.url}/readyz`).catch(() => undefined);
    if (!ready?.ok) return false;
    const query = "/v1/streams/train-positions/events?from=oldest&limit=1";
    const answer = await fetch(this.url + query, { headers: { Accept: "application/cloudevents-batch+json" } }).catch(() => undefined);
    return answer?.ok && /** @type {any[]} */ (await answer.json()).length > 0;
  }

  /** @param {"SIGKILL" | "SIGTERM"} signal */
  async stop(signal) {
    this.#process?.kill(signal);
    return this.#exit;
  }

  async remove() {
    await this.stop("SIGKILL");
    await rm(this.folder, { recursive: true, force: true });
  }
}

export function launch() {
  return chromium.launch({
    executablePath: CHROMIUM,
    handleSIGTERM: false, // it would close the browser, and let the tests go on without
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
}

/**
 * What a page must never do: complain, or ask somebody else for something.
 * @param {Page} page
 * @param {string} origin
 */
export function watch(page, origin) {
  /** @type {string[]} */
  const faults = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(String(error.stack)));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`asked ${request.url()}`);
  });
  return faults;
}

/** @param {number} ms */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Waits until the page shows about a hundred trains, in the list and on the map: what is heard is drawn a frame later.
 * @param {Page} page
 */
export async function trainsShown(page) {
  await page.waitForFunction(() => {
    const map = /** @type {any} */ (document.querySelector("train-map"));
    const drawn = [...(map?.fleet?.trains.values() ?? [])].filter((t) => !Number.isNaN(t.shown[0]));
    return drawn.length >= 85 && document.querySelectorAll("train-list li").length >= 85;
  }, undefined, { timeout: PATIENCE });
}

/**
 * The number of the train that the page follows, or "".
 * @param {Page} page
 */
export function followed(page) {
  return page.evaluate(() => location.hash.replace("#train/", ""));
}

/**
 * The events of a stream in the log, oldest first, page by page.
 * @param {string} url
 * @param {string} stream
 */
export async function readAll(url, stream) {
  /** @type {any[]} */
  const all = [];
  let query = "from=oldest";
  for (;;) {
    const answer = await fetch(`${url}/v1/streams/${stream}/events?limit=1000&${query}`, { headers: { Accept: "application/cloudevents-batch+json" } });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    const events = /** @type {any[]} */ (await answer.json());
    all.push(...events);
    if (events.length === 0) return all;
    query = `after=${answer.headers.get("Cursor")}`;
  }
}

/** Runs in the page: every element that has text of its own against what is painted under it. */
export function poorlyReadable() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const ctx = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  const painted = (/** @type {string[]} */ colours) => {
    for (const c of colours) {
      ctx.fillStyle = c;
      ctx.fillRect(0, 0, 1, 1);
    }
    return [...ctx.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (/** @type {number[]} */ c) => {
    const [r = 0, g = 0, b = 0] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const out = new Set();
  for (const e of document.querySelectorAll("main *, header *, dialog *")) {
    if (!(e instanceof HTMLElement) || !e.checkVisibility({ opacityProperty: true }) || e.closest(".unseen, option")) continue;
    if (![...e.childNodes].some((n) => n instanceof Text && n.data.trim())) continue;
    const under = [];
    for (let at = /** @type {Element | null} */ (e); at; at = at.parentElement) under.unshift(getComputedStyle(at).backgroundColor);
    const [a = 0, b = 0] = [light(painted([...under, getComputedStyle(e).color])), light(painted(under))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    const style = getComputedStyle(e);
    const large = parseFloat(style.fontSize) >= 24 || (Number(style.fontWeight) >= 600 && parseFloat(style.fontSize) >= 18.6);
    if (contrast < (large ? 3 : 4.5)) out.add(`${e.tagName}.${e.className} "${e.textContent?.slice(0, 24)}" ${contrast.toFixed(2)}`);
  }
  return [...out];
}

/**
 * What the browser itself notes of an answer that is no success.
 * @param {string[]} faults
 * @param {string} what
 */
export const forgive = (faults, what) => faults.splice(0, faults.length, ...faults.filter((f) => !f.includes(what)));

/**
 * Waits until something says what it should.
 * @param {Page} page
 * @param {string} selector
 * @param {string} text a regular expression
 */
export const says = (page, selector, text) => page.waitForFunction(([s, t]) => new RegExp(t ?? "").test(document.querySelector(s ?? "")?.textContent ?? ""), [selector, text]);

/**
 * The element that has the focus, as told by a selector that it fits.
 * @param {Page} page
 * @param {string} selector
 */
export const focused = (page, selector) => page.waitForFunction((s) => document.activeElement?.matches(s), selector);

/**
 * Waits until something holds.
 * @param {string} what
 * @param {() => boolean | Promise<boolean>} holds
 */
export async function until(what, holds) {
  const deadline = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`it does not come to pass that ${what}`);
    await pause(50);
  }
}
