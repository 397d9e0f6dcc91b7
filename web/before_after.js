// @ts-check
/** Before and after on top of each other, with a slider between them; picture by picture and face by face. */

import { addView, dropEditorsPreview, element, iconButton, onOutput, pictureURL, proportions, text, toast } from "./shared.js";
import { zoomOf } from "./zoom.js";

/** @typedef {{ box: number[], before: import("./shared.js").SavedPicture, after: import("./shared.js").SavedPicture }} Patch */
/**
 * state: restored, faded or left; what is not known of a face is missing.
 * @typedef {{ box: number[], state: string, share?: number, sharpness?: number, identity?: number, reason?: string, patch?: Patch }} ShownFace
 */
/** @typedef {{ before: import("./shared.js").SavedPicture, after: import("./shared.js").SavedPicture, width: number, height: number, number: number, faces: ShownFace[] }} Pair */

// Pixels of the screen: how near to the line a press moves it, and from where on a press is a drag.
const NEAR_THE_LINE = 14;
const DRAG = 4;
const KEY_MOVE = 0.1;
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** @param {any} node */
export function addBeforeAfter(node) {
  const root = element("div", { className: "codeformer-compare" });
  addView(node, "before_after", root, 360);
  root.dataset.captureWheel = "true";
  root.append(element("p", { textContent: text("run_to_compare") }));

  /** @type {Pair[]} */
  let pairs = [];
  let total = 0;
  let current = 0;
  // The face that is shown large; -1: the whole picture.
  let face = -1;
  let share = 50;
  /** @type {ReturnType<typeof zoomOf>} */
  let zoom;

  const stage = element("div", { className: "codeformer-stage" });
  const facts = element("p", { className: "codeformer-facts" });
  facts.setAttribute("aria-live", "polite");
  const wipe = slider("codeformer-wipe", text("compare"), () => setShare(Number(wipe.value)));
  wipe.title = text("keys");
  const frames = slider("codeformer-frames", text("previous"), () => showPair(Number(frames.value)));
  const place = element("span", { className: "codeformer-place" });
  const previous = iconButton("◀", text("previous"), () => showPair(current - 1));
  const next = iconButton("▶", text("next"), () => showPair(current + 1));
  const faceBefore = iconButton("◀", text("face_previous"), () => showFace(face - 1));
  const faceAfter = iconButton("▶", text("face_next"), () => showFace(face + 1));
  const faceNumber = element("span", { className: "codeformer-face-number" });
  const report = element("details", { className: "codeformer-report" });

  /** @param {string[]} reports of the items of a list, or the only one */
  function draw(reports) {
    const some = element("span", { textContent: text("some_of", { shown: pairs.length, count: total }) });
    const pictures = element("div", { className: "codeformer-bar" }, previous, frames, place, next);
    const faces = element("span", { className: "codeformer-bar codeformer-steps" }, faceBefore, faceNumber, faceAfter);
    const tools = element(
      "div",
      { className: "codeformer-bar" },
      ...(pairs.some((pair) => pair.faces.length) ? [faces] : []),
      iconButton("−", text("zoom_out"), () => zoom.zoomOut()),
      iconButton("⤢", text("zoom_fit"), () => showFace(-1)),
      iconButton("+", text("zoom_in"), () => zoom.zoomIn()),
    );
    // Totals first.
    const totals = reports.map((one) => one.split("\n", 1)[0]).join(" · ");
    report.replaceChildren(
      element("summary", { textContent: totals }),
      element("pre", { textContent: reports.join("\n\n") }),
    );
    root.replaceChildren(
      ...(pairs.length > 1 ? [pictures] : []),
      ...(total > pairs.length ? [element("div", { className: "codeformer-bar" }, some)] : []),
      tools,
      stage,
      facts,
      report,
    );
    frames.max = String(pairs.length - 1);
    showPair(Math.min(current, pairs.length - 1));
  }

  /** @param {number} index */
  function showPair(index) {
    current = Math.min(Math.max(index, 0), pairs.length - 1);
    const pair = pairs[current];
    const number = { index: pair.number, count: total };
    place.textContent = text("frame_number", number);
    frames.value = String(current);
    frames.setAttribute("aria-label", text("frame", number));
    frames.setAttribute("aria-valuetext", text("frame", number));
    setDisabled(previous, current === 0);
    setDisabled(next, current === pairs.length - 1);
    const frame = element(
      "div",
      { className: "codeformer-frame" },
      pane("codeformer-before", pair, "before"),
      pane("codeformer-after", pair, "after"),
      element("div", { className: "codeformer-pane" }, layer(pair.faces.map(outline))),
      element("span", { className: "codeformer-tag", textContent: text("before") }),
      element("span", { className: "codeformer-tag codeformer-tag-after", textContent: text("after") }),
      element("span", { className: "codeformer-line" }),
      wipe,
    );
    proportions(frame, pair);
    zoom = zoomOf(frame);
    listen(frame);
    stage.replaceChildren(frame);
    setShare(share);
    showFace(-1);
  }

  /** @param {number} value in percent from the left */
  function setShare(value) {
    share = Math.min(Math.max(value, 0), 100);
    wipe.value = String(share);
    stage.firstChild?.style.setProperty("--share", `${share}%`);
  }

  /** @param {number} index */
  function showFace(index) {
    const { faces } = pairs[current];
    face = Math.min(Math.max(index, -1), faces.length - 1);
    const count = faces.length;
    const shown = faces[face];
    if (shown) zoom.show(shown.box);
    else zoom.fit();
    faceNumber.textContent = shown ? text("face_number", { number: face + 1, count }) : text("faces_count", { count });
    setDisabled(faceBefore, face < 0);
    setDisabled(faceAfter, face === faces.length - 1);
    facts.textContent = shown ? factsOf(shown) : "";
    [...stage.querySelectorAll(".codeformer-outline")].forEach((one, place) =>
      one.classList.toggle("codeformer-current", place === face),
    );
  }

  /** @param {HTMLElement} frame */
  function listen(frame) {
    /** @type {{ x: number, y: number, line: boolean, moved: boolean } | null} */
    let press = null;
    frame.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      wipe.focus({ preventScroll: true });
      const { left, width } = frame.getBoundingClientRect();
      const nearLine = Math.abs(event.clientX - left - (share / 100) * width) < NEAR_THE_LINE;
      press = { x: event.clientX, y: event.clientY, line: nearLine || !zoom.isZoomed(), moved: false };
      frame.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    frame.addEventListener("pointermove", (event) => {
      if (!press) return;
      const [x, y] = [event.clientX - press.x, event.clientY - press.y];
      press.moved ||= Math.hypot(x, y) > DRAG;
      if (!press.moved) return;
      const { width, height } = frame.getBoundingClientRect();
      if (press.line) setShare(100 * placeIn(frame, event).x);
      else {
        zoom.move(x / width, y / height);
        Object.assign(press, { x: event.clientX, y: event.clientY });
      }
    });
    frame.addEventListener("pointerup", (event) => {
      if (press && !press.moved) pressAt(placeIn(frame, event));
      press = null;
    });
    frame.addEventListener("pointercancel", () => (press = null));
    // Only for who works in this view: the wheel is the canvas's otherwise.
    frame.addEventListener("wheel", (event) => {
      if (!root.contains(document.activeElement)) return;
      event.preventDefault();
      event.stopPropagation();
      zoom.zoom(Math.exp(-event.deltaY / 400), placeIn(frame, event));
    });
  }

  /**
   * A press on a face shows it large, on the picture beside the faces it moves the line.
   * @param {{ x: number, y: number }} pressed
   */
  function pressAt(pressed) {
    const { x, y } = zoom.seenAt(pressed);
    const { faces } = pairs[current];
    const hit = faces.findLastIndex(({ box }) => box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3]);
    if (hit >= 0 && hit !== face) showFace(hit);
    else setShare(100 * pressed.x);
  }

  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (!pairs.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { PageUp: -1, PageDown: 1 }[event.key];
    if (event.key === "+" || event.key === "=") zoom.zoomIn();
    else if (event.key === "-") zoom.zoomOut();
    else if (event.key === "0") showFace(-1);
    else if (event.shiftKey && ARROWS[event.key]) {
      zoom.move(KEY_MOVE * ARROWS[event.key][0], KEY_MOVE * ARROWS[event.key][1]);
    } else if (step && event.target !== frames) showFace(face + step);
    else return;
    event.preventDefault();
  });

  onOutput(node, "codeformer_compare", (_, __, all) => {
    let before = 0;
    pairs = [];
    for (const said of all) {
      for (const pair of said.pairs) pairs.push({ ...pair, number: before + pair.number });
      before += said.total;
    }
    total = before;
    dropEditorsPreview(node);
    if (pairs.length) draw(all.map((said) => said.report));
  });
}

