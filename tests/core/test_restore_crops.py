"""Faces that are aligned crops already, and crops that are handed back."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import codeformer_core as cf

from .conftest import GivenDetector
from .facts import facts
from .restoring import FACE, OTHER, WatchedRestorer, pictures, restore

# --- crops -----------------------------------------------------------------------------------------------------------


def test_crops_are_kept_or_not():
    result = restore(pictures(2))
    assert [(crop.aligned.image, crop.aligned.face) for crop in result.crops] == [
        (0, FACE),
        (0, OTHER),
        (1, FACE),
        (1, OTHER),
    ]
    for crop in result.crops:
        assert crop.crop_3HW.shape == crop.restored_3HW.shape == (3, 512, 512)
        assert torch.allclose(crop.restored_3HW, 1 - crop.crop_3HW, atol=1e-6)
        assert not crop.aligned.matrix.flags.writeable
    without = restore(pictures(2), keep_crops=False)
    assert without.crops == ()
    assert torch.equal(without.images_BHWC, result.images_BHWC)


# --- aligned faces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(512, 512), (96, 96), (80, 130)])
def test_aligned_faces_come_back_at_their_size(size, channels):
    given = F.interpolate(pictures(2, channels).permute(0, 3, 1, 2), size=size).permute(0, 2, 3, 1)
    before = given.clone()
    result = cf.restore_aligned(given, restorer=WatchedRestorer(), detail=0).images_BHWC
    assert result.shape == (2, *size, 4 if channels in (2, 4) else 3) and result.dtype == torch.float32
    assert torch.equal(given, before)
    if channels in (2, 4):
        assert torch.equal(result[..., 3], given[..., -1])
    if channels >= 3:
        assert (result[..., :3] - (1 - given[..., :3])).abs().mean() < 0.01
    else:
        assert (result[..., 0] - result[..., 1]).abs().max() < 1e-5
        assert torch.allclose(result[..., :3].mean(), given[..., 0].mean(), atol=0.03)


def test_aligned_faces_go_in_batches_with_progress():
    restorer = WatchedRestorer(most=2)
    told: list[tuple[str, int, int]] = []
    cf.restore_aligned(
        pictures(5), restorer=restorer, fidelity=0.1, batch_size=4, on_progress=lambda *step: told.append(step)
    )
    assert restorer.batches == [4, 2, 2, 1]
    assert restorer.fidelities == [0.1] * 4
    assert told == [("restoring faces", done, 5) for done in (0, 2, 4, 5)]


def test_without_a_fidelity_the_restorer_chooses():
    restorer = WatchedRestorer(recommended_fidelity=0.9)
    result = cf.restore_images(pictures(), restorer=restorer, detector=GivenDetector(((FACE,),)))
    crops = cf.restore_aligned(pictures(1), restorer=restorer)
    assert set(restorer.fidelities) == {0.9}
    assert facts(result, "fidelity") == facts(crops, "fidelity") == [("fidelity", None, {"fidelity": 0.9})]
    assert cf.RestoreOptions().fidelity is None


def test_a_crop_that_shows_nothing_stays_as_it_is():
    given = pictures(3)
    given[1] = 0.5
    restorer = WatchedRestorer()
    result = cf.restore_aligned(given, restorer=restorer).images_BHWC
    assert torch.equal(result[1], given[1]) and sum(restorer.batches) == 2
    assert not torch.equal(result[0], given[0]) and not torch.equal(result[2], given[2])
