"""The pipeline: find the faces of all pictures, restore them in batches, blend each back into its picture.

Shape legend: B pictures, H W their height and width, C channels (1 to 4); N faces of all pictures together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from . import images as pictures
from . import memory
from .faces.compositing import paste_face, paste_matrix
from .faces.detection import FaceDetector
from .faces.geometry import CROP_SIZE, crop_face, estimate_alignment
from .faces.gray import is_gray, match_gray
from .faces.masks import face_shape_mask
from .faces.parsing import FaceParser
from .faces.selection import SkippedFace, Which, choose_faces
from .faces.types import Face, FaceCrop
from .restorer import FaceRestorer, check_fidelity

Upscaler = Callable[[Tensor], Tensor]
OnProgress = Callable[[str, int, int], None]
MaskKind = Literal["face", "box"]

FINDING = "finding faces"
RESTORING = "restoring faces"
# More faces at a time are no faster: a CPU is busy with one, a GPU with a few.
MOST_FACES = {"cpu": 1}
MOST_FACES_ON_GPU = 16
# Pictures whose shorter side is below this are enlarged, and stay so, in the published recipe.
PARITY_SHORTER_SIDE = 512


@dataclass(frozen=True)
class Placement:
    """A chosen face and the way into its picture. matrix: picture -> crop; gray: its picture has no colour."""

    picture: int
    face: Face
    matrix: np.ndarray
    gray: bool


@dataclass(frozen=True, eq=False)
class RestoredImages:
    """What `restore_images` gives back, one entry per picture that came in.

    images_BHWC: float32, RGB or RGBA. masks_BHW: how much of a pasted face shows, 0..1, at the pictures' new size.
    faces: the restored faces, and skipped: the others with the reason, in pixels of the pictures that came in.
    crops: every restored face before and after; empty unless asked for.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    faces: tuple[tuple[Face, ...], ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]
    crops: tuple[FaceCrop, ...]
    made_with: str

    def summary(self) -> str:
        """Per picture what was found, restored and skipped, and with what; for people."""
        lines = []
        for index, (restored, skipped) in enumerate(zip(self.faces, self.skipped, strict=True)):
            found = len(restored) + len(skipped)
            if found == 0:
                lines.append(f"picture {index + 1}: no face found")
                continue
            lines.append(f"picture {index + 1}: {_faces(found)} found, {len(restored)} restored")
            lines += [f"  skipped at {_place(entry.face)}: {entry.reason}" for entry in skipped]
        return "\n".join([*lines, self.made_with])


