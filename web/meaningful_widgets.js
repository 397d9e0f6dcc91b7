// @ts-check
/** Widgets that mean something only in company of others are out of sight until they do. Their values stay in the workflow. */

import { onLoaded } from "./shared.js";

/** @typedef {{ linked?: string, unlinked?: string, widget?: string, is?: string }} Condition */

/** @type {Condition} */
const WITH_REFERENCE = { linked: "reference" };
/** @type {Condition} */
const WITH_REGIONS = { widget: "mask", is: "regions" };
/** @type {Condition} */
const DETECTS = { unlinked: "selected_faces" };
/** @type {Condition} */
const DETECTS_ALONE = { unlinked: "faces" };
const FOUND_BEFORE = { confidence: DETECTS, smallest_face: DETECTS, largest_face: DETECTS, faces: DETECTS };
const PERSON = { person: WITH_REFERENCE, person_distance: WITH_REFERENCE };
const FOUND = { confidence: DETECTS_ALONE, smallest_face: DETECTS_ALONE };

/** Node -> widget -> when it means something. @type {Record<string, Record<string, Condition>>} */
const WIDGETS = {
  CodeFormerFaceRestore: { regions: WITH_REGIONS, ...FOUND_BEFORE, ...PERSON },
  CodeFormerPasteFaces: { regions: WITH_REGIONS },
  CodeFormerSelectFaces: PERSON,
  CodeFormerTrackFaces: PERSON,
  CodeFormerRestoreVideoFaces: PERSON,
  CodeFormerColorizePhoto: FOUND,
  CodeFormerInpaintPhoto: FOUND,
};

/** @param {any} node */
export function hideMeaningless(node) {
  const conditions = Object.entries(WIDGETS[node.comfyClass] ?? {}).flatMap(([name, condition]) => {
    const widget = node.widgets?.find((/** @type {any} */ one) => one.name === name);
    return widget ? [{ widget, condition }] : [];
  });
  if (!conditions.length) return;

  function update() {
    let changed = false;
    for (const { widget, condition } of conditions) {
      const hidden = !holds(node, condition) && !isLinked(node, widget.name);
      changed ||= Boolean(widget.hidden) !== hidden;
      widget.hidden = hidden;
      // Nodes 2.0 looks here.
      widget.options.hidden = hidden;
    }
    if (changed) fitHeight(node);
  }

  const onConnectionsChange = node.onConnectionsChange;
  node.onConnectionsChange = function () {
    onConnectionsChange?.apply(this, arguments);
    update();
  };
  for (const name of new Set(conditions.map(({ condition }) => condition.widget))) {
    const widget = node.widgets.find((/** @type {any} */ one) => one.name === name);
    if (!widget) continue;
    const callback = widget.callback;
    widget.callback = function () {
      const result = callback?.apply(this, arguments);
      update();
      return result;
    };
  }
  onLoaded(node, update);
  update();
}

/**
 * @param {any} node
 * @param {Condition} condition
 */
function holds(node, { linked, unlinked, widget, is }) {
  if (linked) return isLinked(node, linked);
  if (unlinked) return !isLinked(node, unlinked);
  // A choice that another node makes may be any.
  if (widget && isLinked(node, widget)) return true;
  return node.widgets.find((/** @type {any} */ one) => one.name === widget)?.value === is;
}

/**
 * @param {any} node
 * @param {string} name
 */
function isLinked(node, name) {
  return node.inputs?.find((/** @type {any} */ input) => input.name === name)?.link != null;
}

/** A node is never lower than its widgets; what it gained for some that are gone it keeps. @param {any} node */
function fitHeight(node) {
  const [width, height] = node.size;
  node.setSize?.([width, Math.max(height, node.computeSize()[1])]);
  node.graph?.setDirtyCanvas?.(true, true);
}
