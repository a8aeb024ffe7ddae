// @ts-check
/**
 * A JSON Schema as a tree for people: references are followed in place, `allOf` is put together, "or null" is part of a
 * type, and what a keyword demands is said in words. Drafts 2020-12 and 07. A node's children are made when they are
 * asked for, so that a schema that leads back into itself has an end.
 */

/** @typedef {any} Json */
/** @typedef {{schema: Json, pointer: string}} Part one of the schemas that all hold at a place, and where it stands */
/** @typedef {"root" | "property" | "pattern" | "others" | "item" | "choice" | "option"} Kind */
/** @typedef {{keyword: string, text: string, code?: boolean}} Fact */

/** @param {string} token */
export const escapeToken = (token) => token.replaceAll("~", "~0").replaceAll("/", "~1");

/**
 * @param {Json} value
 * @returns {value is Record<string, Json>}
 */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

const DRAFT_7 = /draft-0[4-7]/;

export class SchemaDocument {
  /** @type {Map<string, string>} */ #named = new Map();

  /**
   * @param {Json} schema
   * @param {string} [url] its own address
   */
  constructor(schema, url = "") {
    this.schema = schema;
    this.url = url;
    this.old = isObject(schema) && DRAFT_7.test(String(schema["$schema"] ?? ""));
    this.#collect(schema, "", 0);
  }

  /**
   * Anchors and ids within the document.
   * @param {Json} value
   * @param {string} pointer
   * @param {number} depth
   */
  #collect(value, pointer, depth) {
    if (depth > 64 || typeof value !== "object" || value === null) return;
    for (const [key, child] of Object.entries(value)) {
      if (typeof child === "string") {
        if (key === "$anchor" || key === "$dynamicAnchor") this.#named.set(`#${child}`, pointer);
        if (key === "$id") this.#named.set(child.replace(/#$/, ""), pointer);
        if (key === "$id" && child.startsWith("#")) this.#named.set(child, pointer);
      } else if (key !== "enum" && key !== "const" && key !== "examples" && key !== "default") {
        this.#collect(child, `${pointer}/${escapeToken(key)}`, depth + 1);
      }
    }
  }

  /**
   * @param {string} pointer
   * @returns {Json}
   */
  at(pointer) {
    let value = this.schema;
    for (const token of pointer.split("/").slice(1)) {
      const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
      if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
      value = value[key];
    }
    return value;
  }

  /**
   * @param {string} reference
   * @returns {string | undefined} the pointer that it leads to, undefined where that is in another document
   */
  locate(reference) {
    if (this.#named.has(reference)) return this.#named.get(reference);
    const [address = "", fragment = ""] = reference.split("#");
    const begin = address === "" || address === this.url ? "" : this.#named.get(address);
    if (begin === undefined) return undefined;
    if (fragment === "") return begin;
    if (!fragment.startsWith("/")) return this.#named.get(`#${fragment}`);
    let pointer = fragment;
    try {
      pointer = decodeURIComponent(fragment);
    } catch {
      // It is taken as it stands.
    }
    return this.at(begin + pointer) === undefined ? undefined : begin + pointer;
  }

  root() {
    return new SchemaNode(this, { kind: "root", name: "data", key: "", path: "", required: true, from: [{ schema: this.schema, pointer: "" }] });
  }
}

/**
 * @typedef {object} Place
 * @property {Kind} kind
 * @property {string} name
 * @property {string} key unique in the tree: the path in the data, with the options chosen on the way
 * @property {string} path where in the data: a JSON Pointer, * for any name or index
 * @property {boolean} required
 * @property {boolean} [undeclared] it is only required, nothing says what it is
 * @property {string} [title] of an option
 * @property {Part[]} from
 */

export class SchemaNode {
  /** @type {Part[]} */ parts = [];
  /** Names of what was put together here, and of the one definition it is. @type {string[]} */ names = [];
  /** A reference to another document. @type {string | undefined} */ elsewhere;
  /** The ancestor that this is the same as. @type {SchemaNode | undefined} */ same;
  nullable = false;
  /** @type {SchemaNode[] | undefined} */ #children;
  /** @type {Map<string, SchemaNode>} */ #passed;

