// @ts-check
/** What all views need: their place in the node, the server's pictures, toasts, and the words. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

/** @typedef {{ filename: string, subfolder: string, type: string }} SavedPicture */

/** @type {Record<string, Record<string, string>>} */
const WORDS = {
  en: {
    run_to_see: "Run the workflow to see the faces.",
    picks_wait: "Faces were picked; run the workflow to see them.",
    no_faces: "No face in this picture.",
    kept: "{kept} of {count} faces kept",
    face_kept: "Face {number}, kept. Press to drop it.",
    face_left_out: "Face {number}, left out by this node's other inputs. Press to drop it for good.",
    face_dropped: "Face {number}, dropped. Press to keep it.",
    all: "all",
    none: "none",
    previous: "Previous picture",
    next: "Next picture",
    picture: "{index} / {count}",
    only_first: "Only the first {shown} of {count} pictures are shown.",
    changed: "Picture {numbers} has changed since its faces were picked. All its faces are kept; pick again.",
    unreadable: "The picks of this node could not be read. They are ignored until you pick again.",
    not_loaded: "The picture is no longer on the server. Run the workflow again.",
    compare: "Drag to compare before and after",
    before: "before",
    after: "after",
    run_to_compare: "Run the workflow to compare before and after.",
    run_to_tile: "Run the workflow to see the fidelities side by side.",
    use_fidelity: "Use fidelity {fidelity}",
    fidelity_set: "Fidelity {fidelity} is set in {nodes}.",
    fidelity_nowhere: "No node with a fidelity is connected to this node or to its model.",
  },
  zh: {
    run_to_see: "运行工作流后即可看到人脸。",
    picks_wait: "已选择人脸；运行工作流后可查看。",
    no_faces: "这张图片中没有人脸。",
    kept: "保留 {kept} / {count} 张人脸",
    face_kept: "人脸 {number}，已保留。按下可去除。",
    face_left_out: "人脸 {number}，已被本节点的其他输入排除。按下可去除。",
    face_dropped: "人脸 {number}，已去除。按下可保留。",
    all: "全选",
    none: "全不选",
    previous: "上一张图片",
    next: "下一张图片",
    picture: "{index} / {count}",
    only_first: "仅显示 {count} 张图片中的前 {shown} 张。",
    changed: "图片 {numbers} 在选择人脸之后已改变。其全部人脸均被保留，请重新选择。",
    unreadable: "无法读取此节点的选择，重新选择之前将被忽略。",
    not_loaded: "服务器上已没有该图片。请重新运行工作流。",
    compare: "拖动以比较修复前后",
    before: "修复前",
    after: "修复后",
    run_to_compare: "运行工作流后可比较修复前后。",
    run_to_tile: "运行工作流后可并排查看各保真度。",
    use_fidelity: "使用保真度 {fidelity}",
    fidelity_set: "已在 {nodes} 中设置保真度 {fidelity}。",
    fidelity_nowhere: "没有带保真度的节点与此节点或其模型相连。",
  },
};

/**
 * A text in the user's language.
 * @param {string} key
 * @param {Record<string, string | number>} [values] for the places in {braces}
 */
export function text(key, values = {}) {
  const locale = String(app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en");
  const words = locale.startsWith("zh") ? WORDS.zh : WORDS.en;
  return words[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

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

/** @typedef {{ node: any, name: string, show: (said: any, again: boolean) => void, told: boolean, empty: boolean }} Listener */

/** @type {Set<Listener>} */
const LISTENERS = new Set();

/**
 * Calls `show` with the node's `ui` output of this name, each time a workflow with it has run; and `again` when the node
 * was made anew, by undo or on the way back from another tab, and the editor still has the output of the last run.
 * @param {any} node
 * @param {string} name
 * @param {(said: any, again: boolean) => void} show
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
  listener.show(said, again);
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
