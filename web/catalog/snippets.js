// @ts-check
/** Code that reads a type's events, and code that publishes one, for the server that the page came from. */
import { exampleOf } from "./example.js";
import { SchemaDocument } from "./schema-model.js";

/** @typedef {import("./api.js").EventType} EventType */
/** @typedef {{id: string, title: string, language: "shell" | "js", text: string, note: string}} Snippet */

/** @param {string} text */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * @param {string} origin
 * @param {EventType} type
 * @param {Record<string, any> | undefined} event what to publish; undefined: nothing is shown of that
 * @returns {Snippet[]}
 */
export function snippets(origin, type, event) {
  const address = `${origin}/v1/streams/${encodeURIComponent(type.stream)}/events?type=${encodeURIComponent(type.type)}`;
  /** @type {Snippet[]} */
  const all = [
    {
      id: "curl",
      title: "curl",
      language: "shell",
      text: `curl -N -H 'Accept: text/event-stream' \\\n  ${shell(address)}`,
      note: "Prints each event as it comes. With &from=oldest it begins with the oldest that is kept, with &after=<cursor> where you stopped.",
    },
    {
      id: "eventsource",
      title: "JavaScript",
      language: "js",
      text: `const events = new EventSource(
  ${JSON.stringify(address)},
);
events.onmessage = (message) => {
  const event = JSON.parse(message.data);
  console.log(event.time, event.subject, event.data);
};`,
      note: "A browser needs no library. It reconnects by itself and goes on where it was: the id of each message is a cursor.",
    },
    {
      id: "client",
      title: "Client",
      language: "js",
      text: `import { subscribe } from ${JSON.stringify(`${origin}/client/eventissuer.js`)};

subscribe({
  url: ${JSON.stringify(origin)},
  streams: [${JSON.stringify(type.stream)}],
  filter: { type: ${JSON.stringify(type.type)} },
  remember: "my-app", // goes on there when the page is loaded again
  onEvent: ({ time, subject, data }) => console.log(time, subject, data),
  onControl: ({ name, payload }) => console.warn(name, payload),
});`,
      note: "Our module, without dependencies: it also comes back after an outage, keeps the cursor over reloads, and tells of gaps. Copy it if your page is served elsewhere.",
    },
  ];
  if (event) {
    all.push({
      id: "publish",
      title: "Publish",
      language: "shell",
      text: `curl ${shell(`${origin}/v1/events`)} \\\n  -H 'Content-Type: application/cloudevents+json' \\\n  -d ${published(event)}`,
      note: "Answers persisted when it is on the log for good, or says what is wrong with it.",
    });
  }
  return all;
}

/** The id that is another each time, also within a second, since the same one again is a duplicate. */
const STAMP = "\u0000stamp\u0000";

/** @param {Record<string, any>} event */
function published(event) {
  const text = JSON.stringify({ ...event, id: STAMP }, null, 2).replace(JSON.stringify(STAMP), '"example-STAMP"');
  return shell(text).replace("example-STAMP", "example-'$(date +%s)-$RANDOM'");
}

/**
 * An event of the type that it would take.
 * @param {EventType} type
 * @param {any} data
 */
export function exampleEvent(type, data) {
  const attributes = type.attributes === undefined ? {} : exampleOf(new SchemaDocument(type.attributes).root());
  const now = new Date().toISOString().replace(/\.\d+/, "");
  /** @type {Record<string, any>} */
  const event = {
    specversion: "1.0",
    id: "example-1",
    source: type.sources?.[0] ?? "/example",
    type: type.type.replace("*", "example"),
    subject: "/example/1",
    time: now,
    ...(typeof attributes === "object" ? attributes : {}),
  };
  // What CloudEvents itself asks of its attributes, a schema of them need not say.
  event["specversion"] = "1.0";
  event["id"] = "example-1";
  if (Number.isNaN(Date.parse(event["time"]))) event["time"] = now;
  if (event["datacontenttype"] !== undefined) event["datacontenttype"] = "application/json";
  delete event["dataschema"];
  event["type"] = type.type.replace("*", "example");
  if (type.sources?.length && !type.sources.some((s) => String(event["source"]).startsWith(s))) event["source"] = type.sources[0];
  const key = type.keyAttribute;
  if (key && key !== "subject" && key !== "partitionkey" && event[key] === undefined && !(key in (type.promote ?? {}))) event[key] = "example";
  if (data !== undefined) event["data"] = data;
  return event;
}
