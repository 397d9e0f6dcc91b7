// @ts-check
/** One face as often as it was restored, each with its numbers, the best of them marked. A press on a fidelity's tile sets that
 * fidelity in the nodes that restore with it. */

import { addView, element, noteChange, onOutput, pictureURL, text, toast } from "./shared.js";

/**
 * Numbers are missing where a face has none; best: the names of those in which no other tile is better.
 * @typedef {{ image: import("./shared.js").SavedPicture, label: string, fidelity?: number, identity?: number, sharpness?: number, niqe?: number, best: string[] }} Tile
 */

/** @type {["identity" | "sharpness" | "niqe", number][]} name, digits */
const NUMBERS = [
  ["identity", 2],
  ["sharpness", 2],
  ["niqe", 1],
];

/** @param {any} node */
export function addFidelityTiles(node) {
  addTiles(node, "codeformer_fidelity", "run_to_tile", ({ fidelity }) => useFidelity(node, fidelity ?? 0));
}

/** @param {any} node */
export function addRestorerTiles(node) {
  addTiles(node, "codeformer_restorers", "run_to_tile_restorers");
}

/**
 * @param {any} node
 * @param {string} output
 * @param {string} hint
 * @param {(tile: Tile) => void} [press]
 */
function addTiles(node, output, hint, press) {
  const root = element("div", { className: "codeformer-tiles" });
  addView(node, output, root, 320);
  root.append(element("p", { textContent: text(hint) }));
  onOutput(node, output, (_, __, all) => {
    const grid = element("div", { className: "codeformer-grid" });
    grid.setAttribute("role", "list");
    for (const said of all) {
      if (said.input) grid.append(item(tileOf({ image: said.input, label: text("input"), best: [] })));
      for (const tile of said.tiles) grid.append(item(tileOf(tile, press)));
    }
    root.replaceChildren(grid);
  });
}

/** @param {HTMLElement} tile */
function item(tile) {
  const made = element("div", {}, tile);
  made.setAttribute("role", "listitem");
  return made;
}

/**
 * @param {Tile} tile
 * @param {(tile: Tile) => void} [press]
 */
function tileOf(tile, press) {
  const image = element("img", { src: pictureURL(tile.image), alt: "", draggable: false });
  image.addEventListener("error", () => toast("warn", text("not_loaded")), { once: true });
  const numbers = NUMBERS.flatMap(([name, digits]) => {
    const value = tile[name];
    return value === undefined ? [] : [numberOf(name, value.toFixed(digits), tile.best.includes(name))];
  });
  const made = element(
    press ? "button" : "div",
    { className: "codeformer-tile" },
    image,
    element("strong", { textContent: tile.label }),
    ...numbers,
  );
  if (press) {
    Object.assign(made, { type: "button", title: text("use_fidelity", { fidelity: tile.fidelity ?? 0 }) });
    made.dataset.fidelity = String(tile.fidelity);
    made.addEventListener("click", () => press(tile));
  }
  return made;
}

/**
 * @param {string} name
 * @param {string} value
 * @param {boolean} best
 */
function numberOf(name, value, best) {
  const shown = element("span", { className: "codeformer-value", textContent: value });
  if (best) shown.setAttribute("aria-label", `${value}, ${text("tile_best")}`);
  return element(
    "span",
    { className: `codeformer-number${best ? " codeformer-best" : ""}`, title: text(`about_${name}`) },
    element("span", { textContent: text(`tile_${name}`) }),
    shown,
  );
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