  /**
   * @param {SchemaDocument} document
   * @param {Place} place
   * @param {SchemaNode} [parent]
   */
  constructor(document, place, parent) {
    this.document = document;
    this.parent = parent;
    this.kind = place.kind;
    this.name = place.name;
    this.key = place.key;
    this.path = place.path;
    this.required = place.required;
    this.undeclared = place.undeclared ?? false;
    this.label = place.title ?? "";
    /** Where in the schema it stands. */
    this.pointer = place.from[0]?.pointer ?? "";
    this.#passed = new Map(parent ? parent.#passed : []);
    for (const part of place.from) this.#take(part, []);
    for (const { pointer } of this.parts) if (!this.#passed.has(pointer)) this.#passed.set(pointer, this);
  }

  /**
   * @param {Part} part
   * @param {string[]} way references on the way, so that one that leads to itself has an end
   */
  #take({ schema, pointer }, way) {
    if (!isObject(schema)) {
      this.parts.push({ schema, pointer });
      return;
    }
    const reference = schema["$ref"] ?? schema["$dynamicRef"] ?? schema["$recursiveRef"];
    // Beside a reference draft-07 counts nothing; what it says of the meaning is worth reading all the same.
    const own = this.document.old && reference !== undefined ? pick(schema, ["title", "description", "examples", "default", "deprecated"]) : schema;
    this.parts.push({ schema: own, pointer });
    if (typeof reference === "string") {
      const target = this.document.locate(reference);
      if (target === undefined) this.elsewhere ??= reference;
      else if (!way.includes(target)) {
        if (target) this.names.push(lastToken(target));
        const passed = this.#passed.get(target);
        if (passed) this.same ??= passed;
        else this.#take({ schema: this.document.at(target), pointer: target }, [...way, target]);
      }
    }
    if (Array.isArray(own["allOf"])) own["allOf"].forEach((s, i) => this.#take({ schema: s, pointer: `${pointer}/allOf/${i}` }, way));
    for (const keyword of ["anyOf", "oneOf"]) {
      const options = own[keyword];
      if (!orNull(options)) continue;
      const i = options.findIndex((/** @type {Json} */ o) => !isNull(o));
      this.nullable = true;
      this.#take({ schema: options[i], pointer: `${pointer}/${keyword}/${i}` }, way);
    }
  }

  /**
   * What the first of the parts says that says anything.
   * @param {string} keyword
   * @returns {Json}
   */
  get(keyword) {
    for (const { schema } of this.parts) if (isObject(schema) && Object.hasOwn(schema, keyword)) return schema[keyword];
    return undefined;
  }

  /**
   * @param {string} keyword
   * @returns {Json[]}
   */
  #each(keyword) {
    return this.parts.flatMap(({ schema }) => (isObject(schema) && Object.hasOwn(schema, keyword) ? [schema[keyword]] : []));
  }

  get description() {
    const d = this.get("description");
    return typeof d === "string" ? d : "";
  }

  get title() {
    const t = this.get("title");
    return typeof t === "string" ? t : "";
  }

  get deprecated() {
    return this.get("deprecated") === true;
  }

  /** Nothing is valid here. */
  get never() {
    return this.parts.some((p) => p.schema === false);
  }

  /** @returns {Json[]} */
  get examples() {
    const list = this.#each("examples").find(Array.isArray) ?? [];
    const one = this.get("example");
    return one === undefined ? list : [...list, one];
  }

  /** @returns {Json[] | undefined} the values that are allowed, where they are listed */
  get values() {
    if (this.get("const") !== undefined) return [this.get("const")];
    const lists = this.#each("enum").filter(Array.isArray);
    if (lists.length === 0) return undefined;
    return lists.reduce((a, b) => a.filter((/** @type {Json} */ v) => b.some((/** @type {Json} */ w) => equal(v, w))));
  }

  /** The types that are allowed, null among them. @returns {string[]} */
  get types() {
    const lists = this.#each("type").map((t) => (Array.isArray(t) ? t : [t]).map(String));
    const [first, ...rest] = lists;
    let types = first ? rest.reduce((a, b) => a.filter((t) => b.includes(t) || (t === "integer" && b.includes("number"))), first) : [];
    if (types.length === 0) types = this.#inferred();
    return this.nullable && types.length && !types.includes("null") ? [...types, "null"] : types;
  }

