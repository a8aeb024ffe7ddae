// @ts-check
/**
 * Event types to look at: with schemas in versions, one that is deprecated, one that breaks, a pattern. Run by itself it
 * seeds a server: node web/test/seed-catalog.mjs http://127.0.0.1:8080
 */
import { pathToFileURL } from "node:url";

export const POSITION = "no.railnet.train.position.v2";
export const OLD_POSITION = "no.railnet.train.position.v1";
export const RESTRICTION = "no.railnet.track.restriction.v1";
export const PATTERN = "no.railnet.app.*";

const place = {
  type: "object",
  description: "A point on the earth, WGS 84.",
  required: ["latitude", "longitude"],
  additionalProperties: false,
  properties: {
    latitude: { type: "number", minimum: -90, maximum: 90, description: "Degrees north.", examples: [59.9109] },
    longitude: { type: "number", minimum: -180, maximum: 180, description: "Degrees east.", examples: [10.7528] },
  },
};

const unit = {
  type: "object",
  description: "A unit of the train; one that is coupled to it is described in the same way.",
  required: ["number"],
  additionalProperties: false,
  properties: {
    number: { type: "string", pattern: "^\\d{2}-\\d{3}$", description: "The number on its side.", examples: ["75-112"] },
    class: { type: "string", enum: ["69", "72", "73", "74", "75", "93"], description: "The class of rolling stock." },
    length: { type: "number", exclusiveMinimum: 0, maximum: 400, description: "Metres over the buffers." },
    coupled: { $ref: "#/$defs/unit" },
  },
};

/**
 * @param {1 | 2 | 3} version
 */
export function positionSchema(version) {
  /** @type {Record<string, any>} */
  const properties = {
    train: { type: "string", pattern: "^\\d{1,5}$", description: "The train’s number, as in the timetable.", examples: ["61", "1613"] },
    serviceDate: { type: "string", format: "date", description: "The day that its journey began." },
    position: { $ref: "#/$defs/place", description: "Where its front is." },
    speed: { type: "integer", minimum: 0, maximum: 300, description: "Kilometres an hour." },
    bearing: { type: "integer", minimum: 0, maximum: 359, description: "Degrees from north, clockwise." },
    state: { type: "string", enum: ["moving", "standing"], description: "What it is doing." },
    at: {
      description: "What it stands at, or what it is between.",
      oneOf: [
        {
          title: "At a station",
          type: "object",
          required: ["kind", "stop"],
          additionalProperties: false,
          properties: { kind: { const: "station" }, stop: { type: "string", pattern: "^NSR:StopPlace:\\d+$", description: "Its id in the national stop register." }, platform: { type: ["string", "null"], maxLength: 4, description: "The track, where it is known." } },
        },
        {
          title: "On the line",
          type: "object",
          required: ["kind", "from", "to"],
          additionalProperties: false,
          properties: { kind: { const: "line" }, from: { type: "string", description: "The station it has left." }, to: { type: "string", description: "The station it comes to next." } },
        },
      ],
    },
  };
  /** @type {Record<string, any>} */
  const $defs = { place };
  if (version >= 2) {
    properties["delay"] = { type: "integer", description: "Seconds behind the timetable; negative is ahead of it.", default: 0 };
    properties["state"].enum = ["moving", "standing", "held"];
    properties["state"].description = "What it is doing; held is standing where it should not.";
  }
  if (version >= 3) {
    properties["units"] = { type: "array", minItems: 1, maxItems: 12, description: "What it is made of, from the front.", items: { $ref: "#/$defs/unit" } };
    properties["speed"].maximum = 350;
    properties["bearing"].deprecated = true;
    $defs["unit"] = unit;
  }
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Position of a train",
    type: "object",
    required: ["train", "serviceDate", "position", "state"],
    additionalProperties: false,
    properties,
    $defs,
  };
}

const documentation = `Every running train tells where it is **every few seconds**, from the moment it is made ready until it has arrived for good.

## What to know

- The position is that of the *front* of the train, snapped to the track.
- \`delay\` is measured against the timetable of the day, so it may jump when the plan is changed.
- A train in a tunnel is told with its last known position and \`"state": "standing"\`.

Stations are those of the [national stop register](https://stoppested.entur.org/). Questions go to the traffic data team.`;

