// @ts-check
/** What the catalogue makes of schemas and of Markdown, without a browser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fitness } from "../catalog/catalog-words.js";
import { exampleOf, matching } from "../catalog/example.js";
import { pretty, tokens } from "../catalog/json-text.js";
import { parse as markdown } from "../catalog/markdown.js";
import { format, parse } from "../catalog/route.js";
import { compareSchemas, withVerdict } from "../catalog/schema-diff.js";
import { SchemaDocument } from "../catalog/schema-model.js";
import { diffLines, folded } from "../catalog/text-diff.js";
import { positionSchema } from "./seed-catalog.mjs";

/** @param {any} schema */
const root = (schema) => new SchemaDocument(schema).root();

/**
 * @param {import("../catalog/schema-model.js").SchemaNode} node
 * @param {...string} names
 */
function child(node, ...names) {
  for (const name of names) {
    const found = node.children().find((c) => c.name === name);
    assert.ok(found, `${name} is not among ${node.children().map((c) => c.name)}`);
    node = found;
  }
  return node;
}

test("a reference is followed in place, and one that leads back is told as the same again", () => {
  const tree = root(positionSchema(3));
  const latitude = child(tree, "position", "latitude");
  assert.deepEqual([latitude.path, latitude.pointer, latitude.typeText, latitude.required], ["/position/latitude", "/$defs/place/properties/latitude", "number", true]);
  assert.equal(child(tree, "position").description, "Where its front is.", "what stands beside the reference goes before it");
  const unit = child(tree, "units", "each item");
  const coupled = child(unit, "coupled");
  assert.equal(coupled.same, unit);
  assert.deepEqual(coupled.children(), []);
});

test("references by anchor, by id, percent-encoded, and to another document are told apart", () => {
  const tree = root({
    $id: "https://x.example/a",
    properties: { a: { $ref: "#here" }, b: { $ref: "https://x.example/a#/$defs/a~1b%20c" }, c: { $ref: "/v1/event-types/t/schemas/2" }, d: { $ref: "#" }, e: { $ref: "#/$defs/e" } },
    $defs: { named: { $anchor: "here", type: "string" }, "a/b c": { type: "integer" }, e: { $ref: "#/$defs/e" } },
  });
  assert.equal(child(tree, "a").typeText, "string");
  assert.equal(child(tree, "b").typeText, "integer");
  assert.equal(child(tree, "c").elsewhere, "/v1/event-types/t/schemas/2");
  assert.equal(child(tree, "d").same, tree);
  assert.deepEqual(child(tree, "e").children(), [], "a reference to itself has an end");
});

test("allOf is put together, or null is part of the type, options are named by what tells them apart", () => {
  const tree = root({
    allOf: [{ $ref: "#/definitions/base" }, { properties: { b: { type: ["string", "null"] } }, required: ["b"] }],
    properties: { c: { oneOf: [{ type: "null" }, { type: "integer", minimum: 1 }] } },
    oneOf: [{ properties: { kind: { const: "x" } }, required: ["kind"] }, { title: "The other", properties: { y: {} } }, { required: ["z"] }],
    definitions: { base: { properties: { a: { type: "boolean" } }, required: ["a"] } },
  });
  assert.deepEqual(tree.children().map((c) => c.name), ["c", "a", "b", "exactly one of"]);
  assert.equal(child(tree, "a").required, true);
  assert.equal(child(tree, "b").typeText, "string or null");
  assert.equal(child(tree, "c").typeText, "integer or null");
  assert.deepEqual(child(tree, "c").facts().map((f) => f.text), ["at least 1"]);
  assert.deepEqual(child(tree, "exactly one of").children().map((c) => c.name), ['kind "x"', "The other", "z given"]);
});