  /** What the other keywords make a reader expect. */
  #inferred() {
    const { values } = this;
    if (values) return [...new Set(values.map(typeOf))];
    const says = (/** @type {string[]} */ ...keywords) => keywords.some((k) => this.get(k) !== undefined);
    if (says("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties", "maxProperties")) return ["object"];
    if (says("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems")) return ["array"];
    if (says("pattern", "format", "minLength", "maxLength", "contentMediaType")) return ["string"];
    if (says("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")) return ["number"];
    return [];
  }

  /** The type in words: "array of string", "object or null". @returns {string} */
  get typeText() {
    if (this.never) return "nothing is allowed";
    const types = this.types.map((t) => {
      if (t !== "array") return t;
      const items = this.item();
      const of = items && !items.same ? items.types.filter((i) => i !== "array").join(" or ") : "";
      return of ? `array of ${of}` : "array";
    });
    if (types.length) return types.join(" or ");
    if (this.same || this.elsewhere) return "";
    return this.children().some((c) => c.kind === "choice") ? "" : "anything";
  }

  /** What each item of an array is. @returns {SchemaNode | undefined} */
  item() {
    const each = this.#each("items").find((i) => !Array.isArray(i));
    if (each === undefined) return undefined;
    const part = this.parts.find((p) => isObject(p.schema) && p.schema["items"] === each);
    return new SchemaNode(
      this.document,
      { kind: "item", name: "each item", key: `${this.key}/*`, path: `${this.path}/*`, required: true, from: [{ schema: each, pointer: `${part?.pointer ?? ""}/items` }] },
      this,
    );
  }

  /** What is demanded beyond the type, in words. @returns {Fact[]} */
  facts() {
    /** @type {Fact[]} */
    const facts = [];
    const say = (/** @type {string} */ keyword, /** @type {string} */ text, code = false) => facts.push(code ? { keyword, text, code } : { keyword, text });
    const format = this.get("format");
    if (format !== undefined) say("format", String(format));
    const range = bounds(this);
    if (range) say("minimum", range);
    if (this.get("multipleOf") !== undefined) say("multipleOf", `a multiple of ${this.get("multipleOf")}`);
    const lengths = span(this.get("minLength"), this.get("maxLength"), "character");
    if (lengths) say("minLength", lengths);
    for (const pattern of this.#each("pattern")) say("pattern", String(pattern), true);
    const items = span(this.get("minItems"), this.get("maxItems"), "item");
    if (items) say("minItems", items);
    if (this.get("uniqueItems") === true) say("uniqueItems", "no two alike");
    const properties = span(this.get("minProperties"), this.get("maxProperties"), "property");
    if (properties) say("minProperties", properties);
    if (this.closed && this.types.includes("object")) say("additionalProperties", "no other properties");
    const names = this.get("propertyNames");
    if (isObject(names)) say("propertyNames", `names ${names["pattern"] ? `match ${names["pattern"]}` : names["enum"] ? `are ${names["enum"].join(", ")}` : "are restricted"}`);
    for (const [name, needs] of [...Object.entries(this.get("dependentRequired") ?? {}), ...Object.entries(this.get("dependencies") ?? {})]) {
      if (Array.isArray(needs) && needs.length) say("dependentRequired", `${name} needs ${needs.join(", ")}`);
    }
    if (this.get("contentMediaType")) say("contentMediaType", `holds ${this.get("contentMediaType")}${this.get("contentEncoding") ? ` in ${this.get("contentEncoding")}` : ""}`);
    else if (this.get("contentEncoding")) say("contentEncoding", `in ${this.get("contentEncoding")}`);
    if (this.get("default") !== undefined) say("default", `${JSON.stringify(this.get("default"))} where it is left out`);
    if (this.get("readOnly") === true) say("readOnly", "read only");
    if (this.get("writeOnly") === true) say("writeOnly", "write only");
    const not = this.get("not");
    if (not !== undefined) say("not", isObject(not) && (not["const"] !== undefined || not["enum"]) ? `not ${[].concat(not["enum"] ?? [not["const"]]).map((v) => JSON.stringify(v)).join(", ")}` : isObject(not) && Array.isArray(not["required"]) ? `never with ${not["required"].join(" and ")}` : "not what the schema's not describes");
    return facts;
  }

  /** Whether properties that are not listed are refused. */
  get closed() {
    return this.#each("additionalProperties").includes(false) || this.#each("unevaluatedProperties").includes(false);
  }

  /** @returns {SchemaNode[]} */
  children() {
    this.#children ??= this.same || this.elsewhere ? [] : this.#make();
    return this.#children;
  }

  #make() {
    /** @type {SchemaNode[]} */
    const out = [];
    /**
     * @param {Omit<Place, "required"> & {required?: boolean}} place
     */
    const add = (place) => out.push(new SchemaNode(this.document, { required: false, ...place }, this));
    const at = (/** @type {string} */ token) => `${this.key}/${escapeToken(token)}`;
    const within = (/** @type {string} */ token) => `${this.path}/${escapeToken(token)}`;

    const required = new Set(this.#each("required").filter(Array.isArray).flat().map(String));
    /** @type {Map<string, Part[]>} */
    const properties = new Map();
    for (const { schema, pointer } of this.parts) {
      if (!isObject(schema) || !isObject(schema["properties"])) continue;
      for (const [name, child] of Object.entries(schema["properties"])) {
        properties.set(name, [...(properties.get(name) ?? []), { schema: child, pointer: `${pointer}/properties/${escapeToken(name)}` }]);
      }
    }
    for (const [name, from] of properties) add({ kind: "property", name, key: at(name), path: within(name), required: required.has(name), from });
    for (const name of required) {
      if (!properties.has(name)) add({ kind: "property", name, key: at(name), path: within(name), required: true, undeclared: true, from: [{ schema: true, pointer: this.pointer }] });
    }
    for (const { schema, pointer } of this.parts) {
      if (!isObject(schema)) continue;
      for (const [pattern, child] of Object.entries(isObject(schema["patternProperties"]) ? schema["patternProperties"] : {})) {
        add({ kind: "pattern", name: pattern, key: `${this.key}/~${escapeToken(pattern)}`, path: `${this.path}/*`, from: [{ schema: child, pointer: `${pointer}/patternProperties/${escapeToken(pattern)}` }] });
      }
      for (const keyword of ["additionalProperties", "unevaluatedProperties"]) {
        if (isObject(schema[keyword])) add({ kind: "others", name: properties.size ? "any other name" : "any name", key: `${this.key}/~`, path: `${this.path}/*`, from: [{ schema: schema[keyword], pointer: `${pointer}/${keyword}` }] });
      }
      const tuple = Array.isArray(schema["prefixItems"]) ? "prefixItems" : Array.isArray(schema["items"]) ? "items" : "";
      if (tuple) {
        schema[tuple].forEach((/** @type {Json} */ child, /** @type {number} */ i) =>
          add({ kind: "item", name: `item ${i}`, key: at(String(i)), path: within(String(i)), from: [{ schema: child, pointer: `${pointer}/${tuple}/${i}` }] }));
      }
      const rest = tuple === "items" ? "additionalItems" : "items";
      if (isObject(schema[rest])) {
        const node = new SchemaNode(this.document, { kind: "item", name: tuple ? "each further item" : "each item", key: `${this.key}/*`, path: `${this.path}/*`, required: true, from: [{ schema: schema[rest], pointer: `${pointer}/${rest}` }] }, this);
        // An item of which there is no more to say than its type is told by the array's own.
        if (tuple || node.worthARow()) out.push(node);
      }
      if (isObject(schema["contains"])) add({ kind: "item", name: "at least one item", key: `${this.key}/~contains`, path: `${this.path}/*`, from: [{ schema: schema["contains"], pointer: `${pointer}/contains` }] });
      for (const keyword of /** @type {const} */ (["oneOf", "anyOf"])) {
        const options = schema[keyword];
        if (!Array.isArray(options) || orNull(options)) continue;
        out.push(this.#choice(keyword === "oneOf" ? "exactly one of" : "any of", keyword, pointer, options.map((/** @type {Json} */ s, /** @type {number} */ i) => ({ part: { schema: s, pointer: `${pointer}/${keyword}/${i}` }, title: "" }))));
      }
      if (schema["if"] !== undefined && (schema["then"] !== undefined || schema["else"] !== undefined)) {
        const when = condition(schema["if"]);
        out.push(this.#choice(when ? "depending on" : "on a condition", "if", pointer, [
          ...(schema["then"] === undefined ? [] : [{ part: { schema: schema["then"], pointer: `${pointer}/then` }, title: when ? `if ${when}` : "if it holds" }]),
          ...(schema["else"] === undefined ? [] : [{ part: { schema: schema["else"], pointer: `${pointer}/else` }, title: "otherwise" }]),
        ]));
      }
      for (const keyword of ["dependentSchemas", "dependencies"]) {
        const found = Object.entries(isObject(schema[keyword]) ? schema[keyword] : {}).filter(([, s]) => isObject(s));
        if (found.length) out.push(this.#choice("depending on", keyword, pointer, found.map(([name, s]) => ({ part: { schema: s, pointer: `${pointer}/${keyword}/${escapeToken(name)}` }, title: `if ${name} is there` }))));
      }
    }
    return out;
  }

  /**
   * @param {string} name
   * @param {string} keyword
   * @param {string} pointer
   * @param {{part: Part, title: string}[]} options
   */
  #choice(name, keyword, pointer, options) {
    const key = `${this.key}?${keyword}${this.parts.findIndex((p) => p.pointer === pointer) || ""}`;
    const choice = new SchemaNode(this.document, { kind: "choice", name, key, path: this.path, required: false, from: [] }, this);
    choice.pointer = `${pointer}/${keyword}`;
    choice.#children = options.map(({ part, title }, i) => {
      const option = new SchemaNode(this.document, { kind: "option", name: "", key: `${key}${i}`, path: this.path, required: false, title, from: [part] }, choice);
      option.name = title || optionName(option) || `option ${i + 1}`;
      return option;
    });
    return choice;
  }

  /** Whether there is more to say of an array's item than its type. */
  worthARow() {
    return Boolean(
      this.same || this.elsewhere || this.children().length || this.facts().length || this.values || this.description || this.title || this.examples.length || this.types.includes("array"),
    );
  }
}

