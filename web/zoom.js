// @ts-check
/** Zooming into pictures that lie on top of each other in a frame, and moving them. */

const MOST = 16;
const STEP = 1.4;
// How much of the frame a part fills that is shown large.
const FILLED = 0.8;

/**
 * What is seen of a frame's layers, which follow the frame's properties --zoom, --zoom-x and --zoom-y.
 * @param {HTMLElement} frame
 */
export function zoomOf(frame) {
  let scale = 1;
  // The middle of what is seen, as parts of the picture.
  let middle = { x: 0.5, y: 0.5 };

  function apply() {
    const margin = 0.5 / scale;
    const within = (/** @type {number} */ place) => Math.min(Math.max(place, margin), 1 - margin);
    middle = { x: within(middle.x), y: within(middle.y) };
    frame.style.setProperty("--zoom", String(scale));
    frame.style.setProperty("--zoom-x", `${100 * (0.5 - middle.x * scale)}%`);
    frame.style.setProperty("--zoom-y", `${100 * (0.5 - middle.y * scale)}%`);
    frame.classList.toggle("codeformer-zoomed", scale > 1);
  }

  /**
   * A place in the frame -> the place in the picture that is seen there, both as parts.
   * @param {{ x: number, y: number }} place
   */
  const seenAt = ({ x, y }) => ({ x: middle.x + (x - 0.5) / scale, y: middle.y + (y - 0.5) / scale });

  /**
   * @param {number} by
   * @param {{ x: number, y: number }} [around] the place in the frame that stays where it is
   */
  function zoom(by, around = { x: 0.5, y: 0.5 }) {
    const fixed = seenAt(around);
    scale = Math.min(Math.max(scale * by, 1), MOST);
    middle = { x: fixed.x - (around.x - 0.5) / scale, y: fixed.y - (around.y - 0.5) / scale };
    apply();
  }

  apply();
  return {
    seenAt,
    zoom,
    zoomIn: () => zoom(STEP),
    zoomOut: () => zoom(1 / STEP),
    isZoomed: () => scale > 1,
    fit() {
      scale = 1;
      apply();
    },
    /**
     * @param {number} x how far the picture goes to the right, as a part of the frame
     * @param {number} y and downwards
     */
    move(x, y) {
      middle = { x: middle.x - x / scale, y: middle.y - y / scale };
      apply();
    },
    /**
     * Shows a part of the picture with some of what is around it.
     * @param {number[]} box left, top, right, bottom as parts of the picture
     */
    show([left, top, right, bottom]) {
      scale = Math.min(Math.max(FILLED / Math.max(right - left, bottom - top), 1), MOST);
      middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
      apply();
    },
  };
}
