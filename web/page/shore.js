// @ts-check
/** Closed lines, such as coasts, that are long: what is out of view costs next to nothing to draw. */

/** @typedef {import("./projection.js").Point} Point */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Bounds in kilometres */

/** Corners of a piece. */
const PIECE = 48;

export class Shore {
  /** @type {{path: Path2D, bounds: Bounds}[]} closed, to be filled */ #rings = [];
  /** @type {{path: Path2D, bounds: Bounds}[]} open, to be stroked */ #pieces = [];

  /**
   * @param {Point[][]} rings
   * @param {number} finest corners nearer to each other than this, in km, are left out
   */
  constructor(rings, finest) {
    for (const ring of rings) {
      const corners = thinned(ring, finest);
      if (corners.length < 4) continue;
      this.#rings.push({ path: closed(corners), bounds: boundsOf(corners) });
      for (let i = 0; i < corners.length; i += PIECE) {
        const piece = Array.from({ length: Math.min(PIECE, corners.length - i) + 2 }, (_, j) => /** @type {Point} */ (corners[(i + j) % corners.length]));
        this.#pieces.push({ path: rounded(piece), bounds: boundsOf(piece) });
      }
    }
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Bounds} view
   */
  fill(ctx, view) {
    ctx.fill(inView(this.#rings, view));
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Bounds} view
   * @param {number[]} widths in kilometres, one stroke each
   */
  stroke(ctx, view, ...widths) {
    const path = inView(this.#pieces, view);
    for (const width of widths) {
      ctx.lineWidth = width;
      ctx.stroke(path);
    }
  }
}

/** @param {Point[]} points */
export function boundsOf(points) {
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

/**
 * @param {{path: Path2D, bounds: Bounds}[]} parts
 * @param {Bounds} view
 */
function inView(parts, view) {
  const path = new Path2D();
  for (const { path: part, bounds: b } of parts) {
    if (b.left < view.right && b.right > view.left && b.top < view.bottom && b.bottom > view.top) path.addPath(part);
  }
  return path;
}

/**
 * @param {Point[]} ring
 * @param {number} finest
 */
function thinned(ring, finest) {
  /** @type {Point[]} */
  const kept = [];
  for (const p of ring) {
    const last = kept.at(-1);
    if (!last || Math.hypot(p[0] - last[0], p[1] - last[1]) >= finest) kept.push(p);
  }
  return kept;
}

/** @param {Point[]} corners */
function closed(corners) {
  const path = rounded([...corners, /** @type {Point} */ (corners[0]), /** @type {Point} */ (corners[1])]);
  path.closePath();
  return path;
}

/**
 * A line from the middle of its first two corners to that of its last two, a little rounded at the corners between.
 * @param {Point[]} corners
 */
function rounded(corners) {
  const path = new Path2D();
  const between = (/** @type {Point} */ a, /** @type {Point} */ b, /** @type {number} */ f) => /** @type {Point} */ ([a[0] + (b[0] - a[0]) * f, a[1] + (b[1] - a[1]) * f]);
  for (let i = 1; i + 1 < corners.length; i++) {
    const [before, corner, after] = /** @type {[Point, Point, Point]} */ (corners.slice(i - 1, i + 2));
    if (i === 1) path.moveTo(...between(before, corner, 0.5));
    path.lineTo(...between(before, corner, 0.7));
    path.quadraticCurveTo(...corner, ...between(corner, after, 0.3));
    path.lineTo(...between(corner, after, 0.5));
  }
  return path;
}
