"""Build Face Dictionary in a real ComfyUI: a DFDNet of its own faces, in the graph and in the models folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from codeformer_core.networks.dfdnet import DFDNet, DFDNetConfig

from .prompts import node, report
from .server import Prompt, Server, ServerFailed

SIZES = DFDNetConfig(image_size=512, widths=(4, 4, 6, 8, 8), atoms=2, part_sizes=(80, 80, 50, 110))


def small_dfdnet() -> dict[str, torch.Tensor]:
    """Random weights in our names, no parameter alike."""
    generator = torch.Generator().manual_seed(5)
    return {
        key: torch.randn(tensor.shape, generator=generator) / math.sqrt(max(tensor[0].numel(), 4))
        for key, tensor in DFDNet(SIZES).state_dict().items()
    }


@pytest.fixture
def restorers(server: Server):
    """The folder of restorers with a DFDNet in it; what the test adds is taken away."""
    folder = server.base / "mine"
    before = set(folder.iterdir())
    save_file(small_dfdnet(), folder / "small_dfdnet.safetensors")
    yield folder
    for added in set(folder.iterdir()) - before:
        added.unlink()


@pytest.fixture
def prompt(server: Server) -> Prompt:
    """Five pictures of which one is of one colour, the loader and the node "build"."""
    group = Image.open(server.base / "input" / "group.png")
    pictures = [group.crop((x, 0, x + 512, 512)) for x in (0, 120, 300, 512)] + [Image.new("RGB", (512, 512), "gray")]
    for number, picture in enumerate(pictures):
        server.put_picture(f"crop{number}.png", picture)
    prompt: Prompt = {f"crop{number}": node("LoadImage", image=f"crop{number}.png") for number in range(5)}
    for number in range(1, 5):
        last = f"crop{0}" if number == 1 else f"batch{number - 1}"
        prompt[f"batch{number}"] = node("ImageBatch", image1=[last, 0], image2=[f"crop{number}", 0])
    prompt["loader"] = node(
        "CodeFormerLoadModel", model="small_dfdnet.safetensors", detector="auto", parser="auto", dtype="float32"
    )
    prompt["build"] = node(
        "CodeFormerBuildDictionary",
        image=["batch4", 0],
        face_restore_model=["loader", 0],
        atoms=3,
        seed=0,
        filename="my_dfdnet",
        overwrite=False,
    )
    prompt["report"] = node("PreviewAny", source=["build", 2])
    return prompt


def changed(prompt: Prompt, **inputs: Any) -> Prompt:
    return prompt | {"build": node("CodeFormerBuildDictionary", **(prompt["build"]["inputs"] | inputs))}


def restoring(model: list[Any], name: str) -> Prompt:
    return {
        f"restore_{name}": node(
            "CodeFormerRestoreFaceCrops", image=["crop0", 0], face_restore_model=model, fidelity=0.5
        ),
        name: node("SaveImage", images=[f"restore_{name}", 0], filename_prefix=name),
    }


def test_a_dictionary_of_the_graphs_faces_restores_in_it_and_from_its_file(
    server: Server, restorers: Path, prompt: Prompt
):
    prompt["preview"] = node("SaveImage", images=["build", 1], filename_prefix="preview")
    done = server.run(prompt | restoring(["build", 0], "new") | restoring(["loader", 0], "old"))
    assert done.status == "success", done.error
    lines = report(done).splitlines()
    assert lines[:2] == ["3 atoms of each part and scale, seed 0", "4 faces"]
    assert "1 image was left out, the first: face 5: is of one colour" in lines[2]
    path = restorers / "my_dfdnet.safetensors"
    assert lines[3] == f"saved: {path}" and done.outputs["build"]["images"][0]["type"] == "temp"
    (new,), (old,) = server.pictures(done, "new"), server.pictures(done, "old")
    assert new.shape == (512, 512, 3) and not np.array_equal(new, old)
    (preview,) = server.pictures(done, "preview")
    assert preview.std() > 10
    before, after = load_file(restorers / "small_dfdnet.safetensors"), load_file(path)
    kept = [key for key in before if "dictionary" not in key]
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in kept)
    assert {len(after[key]) for key in before.keys() - set(kept)} == {3}
    assert not list((server.base / "temp").glob("tmp*")), "the features are cleared away"

    prompt["loader"]["inputs"]["model"] = "my_dfdnet.safetensors"
    del prompt["build"], prompt["report"], prompt["preview"]
    (loaded,) = server.pictures(server.run(prompt | restoring(["loader", 0], "loaded")), "loaded")
    assert np.array_equal(loaded, new)


def test_what_can_not_be_built_is_told(server: Server, restorers: Path, prompt: Prompt):
    for message, wrong in (
        ("5 atoms need 5 faces or more, and there are 4 (1 more were left out", changed(prompt, atoms=5)),
        ("6 atoms need 6 faces or more, and there are 5. Ask for fewer", changed(prompt, atoms=6)),
        ("1 atoms need 1 faces or more, and there are 0", changed(prompt, atoms=1, image=["crop4", 0])),
        ("small_dfdnet.safetensors is there already", changed(prompt, filename="small_dfdnet")),
    ):
        failed = server.run(wrong)
        assert failed.status == "error" and message in failed.error
    prompt["loader"]["inputs"]["model"] = "codeformer.pth"
    failed = server.run(prompt)
    assert failed.status == "error"
    assert "codeformer.pth is not a DFDNet (codeformer), and only DFDNet has dictionaries" in failed.error
    assert not (restorers / "my_dfdnet.safetensors").exists()
    assert not list((server.base / "temp").glob("tmp*"))
    with pytest.raises(ServerFailed, match="filename"):
        server.queue(changed(prompt, filename="../out"))
