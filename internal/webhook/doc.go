// Package webhook makes and checks the messages that a subscription's endpoint is sent: their ids, signatures, modes,
// and what a subscription may say about its headers and credentials.
//
// What it guarantees:
//
//   - Signatures are those of Standard Webhooks 1.0: `v1`, an HMAC-SHA256 by a shared secret, and `v1a`, an Ed25519
//     signature by a key of the subscription's own. During a rotation the old and the new sign each message, so that a
//     receiver that knows either accepts it.
//   - A message's id depends only on which events it holds, for which life of which subscription: it is the same at
//     every attempt, whichever process makes it. It has no full stop, which separates what is signed.
//   - A signature covers the body, not the headers: what has to be trusted is sent in the structured mode.
//   - An event in the structured mode is the bytes that were published; nothing is copied. An event that the binary mode
//     cannot say ([Body]) is sent in the structured mode instead.
//   - Secrets are shown by no formatting, log or JSON of the types that hold them; [Secret.Text] and
//     [SigningKey.Text] alone do it.
//   - Signatures are compared in constant time.
//
// Values are not changed once they are in use: all functions and methods may be called concurrently. Nothing blocks.
package webhook
