// @ts-check
/** Code that receives what a subscription with a sink is sent, verifies its signature, and proves that it wants it. */

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {import("../page/code-tabs.js").Snippet} Snippet */

export const CHALLENGE = "no.eventissuer.subscription.challenge.v1";

const NOTE = "Answer 2xx when the work is done, or safely kept. The same webhook-id may come again: a second time must do nothing.";

/**
 * A receiver in each language, of the standard library alone.
 * @param {Subscription} about
 * @returns {Snippet[]}
 */
export function receiverCode(about) {
  const binary = about.protocolsettings?.mode === "binary";
  return [
    { id: "node", title: "Node", language: "js", text: node(binary), note: NOTE },
    { id: "go", title: "Go", language: "js", text: go(binary), note: NOTE },
    { id: "python", title: "Python", language: "js", text: python(binary), note: NOTE },
  ];
}

/**
 * The two ways to prove that an endpoint wants the events, and receivers that know the second.
 * @param {Subscription} about
 * @returns {Snippet[]}
 */
export function proofCode(about) {
  const { pathname, host } = sinkOf(about);
  return [
    {
      id: "challenge", title: "Challenge", language: "text",
      text: `POST ${pathname} HTTP/1.1
Host: ${host}
Content-Type: application/cloudevents+json
webhook-id: …
webhook-timestamp: …
webhook-signature: v1,…

{"type":"${CHALLENGE}",
 "data":{"challenge":"9ZyW…"}, …}

HTTP/1.1 200 OK
Content-Type: application/json

{"response":"<base64 of HMAC-SHA256(secret, challenge)>"}`,
      note: "The secret is the bytes behind whsec_, decoded from Base64; the challenge is taken as the text that it is. The receivers beside this answer it.",
    },
    {
      id: "consent", title: "OPTIONS", language: "text",
      text: `OPTIONS ${pathname} HTTP/1.1
Host: ${host}
WebHook-Request-Origin: <who asks>

HTTP/1.1 200 OK
WebHook-Allowed-Origin: <who asked, or *>
WebHook-Allowed-Rate: 600`,
      note: "The consent of CloudEvents’ webhooks: the header counts, not the status. The rate is in requests a minute; leave it out, or say *, for any.",
    },
    ...receiverCode(about),
  ];
}

/** @param {Subscription} about */
function sinkOf({ sink = "" }) {
  try {
    return new URL(sink);
  } catch {
    return { pathname: "/", host: sink };
  }
}

/** @param {boolean} binary */
const node = (binary) => `// WEBHOOK_SECRET=whsec_… node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = Buffer.from(process.env.WEBHOOK_SECRET.replace("whsec_", ""), "base64");

function verified(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": sent } = headers;
  if (!(Math.abs(Date.now() / 1000 - sent) < 300)) return false;
  const right = createHmac("sha256", secret).update(\`\${id}.\${sent}.\`).update(body).digest();
  return (headers["webhook-signature"] ?? "").split(" ").some((s) => {
    const given = Buffer.from(s.replace(/^v1,/, ""), "base64");
    return given.length === right.length && timingSafeEqual(given, right);
  });
}

createServer(async (req, res) => {
  const parts = [];
  for await (const part of req) parts.push(part);
  const body = Buffer.concat(parts);
  if (!verified(req.headers, body)) return res.writeHead(401).end();
${binary ? `  const type = req.headers["ce-type"] ?? JSON.parse(body).type;
  if (type === "${CHALLENGE}") {
    const { challenge } = JSON.parse(body).data;` : `  const event = JSON.parse(body);
  if (event.type === "${CHALLENGE}") {
    const { challenge } = event.data;`}
    const response = createHmac("sha256", secret).update(challenge).digest("base64");
    return res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ response }));
  }
  console.log(req.headers["webhook-id"], ${binary ? "type" : "event"}); // the work
  res.writeHead(204).end();
}).listen(8000);
`;

/** @param {boolean} binary */
const go = (binary) => `// WEBHOOK_SECRET=whsec_… go run receiver.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var secret []byte

func sign(message []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write(message)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func verified(h http.Header, body []byte) bool {
	sent, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	right := "v1," + sign(fmt.Appendf(nil, "%s.%d.%s", h.Get("webhook-id"), sent, body))
	for _, given := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(given), []byte(right)) {
			return true
		}
	}
	return false
}

func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil || !verified(r.Header, body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var event struct {
		Type string
		Data json.RawMessage
	}
${binary ? `	if event.Type = r.Header.Get("ce-type"); event.Type == "" { // else body is the data
		err = json.Unmarshal(body, &event)
	}
	if err != nil {` : `	if err := json.Unmarshal(body, &event); err != nil {`}
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if event.Type == "${CHALLENGE}" {
		var data struct{ Challenge string }
		if json.Unmarshal(event.Data, &data) == nil {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]string{"response": sign([]byte(data.Challenge))})
		}
		return
	}
	log.Println(r.Header.Get("webhook-id"), event.Type) // the work
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	var err error
	secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8000", http.HandlerFunc(receive)))
}
`;

/** @param {boolean} binary */
const python = (binary) => `# WEBHOOK_SECRET=whsec_… python3 receiver.py
import base64, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

secret = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))

def sign(message):
    return base64.b64encode(hmac.digest(secret, message, "sha256"))

def verified(headers, body):
    sent = headers.get("webhook-timestamp", "")
    if not sent.isdecimal() or abs(time.time() - int(sent)) > 300:
        return False
    signed = f"{headers.get('webhook-id')}.{sent}.".encode() + body
    right = b"v1," + sign(signed)
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(s.encode(), right) for s in given)

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not verified(self.headers, body):
            return self.answer(401)
${binary ? `        kind = self.headers.get("ce-type") or json.loads(body)["type"]
        if kind == "${CHALLENGE}":
            challenge = json.loads(body)["data"]["challenge"]` : `        event = json.loads(body)
        if event["type"] == "${CHALLENGE}":
            challenge = event["data"]["challenge"]`}
            response = sign(challenge.encode()).decode()
            return self.answer(200, json.dumps({"response": response}).encode())
        print(self.headers["webhook-id"], ${binary ? "kind" : "event"})  # the work
        self.answer(204)

    def answer(self, status, body=b""):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", 8000), Receiver).serve_forever()
`;
