// @ts-check
/**
 * What the address says: each thing that can be looked at has one.
 *
 *     #/?q=train&stream=a            the list, searched and filtered
 *     #/no.x.v1                      a type
 *     #/no.x.v1/schema?at=/train     a place in its latest schema
 *     #/no.x.v1/versions/2           an older schema
 *     #/no.x.v1/versions/2..3        what changed between two
 *     #/no.x.v1/examples             a part of the page
 */

/** @typedef {"stream" | "owner" | "audience" | "state"} Facet */
/** @type {Facet[]} */
export const FACETS = ["stream", "owner", "audience", "state"];

/**
 * @typedef {{page: "list", q: string, facets: Partial<Record<Facet, string>>}} ListRoute
 * @typedef {object} TypeRoute
 * @property {"type"} page
 * @property {string} type
 * @property {string} [section]
 * @property {number} [version]
 * @property {[number, number]} [compare]
 * @property {string} [at] a node's key
 * @property {"tree" | "text"} [view]
 */
/** @typedef {ListRoute | TypeRoute} Route */

/**
 * @param {string} hash
 * @returns {Route}
 */
export function parse(hash) {
  const [path = "", query = ""] = cut(hash.replace(/^#?\/?/, ""), "?");
  const parameters = new URLSearchParams(query);
  const [type = "", section = "", which = ""] = path.split("/").map(decode);
  if (!type) {
    /** @type {ListRoute} */
    const list = { page: "list", q: parameters.get("q") ?? "", facets: {} };
    for (const f of FACETS) {
      const value = parameters.get(f);
      if (value) list.facets[f] = value;
    }
    return list;
  }
  /** @type {TypeRoute} */
  const route = { page: "type", type };
  const two = /^(\d+)\.\.(\d+)$/.exec(which);
  if (section === "versions" && two) route.compare = [Number(two[1]), Number(two[2])];
  else if (section === "versions" && /^\d+$/.test(which)) route.version = Number(which);
  else if (section) route.section = section;
  const at = parameters.get("at");
  if (at !== null) route.at = at;
  if (parameters.get("view") === "text") route.view = "text";
  return route;
}

/**
 * @param {Route} route
 * @returns {string}
 */
export function format(route) {
  const query = new URLSearchParams();
  let path = "";
  if (route.page === "list") {
    if (route.q) query.set("q", route.q);
    for (const f of FACETS) if (route.facets[f]) query.set(f, route.facets[f]);
  } else {
    path = encodeURIComponent(route.type);
    if (route.compare) path += `/versions/${route.compare[0]}..${route.compare[1]}`;
    else if (route.version) path += `/versions/${route.version}`;
    else if (route.section) path += `/${route.section}`;
    else if (route.at !== undefined || route.view === "text") path += "/schema";
    if (route.at !== undefined) query.set("at", route.at);
    if (route.view === "text") query.set("view", "text");
  }
  const text = String(query).replaceAll("%2F", "/");
  return `#/${path}${text && `?${text}`}`;
}

/**
 * @param {string} text
 * @param {string} at
 */
function cut(text, at) {
  const i = text.indexOf(at);
  return i < 0 ? [text] : [text.slice(0, i), text.slice(i + at.length)];
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
