"""What restoring refuses, before anything is worked on."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import codeformer_core as cf
from codeformer_core.runtime import memory
from codeformer_core.runtime.memory import GIB, NotEnoughMemory

from .restoring import HEIGHT, WIDTH, WatchedRestorer, pictures, restore

# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_fidelity_and_opacity_outside_0_to_1(value):
    for name in ("fidelity", "opacity"):
        with pytest.raises(ValueError, match=f"{name} must be from 0"):
            restore(pictures(), **{name: value})
    with pytest.raises(ValueError, match="fidelity must be from 0"):
        cf.restore_aligned(pictures(), restorer=WatchedRestorer(), fidelity=value)


@pytest.mark.parametrize("upscale", [0.99, 0, -2, math.nan, -math.inf])
def test_upscale_below_1(upscale):
    with pytest.raises(ValueError, match=r"upscale must be from 1 to 64, got .*; resize the result instead"):
        restore(pictures(), upscale=upscale)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mask": "oval"}, "mask must be one of face, head, outline, box, got 'oval'"),
        ({"faces": "biggest"}, "which faces must be one of all, largest, center, got 'biggest'"),
        ({"min_face_size": -1}, "smallest face must be 0 or more"),
        ({"min_face_size": math.nan}, "smallest face must be 0 or more"),
        ({"batch_size": 0}, "batch size must be 1 or more, got 0"),
    ],
)
def test_other_options(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        restore(pictures(), **options)


@pytest.mark.parametrize("task", ["colorization", "inpainting", "autoencoder"])
def test_a_model_for_another_task_is_refused(task):
    restorer = WatchedRestorer(name="codeformer_colorization.pth", tasks=(task,))
    complaint = f"codeformer_colorization.pth is a model for {task}; .* choose codeformer.pth"
    with pytest.raises(ValueError, match=complaint):
        restore(pictures(), restorer=restorer)
    with pytest.raises(ValueError, match=complaint):
        cf.restore_aligned(pictures(), restorer=restorer)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (torch.zeros(HEIGHT, WIDTH, 3), "must be a tensor of shape"),
        (torch.zeros((1, 9, 9, 3), dtype=torch.uint8), "divide 8-bit values by 255"),
        (torch.zeros(1, 0, 9, 3), "nothing to work on"),
        (torch.zeros(1, 9, 9, 5), "1 to 4 channels"),
        (torch.full((1, 9, 9, 3), torch.nan), "243 values that are NaN"),
        (torch.full((1, 9, 9, 3), torch.inf), "NaN or infinite"),
        ([1, 2], "got list"),
    ],
)
@pytest.mark.parametrize("parity", [False, True])
def test_bad_pictures(bad, complaint, parity):
    with pytest.raises(ValueError, match=complaint):
        restore(bad, parity=parity)
    with pytest.raises(ValueError, match=complaint):
        cf.restore_aligned(bad, restorer=WatchedRestorer())


@pytest.mark.parametrize("upscale", [65, 1e308, math.inf])
def test_an_upscale_beyond_any_use(upscale):
    with pytest.raises(ValueError, match=r"upscale must be from 1 to 64, got "):
        restore(pictures(), upscale=upscale)


def test_aligned_faces_that_do_not_fit(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 4 * GIB)
    huge = torch.zeros(1, 1, 1, 1).expand(1, 20_000, 20_000, 3)
    with NothingComputed(), pytest.raises(NotEnoughMemory, match="a result of 20000x20000 pixels"):
        cf.restore_aligned(huge, restorer=WatchedRestorer())


class NothingComputed(TorchDispatchMode):
    """Fails at the first operation on a tensor but for looking at it another way."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view:
            raise AssertionError(f"computed {function} before the memory was checked")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((1, 20_000, 20_000, 3), {}, "a result of 20000x20000 pixels needs about"),
        ((1, 20_000, 20_000, 4), {}, "a result of 20000x20000 pixels"),
        ((1, 10_000, 10_000, 1), {"upscale": 2.0}, "a result of 20000x20000 pixels"),
        ((400, 1024, 1024, 3), {}, "a result of 400 images of 1024x1024 pixels"),
        # A strip whose shorter side the published recipe enlarges to 512.
        ((1, 1, 5_000, 3), {"parity": True}, "a result of 2560000x512 pixels"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_memory_is_stated_before_anything_starts(monkeypatch, shape, options, said, dtype):
    """The pictures have one pixel in memory; the first copy of them would take gigabytes."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 4 * GIB)
    huge = torch.zeros((1, 1, 1, 1), dtype=dtype).expand(shape)
    with NothingComputed(), pytest.raises(NotEnoughMemory) as caught:
        restore(huge, **options)
    assert said in str(caught.value) and "4.0 GiB are free on cpu. Use a smaller image" in str(caught.value)
