// @ts-check
/**
 * What the address says.
 *
 *     #/?q=billing&sort=name   the list, searched and sorted
 *     #/<id>                   a subscription
 *     #/new?type=no.x.v1       making one, of a type or of a stream
 *     #/new-webhook?stream=x   the same for one with a sink
 */

/** @typedef {"lag" | "name"} Sort */
/**
 * @typedef {{page: "list", q: string, sort: Sort}} ListRoute
 * @typedef {{page: "subscription", id: string}} SubscriptionRoute
 * @typedef {{page: "new", stream: string, type: string} | {page: "new-webhook", stream: string, type: string}} NewRoute
 */
/** @typedef {ListRoute | SubscriptionRoute | NewRoute} Route */

/**
 * @param {string} hash
 * @returns {Route}
 */
export function parse(hash) {
  const [, path = "", query = ""] = /^#?\/?([^?]*)\??(.*)$/.exec(hash) ?? [];
  const parameters = new URLSearchParams(query);
  if (path === "new" || path === "new-webhook") return { page: path, stream: parameters.get("stream") ?? "", type: parameters.get("type") ?? "" };
  if (path) return { page: "subscription", id: decode(path) };
  return { page: "list", q: parameters.get("q") ?? "", sort: parameters.get("sort") === "name" ? "name" : "lag" };
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
    if (route.sort === "name") query.set("sort", route.sort);
  } else if (route.page === "new" || route.page === "new-webhook") {
    path = route.page;
    if (route.stream) query.set("stream", route.stream);
    if (route.type) query.set("type", route.type);
  } else {
    path = encodeURIComponent(route.id);
  }
  return `#/${path}${query.size ? `?${query}` : ""}`;
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
