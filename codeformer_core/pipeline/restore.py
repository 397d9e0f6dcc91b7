"""The pipeline: find the faces of all pictures, restore them in batches, blend each back into its picture.

Shape legend: B pictures, H W their height and width, C channels (1 to 4); N faces of all pictures together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import Faces, check_same_pictures, unlike_pictures
from ..faces.detection import FaceDetector
from ..faces.geometry import CROP_SIZE, crop_face, estimate_alignment
from ..faces.landmarks import FaceAligner
from ..faces.parsing import FaceParser
from ..faces.selection import Selection, SkippedFace, Which, check_smallest_face, check_which, choose_faces
from ..faces.types import Face, FaceCrop
from ..imaging import tensors as pictures
from ..imaging.gray import is_gray, match_gray
from ..models.restorer import (
    FaceRestorer,
    at_fidelity,
    check_fidelity,
    check_task,
    fidelity_remark,
)
from ..runtime import memory
from ..runtime.progress import RESTORING, OnProgress, no_progress
from .canvas import Upscaler, as_published, check_background, make_canvas, plan_sizes, require_memory
from .components import FaceParts, boxes_of, face_parts, looked_up, part_remarks, placed_by
from .composite import paste_face, paste_matrix
from .detect import NO_FACE_SHAPE, detect_in_batches
from .paste import enlarged_face
from .paste_masks import MaskKind, PasteShape, ShapesOf, choose_shapes, landmarks_in_crop
from .reference import published_paste_matrix
from .results import RestoredImages

# Beyond any use; larger numbers overflow the size of the result.
LARGEST_UPSCALE = 64


@dataclass(frozen=True)
class Placement:
    """A chosen face and the way into its picture. matrix: picture -> crop; gray: its picture has no colour."""

    picture: int
    face: Face
    matrix: np.ndarray
    gray: bool

    def landmarks_in_crop(self) -> np.ndarray:
        """(5, 2), pixels of the crop."""
        return landmarks_in_crop(self.face.landmarks_array(), self.matrix)


@torch.no_grad()
def restore_images(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    detector: FaceDetector | Faces,
    parser: FaceParser | None = None,
    aligner: FaceAligner | None = None,
    fidelity: float = 0.5,
    upscale: float = 1.0,
    background: Tensor | Upscaler | None = None,
    face_upscaler: Upscaler | None = None,
    confidence: float | None = None,
    smallest_face: float = 0.0,
    faces: Which = "all",
    mask: MaskKind = "face",
    opacity: float = 1.0,
    parity: bool = False,
    batch_size: int | None = None,
    keep_crops: bool = True,
    on_progress: OnProgress | None = None,
) -> RestoredImages:
    """Restore the faces of pictures; what is not a face stays as it is.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA. detector: finds the faces; or the faces themselves, which are then
    all restored, whatever the filters say. aligner: finds 68 landmarks for a restorer that works part by part, in faces
    that bring none. fidelity: 0 best quality .. 1 closest to the input. upscale: factor >= 1 of
    the result. background: the enlarged pictures, or what enlarges pictures_BHW3 (their size is made to fit); bicubic
    if None. face_upscaler: likewise for restored faces, when upscale > 1.
    confidence: detections below are no faces; the detector's default if None. smallest_face: shorter side in pixels.
    faces: which of each picture. mask: paste the face's shape as the parser sees it (without one, the outline), an
    outline from the landmarks, or a soft box.
    opacity: 0..1 of the pasted face. parity: the published recipe, bugs included (8-bit steps; small pictures stay
    enlarged). batch_size: faces at a time, chosen from free memory if None. keep_crops: hand back every face before and
    after, 6 MB each. on_progress(stage, done, total) is called between batches and may raise to cancel.
    Raises ValueError naming the input and the cure. Nothing that was passed in is changed.
    """
    check_restorer(restorer, fidelity, batch_size)
    _check_options(upscale, smallest_face, faces, mask, opacity)
    pictures.check_layout(images_BHWC)
    batch, height, width, _ = images_BHWC.shape
    sizes = plan_sizes(height, width, upscale, parity)
    require_memory(images_BHWC, sizes)
    source = pictures.take_apart(images_BHWC)
    if isinstance(background, Tensor):
        check_background(background, batch)
    report = on_progress or no_progress
    rgb_BHW3 = as_published(source.rgb_BHW3, sizes) if parity else source.rgb_BHW3

    remarks: list[str] = []
    if isinstance(detector, Faces):
        check_same_pictures(detector, images_BHWC)
        remarks = unlike_pictures(detector, source.rgb_BHW3)
        selections = [
            Selection(tuple(_scaled(face, sizes.enlarged) for face in given), ()) for given in detector.per_picture
        ]
    else:
        found = detect_in_batches(rgb_BHW3, detector, confidence, report)
        smallest = smallest_face * sizes.enlarged
        selections = [
            choose_faces(entry, sizes.working, which=faces, smallest_face=smallest, parity=parity) for entry in found
        ]
    placements, skipped = _align(selections, source.rgb_BHW3)
    if placements and (remark := fidelity_remark(restorer)):
        remarks = [*remarks, remark]
    canvas_BHW3 = make_canvas(rgb_BHW3, background, sizes, parity)
    masks_BHW = memory.sparse_zeros(canvas_BHW3.shape[:3], canvas_BHW3.device)
    shapes_of, shape_words = choose_shapes(PasteShape(mask), parser, parity)
    crops: list[FaceCrop] = []
    pasted: list[list[Face]] = [[] for _ in range(batch)]
    located = [face_parts(at.picture, at.face, at.matrix) for at in placements] if restorer.needs_landmarks else []
    for placement, crop_3HW, face_3HW, shape_HW in _restore(
        rgb_BHW3, placements, located, aligner, restorer, shapes_of, fidelity, parity, batch_size, report
    ):
        crop = FaceCrop(placement.picture, placement.face, placement.matrix, crop_3HW, face_3HW)
        if face_upscaler is not None and upscale > 1:
            face_3HW = enlarged_face(face_3HW, face_upscaler, int(CROP_SIZE * upscale))
            if shape_HW is not None:
                shape_HW = pictures.resize(shape_HW[None, ..., None], *face_3HW.shape[1:])[0, ..., 0]
        size = face_3HW.shape[-1]
        touched = paste_face(
            canvas_BHW3[placement.picture],
            masks_BHW[placement.picture],
            face_3HW,
            shape_HW,
            published_paste_matrix(placement.matrix, upscale, size)
            if parity
            else paste_matrix(placement.matrix, sizes.upscale_xy, size),
            opacity=opacity,
            parity_upscale=upscale if parity else None,
        )
        if not touched:
            skipped[placement.picture].append(SkippedFace(placement.face, "it lies outside the picture"))
            continue
        pasted[placement.picture].append(_scaled(placement.face, 1 / sizes.enlarged))
        if keep_crops:
            crops.append(crop)
    if parity:
        # The published result is truncated to 8 bits; the small number keeps whole levels, which float32 can miss.
        canvas_BHW3.mul_(255).add_(1e-3).floor_().div_(255)
    made_with = (
        f"{restorer.name}{at_fidelity(restorer, fidelity)}",
        placed_by(located),
        f"mask: {shape_words}",
        "published recipe" if parity else "",
    )
    return RestoredImages(
        images_BHWC=pictures.put_together(canvas_BHW3, source.alpha_BHW1),
        masks_BHW=masks_BHW,
        faces=tuple(map(tuple, pasted)),
        skipped=tuple(
            tuple(SkippedFace(_scaled(entry.face, 1 / sizes.enlarged), entry.reason) for entry in entries)
            for entries in skipped
        ),
        crops=tuple(crops),
        finder=detector.name if not isinstance(detector, Faces) else None,
        restorer=", ".join(filter(None, made_with)),
        remarks=(*remarks, *part_remarks(located, 1 / sizes.enlarged)),
    )


def check_restorer(restorer: FaceRestorer, fidelity: float, batch_size: int | None) -> None:
    """Raise ValueError unless faces can be restored with these."""
    check_task(restorer, "restoration")
    check_fidelity(fidelity)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, or None to choose it from the free memory, got {batch_size}")


def _check_options(upscale: float, smallest_face: float, faces: str, mask: MaskKind, opacity: float) -> None:
    check_smallest_face(smallest_face)
    check_which(faces)
    if not upscale >= 1:
        raise ValueError(f"upscale must be 1 or more, got {upscale}; shrink the result afterwards instead")
    if upscale > LARGEST_UPSCALE:
        raise ValueError(f"upscale must be at most {LARGEST_UPSCALE}, got {upscale}")
    PasteShape(mask)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 (invisible) to 1, got {opacity}")


def _align(selections: Sequence[Selection], source_BHW3: Tensor) -> tuple[list[Placement], list[list[SkippedFace]]]:
    """Where the chosen faces lie, and per picture the others with the reason; in working pixels."""
    placements: list[Placement] = []
    skipped: list[list[SkippedFace]] = []
    for index, chosen in enumerate(selections):
        left_out = list(chosen.skipped)
        gray = bool(chosen.kept) and is_gray(source_BHW3[index])
        for face in chosen.kept:
            matrix = estimate_alignment(face)
            if matrix is None:
                left_out.append(SkippedFace(face, NO_FACE_SHAPE))
                continue
            matrix.setflags(write=False)
            placements.append(Placement(index, face, matrix, gray))
        skipped.append(left_out)
    return placements, skipped


def _restore(
    rgb_BHW3: Tensor,
    placements: Sequence[Placement],
    located: list[FaceParts],
    aligner: FaceAligner | None,
    restorer: FaceRestorer,
    shapes_of: ShapesOf | None,
    fidelity: float,
    parity: bool,
    batch_size: int | None,
    report: OnProgress,
) -> Iterator[tuple[Placement, Tensor, Tensor, Tensor | None]]:
    """Per face: its crop and its restored face, (3, 512, 512) in [0, 1], and its shape mask (512, 512) if wanted.

    located: their parts, or none for a restorer that doesn't ask for them; what `aligner` finds is written there.
    """

    def run(part: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        chosen = placements[part]
        crops_N3HW = torch.stack(
            [crop_face(rgb_BHW3[placement.picture], placement.matrix, parity=parity) for placement in chosen]
        )
        if located and aligner is not None:
            located[part] = _look_up(located[part], chosen, crops_N3HW, aligner)
        parts_N44 = boxes_of(located[part]) if located else None
        network_N3HW = restorer.restore(crops_N3HW * 2 - 1, fidelity, parts_N44)
        landmarks_N52 = np.stack([placement.landmarks_in_crop() for placement in chosen])
        shapes_NHW = shapes_of(network_N3HW, landmarks_N52) if shapes_of else None
        faces_N3HW = (network_N3HW + 1) / 2
        if parity:
            faces_N3HW = pictures.to_8bit_steps(faces_N3HW)
        for index, placement in enumerate(chosen):
            if placement.gray:
                one = slice(index, index + 1)
                faces_N3HW[one] = match_gray(faces_N3HW[one], crops_N3HW[one], clip=not parity)
        return crops_N3HW, faces_N3HW, shapes_NHW

    total = len(placements)
    if total == 0:
        return
    report(RESTORING, 0, total)
    for part, (crops_N3HW, faces_N3HW, shapes_NHW) in memory.in_batches(
        total, batch_size or restorer.faces_at_once(), run
    ):
        shapes = [None] * len(crops_N3HW) if shapes_NHW is None else shapes_NHW
        yield from zip(placements[part], crops_N3HW, faces_N3HW, shapes, strict=True)
        report(RESTORING, part.stop, total)


def _look_up(
    located: Sequence[FaceParts], placements: Sequence[Placement], crops_N3HW: Tensor, aligner: FaceAligner
) -> list[FaceParts]:
    if all(one.has_68 for one in located):
        return list(located)
    landmarks_N682 = aligner.find(crops_N3HW * 2 - 1)
    return [
        looked_up(one, placement.matrix, landmarks_682)
        for one, placement, landmarks_682 in zip(located, placements, landmarks_N682, strict=True)
    ]


def _scaled(face: Face, factor: float) -> Face:
    return face if factor == 1 else face.scaled(factor)
