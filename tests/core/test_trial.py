"""The demo's test of a restorer: it tells one that mends from one that does harm, and says so."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.commands.trial import MAX_FACES, Trial, try_restorer
from codeformer_core.faces.geometry import crop_face, estimate_alignment

from .conftest import InvertingRestorer, placed_face


@dataclass
class GivenRestorer:
    """Answers with these faces in [0, 1], whatever it is asked; with what it is asked when there are none."""

    faces: tuple[Tensor, ...] = ()
    name: str = "given"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    asked: list[Tensor] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return 8

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        self.asked.append(faces_B3HW)
        return torch.stack(self.faces) * 2 - 1 if self.faces else faces_B3HW


def test_a_restorer_that_knows_the_photo_one_that_does_nothing_and_one_that_does_harm(astronaut, astronaut_face):
    clean_3SS = crop_face(astronaut, estimate_alignment(astronaut_face))
    known, nothing = GivenRestorer((clean_3SS,)), GivenRestorer()
    best = try_restorer(astronaut, [astronaut_face], known, 0.5)
    same = try_restorer(astronaut, [astronaut_face], nothing, 0.5)
    worst = try_restorer(astronaut, [astronaut_face], InvertingRestorer(), 0.5)
    assert 15 < best.degraded < 25 and best.restored > 60
    photo_SS3, worse_SS3, restored_SS3 = worst.shown_3SS3
    assert torch.allclose(photo_SS3.permute(2, 0, 1), clean_3SS, atol=1e-6)
    assert torch.allclose(restored_SS3, 1 - worse_SS3, atol=1e-5) and not torch.equal(photo_SS3, worse_SS3)
    assert same.degraded == same.restored == worst.degraded == best.degraded
    assert worst.restored < worst.degraded - 3
    # The damage is the same at every run.
    assert torch.equal(known.asked[0], nothing.asked[0])
    assert (known.asked[0][0] / 2 + 0.5 - clean_3SS).abs().mean() > 0.02


@pytest.mark.parametrize(
    ("restored", "words"),
    [(24.26, "2.3 dB nearer to the photo"), (22.01, "no nearer to the photo"), (20.0, "2.0 dB WORSE than leaving it")],
)
def test_the_verdict(restored, words):
    text = Trial(1, 22.0, restored, torch.zeros(3, 4, 4, 3)).in_words()
    assert words in text and "on 1 face made worse" in text and f"PSNR 22.0 dB, restored {restored:.1f} dB" in text


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_gray_and_transparent_photos(astronaut, astronaut_face, channels):
    gray_HW1 = astronaut.mean(-1, keepdim=True)
    photo = torch.cat([gray_HW1] * channels, dim=-1)
    trial = try_restorer(photo, [astronaut_face], GivenRestorer(), 0.5)
    # Gray photos stay gray, and of equal brightness.
    assert 15 < trial.degraded < 25 and trial.restored == pytest.approx(trial.degraded, abs=0.2)


def test_the_largest_faces_are_taken_and_small_ones_are_not(astronaut):
    sizes = (40, 90, 64, 100, 80, 70)
    photo = astronaut.repeat(3, 3, 1)
    faces = [placed_face(300 + 150 * index, 700, size) for index, size in enumerate(sizes)]
    asked = GivenRestorer()
    assert try_restorer(photo, faces, asked, 0.5).faces == MAX_FACES == len(asked.asked[0])
    assert try_restorer(photo, faces[:1], GivenRestorer(), 0.5) is None
    assert try_restorer(photo, [], GivenRestorer(), 0.5) is None


def test_the_starter_that_comes_with_the_package_mends(astronaut, astronaut_face):
    trial = try_restorer(astronaut, [astronaut_face], cf.load_restorer("codeformer_starter", roots=[]), 0.5)
    assert trial.restored > trial.degraded
