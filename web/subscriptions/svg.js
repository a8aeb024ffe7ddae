// @ts-check
/** Drawing. */

const NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, typeof value === "number" ? String(Math.round(value * 10) / 10) : value);
  element.append(...children);
  return element;
}

/**
 * A line through points, and what is under it.
 * @param {[number, number][]} points
 * @param {number} floor
 * @returns {{line: string, area: string}}
 */
export function curve(points, floor) {
  const at = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
  const line = `M${at.join("L")}`;
  return { line, area: `${line}L${points.at(-1)?.[0].toFixed(1)} ${floor}L${points[0]?.[0].toFixed(1)} ${floor}Z` };
}
