"""Runs in a host's own Python, beside its modules, and prints what it measured as one line of JSON.

Arguments: the host's folder, a base directory with the pack in `custom_nodes`, a checkpoint in the published layout,
another for small faces, any number of files of other restorers.
"""

from __future__ import annotations

import asyncio
import compileall
import json
import logging
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import torch


def main(root: str, base: str, checkpoint: str, small: str, *others: str) -> dict[str, object]:
    os.chdir(root)
    sys.path.insert(0, root)
    sys.argv = ["main.py", "--cpu", "--base-directory", base]
    import_module("comfy.options").enable_args_parsing()
    nodes = import_module("nodes")
    import_module("comfy_config.config_parser")  # the host imports it when it loads its first pack
    pack = os.path.join(base, "custom_nodes", "ComfyUI-CodeFormer")
    # As at every start but the first one.
    for part in ("nodes", "codeformer_core"):
        compileall.compile_dir(os.path.join(pack, part), quiet=2)
    before = set(sys.modules)
    started = time.process_time()
    loaded = asyncio.run(nodes.load_custom_node(pack))
    seconds = time.process_time() - started
    imported = {name.split(".")[0] for name in set(sys.modules) - before if not name.startswith(pack)}
    with torch.inference_mode():
        behaviours = host_behaviours(pack, small)
        cast = measure_cast(pack, checkpoint)
        streaming = {os.path.basename(path): measure_streaming(pack, path) for path in (checkpoint, *others)}
    return {
        "loaded": loaded,
        "import_cpu_seconds": seconds,
        "imported": sorted(imported),
        "behaviours": behaviours,
        "streaming": streaming,
        "crops": crops_with_faces(pack, others[-1]),
        "faces_of_another_pack": faces_of_another_pack(pack),
        "replaced_folders": folders_that_another_pack_replaces(pack, base),
        "spelled_folders": folders_spelled_otherwise(pack, base),
        "dummy": one_more_architecture(pack, base),
        **cast,
    }


def host_behaviours(pack: str, checkpoint: str) -> dict[str, str]:
    """What tests/host_behaviours.py asks of every host: name -> what is wrong, or nothing."""
    sys.path.append(str(Path(__file__).parents[1]))
    shared = import_module("host_behaviours")
    management = import_module("comfy.model_management")
    given = shared.Given(
        core=f"{pack}.codeformer_core",
        host=host_of(pack),
        checkpoint=Path(checkpoint),
        evict=management.unload_all_models,
        cancel=management.interrupt_current_processing,
        cancelled=management.InterruptProcessingException,
    )
    wrong = {}
    for name, behaviour in shared.BEHAVIOURS.items():
        try:
            behaviour(given)
            wrong[name] = ""
        except Exception:  # noqa: BLE001 - handed on as text
            wrong[name] = traceback.format_exc()
    return wrong


def host_of(pack: str) -> Any:
    return import_module(f"{pack}.nodes.host").HOST


