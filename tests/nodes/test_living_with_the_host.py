"""Start, memory, cancel: the pack as a guest."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import psutil
import pytest

import codeformer_core as cf

from ..host_behaviours import BEHAVIOURS
from .prompts import counts, node, restore_prompt
from .server import PACK, Server
from .weights import RELATIVES

LOADED = "Requested to load CodeFormer"
NOT_AT_START = {"cv2", "facexlib", "torchvision", "basicsr", "numba", "scipy", "matplotlib"}
# A host's group norm is torch's own, which on a CPU is less exact than ours (see networks/norms.py).
SAME_NETWORK = 2e-3
IMPORT_SECONDS = 0.2
GROWTH_BYTES = 30 * 2**20


def test_hosts_log_tells_of_the_import(server: Server):
    (line,) = [line for line in server.log.splitlines() if line.endswith(PACK) and " seconds" in line]
    assert re.search(r"[0-9.]+ seconds: ", line), line  # "(IMPORT FAILED)" stands there otherwise


def test_import_costs_little(measured_inside: dict[str, Any]):
    """Processor time without bytecode: half a tenth of a second, up to three times that beside other programs."""
    assert 0 < measured_inside["import_cpu_seconds"] < IMPORT_SECONDS


def test_import_brings_nothing_heavy(measured_inside: dict[str, Any]):
    assert measured_inside["loaded"] is True
    assert not NOT_AT_START & set(measured_inside["imported"])


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_it_is_a_host_as_the_others(measured_inside: dict[str, Any], behaviour: str):
    """tests/core/test_hosts.py asks the same of the others."""
    assert measured_inside["behaviours"][behaviour] == ""


@pytest.mark.parametrize("file", ["codeformer.pth", *(f"{name}.safetensors" for name in RELATIVES)])
def test_weights_left_behind_give_the_same_faces(measured_inside: dict[str, Any], file: str):
    """As when memory is short: the host keeps the weights and hands them over layer by layer."""
    measured = measured_inside["streaming"][file]
    assert measured["layers_with_weights"] > 50
    assert measured["streamable_layers"] == measured["layers_with_weights"]
    assert measured["left_behind"] is True
    assert measured["spread"] > 0.005, "a face, not one colour"
    assert measured["streamed_difference"] < 1e-6
    assert measured["whole_difference"] < SAME_NETWORK


def test_crops_with_their_faces_tell_what_placed_the_parts(measured_inside: dict[str, Any]):
    placed = [cf.Event(kind, values={"count": 1}) for kind in ("components_68", "components_5")]
    assert cf.report(placed) in measured_inside["crops"]


def test_a_third_partys_architecture_runs_in_a_node(measured_inside: dict[str, Any]):
    """One folder and one registration; see docs/architecture.md."""
    by_dummy = cf.Event("restored_by", values={"restorer": "dummy.safetensors"})
    assert cf.report([by_dummy, cf.Event("fidelity", values={"fidelity": 0})]) in measured_inside["dummy"]["report"]
    assert measured_inside["dummy"]["difference"] < 1e-5


def test_bfloat16_weights_compute_in_float32_when_fed_with_it(measured_inside: dict[str, Any]):
    """The restorer's second try relies on it."""
    assert measured_inside["cast_dtype"] == "torch.float32"
    assert measured_inside["cast_difference"] < SAME_NETWORK


def test_models_are_evicted_and_come_back(server: Server):
    first = server.pictures(server.run(restore_prompt(fidelity=0.31)), "after")[0]
    loads = server.log.count(LOADED)
    server.run(restore_prompt(fidelity=0.32))
    assert server.log.count(LOADED) == loads, "the model stays where it is between two runs"

    server.free()
    time.sleep(1.5)  # the host's worker looks for this once a second
    again = server.pictures(server.run(restore_prompt(fidelity=0.31)), "after")[0]

    assert server.log.count(LOADED) > loads
    assert np.array_equal(first, again)


