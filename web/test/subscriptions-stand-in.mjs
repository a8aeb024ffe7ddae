// @ts-check
/**
 * A server in front of a real one that tells of subscriptions what is hard to bring a real one to: large lags, many
 * sessions, refusals, silence, a day of deliveries. They are only looked at here; all else is passed on to the real one.
 */
import { createHash } from "node:crypto";
import { createServer, request } from "node:http";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:http").ServerResponse} ServerResponse */
/** @typedef {import("../subscriptions/api.js").Subscription} Subscription */
/** @typedef {import("../subscriptions/api.js").Session} Session */
/** @typedef {import("../subscriptions/api.js").DeadLetter} DeadLetter */
/**
 * @typedef {object} Kept
 * @property {Subscription} about
 * @property {{stream: string, partition: number, begin?: number, position: number, end: number, uncommitted?: number, acknowledgedAbove?: number, redeliveries?: number}[]} partitions
 * @property {Session[]} sessions
 * @property {boolean} left sessions have left it a moment ago
 * @property {(DeadLetter | null)[]} letters null: one of another subscription, which a page is short of
 * @property {number} told of how many dead letters the stats tell: those before the last start they do not
 * @property {number} waiting seconds that the oldest event waits
 * @property {number[]} [history] the lag of every ten seconds until now
 * @property {import("../subscriptions/webhook-api.js").Attempt[]} attempts newest first
 * @property {(minutes: number, since: number) => import("../subscriptions/webhook-api.js").Deliveries[]} deliveries
 * @property {object} push what the stats of one with a sink have besides
 */

const CONFIG = { from: "latest", ordering: "key", ackTimeout: "1m0s", maxUncommitted: 1000, maxSessions: 100, maxAttempts: 10 };

/** @param {number[]} lags */
function remembered(lags) {
  const last = Math.floor(Date.now() / 10_000) * 10_000;
  return lags.map((lag, i) => ({ at: new Date(last - (lags.length - 1 - i) * 10_000).toISOString(), lag }));
}

export class StandIn {
  /** @type {Map<string, Kept>} */ kept = new Map();
  /** How often each subscription's stats were asked for. @type {Map<string, number>} */ asked = new Map();
  /** It cuts off whoever asks. */
  away = false;
  url = "";
  #upstream;
  #server = createServer((req, res) => this.#answer(req, res));

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
    const kept = { about, partitions: [], sessions: [], left: false, letters: [], told: 0, waiting: 0, attempts: [], deliveries: () => [], push: {}, ...state };
    this.kept.set(id, /** @type {Kept} */ (kept));
    return /** @type {Kept} */ (kept);
  }

  /** @param {string} id */
  stats(id) {
    const kept = /** @type {Kept} */ (this.kept.get(id));
    const { about, partitions, sessions, told, history } = kept;
    const lags = partitions.map((p, i) => {
      const lag = p.end - p.position;
      const session = sessions.filter((s) => !s.waiting).at(i % Math.max(1, sessions.length));
      return { ...p, lag, lagSeconds: lag ? kept.waiting : 0, ...(session ? { session: session.id, replica: session.replica } : {}) };
    });
    const sum = (/** @type {"lag" | "uncommitted" | "redeliveries"} */ member) => lags.reduce((n, p) => n + (p[member] ?? 0), 0);
    const lag = sum("lag");
    return {
      id, name: about.name, state: about.status?.state, reason: about.status?.reason, sessions, lag, lagSeconds: lag ? kept.waiting : 0,
      uncommitted: sum("uncommitted"), redeliveries: sum("redeliveries"), deadLetters: told, partitions: lags, ...(history ? { history: remembered(history) } : {}), ...kept.push,
    };
  }

  /**
   * @param {IncomingMessage} req
   * @param {ServerResponse} res
   */
  #answer(req, res) {
    if (this.away) {
      req.socket.destroy();
      return;
    }
    const url = new URL(req.url ?? "/", this.url);
    const own = /^\/v1\/subscriptions(?:\/([^/:]+))?(?:[/:](stats|dead-letters|reset|attempts|deliveries))?$/.exec(url.pathname);
    if (!own) {
      this.#pass(req, res);
      return;
    }
    const [, id = "", part = ""] = own;
    const say = (/** @type {number} */ status, /** @type {object} */ answer) => {
      res.writeHead(status, { "Content-Type": status < 400 ? "application/json" : "application/problem+json", "Cache-Control": "no-store" });
      res.end(JSON.stringify(answer));
    };
    if (!id) {
      say(200, { items: [...this.kept.values()].map((k) => k.about) });
      return;
    }
    const kept = this.kept.get(id);
    if (!kept) say(404, { type: "/problems/unknown-subscription", title: "There is no such subscription", status: 404 });
    else if (part === "stats") {
      this.asked.set(id, (this.asked.get(id) ?? 0) + 1);
      say(200, this.stats(id));
    } else if (part === "dead-letters") {
      const from = Number(url.searchParams.get("next") ?? 0);
      const next = from + Number(url.searchParams.get("limit"));
      say(200, { items: kept.letters.slice(from, next).filter((l) => l !== null), ...(next < kept.letters.length ? { next: String(next) } : {}) });
    } else if (part === "attempts") {
      const query = url.searchParams;
      const [states, from] = [query.getAll("state"), Number(query.get("next") ?? 0)];
      const fitting = kept.attempts.filter((a) => (!states.length || states.includes(a.state)) && (!query.get("event") || a.event === query.get("event")));
      const next = from + Number(query.get("limit"));
      say(200, { items: fitting.slice(from, next), ...(next < fitting.length ? { next: String(next) } : {}) });
    } else if (part === "deliveries") {
      say(200, { items: kept.deliveries(parseInt(url.searchParams.get("step") ?? "1"), Date.parse(url.searchParams.get("since") ?? "")) });
    } else if (part === "reset") {
      if ((kept.left || kept.sessions.length) && url.searchParams.get("force") !== "true") {
        say(409, { type: "/problems/conflict", title: "It conflicts with what is there", status: 409, detail: "the subscription has sessions, on 1 replicas: end them, or add force=true" });
        return;
      }
      for (const p of kept.partitions) p.position = p.end;
      say(200, this.stats(id));
    } else say(200, kept.about);
  }

  /**
   * @param {IncomingMessage} req
   * @param {ServerResponse} res
   */
  #pass(req, res) {
    const { hostname, port } = this.#upstream;
    const on = request({ hostname, port, path: req.url, method: req.method, headers: req.headers }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(res);
    });
    on.on("error", () => req.socket.destroy());
    res.on("close", () => on.destroy());
    req.pipe(on);
  }
}
