// @ts-check
/** The difference of two texts, line by line, by Myers' greedy algorithm. */

/** @typedef {{kind: "same" | "added" | "removed", text: string, old?: number, new?: number}} Line numbers count from 1 */

/** Texts that differ in more lines than this are shown as all removed and all added: it bounds time and memory. */
const MOST = 1500;

/**
 * @param {string[]} older
 * @param {string[]} newer
 * @returns {Line[]}
 */
export function diffLines(older, newer) {
  // That a member has come to be the last, or no longer is, is no difference.
  const [a, b] = [older, newer].map((lines) => lines.map((l) => l.replace(/,$/, "")));
  return a && b ? compare(a, b, older, newer) : [];
}

/**
 * @param {string[]} a
 * @param {string[]} b
 * @param {string[]} older what is shown for a
 * @param {string[]} newer
 * @returns {Line[]}
 */
function compare(a, b, older, newer) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const same = (/** @type {number} */ i, /** @type {number} */ j) => ({ kind: /** @type {const} */ ("same"), text: newer[j] ?? "", old: i + 1, new: j + 1 });

  /** @type {Line[]} */
  const lines = [];
  for (let i = 0; i < start; i++) lines.push(same(i, i));
  for (const { kind, at } of edits(a.slice(start, a.length - end), b.slice(start, b.length - end))) {
    const [i, j] = [at[0] + start, at[1] + start];
    if (kind === "same") lines.push(same(i, j));
    else if (kind === "removed") lines.push({ kind, text: older[i] ?? "", old: i + 1 });
    else lines.push({ kind, text: newer[j] ?? "", new: j + 1 });
  }
  for (let i = a.length - end, j = b.length - end; i < a.length; i++, j++) lines.push(same(i, j));
  return lines;
}

/**
 * @param {string[]} a
 * @param {string[]} b
 * @returns {{kind: Line["kind"], at: [number, number]}[]}
 */
function edits(a, b) {
  const [n, m] = [a.length, b.length];
  const most = Math.min(n + m, MOST);
  const middle = most + 1;
  const furthest = new Int32Array(2 * most + 3);
  /** @type {Int32Array[]} */
  const trace = [];
  let found = -1;
  outer: for (let d = 0; d <= most; d++) {
    trace.push(furthest.slice(middle - d - 1, middle + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && (furthest[middle + k - 1] ?? 0) < (furthest[middle + k + 1] ?? 0));
      let x = down ? (furthest[middle + k + 1] ?? 0) : (furthest[middle + k - 1] ?? 0) + 1;
      while (x < n && x - k < m && a[x] === b[x - k]) x++;
      furthest[middle + k] = x;
      if (x >= n && x - k >= m) {
        found = d;
        break outer;
      }
    }
  }
  /** @type {{kind: Line["kind"], at: [number, number]}[]} */
  const out = [];
  if (found < 0) {
    for (let i = 0; i < n; i++) out.push({ kind: "removed", at: [i, 0] });
    for (let j = 0; j < m; j++) out.push({ kind: "added", at: [n, j] });
    return out;
  }
  let [x, y] = [n, m];
  for (let d = found; d >= 0; d--) {
    const before = /** @type {Int32Array} */ (trace[d]);
    const get = (/** @type {number} */ k) => before[k + d + 1] ?? 0;
    const k = x - y;
    const down = k === -d || (k !== d && get(k - 1) < get(k + 1));
    const fromK = down ? k + 1 : k - 1;
    const fromX = d === 0 ? 0 : get(fromK);
    const fromY = d === 0 ? 0 : fromX - fromK;
    while (x > fromX && y > fromY) out.push({ kind: "same", at: [--x, --y] });
    if (d === 0) break;
    if (down) out.push({ kind: "added", at: [x, --y] });
    else out.push({ kind: "removed", at: [--x, y] });
  }
  return out.reverse();
}

/**
 * Leaves out what is the same and far from any difference; a number stands for that many lines.
 * @param {Line[]} lines
 * @param {number} [context]
 * @returns {(Line | number)[]}
 */
export function folded(lines, context = 3) {
  const near = new Uint8Array(lines.length);
  lines.forEach((line, i) => {
    if (line.kind !== "same") near.fill(1, Math.max(0, i - context), i + context + 1);
  });
  // A fold that hides no more than it takes itself is none.
  for (let i = 1; i + 1 < near.length; i++) if (near[i - 1] && near[i + 1]) near[i] = 1;
  /** @type {(Line | number)[]} */
  const out = [];
  lines.forEach((line, i) => {
    const last = out.at(-1);
    if (near[i]) out.push(line);
    else if (typeof last === "number") out[out.length - 1] = last + 1;
    else out.push(1);
  });
  return out;
}
