// @ts-check
/**
 * A server in front of a real one that answers for subscriptions what is hard to bring a real one to: lags of millions,
 * many sessions, dead letters, refusals, silence. All else is passed on to the real one.
 */
import { createHash, randomUUID } from "node:crypto";
import { createServer, request } from "node:http";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:http").ServerResponse} ServerResponse */
/** @typedef {import("../subscriptions/api.js").Subscription} Subscription */
/** @typedef {import("../subscriptions/api.js").Session} Session */
/** @typedef {import("../subscriptions/api.js").DeadLetter} DeadLetter */
/**
 * @typedef {object} Kept
 * @property {Subscription} about
 * @property {{stream: string, partition: number, begin: number, position: number, end: number, uncommitted?: number, acknowledgedAbove?: number, redeliveries?: number}[]} partitions
 * @property {Session[]} sessions
 * @property {DeadLetter[]} letters
 * @property {{incoming: number, done: number}} flow events a second
 * @property {number} waiting seconds that the oldest event waits
 * @property {{at: string, lag: number}[]} [history]
 * @property {number} asked when it was last asked for
 */

const CONFIG = { from: "latest", ordering: "key", ackTimeout: "1m0s", maxUncommitted: 1000, maxSessions: 100, maxAttempts: 10 };
const DEAD_LETTERS = 20;

export class StandIn {
  /** @type {Map<string, Kept>} */ kept = new Map();
  /** How often each subscription's stats were asked for. @type {Map<string, number>} */ asked = new Map();
  /** It cuts off whoever asks. */
  away = false;
  url = "";
  #upstream;
  #server = createServer((req, res) => void this.#answer(req, res));

  /** @param {string} upstream */
  constructor(upstream) {
    this.#upstream = new URL(upstream);
  }

