// The other side of TestNodeVerifiesWhatWeSign: receivers and senders in Node.js, with the package `standardwebhooks` for
// `v1` and Node's own crypto for `v1a`, which that package does not know.
//
//   node peer.mjs <package.json of the folder that holds node_modules> <request >answer
//
// The request is {"receive": [{"headers", "body" (Base64), "secrets", "publicKeys"}], "send": [{"id", "at", "body", "secret",
// "key" (Base64 of the seed)}]}. The answer is {"received": [{"v1": [what each secret found], "v1a": [each public key]}],
// "sent": [the header webhook-signature]}, where what was found is "ok" or the mistake.
import crypto from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Webhook } = createRequire(process.argv[2])("standardwebhooks");

// Node reads raw Ed25519 keys behind the DER that RFC 8410 puts before them.
const publicKeyDER = Buffer.from("302a300506032b6570032100", "hex");
const privateKeyDER = Buffer.from("302e020100300506032b657004220420", "hex");

function found(verify) {
  try {
    return verify() ? "ok" : "no signature matches";
  } catch (error) {
    return String(error.message);
  }
}

function verifyHMAC(secret, headers, body) {
  new Webhook(secret).verify(body, headers, { jsonParse: false });
  return true;
}

function verifyEd25519(text, headers, body) {
  if (!text.startsWith("whpk_")) throw new Error("whpk_ is expected");
  const raw = Buffer.from(text.slice("whpk_".length), "base64");
  const key = crypto.createPublicKey({ key: Buffer.concat([publicKeyDER, raw]), format: "der", type: "spki" });
  const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
  return headers["webhook-signature"]
    .split(" ")
    .filter((signature) => signature.startsWith("v1a,"))
    .some((signature) => crypto.verify(null, signed, key, Buffer.from(signature.slice("v1a,".length), "base64")));
}

function receive({ headers, body, secrets, publicKeys }) {
  const raw = Buffer.from(body, "base64");
  return {
    v1: secrets.map((secret) => found(() => verifyHMAC(secret, headers, raw))),
    v1a: publicKeys.map((key) => found(() => verifyEd25519(key, headers, raw))),
  };
}

function send({ id, at, body, secret, key }) {
  const raw = Buffer.from(body, "base64");
  const der = Buffer.concat([privateKeyDER, Buffer.from(key, "base64")]);
  const privateKey = crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const signed = Buffer.concat([Buffer.from(`${id}.${at}.`), raw]);
  const v1a = "v1a," + crypto.sign(null, signed, privateKey).toString("base64");
  return new Webhook(secret).sign(id, new Date(at * 1000), raw) + " " + v1a;
}

const request = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify({ received: request.receive.map(receive), sent: request.send.map(send) }));