/** @param {1 | 2} version */
const restrictionSchema = (version) => ({
  $schema: "http://json-schema.org/draft-07/schema#",
  title: "Restriction of a track",
  type: "object",
  required: version === 1 ? ["id", "section", "speed"] : ["id", "section", "limit", "validFrom"],
  properties: {
    id: { type: "string", format: "uuid" },
    section: { $ref: "#/definitions/section" },
    ...(version === 1
      ? { speed: { type: "integer", minimum: 0, description: "Kilometres an hour." }, cause: { type: "string" } }
      : { limit: { type: "object", required: ["value"], properties: { value: { type: "integer", minimum: 10, maximum: 200 }, unit: { enum: ["km/h"] } }, description: "What trains may drive at most." }, cause: { enum: ["works", "weather", "damage"] } }),
    validFrom: { type: "string", format: "date-time" },
    validTo: { anyOf: [{ type: "string", format: "date-time" }, { type: "null" }], description: "Null until it is known." },
  },
  definitions: {
    section: {
      type: "object",
      required: ["line", "km"],
      properties: {
        line: { type: "string", examples: ["Dovrebanen"] },
        km: { type: "array", items: { type: "number", minimum: 0 }, minItems: 2, maxItems: 2, description: "From and to." },
        parts: { type: "array", items: { $ref: "#/definitions/section" }, description: "Sections that it is made of, where they differ." },
      },
    },
  },
});

/** @param {string} url */
export async function seedCatalog(url) {
  /**
   * @param {string} method
   * @param {string} path
   * @param {any} body
   */
  const send = async (method, path, body) => {
    const answer = await fetch(url + path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok && answer.status !== 409) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  };
  for (const [name, description] of [["rail-positions", "Where trains are."], ["rail-infrastructure", "What the tracks are like."], ["rail-apps", "What apps tell each other."]]) {
    await send("POST", "/v1/streams", { name, description, partitions: 1, retention: "24h" });
  }
  await send("POST", "/v1/event-types", {
    type: POSITION, stream: "rail-positions", owner: "traffic-data", audience: "public",
    description: "Where a running train is, how fast it goes and how late it is, every few seconds.", documentation,
    dedupe: "1h", sources: ["/railnet/trains"], promote: { trainstate: "/state" }, quota: { eventsPerSecond: 500 },
    examples: [{ train: "61", serviceDate: "2026-03-01", position: { latitude: 59.9109, longitude: 10.7528 }, speed: 0, state: "standing", at: { kind: "station", stop: "NSR:StopPlace:59872", platform: "4" } }],
    schema: positionSchema(1),
  });
  await send("POST", `/v1/event-types/${POSITION}/schemas`, positionSchema(2));
  await send("POST", `/v1/event-types/${POSITION}/schemas`, positionSchema(3));
  await send("POST", "/v1/event-types", {
    type: OLD_POSITION, stream: "rail-positions", owner: "traffic-data", audience: "public", description: "Where a running train is, in the form of 2019.",
    deprecation: { date: "2027-01-31", successor: POSITION, note: "The new form tells the station too." },
    schema: { type: "object", required: ["train", "lat", "lon"], properties: { train: { type: "string" }, lat: { type: "number" }, lon: { type: "number" } } },
  });
  await send("POST", "/v1/event-types", {
    type: RESTRICTION, stream: "rail-infrastructure", owner: "infrastructure", audience: "partner", compatibility: "none", keyAttribute: "line",
    description: "A part of a track where trains have to go slower, or may not go at all.",
    attributes: { type: "object", required: ["line"], properties: { line: { type: "string", minLength: 1, maxLength: 40, description: "The railway line, as the track register has it." } } },
    schema: restrictionSchema(1),
  });
  await send("POST", `/v1/event-types/${RESTRICTION}/schemas`, restrictionSchema(2));
  await send("POST", "/v1/event-types", { type: PATTERN, stream: "rail-apps", owner: "apps", audience: "internal", description: "Whatever the apps of the travellers’ information tell each other." });
}

/**
 * Publishes positions, of which each moves on a little.
 * @param {string} url
 * @param {number} from
 * @param {number} n
 */
export async function publishPositions(url, from, n) {
  const events = Array.from({ length: n }, (_, i) => {
    const at = from + i;
    const moving = at % 4 !== 0;
    return {
      specversion: "1.0", id: `p-${at}`, source: "/railnet/trains/oslo", type: POSITION, subject: `/train/${60 + (at % 5)}`, time: new Date().toISOString(),
      data: {
        train: String(60 + (at % 5)), serviceDate: new Date().toISOString().slice(0, 10),
        position: { latitude: Number((59.91 + (at % 1000) / 5000).toFixed(5)), longitude: Number((10.75 + (at % 1000) / 7000).toFixed(5)) },
        speed: moving ? 80 + (at % 40) : 0, state: moving ? "moving" : "standing", delay: (at % 7) * 20,
        at: moving ? { kind: "line", from: "Oslo S", to: "Lillestrøm" } : { kind: "station", stop: "NSR:StopPlace:59872" },
      },
    };
  });
  const answer = await fetch(`${url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/cloudevents-batch+json" }, body: JSON.stringify(events) });
  if (answer.status !== 200) throw new Error(`publishing: ${answer.status} ${await answer.text()}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await seedCatalog(process.argv[2] ?? "http://127.0.0.1:8080");
}
