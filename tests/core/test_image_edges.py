"""Faces that the edge of their image cuts: the image goes on outside, and no strip of another colour is drawn in."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import codeformer_core as cf
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.align import align_face
from tests.face_pictures import large_faces

from .conftest import InvertingRestorer

# Where an aligned face is cut: through the forehead, the chin, a cheek.
CUTS = {"top": np.s_[170:, :], "bottom": np.s_[:410, :], "left": np.s_[:, 150:], "right": np.s_[:, :370]}
FURTHER = 200


class BlurringRestorer(InvertingRestorer):
    """Mixes neighbours, as networks do: what lies beyond the edge gets into the face."""

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return F.avg_pool2d(F.pad(faces_B3HW, (16,) * 4, mode="replicate"), 33, stride=1)


@pytest.fixture(scope="module")
def by_skin() -> dict[str, np.ndarray]:
    """The darkest and the lightest of the faces, (512, 512, 3) in [0, 1]."""
    faces = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in large_faces()]
    faces.sort(key=lambda face_HW3: face_HW3[270:380, 180:330].mean())
    return {"dark": faces[0], "light": faces[-1]}


def restored(image_HW3: np.ndarray, shift_xy: tuple[int, int], restorer: BlurringRestorer) -> cf.RestoredImages:
    points = TEMPLATE_XY + shift_xy
    face = Face((0.0, 0.0, *map(float, image_HW3.shape[1::-1])), tuple(map(tuple, points.tolist())), 1.0)
    aligned = align_face(0, face)
    assert aligned is not None
    image_1HW3 = torch.from_numpy(np.ascontiguousarray(image_HW3))[None]
    return cf.restore_images(image_1HW3, restorer=restorer, detector=[aligned], fidelity=1.0, mask="outline")


@pytest.mark.parametrize("side", CUTS)
@pytest.mark.parametrize("skin", ["dark", "light"])
def test_no_strip_at_the_edge(by_skin, skin, side):
    rows, columns = CUTS[side]
    cut_HW3 = by_skin[skin][rows, columns]
    shift_x, shift_y = -(columns.start or 0), -(rows.start or 0)
    padding = ((FURTHER, FURTHER), (FURTHER, FURTHER), (0, 0))
    here = restored(cut_HW3, (shift_x, shift_y), BlurringRestorer())
    wider = restored(np.pad(cut_HW3, padding, mode="edge"), (shift_x + FURTHER, shift_y + FURTHER), BlurringRestorer())

    edge = {"top": np.s_[:3], "bottom": np.s_[-3:], "left": np.s_[:, :3], "right": np.s_[:, -3:]}[side]
    height, width = cut_HW3.shape[:2]
    inner = np.s_[FURTHER : FURTHER + height, FURTHER : FURTHER + width]
    mask = here.masks_BHW[0][edge] > 0.5
    assert mask.sum() > 100  # the face does reach the edge
    means = [images_BHWC[0][inner_or_all][edge][mask].mean() * 255 for images_BHWC, inner_or_all in (
        (here.images_BHWC, np.s_[:, :]), (wider.images_BHWC, inner))]  # fmt: skip
    assert abs(means[0] - means[1]) < 3