  /** @param {string} upstream */
  static async start(upstream) {
    const it = new StandIn(upstream);
    await new Promise((resolve) => it.#server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const address = it.#server.address();
    it.url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
    return it;
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  /**
   * @param {Partial<Subscription>} wanted
   * @param {Partial<Kept>} [state]
   * @returns {Kept}
   */
  add(wanted, state = {}) {
    const id = createHash("sha256").update(wanted.name ?? JSON.stringify(wanted)).digest("hex").slice(0, 16);
    const stamp = { at: new Date().toISOString(), by: "local" };
    const about = { streams: [], owner: "local", status: { state: "active" }, created: stamp, changed: stamp, ...wanted, id, config: { ...CONFIG, ...wanted.config } };
    const kept = { about, partitions: [], sessions: [], letters: [], flow: { incoming: 0, done: 0 }, waiting: 0, asked: Date.now(), ...state };
    this.kept.set(id, /** @type {Kept} */ (kept));
    return /** @type {Kept} */ (kept);
  }

  /** @param {string} id */
  stats(id) {
    const kept = /** @type {Kept} */ (this.kept.get(id));
    const { about, partitions, sessions, letters, flow, history } = kept;
    const seconds = (Date.now() - kept.asked) / 1000;
    kept.asked = Date.now();
    for (const p of partitions) {
      p.end += (flow.incoming * seconds) / partitions.length;
      p.position = Math.min(p.end, p.position + (flow.done * seconds) / partitions.length);
    }
    const whole = partitions.map((p) => ({ ...p, position: Math.floor(p.position), end: Math.floor(p.end) }));
    const lags = whole.map(({ begin: _, ...p }, i) => {
      const lag = p.end - p.position;
      const session = sessions.filter((s) => !s.waiting).at(i % Math.max(1, sessions.length));
      return { ...p, lag, lagSeconds: lag ? kept.waiting : 0, ...(session ? { session: session.id, replica: session.replica } : {}) };
    });
    const sum = (/** @type {"lag" | "uncommitted" | "redeliveries"} */ member) => lags.reduce((n, p) => n + (p[member] ?? 0), 0);
    const lag = sum("lag");
    return {
      id, name: about.name, state: about.status?.state, reason: about.status?.reason, sessions, lag, lagSeconds: lag ? kept.waiting : 0,
      uncommitted: sum("uncommitted"), redeliveries: sum("redeliveries"), deadLetters: letters.length, partitions: lags, ...(history ? { history } : {}),
    };
  }

  /**
   * @param {IncomingMessage} req
   * @param {ServerResponse} res
   */
  async #answer(req, res) {
    if (this.away) {
      req.socket.destroy();
      return;
    }
    const url = new URL(req.url ?? "/", this.url);
    const own = /^\/v1\/subscriptions(?:\/([^/:]+))?(?:[/:](stats|events|dead-letters|reset))?$/.exec(url.pathname);
    if (!own) {
      this.#pass(req, res);
      return;
    }
    const [, id = "", part = ""] = own;
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text ? JSON.parse(text) : {};
    const say = (/** @type {number} */ status, /** @type {unknown} */ answer) => {
      res.writeHead(status, { "Content-Type": status < 400 ? "application/json" : "application/problem+json", "Cache-Control": "no-store" });
      res.end(answer === undefined ? "" : JSON.stringify(answer));
    };
    const refuse = (/** @type {number} */ status, /** @type {string} */ detail, /** @type {object} */ more = {}) => say(status, { type: "/problems/conflict", title: "Refused", status, detail, ...more });

    if (!id) {
      if (req.method === "POST") await this.#create(body, say, refuse);
      else say(200, { items: [...this.kept.values()].map((k) => k.about) });
      return;
    }
    const kept = this.kept.get(id);
    if (!kept) refuse(404, "there is no such subscription");
    else if (part === "stats") {
      this.asked.set(id, (this.asked.get(id) ?? 0) + 1);
      say(200, this.stats(id));
    } else if (part === "dead-letters") {
      const from = Number(url.searchParams.get("next") ?? 0);
      const next = from + DEAD_LETTERS;
      say(200, { items: kept.letters.slice(from, next), ...(next < kept.letters.length ? { next: String(next) } : {}) });
    } else if (part === "reset") {
      if (kept.sessions.length && url.searchParams.get("force") !== "true") {
        refuse(409, `${kept.sessions.length} sessions read it: end them first, or say force=true`);
        return;
      }
      for (const p of kept.partitions) p.position = body.from === "latest" ? p.end : p.begin;
      say(200, this.stats(id));
    } else if (part === "events") this.#join(kept, req, res);
    else if (req.method === "DELETE") {
      this.kept.delete(id);
      say(204, undefined);
    } else say(200, kept.about);
  }

  /**
   * @param {any} body
   * @param {(status: number, answer: unknown) => void} say
   * @param {(status: number, detail: string, more?: object) => void} refuse
   */
  async #create(body, say, refuse) {
    if (body.name && !/^[A-Za-z0-9._-]{1,200}$/.test(body.name)) {
      refuse(422, "the subscription has mistakes", { errors: [{ pointer: "/name", detail: "a name has letters, digits, and . _ -" }] });
      return;
    }
    const same = [...this.kept.values()].find((k) => body.name && k.about.name === body.name);
    if (same) {
      refuse(409, "there is another subscription of this name: delete it first, or choose another");
      return;
    }
    const types = /** @type {any[]} */ ((await (await fetch(new URL("/v1/event-types?limit=1000", this.#upstream))).json()).items);
    const streams = body.streams ?? [...new Set((body.types ?? []).map((/** @type {string} */ t) => types.find((x) => x.type === t)?.stream))];
    const partitions = [];
    for (const stream of streams) {
      const n = (await (await fetch(new URL(`/v1/streams/${stream}`, this.#upstream))).json()).partitions;
      for (let partition = 0; partition < n; partition++) partitions.push({ stream, partition, begin: 0, position: 0, end: 0 });
    }
    const { about } = this.add({ ...body, streams }, { partitions });
    say(201, about);
  }

  /**
   * A session that is given nothing.
   * @param {Kept} kept
   * @param {IncomingMessage} req
   * @param {ServerResponse} res
   */
  #join(kept, req, res) {
    const session = { id: randomUUID(), replica: "a", transport: "sse", address: req.socket.remoteAddress ?? "", since: new Date().toISOString(), uncommitted: 0, groups: kept.partitions.map((p) => `${p.stream}/${p.partition}`) };
    kept.sessions.push(session);
    res.writeHead(200, { "Content-Type": "text/event-stream" });
    res.write("id: begin\n\n");
    res.once("close", () => (kept.sessions = kept.sessions.filter((s) => s !== session)));
  }

  /**
   * @param {IncomingMessage} req
   * @param {ServerResponse} res
   */
  #pass(req, res) {
    const { hostname, port } = this.#upstream;
    const on = request({ hostname, port, path: req.url, method: req.method, headers: req.headers }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      if (req.method !== "POST" || req.url !== "/v1/events") {
        answer.pipe(res);
        return;
      }
      /** @type {Buffer[]} */
      const chunks = [];
      answer.on("data", (b) => chunks.push(b));
      answer.on("end", () => {
        const whole = Buffer.concat(chunks);
        this.#published(JSON.parse(whole.toString()).results ?? []);
        res.end(whole);
      });
    });
    on.on("error", () => req.socket.destroy());
    res.on("close", () => on.destroy());
    req.pipe(on);
  }

  /** @param {{status: string, stream: string, position: {partition: number, offset: number}}[]} results */
  #published(results) {
    for (const { status, stream, position } of results) {
      if (status !== "persisted") continue;
      for (const kept of this.kept.values()) {
        const p = kept.partitions.find((p) => p.stream === stream && p.partition === position.partition);
        if (!p) continue;
        p.end++;
        kept.waiting ||= 0.5;
      }
    }
  }
}
