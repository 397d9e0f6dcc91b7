// @ts-check
/** Before and after on top of each other, with a slider between them. */

import { addView, element, onOutput, pictureURL, proportions, text, toast } from "./shared.js";

/** @typedef {{ before: import("./shared.js").SavedPicture, after: import("./shared.js").SavedPicture, width: number, height: number }} Pair */

/** @param {any} node */
export function addBeforeAfter(node) {
  const root = element("div", { className: "codeformer-compare" });
  addView(node, "before_after", root, 280);
  root.append(element("p", { textContent: text("run_to_compare") }));

  /** @type {Pair[]} */
  let pairs = [];
  let total = 0;
  let current = 0;
  let share = 50;

  function draw() {
    const pair = pairs[current];
    const frame = element(
      "div",
      { className: "codeformer-frame" },
      picture(pair.before, text("before")),
      picture(pair.after, text("after")),
    );
    proportions(frame, pair);
    frame.lastChild.classList.add("codeformer-after");
    const slider = element("input", { type: "range", min: "0", max: "100", value: String(share), title: text("compare") });
    slider.setAttribute("aria-label", text("compare"));
    const wipe = () => {
      share = Number(slider.value);
      frame.style.setProperty("--share", `${share}%`);
    };
    slider.addEventListener("input", wipe);
    wipe();
    frame.append(slider);
    const bar = element("div", { className: "codeformer-bar" });
    if (pairs.length > 1) {
      bar.append(
        step("◀", text("previous"), -1),
        element("span", { textContent: text("picture", { index: current + 1, count: pairs.length }) }),
        step("▶", text("next"), 1),
      );
    }
    if (total > pairs.length) {
      bar.append(element("span", { textContent: text("only_first", { shown: pairs.length, count: total }) }));
    }
    root.replaceChildren(bar, element("div", { className: "codeformer-stage" }, frame));
  }

  /**
   * @param {string} label
   * @param {string} title
   * @param {number} by
   */
  function step(label, title, by) {
    const disabled = !pairs[current + by];
    const made = element("button", { type: "button", textContent: label, title, disabled });
    made.setAttribute("aria-label", title);
    made.addEventListener("click", () => {
      current += by;
      draw();
    });
    return made;
  }

  onOutput(node, "codeformer_compare", (said) => {
    pairs = said.pairs;
    total = said.total;
    current = Math.min(current, pairs.length - 1);
    draw();
  });
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
