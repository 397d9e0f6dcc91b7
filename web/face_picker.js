// @ts-check
/**
 * The face picker: numbered boxes over the picture, each a button that keeps or drops its face.
 *
 * The choice is the value of the node's `picked` widget, JSON: {"1": [[left, top, right, bottom], ...]}, per picture
 * number the boxes of the kept faces as parts of its width and height. A picture that is missing keeps all its faces.
 */

import {
  addView,
  element,
  hiddenWidget,
  noteChange,
  onLoaded,
  onOutput,
  pictureURL,
  proportions,
  text,
  toast,
} from "./shared.js";

/** @typedef {{ number: number, box: number[], score: number, kept: boolean, left_out: boolean }} ShownFace */
/** @typedef {{ image: import("./shared.js").SavedPicture, width: number, height: number, faces: ShownFace[] }} ShownPicture */

// As in the node (faces/picks.py).
const SAME_FACE = 0.5;

/** @param {any} node */
export function addFacePicker(node) {
  const widget = hiddenWidget(node, "picked");
  if (!widget) return;
  const root = element("div", { className: "codeformer-picker" });
  addView(node, "face_picker", root, 320);

  /** @type {ShownPicture[]} */
  let pictures = [];
  let total = 0;
  let current = 0;

  function draw() {
    if (!pictures.length) {
      root.replaceChildren(element("p", { textContent: text(widget.value ? "picks_wait" : "run_to_see") }));
      return;
    }
    current = Math.min(current, pictures.length - 1);
    root.replaceChildren(toolbar(), stage(pictures[current]), ...notes());
  }

  function toolbar() {
    const faces = pictures[current].faces;
    const kept = faces.filter((face) => face.kept).length;
    const bar = element("div", { className: "codeformer-bar" });
    if (pictures.length > 1) {
      bar.append(
        button("◀", text("previous"), () => go(-1), current === 0),
        element("span", { textContent: text("picture", { index: current + 1, count: pictures.length }) }),
        button("▶", text("next"), () => go(1), current === pictures.length - 1),
      );
    }
    bar.append(
      element("span", { className: "codeformer-count", textContent: text("kept", { kept, count: faces.length }) }),
      button(text("all"), text("all"), () => keepEach(true), kept === faces.length),
      button(text("none"), text("none"), () => keepEach(false), kept === 0),
    );
    return bar;
  }

  /** @param {ShownPicture} picture */
  function stage(picture) {
    const image = element("img", { src: pictureURL(picture.image), alt: "", draggable: false });
    image.addEventListener("error", () => toast("warn", text("not_loaded")), { once: true });
    const frame = element("div", { className: "codeformer-frame" }, image, ...picture.faces.map(faceButton));
    proportions(frame, picture);
    return element("div", { className: "codeformer-stage" }, frame);
  }

  /** @param {ShownFace} face */
  function faceButton(face) {
    const [left, top, right, bottom] = face.box;
    const state = !face.kept ? "face_dropped" : face.left_out ? "face_left_out" : "face_kept";
    const title = text(state, { number: face.number });
    const made = button(String(face.number), title, () => {
      face.kept = !face.kept;
      save();
      draw();
      root.querySelector(`[data-number="${face.number}"]`)?.focus();
    });
    made.classList.add("codeformer-face");
    made.classList.toggle("codeformer-left-out", face.kept && face.left_out);
    made.dataset.number = String(face.number);
    made.setAttribute("aria-pressed", String(face.kept));
    Object.assign(made.style, {
      // A small face stays within reach where a larger box covers it.
      zIndex: String(Math.round(1000 * (1 - (right - left) * (bottom - top)))),
      left: `${100 * left}%`,
      top: `${100 * top}%`,
      width: `${100 * (right - left)}%`,
      height: `${100 * (bottom - top)}%`,
    });
    return made;
  }

  function notes() {
    const notes = [];
    if (!pictures[current].faces.length) notes.push(text("no_faces"));
    if (total > pictures.length) notes.push(text("only_first", { shown: pictures.length, count: total }));
    return notes.map((note) => element("p", { textContent: note }));
  }

  /** @param {number} step */
  function go(step) {
    current += step;
    draw();
  }

  /** @param {boolean} kept */
  function keepEach(kept) {
    for (const face of pictures[current].faces) face.kept = kept;
    save();
    draw();
  }

  /** Only this picture's choice is written: the others' may stand for pictures that are not shown. */
  function save() {
    const picks = stored();
    const { faces } = pictures[current];
    const number = String(current + 1);
    if (faces.every((face) => face.kept)) delete picks[number];
    else picks[number] = faces.filter((face) => face.kept).map((face) => face.box);
    widget.value = Object.keys(picks).length ? JSON.stringify(picks) : "";
    noteChange(node);
  }

  /** @returns {Record<string, number[][]>} */
  function stored() {
    try {
      const picks = JSON.parse(widget.value || "{}");
      if (picks && !Array.isArray(picks) && Object.values(picks).every(Array.isArray)) return picks;
    } catch {
      // Told below: a workflow edited by hand.
    }
    toast("warn", text("unreadable"));
    return {};
  }

  /** After undo or redo the widget's choice is another one than that of the run. */
  function keepStored() {
    const picks = stored();
    pictures.forEach(({ faces }, index) => {
      const boxes = picks[String(index + 1)];
      const kept = faces.map((face) => !boxes || boxes.some((box) => overlap(box, face.box) > SAME_FACE));
      // As the node does it: where none of the picked faces is there the picture has changed, and all are kept.
      const changed = boxes?.length && !kept.includes(true);
      faces.forEach((face, place) => (face.kept = changed || kept[place]));
    });
  }

  onOutput(node, "codeformer_faces", (said, again) => {
    // A copy: what is kept changes with each press, and the output stays the editor's.
    pictures = JSON.parse(JSON.stringify(said.pictures));
    total = said.total;
    if (again) keepStored();
    else if (said.changed.length) toast("warn", text("changed", { numbers: said.changed.join(", ") }));
    draw();
  });
  onLoaded(node, draw);
  draw();
}

/**
 * The common area of two boxes as a part of the area they cover together.
 * @param {number[]} one
 * @param {number[]} other
 */
function overlap([left, top, right, bottom], [otherLeft, otherTop, otherRight, otherBottom]) {
  const across = Math.max(0, Math.min(right, otherRight) - Math.max(left, otherLeft));
  const down = Math.max(0, Math.min(bottom, otherBottom) - Math.max(top, otherTop));
  const both = (right - left) * (bottom - top) + (otherRight - otherLeft) * (otherBottom - otherTop);
  return (across * down) / (both - across * down);
}

/**
 * @param {string} label
 * @param {string} title
 * @param {() => void} press
 * @param {boolean} [disabled]
 */
function button(label, title, press, disabled = false) {
  const made = element("button", { type: "button", textContent: label, title, disabled });
  made.setAttribute("aria-label", title);
  made.addEventListener("click", press);
  return made;
}
