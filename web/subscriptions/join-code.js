// @ts-check
/** Code that reads a subscription and acknowledges, for the server that the page came from. */
import { address } from "./api.js";

/** @typedef {import("./api.js").Subscription} Subscription */
/** @typedef {{id: string, title: string, language: "shell" | "js", text: string, note: string}} Snippet */

/** @param {string} text */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * @param {string} origin
 * @param {Subscription} subscription
 * @returns {Snippet[]}
 */
export function joinCode(origin, { id, name = "" }) {
  const at = `${origin}${address(id)}`;
  return [
    {
      id: "sse",
      title: "curl",
      language: "shell",
      text: `curl -N -H 'Accept: text/event-stream' \\\n${shell(`${at}/events`)}`,
      note: "Joins as one more session. The id of each message is its cursor. What is not acknowledged in time is given again, and in the end becomes a dead letter.",
    },
    {
      id: "ndjson",
      title: "NDJSON",
      language: "shell",
      text: `at=${shell(at)}
curl -sN -H 'Accept: application/x-ndjson' "$at/events" |
while read -r line; do
  case $line in *'"event":'*) ;; *) continue ;; esac
  echo "$line" # the work
  cursor=$(expr "$line" : '{"cursor":"\\([^"]*\\)"')
  curl -s "$at/cursors" -H 'Content-Type: application/json' \\
    -d '{"cursors":["'"$cursor"'"]}'
done`,
      note: "Works through events one by one, and acknowledges each when the work is done.",
    },
    {
      id: "ack",
      title: "Acknowledge",
      language: "shell",
      text: `cursor=   # of the last event that you are done with
curl ${shell(`${at}/cursors`)} \\
  -H 'Content-Type: application/json' \\
  -d '{"cursors":["'"$cursor"'"]}'`,
      note: "Acknowledges all that the session was given up to there. Answered 200, it is kept; answered 409, open the session again: those events come again.",
    },
    {
      id: "eventctl",
      title: "eventctl",
      language: "shell",
      text: `eventctl --server ${shell(origin)} subscriptions tail ${shell(name || id)}`,
      note: "Prints each event, and acknowledges what it has printed. With --exec it hands each to a command, and acknowledges it when that has ended well.",
    },
  ];
}
