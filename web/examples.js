// @ts-check
/**
 * The photos of the example workflows. A workflow that names one is opened with it: the photo is put into the input
 * folder where it is not there yet.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const EXAMPLES = [
  "codeformer_example_group.jpg",
  "codeformer_example_noisy.jpg",
  "codeformer_example_old.jpg",
  "codeformer_example_portrait.jpg",
  "codeformer_example_scratched.webp",
  "codeformer_example_video.mp4",
];

/**
 * For the editor's hook of this name, which it waits for.
 * @param {any} workflow
 */
export async function beforeConfigureGraph(workflow) {
  const values = (workflow?.nodes ?? []).flatMap((/** @type {any} */ node) => Object.values(node.widgets_values ?? []));
  const missing = [];
  for (const name of EXAMPLES.filter((one) => values.includes(one))) {
    if (!(await isThere(name))) missing.push(name);
  }
  if (!missing.length) return;
  try {
    await Promise.all(missing.map(upload));
    await (app.reloadNodeDefs ?? app.refreshComboInNodes).call(app);
  } catch (error) {
    // The editor then says itself which file is missing.
    console.warn("the photo of an example workflow was not put into the input folder:", error);
  }
}

/** @param {string} name */
async function isThere(name) {
  const query = new URLSearchParams({ filename: name, type: "input" });
  return (await api.fetchApi(`/view?${query}`, { method: "HEAD" })).ok;
}

/** @param {string} name */
async function upload(name) {
  const photo = await (await fetch(new URL(`./examples/${name}`, import.meta.url))).blob();
  const body = new FormData();
  body.append("image", new File([photo], name, { type: photo.type }));
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
}