test("what a keyword demands is said in words", () => {
  const facts = (/** @type {any} */ schema) => root(schema).facts().map((f) => f.text);
  assert.deepEqual(facts({ type: "number", minimum: -90, maximum: 90 }), ["−90 to 90"]);
  assert.deepEqual(facts({ type: "number", exclusiveMinimum: 0, multipleOf: 0.5 }), ["above 0", "a multiple of 0.5"]);
  assert.deepEqual(facts({ type: "string", minLength: 1, maxLength: 1, format: "uuid", pattern: "^a" }), ["uuid", "exactly 1 character", "^a"]);
  assert.deepEqual(facts({ type: "array", minItems: 2, uniqueItems: true }), ["at least 2 items", "no two alike"]);
  assert.deepEqual(facts({ type: "object", additionalProperties: false, maxProperties: 3, dependentRequired: { a: ["b"] } }), ["at most 3 properties", "no other properties", "a needs b"]);
  assert.deepEqual(facts({ type: "integer", default: 0, readOnly: true }), ["0 where it is left out", "read only"]);
});

test("schemas that are true, false, empty or odd are shown", () => {
  for (const schema of [true, false, {}, { type: 7 }, { properties: 3, required: "x", enum: 1, oneOf: {}, items: null, allOf: [1] }, { $ref: "#/nowhere" }, { $ref: 5 }]) {
    const tree = root(schema);
    tree.children();
    tree.facts();
    exampleOf(tree);
    assert.equal(typeof tree.typeText, "string");
  }
  assert.equal(root(false).typeText, "nothing is allowed");
  assert.equal(root(true).typeText, "anything");
});

test("keys are unique in a tree", () => {
  const seen = new Set();
  const walk = (/** @type {import("../catalog/schema-model.js").SchemaNode} */ node) => {
    assert.ok(!seen.has(node.key), node.key);
    seen.add(node.key);
    node.children().forEach(walk);
  };
  walk(root({
    ...positionSchema(3),
    anyOf: [{ properties: { a: {} } }, { properties: { a: {} } }],
    oneOf: [{ properties: { a: {} } }, { properties: { b: { prefixItems: [{}, {}], items: { type: "object", properties: { c: {} } } } } }],
    patternProperties: { "^x-": {}, "^y/": {} },
    if: { properties: { state: { const: "held" } } }, then: { required: ["delay"] }, else: { properties: { delay: {} } },
  }));
  assert.ok(seen.size > 30);
});

/**
 * @param {any} a
 * @param {any} b
 */
const changes = (a, b) => compareSchemas(root(a), root(b)).changes.map((c) => [c.kind, c.path, c.keyword, c.old ? "old" : "", c.newer ? "newer" : ""].filter(Boolean).join(" "));

test("each kind of change is found, with whom it hurts", () => {
  const of = (/** @type {any} */ a, /** @type {any} */ b) => changes({ type: "object", properties: { p: a } }, { type: "object", properties: { p: b } });
  assert.deepEqual(of({ type: "string" }, { type: "string" }), []);
  assert.deepEqual(of({ type: "integer" }, { type: "number" }), ["changed /p type newer"]);
  assert.deepEqual(of({ type: "number" }, { type: "integer" }), ["changed /p type old"]);
  assert.deepEqual(of({ type: "string" }, { type: ["string", "null"] }), ["changed /p type newer"]);
  assert.deepEqual(of({ type: "string" }, { type: "integer" }), ["changed /p type old newer"]);
  assert.deepEqual(of({ enum: ["a", "b"] }, { enum: ["b", "c"] }), ["changed /p enum newer", "changed /p enum old"]);
  assert.deepEqual(of({ type: "string", maxLength: 5 }, { type: "string", maxLength: 9 }), ["changed /p maxLength newer"]);
  assert.deepEqual(of({ type: "integer" }, { type: "integer", minimum: 3 }), ["changed /p minimum old"]);
  assert.deepEqual(of({ type: "string", pattern: "^a" }, { type: "string", pattern: "^b" }), ["changed /p pattern old newer"]);
  assert.deepEqual(of({ type: "string", description: "x" }, { type: "string", description: "y", deprecated: true }), ["changed /p deprecated", "changed /p description"]);
  assert.deepEqual(of({ oneOf: [{ title: "A" }, { title: "B" }, { title: "C" }] }, { oneOf: [{ title: "A" }, { title: "C" }, { title: "D" }] }), ["added /p oneOf newer", "removed /p oneOf old"]);
});