/** @param {ShownFace} face */
function factsOf({ state, share, sharpness, identity, reason }) {
  if (state === "left" && reason) return `${text("left")} · ${reason}`;
  const said = [state === "faded" ? text("faded", { percent: Math.round(100 * (share ?? 1)) }) : text(state)];
  if (sharpness !== undefined) said.push(text("sharpness", { value: sharpness.toFixed(2) }));
  if (identity !== undefined) said.push(text("identity", { value: identity.toFixed(2) }));
  return said.join(" · ");
}

/**
 * @param {string} kind
 * @param {Pair} pair
 * @param {"before" | "after"} side
 */
function pane(kind, pair, side) {
  const patches = pair.faces.flatMap(({ patch }) => (patch ? [placed(picture(patch[side], ""), patch.box)] : []));
  return element("div", { className: `codeformer-pane ${kind}` }, layer([picture(pair[side], text(side)), ...patches]));
}

/** @param {HTMLElement[]} children */
function layer(children) {
  return element("div", { className: "codeformer-layer" }, ...children);
}

/** @param {ShownFace} face */
function outline(face) {
  return placed(element("span", { className: `codeformer-outline codeformer-${face.state}` }), face.box);
}

/**
 * @param {HTMLElement} made
 * @param {number[]} box
 */
function placed(made, [left, top, right, bottom]) {
  Object.assign(made.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
  return made;
}

/**
 * @param {HTMLElement} frame
 * @param {{ clientX: number, clientY: number }} event
 */
function placeIn(frame, { clientX, clientY }) {
  const { left, top, width, height } = frame.getBoundingClientRect();
  return { x: (clientX - left) / width, y: (clientY - top) / height };
}

/**
 * @param {string} className
 * @param {string} label
 * @param {() => void} input
 */
function slider(className, label, input) {
  const made = element("input", { type: "range", min: "0", max: "100", className });
  made.setAttribute("aria-label", label);
  made.addEventListener("input", input);
  return made;
}

/**
 * A button that has the focus keeps it: it stays pressable, and does nothing.
 * @param {HTMLElement} button
 * @param {boolean} disabled
 */
function setDisabled(button, disabled) {
  button.setAttribute("aria-disabled", String(disabled));
}

/**
 * @param {import("./shared.js").SavedPicture} saved
 * @param {string} alt
 */
function picture(saved, alt) {
  const image = element("img", { src: pictureURL(saved), alt, draggable: false });
  image.addEventListener("error", () => toast("warn", text("not_loaded")), { once: true });
  return image;
}
