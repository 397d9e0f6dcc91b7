// @ts-check
/** What all views need: their place in the node, the server's pictures, and toasts. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

export { text } from "./words.js";

/** @typedef {{ filename: string, subfolder: string, type: string }} SavedPicture */

/**
 * @param {"info" | "success" | "warn" | "error"} severity
 * @param {string} detail
 */
export function toast(severity, detail) {
  app.extensionManager?.toast?.add?.({ severity, summary: "CodeFormer", detail, life: 8000 });
}

/** @param {SavedPicture} picture */
export function pictureURL(picture) {
  return api.apiURL(`/view?${new URLSearchParams({ ...picture })}`);
}

/**
 * An HTML element with properties and children.
 * @param {string} tag
 * @param {Record<string, any>} properties
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * A button with a sign on it, named for screen readers. While it is aria-disabled a press does nothing.
 * @param {string} sign
 * @param {string} title
 * @param {() => void} press
 */
export function iconButton(sign, title, press) {
  const made = element("button", { type: "button", textContent: sign, title });
  made.setAttribute("aria-label", title);
  made.addEventListener("click", () => made.getAttribute("aria-disabled") !== "true" && press());
  return made;
}

/**
 * Makes a frame as large as fits, in the picture's proportions.
 * @param {HTMLElement} frame
 * @param {{ width: number, height: number }} picture
 */
export function proportions(frame, { width, height }) {
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.setProperty("--proportion", String(width / height));
}

/**
 * A view at the bottom of the node. It is no input: nothing of it is saved or sent.
 * @param {any} node
 * @param {string} name
 * @param {HTMLElement} root
 * @param {number} height of the smallest view, in pixels at zoom 1
 */