@torch.no_grad()
def restore_images(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    detector: FaceDetector,
    parser: FaceParser | None = None,
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

    images_BHWC: floats in [0, 1], gray, RGB or RGBA. fidelity: 0 best quality .. 1 closest to the input.
    upscale: factor >= 1 of the result. background: the enlarged pictures, or what enlarges pictures_BHW3 (their size is
    made to fit); bicubic if None. face_upscaler: likewise for restored faces, when upscale > 1.
    confidence: detections below are no faces; the detector's default if None. smallest_face: shorter side in pixels.
    faces: which of each picture. mask: paste the face's shape (needs a parser, else the box) or a soft box.
    opacity: 0..1 of the pasted face. parity: the published recipe, bugs included (8-bit steps; small pictures stay
    enlarged). batch_size: faces at a time, chosen from free memory if None. on_progress(stage, done, total) is called
    between batches and may raise to cancel.
    Raises ValueError naming the input and the cure. Nothing that was passed in is changed.
    """
    _check_options(restorer, fidelity, upscale, mask, opacity, batch_size)
    pictures.check_layout(images_BHWC)
    batch, height, width = images_BHWC.shape[:3]
    if parity:
        height, width = _published_size(height, width)
    canvas_size = _scaled(height, upscale, parity), _scaled(width, upscale, parity)
    # Before anything of a picture's size is made, be it a copy in float32 or the enlarged picture.
    _check_memory(batch, canvas_size, images_BHWC.device)
    source = pictures.take_apart(images_BHWC)
    if isinstance(background, Tensor):
        _check_background(background, batch)
    report = on_progress or _ignore
    rgb_BHW3 = _as_published(source.rgb_BHW3, height, width) if parity else source.rgb_BHW3

    placements, skipped = _find(
        rgb_BHW3, source.rgb_BHW3, detector, confidence, smallest_face, faces, parity, report
    )
    canvas_BHW3 = _background(rgb_BHW3, background, canvas_size, parity)
    masks_BHW = torch.zeros(canvas_BHW3.shape[:3], device=canvas_BHW3.device)
    crops: list[FaceCrop] = []
    shape_parser = parser if mask == "face" else None
    for placement, crop_3HW, face_3HW, shape_HW in _restored(
        rgb_BHW3, placements, restorer, shape_parser, fidelity, parity, batch_size, report
    ):
        if keep_crops:
            crops.append(FaceCrop(placement.picture, placement.face, placement.matrix, crop_3HW, face_3HW))
        if face_upscaler is not None and upscale > 1:
            face_3HW, shape_HW = _enlarged_face(face_3HW, shape_HW, face_upscaler, upscale)
        paste_face(
            canvas_BHW3[placement.picture],
            masks_BHW[placement.picture],
            face_3HW,
            shape_HW,
            paste_matrix(placement.matrix, upscale, face_3HW.shape[-1], parity),
            upscale=upscale,
            opacity=opacity,
            parity=parity,
        )
    if parity:
        canvas_BHW3 = (canvas_BHW3 * 255 + 1e-3).floor_() / 255
    enlarged = height / source.rgb_BHW3.shape[1]
    return RestoredImages(
        images_BHWC=pictures.put_together(canvas_BHW3, source.alpha_BHW1),
        masks_BHW=masks_BHW,
        faces=tuple(
            tuple(_shrunk(placement.face, enlarged) for placement in placements if placement.picture == index)
            for index in range(batch)
        ),
        skipped=tuple(
            tuple(SkippedFace(_shrunk(entry.face, enlarged), entry.reason) for entry in entries)
            for entries in skipped
        ),
        crops=tuple(crops),
        made_with=_made_with(restorer, detector, shape_parser, mask, fidelity, parity),
    )


@torch.no_grad()
def restore_aligned(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    fidelity: float = 0.5,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Restore pictures that are aligned faces already (FFHQ template, any size); the same size comes back."""
    _check_options(restorer, fidelity, 1.0, "box", 1.0, batch_size)
    source = pictures.take_apart(images_BHWC)
    report = on_progress or _ignore
    count, height, width = source.rgb_BHW3.shape[:3]
    restored_BHW3 = torch.empty_like(source.rgb_BHW3, memory_format=torch.contiguous_format)
    gray = [is_gray(image_HW3) for image_HW3 in source.rgb_BHW3]

    def run(part: slice) -> Tensor:
        crops_B3HW = pictures.to_network(pictures.resize(source.rgb_BHW3[part], CROP_SIZE, CROP_SIZE))
        return restorer.restore(crops_B3HW, fidelity)

    report(RESTORING, 0, count)
    for part, faces_B3HW in memory.in_batches(count, batch_size or _batch_size(restorer), run):
        faces_BHW3 = pictures.resize(pictures.from_network(faces_B3HW), height, width)
        for index, face_HW3 in zip(range(part.start, part.stop), faces_BHW3, strict=True):
            if gray[index]:
                toned_13HW = match_gray(_as_1CHW(face_HW3), _as_1CHW(source.rgb_BHW3[index]))
                face_HW3 = toned_13HW[0].permute(1, 2, 0)
            restored_BHW3[index] = face_HW3
        report(RESTORING, part.stop, count)
    return pictures.put_together(restored_BHW3, source.alpha_BHW1)


def _check_options(
    restorer: FaceRestorer, fidelity: float, upscale: float, mask: str, opacity: float, batch_size: int | None
) -> None:
    if restorer.task != "restoration":
        raise ValueError(
            f"{restorer.name} is a {restorer.task} model; restoring faces needs a restoration model: "
            "choose codeformer.pth"
        )
    check_fidelity(fidelity)
    if not (math.isfinite(upscale) and upscale >= 1):
        raise ValueError(f"upscale must be 1 or more, got {upscale}; shrink the result afterwards instead")
    if mask not in ("face", "box"):
        raise ValueError(f"mask must be 'face' or 'box', got {mask!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 (invisible) to 1, got {opacity}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(
            f"batch_size must be 1 or more, or None to choose it from the free memory, got {batch_size}"
        )


def _check_memory(batch: int, canvas_size: tuple[int, int], device: torch.device) -> None:
    height, width = canvas_size
    # Colour, the same once more while it is put together, and the mask.
    bytes_needed = batch * height * width * (3 + 3 + 1) * 4
    memory.require(bytes_needed, device, f"a result of {batch} x {width}x{height} pixels")


def _scaled(length: int, upscale: float, parity: bool) -> int:
    return int(length * upscale) if parity else max(1, round(length * upscale))


def _published_size(height: int, width: int) -> tuple[int, int]:
    factor = max(PARITY_SHORTER_SIDE / min(height, width), 1)
    return int(height * factor), int(width * factor)


def _as_published(rgb_BHW3: Tensor, height: int, width: int) -> Tensor:
    rgb_BHW3 = pictures.to_8bit_steps(rgb_BHW3)
    if rgb_BHW3.shape[1:3] == (height, width):
        return rgb_BHW3
    return pictures.resize_8bit(rgb_BHW3, height, width)


def _find(
    rgb_BHW3: Tensor,
    original_BHW3: Tensor,
    detector: FaceDetector,
    confidence: float | None,
    smallest_face: float,
    which: Which,
    parity: bool,
    report: OnProgress,
) -> tuple[list[Placement], list[list[SkippedFace]]]:
    """Detect picture by picture, so that progress and cancel work, and choose among what was found."""
    batch, height, width = rgb_BHW3.shape[:3]
    placements: list[Placement] = []
    skipped: list[list[SkippedFace]] = []
    for index in range(batch):
        report(FINDING, index, batch)
        found = detector.detect(rgb_BHW3[index : index + 1], confidence)[0]
        chosen = choose_faces(found, (height, width), which=which, smallest_face=smallest_face, parity=parity)
        left_out = list(chosen.skipped)
        gray = bool(chosen.kept) and is_gray(original_BHW3[index])
        for face in chosen.kept:
            matrix = estimate_alignment(face)
            if matrix is None:
                left_out.append(SkippedFace(face, "its landmarks do not form a face"))
                continue
            matrix.setflags(write=False)
            placements.append(Placement(index, face, matrix, gray))
        skipped.append(left_out)
    report(FINDING, batch, batch)
    return placements, skipped


def _check_background(given_BHWC: Tensor, batch: int) -> None:
    pictures.check_images(given_BHWC, "backgrounds")
    if len(given_BHWC) not in (1, batch):
        raise ValueError(
            f"there are {batch} pictures but {len(given_BHWC)} backgrounds: give one for each, or one for all"
        )


def _background(
    rgb_BHW3: Tensor, background: Tensor | Upscaler | None, size: tuple[int, int], parity: bool
) -> Tensor:
    """A new tensor of the canvas's size to paste into."""
    if background is None:
        if rgb_BHW3.shape[1:3] == size:
            return rgb_BHW3.clone(memory_format=torch.contiguous_format)
        if parity:
            return pictures.resize_8bit(rgb_BHW3, *size)
        return pictures.resize(rgb_BHW3, *size, mode="bicubic").clamp_(0, 1)

    def fitted(given_1HWC: Tensor) -> Tensor:
        given_1HW3 = pictures.take_apart(given_1HWC, "backgrounds").rgb_BHW3.to(rgb_BHW3.device)
        if parity and given_1HW3.shape[1:3] != size:
            return pictures.resize_8bit(given_1HW3, *size, lanczos=True)
        return pictures.resize(given_1HW3, *size, mode="bicubic").clamp(0, 1)

    batch = len(rgb_BHW3)
    canvas_BHW3 = torch.empty((batch, *size, 3), device=rgb_BHW3.device)
    if isinstance(background, Tensor):
        given_BHWC: Tensor = background
        if len(given_BHWC) == 1:
            return canvas_BHW3.copy_(fitted(given_BHWC))
        for index in range(batch):
            canvas_BHW3[index] = fitted(given_BHWC[index : index + 1])[0]
        return canvas_BHW3
    # One picture at a time: enlarged pictures, before they are made to fit, are the largest thing in memory.
    for index in range(batch):
        made_1HWC = background(rgb_BHW3[index : index + 1])
        _check_background(made_1HWC, 1)
        canvas_BHW3[index] = fitted(made_1HWC)[0]
    return canvas_BHW3


def _restored(
    rgb_BHW3: Tensor,
    placements: Sequence[Placement],
    restorer: FaceRestorer,
    parser: FaceParser | None,
    fidelity: float,
    parity: bool,
    batch_size: int | None,
    report: OnProgress,
) -> Iterator[tuple[Placement, Tensor, Tensor, Tensor | None]]:
    """Per face: its crop and its restored face, (3, 512, 512) in [0, 1], and its shape mask (512, 512) if parsed."""

    def run(part: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        chosen = placements[part]
        crops_N3HW = torch.stack(
            [crop_face(rgb_BHW3[placement.picture], placement.matrix, parity=parity) for placement in chosen]
        )
        network_N3HW = restorer.restore(crops_N3HW * 2 - 1, fidelity)
        shapes_NHW = face_shape_mask(parser.parse(network_N3HW)) if parser else None
        faces_N3HW = (network_N3HW + 1) / 2
        if parity:
            faces_N3HW = pictures.to_8bit_steps(faces_N3HW)
        for index, placement in enumerate(chosen):
            if placement.gray:
                one = slice(index, index + 1)
                faces_N3HW[one] = match_gray(faces_N3HW[one], crops_N3HW[one], clip=not parity)
        return crops_N3HW, faces_N3HW, shapes_NHW

    total = len(placements)
    if total:
        report(RESTORING, 0, total)
    for part, (crops_N3HW, faces_N3HW, shapes_NHW) in memory.in_batches(
        total, batch_size or _batch_size(restorer), run
    ):
        for index, placement in enumerate(placements[part]):
            yield (
                placement,
                crops_N3HW[index],
                faces_N3HW[index],
                None if shapes_NHW is None else shapes_NHW[index],
            )
        report(RESTORING, part.stop, total)


def _enlarged_face(
    face_3HW: Tensor, shape_HW: Tensor | None, face_upscaler: Upscaler, upscale: float
) -> tuple[Tensor, Tensor | None]:
    size = int(CROP_SIZE * upscale)
    face_1HW3 = pictures.resize(face_upscaler(face_3HW.permute(1, 2, 0)[None]), size, size)
    if shape_HW is not None:
        shape_HW = pictures.resize(shape_HW[None, ..., None], size, size)[0, ..., 0]
    return face_1HW3[0].permute(2, 0, 1).to(face_3HW), shape_HW


def _batch_size(restorer: FaceRestorer) -> int:
    most = MOST_FACES.get(restorer.device.type, MOST_FACES_ON_GPU)
    return memory.batch_size(restorer.bytes_per_face, restorer.device, most)


def _as_1CHW(image_HWC: Tensor) -> Tensor:
    return image_HWC.permute(2, 0, 1)[None]


def _shrunk(face: Face, factor: float) -> Face:
    """A face of a picture that was enlarged by `factor`, in pixels of the picture as it came."""
    if factor == 1:
        return face
    left, top, right, bottom = (value / factor for value in face.box_xyxy)
    eye_left, eye_right, nose, mouth_left, mouth_right = (
        (x / factor, y / factor) for x, y in face.landmarks_xy
    )
    return Face((left, top, right, bottom), (eye_left, eye_right, nose, mouth_left, mouth_right), face.score)


def _made_with(
    restorer: FaceRestorer,
    detector: FaceDetector,
    parser: FaceParser | None,
    mask: MaskKind,
    fidelity: float,
    parity: bool,
) -> str:
    shape = f"face shape by {parser.name}" if parser else "soft box"
    if mask == "face" and parser is None:
        shape += " (no face parser is installed)"
    recipe = ", published recipe" if parity else ""
    return f"restored by {restorer.name} at fidelity {fidelity:g}, found by {detector.name}, mask: {shape}{recipe}"


def _faces(count: int) -> str:
    return f"{count} face" if count == 1 else f"{count} faces"


def _place(face: Face) -> str:
    x, y = face.center_xy
    return f"({x:.0f}, {y:.0f})"


def _ignore(stage: str, done: int, total: int) -> None:
    """No progress wanted."""