def crops_with_faces(pack: str, dfdnet: str) -> str:
    """The report of Restore Face Crops for two faces, of which one brings 68 landmarks."""
    core, library = import_module(f"{pack}.codeformer_core"), import_module(f"{pack}.nodes.choices").LIBRARY
    choices = import_module(f"{pack}.codeformer_core.models.library").ModelChoices
    model = library.load(choices(restorer=Path(dfdnet)))
    five = ((80.0, 80.0), (120.0, 80.0), (100.0, 103.0), (82.0, 121.0), (118.0, 121.0))
    box = (60.0, 60.0, 140.0, 140.0)
    many = tuple((70.0 + place % 10 * 6, 70.0 + place // 10 * 8) for place in range(68))
    images_BHW3 = torch.rand(2, 200, 200, 3)
    faces = core.FaceBatch.of(images_BHW3, [[core.Face(box, five, 0.9)], [core.Face(box, five, 0.9, many)]])
    crops = import_module(f"{pack}.nodes.crops")
    cut = crops.CropFaces.execute(images_BHW3, faces)
    return crops.RestoreFaceCrops.execute(cut.result[0], model, 0.5, cut.result[1]).result[1]


def one_more_architecture(pack: str, base: str) -> dict[str, object]:
    """A restorer of a third party, registered from outside, through the loader and a node."""
    save_file = import_module("safetensors.torch").save_file
    tests = Path(__file__).parents[1]
    # Its own imports name the core as other packages do; at the end, where nothing of the host's is hidden.
    sys.path += [str(tests / "core"), str(tests.parent)]
    architectures = import_module(f"{pack}.codeformer_core.models.architectures")
    architectures.register(import_module("dummy_architecture").DUMMY)
    path = Path(base) / "dummy.safetensors"
    save_file({"gain.weight": torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1, 1)}, path)
    library = import_module(f"{pack}.nodes.choices").LIBRARY
    model = library.load(import_module(f"{pack}.codeformer_core.models.library").ModelChoices(restorer=path))
    crops_NHW3 = torch.rand(2, 512, 512, 3)
    node = import_module(f"{pack}.nodes.crops").RestoreFaceCrops
    restored_NHW3, report = node.execute(crops_NHW3, model, 0.0).result
    expected_NHW3 = ((crops_NHW3 * 2 - 1) * torch.tensor([1.0, 0.5, 0.0]) + 1) / 2
    return {"report": report, "difference": float((restored_NHW3 - expected_NHW3).abs().max())}


def faces_of_another_pack(pack: str) -> str:
    """What is said of FACES that are another pack's."""
    try:
        import_module(f"{pack}.nodes.sockets").own_faces([{"bbox": [0, 0, 9, 9]}])
    except ValueError as error:
        return str(error)
    return ""


def folders_that_another_pack_replaces(pack: str, base: str) -> dict[str, object]:
    """As some packs do when they are loaded after this one: what is warned of, and whether files are still found."""
    folder_paths, own = import_module("folder_paths"), os.path.join(base, "of another pack")
    library = import_module(f"{pack}.nodes.choices").LIBRARY
    lost = Path(base, "models", "facerestore_models", "kept.pth")
    lost.parent.mkdir(parents=True, exist_ok=True)
    lost.touch()
    warned: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(f"{pack}.nodes.host").addHandler(handler)
    before = folder_paths.folder_names_and_paths["facerestore_models"]
    folder_paths.folder_names_and_paths["facerestore_models"] = ([own], set())
    try:
        offered = [library.restorers(), library.restorers()]
    finally:
        folder_paths.folder_names_and_paths["facerestore_models"] = before
    return {"warned": warned, "lost": str(lost.parent), "found": all("kept.pth" in names for names in offered)}


def folders_spelled_otherwise(pack: str, base: str) -> dict[str, object]:
    """As A1111 has them, below `models` or in the user's extra paths: whether the list and `auto` agree."""
    folder_paths, library = import_module("folder_paths"), import_module(f"{pack}.nodes.choices").LIBRARY
    restorer = import_module(f"{pack}.codeformer_core.models.kinds").RESTORER
    in_models = Path(base, "models", "Codeformer", "faces", "codeformer-v0.1.0.pth")
    in_extra_path = Path(base, "a1111", "GFPGAN", "GFPGANv1.4.pth")
    for path in (in_models, in_extra_path):
        path.parent.mkdir(parents=True)
        path.touch()
    folder_paths.add_model_folder_path("GFPGAN", str(in_extra_path.parent))
    found = {}
    for path in (in_models, in_extra_path):
        listed = any(name.endswith(path.name) for name in library.restorers())
        found[path.name] = listed and library.find("auto", restorer) == path
        path.unlink()
    return found


def measure_streaming(pack: str, checkpoint: str) -> dict[str, object]:
    """The network with its weights left behind by the memory manager, against the same network in plain torch."""
    load_restorer = import_module(f"{pack}.codeformer_core").load_restorer
    host = host_of(pack)
    torch.manual_seed(1)
    faces_B3HW = torch.rand(1, 3, 512, 512) * 2 - 1
    expected = load_restorer(checkpoint).restore(faces_B3HW)

    hosted = load_restorer(checkpoint, operations=host.operations)
    patcher = host.hold(hosted.module)
    owners = [module for module in hosted.module.modules() if any(True for _ in module.parameters(recurse=False))]
    cpu = torch.device("cpu")
    patcher.load(cpu, lowvram_model_memory=100_000)
    partly = hosted.restore(faces_B3HW)
    left_behind = bool(hosted.module.model_lowvram)
    patcher.detach()
    host.bring(patcher, streamable=True)
    whole = hosted.restore(faces_B3HW)
    return {
        "streamable_layers": sum(hasattr(module, "comfy_cast_weights") for module in owners),
        "layers_with_weights": len(owners),
        "left_behind": left_behind,
        "spread": whole.std().item(),
        "streamed_difference": (partly - whole).abs().max().item(),
        "whole_difference": (whole - expected).abs().max().item(),
    }


def measure_cast(pack: str, checkpoint: str) -> dict[str, object]:
    """What the restorer does when bfloat16 gave no numbers: the same module, fed with float32."""
    load_restorer = import_module(f"{pack}.codeformer_core").load_restorer
    host = host_of(pack)
    torch.manual_seed(1)
    faces_B3HW = torch.rand(1, 3, 512, 512) * 2 - 1
    rounded = load_restorer(checkpoint, dtype=torch.bfloat16, operations=host.operations)
    cast = rounded.module.restore(faces_B3HW, 0.5)
    reference = load_restorer(checkpoint, dtype=torch.bfloat16).module.float().restore(faces_B3HW, 0.5)
    return {
        "cast_dtype": str(cast.dtype),
        "cast_difference": (cast - reference).abs().max().item(),
    }


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(*sys.argv[1:])) + "\n")