export function addView(node, name, root, height) {
  addStyle();
  root.classList.add("codeformer-view");
  root.dataset.nodeType = node.comfyClass;
  // Otherwise a press would drag the node, and a key would reach the canvas's shortcuts. A key with Ctrl is for the
  // editor: run, undo, save.
  for (const kind of ["pointerdown", "mousedown", "dblclick", "keydown"]) {
    root.addEventListener(kind, (/** @type {any} */ event) => {
      if (!event.button && !event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
  }
  moveCanvasFrom(root);
  const widget = node.addDOMWidget(name, name, root, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  const [width, tall] = node.size;
  node.setSize?.([Math.max(width, 320), Math.max(tall, node.computeSize()[1])]);
  keepOnScreen(node, root);
  return widget;
}

/** Which node each view belongs to. @type {WeakMap<Element, any>} */
const NODE_OF_VIEW = new WeakMap();

/**
 * Brings the view to where the user sees it in the cases in which the editor does not.
 * @param {any} node
 * @param {HTMLElement} root
 */
function keepOnScreen(node, root) {
  NODE_OF_VIEW.set(root, node);
  onLoaded(node, () => setTimeout(() => replaceOldView(node, root), 0));
  // "Replace Node" puts the new node into the graph without calling onAdded, where the editor's classic nodes register
  // their elements.
  let added = false;
  const onAdded = node.onAdded;
  node.onAdded = function () {
    added = true;
    onAdded?.apply(this, arguments);
  };
  setTimeout(() => {
    if (!added && node.graph) node.onAdded(node.graph);
  }, 0);
}

/**
 * Undo makes all nodes anew, with the ids they had. Nodes 2.0 takes a node of the same id for the same node and keeps the
 * old one's view mounted, whose presses would go to a node that is gone.
 * @param {any} node
 * @param {HTMLElement} root
 */
function replaceOldView(node, root) {
  if (root.isConnected || node.graph !== app.canvas?.graph) return;
  const views = [...document.querySelectorAll(".codeformer-view")];
  const old = views.find((view) => String(NODE_OF_VIEW.get(view)?.id) === String(node.id));
  old?.replaceWith(root);
}

/**
 * The wheel zooms and the middle button moves the canvas also where a view lies over it. In Nodes 2.0 it does not lie over
 * it, and the editor sees these events itself.
 * @param {HTMLElement} root
 */
function moveCanvasFrom(root) {
  const handOn = (/** @type {Event} */ event, /** @type {string} */ to) => {
    const { LiteGraph } = /** @type {any} */ (window);
    if (!LiteGraph?.vueNodesMode) app.canvas?.[to]?.(event);
  };
  root.addEventListener("wheel", (event) => handOn(event, "processMouseWheel"), { passive: false });
  root.addEventListener("pointerdown", (event) => event.button === 1 && handOn(event, "processMouseDown"));
  root.addEventListener("pointermove", (event) => event.buttons & 4 && handOn(event, "processMouseMove"));
  root.addEventListener("pointerup", (event) => event.button === 1 && handOn(event, "processMouseUp"));
}

/**
 * Tells the editor that a widget has another value, so that undo takes back this change alone: what it sees of itself, a
 * released button, comes before the press does its work.
 * @param {any} node
 */
export function noteChange(node) {
  node.graph?.setDirtyCanvas?.(true, true);
  app.canvas?.emitBeforeChange?.();
  app.canvas?.emitAfterChange?.();
}

/**
 * Takes a widget that a view fills out of sight; its value stays in the workflow.
 * @param {any} node
 * @param {string} name
 */
export function hiddenWidget(node, name) {
  const widget = node.widgets?.find((/** @type {any} */ one) => one.name === name);
  if (widget) {
    widget.hidden = true;
    widget.options = { ...widget.options, hidden: true };
    widget.computeSize = () => [0, -4];
  }
  return widget;
}

/** @typedef {{ node: any, name: string, show: (said: any, again: boolean, all: any[]) => void, told: boolean, empty: boolean }} Listener */

/** @type {Set<Listener>} */
const LISTENERS = new Set();

/**
 * Calls `show` with the node's `ui` output of this name, each time a workflow with it has run; and `again` when the node
 * was made anew, by undo or on the way back from another tab, and the editor still has the output of the last run. A node
 * that was fed a list has an output for each of its items: `all`, of which `said` is the first.
 * @param {any} node
 * @param {string} name
 * @param {(said: any, again: boolean, all: any[]) => void} show
 */
export function onOutput(node, name, show) {
  /** @type {Listener} */
  const listener = { node, name, show, told: false, empty: true };
  LISTENERS.add(listener);
  onLoaded(node, () => setTimeout(() => showKept(listener), 0));
  const executed = node.onExecuted;
  node.onExecuted = function (/** @type {any} */ output) {
    executed?.apply(this, arguments);
    tell(listener, output);
  };
  const removed = node.onRemoved;
  node.onRemoved = function () {
    removed?.apply(this, arguments);
    LISTENERS.delete(listener);
  };
}

/**
 * @param {Listener} listener
 * @param {any} output
 * @param {boolean} [again]
 */
function tell(listener, output, again = false) {
  const said = output?.[listener.name]?.[0];
  if (!said) return;
  listener.told ||= !again;
  listener.empty = false;
  if (!again) keepForTheWayBack(listener.node, output);
  listener.show(said, again, output[listener.name]);
}

/**
 * Editors before 2026 keep for a tab only those outputs that come after the answer to the queueing. What the server still
 * had of the last run may come before it.
 * @param {any} node
 * @param {any} output
 */
function keepForTheWayBack(node, output) {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (!tracker) return;
  tracker.nodeOutputs ??= {};
  tracker.nodeOutputs[outputKey(node)] ??= output;
}

/**
 * For the editor's hook of this name. Undo leaves the outputs where they are; on the way back to a tab they come a while
 * after its nodes.
 */
export function onNodeOutputsUpdated() {
  for (const listener of LISTENERS) showKept(listener);
}

/** @param {Listener} listener */
function showKept(listener) {
  if (!listener.empty || !LISTENERS.has(listener)) return;
  tell(listener, app.nodeOutputs?.[outputKey(listener.node)], true);
}

/**
 * The key under which the editor keeps a node's output.
 * @param {any} node
 */
function outputKey(node) {
  return isInRoot(node) ? String(node.id) : `${node.graph.id}:${node.id}`;
}

// The editor's name for the picture of a running node, where it draws nodes on a canvas.
const EDITORS_PREVIEW = "$$canvas-image-preview";
// A picture that came last may still be loading when the node is done.
const PREVIEW_LOADS_MILLISECONDS = 800;

/**
 * Takes away the picture of what the node was at, which the editor would leave below the node's own view.
 * @param {any} node
 */
export function dropEditorsPreview(node) {
  const drop = () => {
    delete app.nodePreviewImages?.[outputKey(node)];
    node.imgs = node.images = node.preview = undefined;
    const widget = node.widgets?.find((/** @type {any} */ one) => one.name === EDITORS_PREVIEW);
    if (!widget) return;
    if (node.removeWidget) node.removeWidget(widget);
    else node.widgets.splice(node.widgets.indexOf(widget), 1);
    node.graph?.setDirtyCanvas?.(true, true);
  };
  drop();
  setTimeout(drop, PREVIEW_LOADS_MILLISECONDS);
}

/**
 * Whether a node lies in the workflow itself and not in a subgraph, whose nodes may have the same ids.
 * @param {any} node
 */
function isInRoot(node) {
  return !node.graph || node.graph === (app.rootGraph ?? app.graph);
}

// Servers before 2026 keep quiet about nodes whose result they still had, which after a reload of the page are all: their
// output stands in the history, a moment after the run has ended.
const HISTORY_TRIES = 10;
const HISTORY_PAUSE_MILLISECONDS = 200;

api.addEventListener("execution_start", () => {
  for (const listener of LISTENERS) listener.told = false;
});
api.addEventListener("execution_success", async (/** @type {any} */ event) => {
  const id = event.detail?.prompt_id;
  if (!id || [...LISTENERS].every((listener) => listener.told)) return;
  const outputs = Object.entries(await outputsOf(id));
  for (const listener of LISTENERS) {
    const own = String(listener.node.id);
    // In a subgraph the key is the way to the node: "12:3".
    const found = outputs.find(([key]) => (isInRoot(listener.node) ? key === own : key.endsWith(`:${own}`)));
    if (found && !listener.told) tell(listener, found[1]);
  }
});

/** @param {string} promptId */
async function outputsOf(promptId) {
  for (let tries = 0; tries < HISTORY_TRIES; tries++) {
    const history = await (await api.fetchApi(`/history/${promptId}`)).json();
    if (history[promptId]) return history[promptId].outputs;
    await new Promise((done) => setTimeout(done, HISTORY_PAUSE_MILLISECONDS));
  }
  return {};
}

/**
 * Calls `loaded` when a saved workflow has filled the node's widgets.
 * @param {any} node
 * @param {() => void} loaded
 */
export function onLoaded(node, loaded) {
  const before = node.onConfigure;
  node.onConfigure = function () {
    before?.apply(this, arguments);
    loaded();
  };
}

function addStyle() {
  if (document.getElementById("codeformer-style")) return;
  const style = element("link", { id: "codeformer-style", rel: "stylesheet" });
  style.href = new URL("./codeformer.css", import.meta.url).href;
  document.head.append(style);
}