/** @param {Json} s */
const isNull = (s) => isObject(s) && (s["type"] === "null" || s["const"] === null);

/**
 * Whether there are two options, one of which is null.
 * @param {Json} options
 * @returns {boolean}
 */
const orNull = (options) => Array.isArray(options) && options.length === 2 && options.filter(isNull).length === 1;

/**
 * @param {SchemaNode} option
 * @returns {string}
 */
function optionName(option) {
  if (option.title) return option.title;
  if (option.names[0]) return option.names[0];
  const { values } = option;
  if (values?.length === 1) return JSON.stringify(values[0]);
  const children = option.children();
  const constant = children.find((c) => c.values?.length === 1);
  if (constant) return `${constant.name} ${JSON.stringify(constant.values?.[0])}`;
  const bare = children.filter((c) => c.undeclared);
  if (bare.length && bare.length === children.length) return `${bare.map((c) => c.name).join(" and ")} given`;
  const types = option.types.filter((t) => t !== "object");
  return types.length ? option.typeText : "";
}

/**
 * A condition in words, where it is of the usual form.
 * @param {Json} schema
 * @returns {string}
 */
function condition(schema) {
  if (!isObject(schema)) return "";
  const parts = Object.entries(isObject(schema["properties"]) ? schema["properties"] : {}).map(([name, s]) => {
    if (isObject(s) && s["const"] !== undefined) return `${name} is ${JSON.stringify(s["const"])}`;
    if (isObject(s) && Array.isArray(s["enum"])) return `${name} is ${s["enum"].map((v) => JSON.stringify(v)).join(" or ")}`;
    return "";
  });
  if (parts.length === 0 && Array.isArray(schema["required"])) return `${schema["required"].join(" and ")} is there`;
  return parts.every(Boolean) ? parts.join(" and ") : "";
}

