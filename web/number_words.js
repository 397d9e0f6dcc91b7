// @ts-check
/** Numbers that stand for a word are shown as this word, where the editor draws widgets on its canvas. They stay numbers. */

import { text } from "./words.js";

/** Widget -> which of its numbers mean what. @type {Record<string, (value: number) => string | undefined>} */
const MEANINGS = {
  fidelity: (value) => (value < 0 ? "automatic" : undefined),
  confidence: (value) => (value === 0 ? "automatic" : undefined),
  smallest_face: (value) => (value === 0 ? "no_limit" : undefined),
  largest_face: (value) => (value === 0 ? "no_limit" : undefined),
};

/** @param {any} node */
export function showNumbersAsWords(node) {
  if (!node.comfyClass?.startsWith("CodeFormer")) return;
  for (const widget of node.widgets ?? []) {
    const meaning = MEANINGS[widget.name];
    const drawn = meaning && getter(widget, "_displayValue");
    if (!drawn) continue;
    Object.defineProperty(widget, "_displayValue", {
      configurable: true,
      get() {
        const word = meaning(Number(this.value));
        return word ? text(word) : drawn.call(this);
      },
    });
  }
}

/**
 * The getter of an object's class; undefined where a property of this name is none, or there is none.
 * @param {any} object
 * @param {string} name
 */
function getter(object, name) {
  for (let one = object; one; one = Object.getPrototypeOf(one)) {
    const found = Object.getOwnPropertyDescriptor(one, name);
    if (found) return found.get;
  }
  return undefined;
}