test("properties that come and go are breaking where an object is closed or they are required", () => {
  const open = (/** @type {any} */ properties) => ({ type: "object", properties });
  const closed = (/** @type {any} */ properties) => ({ ...open(properties), additionalProperties: false });
  const a = { type: "string" };
  assert.deepEqual(changes(open({}), open({ a })), ["added /a properties"]);
  assert.deepEqual(changes(closed({}), closed({ a })), ["added /a properties newer"]);
  assert.deepEqual(changes(open({}), { ...open({ a }), required: ["a"] }), ["added /a required old"]);
  assert.deepEqual(changes(closed({ a }), closed({})), ["removed /a properties old"]);
  assert.deepEqual(changes({ ...open({ a }), required: ["a"] }, open({})), ["removed /a properties newer"]);
  assert.deepEqual(changes(open({ a }), { ...open({ a }), required: ["a"] }), ["changed /a required old"]);
  assert.deepEqual(changes(open({ a }), closed({ a })), ["changed additionalProperties old"]);
});

test("that a definition is moved or named otherwise is no change", () => {
  assert.deepEqual(changes({ properties: { a: { $ref: "#/$defs/x" } }, $defs: { x: { type: "object", properties: { b: { type: "string" } } } } }, { properties: { a: { allOf: [{ type: "object" }, { properties: { b: { type: "string" } } }] } } }), []);
});

test("the server's word goes before ours where it has one", () => {
  const { changes } = compareSchemas(root({ properties: { a: { type: "string" }, b: { type: "string" } } }), root({ properties: { a: { type: "integer" }, b: { type: "string", minLength: 1 } } }));
  const told = withVerdict(changes, [{ path: "/a", rule: "type-narrowed", direction: "backward", message: "text is refused now" }, { path: "/c/*", rule: "x", direction: "backward" }], "backward");
  assert.deepEqual(told.map((c) => [c.path, c.old, c.told]), [["/a", true, "text is refused now"], ["/b", false, undefined], ["/c/*", true, "x"]]);
  assert.equal(told[0]?.newer, true, "of readers the mode backward says nothing");
});

test("an example keeps to what the schema demands", () => {
  const made = exampleOf(root(positionSchema(3)));
  assert.match(made.train, /^\d{1,5}$/);
  assert.match(made.units[0].number, /^\d{2}-\d{3}$/);
  assert.deepEqual(made.at.kind, "station");
  assert.equal("coupled" in made.units[0], false, "what leads back is left out");
  assert.equal("bearing" in made, false, "what is deprecated is left out");
  assert.deepEqual(exampleOf(root({ type: "array", minItems: 3, items: { enum: ["a", "b", "c"] }, uniqueItems: true })), ["a", "b", "c"]);
  assert.equal(exampleOf(root({ type: "number", exclusiveMinimum: 0, maximum: 0.01 })) > 0, true);
  assert.equal(exampleOf(root({ type: "integer", minimum: 7, multipleOf: 5 })), 10);
  assert.equal(exampleOf(root({ type: "string", minLength: 20 })).length, 20);
});

test("a text is made for patterns of the plain kind, and none for others", () => {
  for (const pattern of ["^\\d{2}-\\d{3}$", "^NSR:StopPlace:\\d+$", "^(a|b)c?$", "[A-Z]{3}[0-9]{2,4}", "^\\w+@\\w+\\.no$", "^(?:x|y){2}$"]) {
    assert.match(matching(pattern) ?? "", new RegExp(pattern, "u"), pattern);
  }
  for (const pattern of ["^(?!a)", "(a)\\1", "[", "(", "^[^a]+$"]) assert.equal(matching(pattern), undefined, pattern);
});