/** @param {SchemaNode} node */
function bounds(node) {
  const [low, high, above, below] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].map((k) => node.get(k));
  if (typeof low === "number" && typeof high === "number") return `${number(low)} to ${number(high)}`;
  const parts = [];
  if (typeof low === "number") parts.push(`at least ${number(low)}`);
  if (typeof above === "number") parts.push(`above ${number(above)}`);
  if (typeof high === "number") parts.push(`at most ${number(high)}`);
  if (typeof below === "number") parts.push(`below ${number(below)}`);
  return parts.join(", ");
}

/** @param {number} n with a minus that is one */
const number = (n) => String(n).replace(/^-/, "−");

/**
 * @param {Json} least
 * @param {Json} most
 * @param {string} noun
 */
function span(least, most, noun) {
  const many = (/** @type {number} */ n) => `${n} ${n === 1 ? noun : noun === "property" ? "properties" : `${noun}s`}`;
  if (typeof least === "number" && typeof most === "number") return least === most ? `exactly ${many(least)}` : `${least} to ${many(most)}`;
  if (typeof least === "number" && least > 0) return `at least ${many(least)}`;
  return typeof most === "number" ? `at most ${many(most)}` : "";
}

/**
 * @param {Record<string, Json>} from
 * @param {string[]} keys
 */
const pick = (from, keys) => Object.fromEntries(keys.filter((k) => Object.hasOwn(from, k)).map((k) => [k, from[k]]));

/** @param {string} pointer */
const lastToken = (pointer) => (pointer.split("/").at(-1) ?? "").replaceAll("~1", "/").replaceAll("~0", "~");

/** @param {Json} value */
export function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

/**
 * @param {Json} a
 * @param {Json} b
 * @returns {boolean}
 */
export function equal(a, b) {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const [x, y] = [Object.keys(a), Object.keys(b)];
  return x.length === y.length && x.every((k) => Object.hasOwn(b, k) && equal(a[k], b[k]));
}
