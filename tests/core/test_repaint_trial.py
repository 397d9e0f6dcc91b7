"""The demo's test of colorizing and filling: a painter that knows the photo is told from one that does not."""

from __future__ import annotations

import torch
from torch import Tensor

from codeformer_core.commands.repaint_trial import try_colorizing, try_inpainting

CROPS_1SS3 = torch.rand((1, 512, 512, 3), generator=torch.Generator().manual_seed(2)) * 0.2 + torch.tensor(
    (0.6, 0.4, 0.3)
)


class Painter:
    """Paints `crops`, whatever it sees."""

    name = "painter"
    uses_fidelity = needs_landmarks = False
    recommended_fidelity = 0.5

    def __init__(self, task: str, crops_NSS3: Tensor) -> None:
        self.tasks = (task,)
        self.faces_B3SS = crops_NSS3.permute(0, 3, 1, 2) * 2 - 1

    def faces_at_once(self) -> int:
        return 4

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return self.faces_B3SS

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        return torch.where(mask_B1HW > 0.5, self.faces_B3SS, faces_B3HW)


def test_colours_taken_away():
    known = try_colorizing(CROPS_1SS3, Painter("colorization", CROPS_1SS3))
    gray_SS3, made_SS3, photo_SS3 = known.shown_3SS3
    assert "given back: 0.0 from the photo's" in known.line
    assert torch.equal(photo_SS3, CROPS_1SS3[0]) and torch.allclose(made_SS3, photo_SS3, atol=1e-3)
    assert float((gray_SS3.amax(-1) - gray_SS3.amin(-1)).max()) < 1e-5
    gray = try_colorizing(CROPS_1SS3.mean(-1, keepdim=True).expand_as(CROPS_1SS3), Painter("colorization", CROPS_1SS3))
    assert "hardly any colours" in gray.line
    other = try_colorizing(CROPS_1SS3, Painter("colorization", CROPS_1SS3.flip(-1)))
    assert "given back: 0.0" not in other.line


def test_strokes_over_the_face():
    known = try_inpainting(CROPS_1SS3, Painter("inpainting", CROPS_1SS3))
    white_SS3, made_SS3, photo_SS3 = known.shown_3SS3
    hole_SS = (white_SS3 == 1).all(-1)
    assert 0.02 < float(hole_SS.float().mean()) < 0.4
    assert torch.equal(white_SS3[~hole_SS], photo_SS3[~hole_SS]) and torch.allclose(made_SS3, photo_SS3, atol=1e-5)
    assert "100.0 dB" in known.line
    wrong = try_inpainting(CROPS_1SS3, Painter("inpainting", 1 - CROPS_1SS3))
    assert "100.0 dB" not in wrong.line