test("JSON laid out is the same JSON, with its numbers as they were written", () => {
  const text = '{"a":[1.10,2e400,{"b":[]}],"c":"x\\"}","d":{"e":null,"f":true}}';
  for (const width of [0, 20, 200]) {
    const out = pretty(text, width);
    assert.equal(out.replaceAll(/\s/g, ""), text, `width ${width}`);
    assert.equal([...tokens(out)].map((t) => t.text).join(""), out);
  }
  assert.equal(pretty('{"a":{"b":1}}'), '{\n  "a": { "b": 1 }\n}');
  assert.equal(pretty("no json {"), "no json {");
});

test("the lines of a difference give both texts back", () => {
  let seed = 7;
  const random = (/** @type {number} */ n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  for (let round = 0; round < 200; round++) {
    const text = () => Array.from({ length: random(12) }, () => "abc"[random(3)] ?? "");
    const [a, b] = [text(), text()];
    const lines = diffLines(a, b);
    assert.deepEqual(lines.filter((l) => l.kind !== "added").map((l) => l.text), a);
    assert.deepEqual(lines.filter((l) => l.kind !== "removed").map((l) => l.text), b);
    const seen = folded(lines, 1).reduce((/** @type {number} */ n, l) => n + (typeof l === "number" ? l : 1), 0);
    assert.equal(seen, lines.length);
  }
  assert.deepEqual(diffLines(["a,", "b"], ["a", "b,"]).map((l) => l.kind), ["same", "same"]);
});

test("Markdown becomes blocks, and a link leads to the web or nowhere", () => {
  const blocks = markdown("# One *two*\n\ntext **bold** `code`\nmore\n\n- a\n  - b\n- c\n\n1. x\n\n```js\nlet a = `<b>`;\n```\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---");
  assert.deepEqual(blocks.map((b) => b.kind), ["heading", "paragraph", "list", "list", "code", "quote", "table", "rule"]);
  const hrefs = (/** @type {string} */ text) => JSON.stringify(markdown(text)).match(/"href":"[^"]*"/g) ?? [];
  assert.deepEqual(hrefs("[a](https://x.example/y_(z)) <https://a.example/> http://b.example/c."), ['"href":"https://x.example/y_(z)"', '"href":"https://a.example/"', '"href":"http://b.example/c"']);
  for (const bad of ["[a](javascript:alert(1))", "[a](data:text/html,x)", "[a](//x.example)", "[a](JaVaScRiPt:x)", "<javascript:x>", "[a](https://)", "[a](vbscript:x)"]) assert.deepEqual(hrefs(bad), [], bad);
});

test("Markdown that was made to be slow is not", () => {
  const begun = performance.now();
  for (const piece of ["*", "_a ", "[", "[a](", "`", "`` ` ", "> ", "- ", "**a ", "<http://", "| a ", "1. ", "# ", "\\", "https://"]) markdown(piece.repeat(65_536 / piece.length));
  for (const piece of ["> \n", "- a\n", "| a |\n|-|\n", "```\n"]) markdown(piece.repeat(65_536 / piece.length));
  assert.ok(performance.now() - begun < 10_000, `${performance.now() - begun} ms`);
});

test("an address is read as it was written", () => {
  for (const hash of ["#/", "#/?q=train+position&stream=a%26b", "#/no.x.v1", "#/a%2Fb.*/schema?at=/p/x%3FoneOf1/y", "#/no.x.v1/versions/2", "#/no.x.v1/versions/2..3?view=text", "#/no.x.v1/examples"]) {
    assert.equal(format(parse(hash)), hash);
  }
  assert.deepEqual(parse(""), { page: "list", q: "", facets: {} });
  assert.equal(parse("#/%E0%A4%A").page, "type", "what cannot be decoded is taken as it stands");
});

test("a search finds what has every word, names first", () => {
  const type = /** @type {any} */ ({ type: "no.railnet.train.position.v1", stream: "s", owner: "o", description: "Where a train is", documentation: "Delay in seconds" });
  assert.ok(fitness(type, ["position"]) > fitness(type, ["where"]));
  assert.ok(fitness(type, ["where"]) > fitness(type, ["delay"]));
  assert.equal(fitness(type, ["position", "bus"]), 0);
});
