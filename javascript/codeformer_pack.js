// The face picker of Extras: tells the page's hidden field which face was pressed.

document.addEventListener("click", (event) => {
    const face = event.target.closest?.(".codeformer-pack-face");
    if (!face) {
        return;
    }
    const field = document.querySelector("#extras_codeformer_pack_pressed textarea, #extras_codeformer_pack_pressed input");
    if (!field) {
        return;
    }
    // The time makes two presses of the same face two values.
    field.value = `${face.dataset.face} ${Date.now()}`;
    field.dispatchEvent(new Event("input", { bubbles: true }));
});
