// @ts-check
/** The grid of fidelities: a press on a tile sets that fidelity in the nodes that restore with it. */

import { addView, element, noteChange, onOutput, pictureURL, proportions, text, toast } from "./shared.js";

/** @param {any} node */
export function addFidelityTiles(node) {
  const root = element("div", { className: "codeformer-tiles" });
  addView(node, "fidelity_tiles", root, 320);
  root.append(element("p", { textContent: text("run_to_tile") }));

  onOutput(node, "codeformer_fidelity", (said) => {
    const image = element("img", { src: pictureURL(said.image), alt: "", draggable: false });
    image.addEventListener("error", () => toast("warn", text("not_loaded")), { once: true });
    const frame = element("div", { className: "codeformer-frame" }, image);
    proportions(frame, said);
    for (const { fidelity, box } of said.tiles) {
      const [left, top, right, bottom] = box;
      const title = text("use_fidelity", { fidelity });
      const tile = element("button", { type: "button", className: "codeformer-tile", title });
      tile.setAttribute("aria-label", title);
      tile.dataset.fidelity = String(fidelity);
      tile.addEventListener("click", () => useFidelity(node, fidelity));
      Object.assign(tile.style, {
        left: `${100 * left}%`,
        top: `${100 * top}%`,
        width: `${100 * (right - left)}%`,
        height: `${100 * (bottom - top)}%`,
      });
      frame.append(tile);
    }
    root.replaceChildren(element("div", { className: "codeformer-stage" }, frame));
  });
}

/**
 * Sets the fidelity of the nodes that this one feeds; feeds it none, of those that use the same model.
 * @param {any} node
 * @param {number} fidelity
 */
function useFidelity(node, fidelity) {
  const fed = withFidelity(nodesFedBy(node));
  const model = node.getInputNode(node.findInputSlot("face_restore_model"));
  const chosen = fed.length ? fed : withFidelity(model ? nodesFedBy(model) : []);
  if (!chosen.length) {
    toast("info", text("fidelity_nowhere"));
    return;
  }
  for (const { widget } of chosen) {
    widget.value = fidelity;
    widget.callback?.(fidelity);
  }
  noteChange(node);
  toast("success", text("fidelity_set", { fidelity, nodes: chosen.map((one) => one.node.title).join(", ") }));
}

/** @param {any} node */
function nodesFedBy(node) {
  const slots = node.outputs?.map((/** @type {any} */ _, /** @type {number} */ slot) => slot) ?? [];
  return slots.flatMap((/** @type {number} */ slot) => node.getOutputNodes(slot) ?? []);
}

/** @param {any[]} nodes */
function withFidelity(nodes) {
  return [...new Set(nodes)]
    .map((node) => ({ node, widget: node.widgets?.find((/** @type {any} */ one) => one.name === "fidelity") }))
    .filter(({ widget }) => widget);
}
