// @ts-check
/** An endpoint for the tests: it keeps what it was sent, and answers as it is told. */
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { CHALLENGE } from "../subscriptions/receiver-code.js";

export class Receiver {
  /** What was sent to it, but for challenges. @type {{id: string, type: string, subject?: string, headers: import("node:http").IncomingHttpHeaders, data: any}[]} */ events = [];
  /** The secret, once it knows it: before that it answers no challenge. */
  secret = "";
  /** What it answers to events. @type {{status: number, body?: string}} */ answer = { status: 204 };
  url = "";
  #server = createServer(async (req, res) => {
    const parts = [];
    for await (const part of req) parts.push(part);
    if (req.method !== "POST") return res.writeHead(405).end();
    const event = JSON.parse(Buffer.concat(parts).toString());
    if (event.type === CHALLENGE) {
      if (!this.secret) return res.writeHead(404).end();
      const response = createHmac("sha256", Buffer.from(this.secret.replace("whsec_", ""), "base64")).update(event.data.challenge).digest("base64");
      return res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ response }));
    }
    this.events.push({ ...event, headers: req.headers });
    return res.writeHead(this.answer.status).end(this.answer.body);
  });

  static async start() {
    const it = new Receiver();
    await new Promise((resolve) => it.#server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const address = it.#server.address();
    it.url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}/hooks`;
    return it;
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }
}
