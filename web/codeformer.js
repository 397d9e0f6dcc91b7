// @ts-check
/**
 * The browser side: what appears inside the pack's nodes. One module for each kind of view; all of them draw what a node
 * says in its `ui` output and keep no state of their own but the node's widgets.
 */

import { app } from "../../scripts/app.js";

import { addBeforeAfter } from "./before_after.js";
import { beforeConfigureGraph } from "./examples.js";
import { addFacePicker } from "./face_picker.js";
import { addFidelityTiles, addRestorerTiles } from "./fidelity_tiles.js";
import { hideMeaningless } from "./meaningful_widgets.js";
import { showNumbersAsWords } from "./number_words.js";
import { onNodeOutputsUpdated } from "./shared.js";

/** @type {Record<string, (node: any) => void>} */
const VIEWS = {
  CodeFormerDetectFaces: addFacePicker,
  CodeFormerSelectFaces: addFacePicker,
  CodeFormerFaceRestore: addBeforeAfter,
  CodeFormerQuickFaceRestore: addBeforeAfter,
  CodeFormerRestoreVideoFaces: addBeforeAfter,
  CodeFormerCompareFidelity: addFidelityTiles,
  CodeFormerCompareRestorers: addRestorerTiles,
};

app.registerExtension({
  name: "codeformer.faces",
  /** @param {any} node */
  nodeCreated(node) {
    hideMeaningless(node);
    showNumbersAsWords(node);
    VIEWS[node.comfyClass]?.(node);
  },
  beforeConfigureGraph,
  onNodeOutputsUpdated,
});
