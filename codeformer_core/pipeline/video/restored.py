"""The faces of frames through the network: only their rectangles are converted, and batches are filled across frames.

Shape legend: S = 512 side of a crop, s = 256 side of its small view; H W a rectangle of a frame.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...faces.geometry import CROP_SIZE, Rectangle, covered_rectangle
from ...faces.types import Face
from ...models.restorer import fidelity_of
from ...runtime.packages import import_for_faces
from ...runtime.progress import no_progress
from ..align import AlignedFace
from ..detail import detail_of
from ..judge import Judgement
from ..options import RestoreOptions
from ..recipe import USUAL
from ..restore import Models, restore_faces
from .look import blocks_of
from .planes import Planes
from .window import TrackedFace, TrackedFrame

# Pixels: side of the small view in which the motion between frames is found.
SMALL_SIDE = 256
# Whether a face came out worse is judged every so many frames of its track.
JUDGE_EVERY = 24


@dataclass(frozen=True, eq=False)
class RestoredTrackFace:
    """A restored face of a frame.

    tracked: where it goes.
    face_SS3: RGB [0, 1]; in half precision, of which many wait, finer than the steps of 10 bits.
    mask_SS: how much of it is to show, [0, 1], as precise; None for the soft box alone.
    small_ss: the face as it was, gray uint8.
    judgement: how it compares with what it was; None where that was not asked.
    """

    tracked: TrackedFace
    face_SS3: np.ndarray
    mask_SS: np.ndarray | None
    small_ss: np.ndarray
    judgement: Judgement | None = None


@dataclass(frozen=True, eq=False)
class RestoredFrame:
    """A frame with its restored faces, by the numbers of their tracks."""

    tracked: TrackedFrame
    faces: dict[int, RestoredTrackFace]


class _Patches(Sequence[Tensor]):
    """The rectangles of faces as images, made when they are asked for and not kept."""

    def __init__(self, planes: Sequence[Planes], areas: Sequence[Rectangle], device: torch.device) -> None:
        self._planes, self._areas, self._device = planes, areas, device

    def __len__(self) -> int:
        return len(self._areas)

    def __getitem__(self, index: int | slice) -> Tensor:  # type: ignore[override]
        assert isinstance(index, int)
        return self._planes[index].rgb(self._areas[index]).clamp_(0, 1).to(self._device)


def restored_frames(
    frames: Iterable[TrackedFrame], rotation: int, models: Models, options: RestoreOptions, device: torch.device
) -> Generator[RestoredFrame]:
    """The frames with their faces restored, block after block.

    frames: those without a picture are left out.
    rotation: degrees counter-clockwise, by which frames are turned to be upright.
    device: where crops are cut and worked on.
    """
    for block in blocks_of(frames):
        block[:] = [frame for frame in block if frame.frame is not None]
        restored = _restored_block(block, rotation, models, options, device)
        # Frames are many megabytes: none is kept here when it is handed on.
        while block:
            number = block[0].number
            yield RestoredFrame(block.pop(0), restored.pop(number, {}))


@torch.no_grad()
def _restored_block(
    block: Sequence[TrackedFrame], rotation: int, models: Models, options: RestoreOptions, device: torch.device
) -> dict[int, dict[int, RestoredTrackFace]]:
    tracked: list[TrackedFace] = []
    planes: list[Planes] = []
    areas: list[Rectangle] = []
    for frame in block:
        assert frame.frame is not None
        samples = Planes.of(frame.frame.picture, rotation)
        for face in frame.faces:
            area = covered_rectangle(face.aligned.matrix, CROP_SIZE, *samples.size_hw)
            if not area.is_empty:
                tracked.append(face)
                planes.append(samples)
                areas.append(samples.around(area))
    patches = _Patches(planes, areas, device)
    inside = [moved(face.aligned, index, areas[index]) for index, face in enumerate(tracked)]
    gray = {index for index, area in enumerate(areas) if planes[index].is_gray(area)}
    fidelity = fidelity_of(models.restorer, options.fidelity)
    detail = detail_of(options.detail, models.restorer, fidelity)
    unjudged = replace(options, when_worse="paste")
    made: dict[int, dict[int, RestoredTrackFace]] = {}
    for restored in restore_faces(patches, inside, models, options, gray, no_progress):
        face = tracked[restored.aligned.image]
        judged = options if face.age % JUDGE_EVERY == 0 else unjudged
        patch_HW3 = patches[restored.aligned.image]
        face_3SS, judgement = USUAL.beside_photo(restored, patch_HW3, detail, judged)
        track = face.aligned.track
        assert track is not None
        made.setdefault(face.aligned.image, {})[track] = RestoredTrackFace(
            face,
            face_3SS.permute(1, 2, 0).half().contiguous().cpu().numpy(),
            None if restored.mask_HW is None else restored.mask_HW.half().cpu().numpy(),
            small_view_of(restored.crop_3HW),
            judgement,
        )
    return made


def moved(one: AlignedFace, image: int, area: Rectangle) -> AlignedFace:
    """The face in the part of its frame that `area` is.

    image: index of that part.
    """
    shift = np.array((area.left, area.top), np.float64)
    matrix = moved_matrix(one.matrix, area)
    points = one.face.landmarks_array() - shift
    a, b, c, d, e = ((float(x), float(y)) for x, y in points)
    left, top, right, bottom = one.face.box_xyxy
    box = (left - area.left, top - area.top, right - area.left, bottom - area.top)
    return AlignedFace(image, Face(box, (a, b, c, d, e), one.face.score), matrix, one.track)


def moved_matrix(matrix: np.ndarray, area: Rectangle) -> np.ndarray:
    """The alignment from the part of a frame that `area` is; read-only."""
    inside = matrix.copy()
    inside[:, 2] += inside[:, :2] @ np.array((area.left, area.top), np.float64)
    inside.setflags(write=False)
    return inside


def small_view_of(crop_3SS: Tensor) -> np.ndarray:
    """The small view of a crop, RGB [0, 1]: small_ss, gray uint8."""
    cv2 = import_for_faces("cv2")
    levels_SS3 = crop_3SS.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    gray_SS = cv2.cvtColor(np.ascontiguousarray(levels_SS3), cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray_SS, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA)