@pytest.mark.slow
def test_one_loader_for_five_nodes_loads_once(server: Server):
    prompt = restore_prompt(fidelity=0.61)
    for number in range(4):
        prompt[f"crops_{number}"] = restore_crops(0.11 * number + 0.02)
        prompt[f"saved_{number}"] = node("SaveImage", images=[f"crops_{number}", 0], filename_prefix="five")
    server.free()
    time.sleep(1.5)
    loads = server.log.count(LOADED)
    assert server.run(prompt).status == "success"
    assert server.log.count(LOADED) == loads + 1


@pytest.mark.slow
def test_memory_stays_flat_over_fifty_runs(server: Server):
    """Grown by less than one full set of the pictures that a run makes, after the first ten have filled the caches."""
    process = psutil.Process(server.process.pid)
    sizes = []
    for number in range(50):
        prompt = restore_prompt(fidelity=0.01 * number)
        del prompt["touched"], prompt["mask"], prompt["before"]
        assert server.run(prompt).status == "success"
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[9] < GROWTH_BYTES, [size >> 20 for size in sizes]


def restore_crops(fidelity: float) -> dict[str, Any]:
    return node(
        "CodeFormerRestoreFaceCrops", image=["photo", 0], face_restore_model=["loader", 0], fidelity=round(fidelity, 2)
    )


@pytest.mark.slow
def test_cancel_in_the_middle_leaves_the_server_working(server: Server):
    prompt = restore_prompt(image=["many", 0])
    prompt["many"] = node("RepeatImageBatch", image=["photo", 0], amount=100)
    running = server.queue(prompt)
    time.sleep(4)
    assert server.get("/queue")["queue_running"], "still at work"

    server.interrupt()
    done = server.wait(running)

    assert done.status == "interrupted"
    assert counts(server.run(restore_prompt(fidelity=0.4)), found=1, restored=1)


def test_folders_that_another_pack_replaces_are_named_and_still_searched(measured_inside: dict[str, Any]):
    replaced = measured_inside["replaced_folders"]
    (warned,) = replaced["warned"]
    assert replaced["lost"] in warned and "facerestore_models" in warned and replaced["found"]


def test_folders_are_found_in_upper_and_lower_case(measured_inside: dict[str, Any]):
    assert measured_inside["spelled_folders"] == {"codeformer-v0.1.0.pth": True, "GFPGANv1.4.pth": True}


def test_faces_of_another_pack_are_refused_with_the_cure(measured_inside: dict[str, Any]):
    """Other packs may call their sockets FACES, too."""
    said = measured_inside["faces_of_another_pack"]
    assert "these FACES (list) come from another node pack" in said and "Connect Detect Faces" in said


def test_faces_survive_the_hosts_cache(server: Server):
    """Nodes that got them before have not changed them: the host hands the same ones out again."""
    prompt = restore_prompt("group.png", fidelity=0.71, selected_faces=["detect", 0])
    detect = {"detector": "yunet", "confidence": 0.0, "smallest_face": 1.0, "largest_face": 0.0}
    prompt["detect"] = node("CodeFormerDetectFaces", image=["photo", 0], merge_duplicates=True, picked="", **detect)
    first = server.run(prompt)
    prompt["restore"]["inputs"]["fidelity"] = 0.72
    assert server.run(prompt).status == "success"
    prompt["restore"]["inputs"]["fidelity"] = 0.71
    third = server.run(prompt)

    cached = [data["nodes"] for kind, data in third.messages if kind == "execution_cached"]
    assert "detect" in cached[0]
    one, other = (server.pictures(done, "after")[0] for done in (first, third))
    assert np.array_equal(one, other)
    assert counts(third, given=2, restored=2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_precision_that_the_device_lacks_is_replaced(server: Server, dtype: str):
    prompt = restore_prompt()
    prompt["loader"]["inputs"]["dtype"] = dtype
    assert counts(server.run(prompt), found=1, restored=1)
