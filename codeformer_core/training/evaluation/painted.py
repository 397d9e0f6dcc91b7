"""Colorizing and inpainting restorers, of any architecture, on faces whose truth is known.

Beside each stands what needs no network: gray and one skin tone for all, OpenCV's two ways to fill a hole.
Shape legend: B faces, S their side, 3 colours RGB; [0, 1] unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...degradation import PRESETS, draw
from ...degradation.brush import brush_mask
from ...faces.contour import contour_masks
from ...faces.geometry import TEMPLATE_XY
from ...imaging.gray import LUMA_RGB, with_luma_of
from ...models.restorer import Restorer
from ..data.files import FaceSource
from .choose import Metrics
from .faces import CleanBatch, clean_batches, seeded, spread, to_unit
from .folders import OnProgress, to_levels
from .measuring import Gatherer
from .results import Evaluation, Group, Sample, columns_of, means_of

GRAY, ONE_TONE, COLORIZED = "gray", "one skin tone", "colorized"
TELEA, NAVIER_STOKES, FILLED = "Telea", "Navier-Stokes", "filled"
# R, G and B less their luma, inside the outline of a hundred faces of many origins, on average.
SKIN_TONE_RGB = (0.129, -0.044, -0.114)
# Of a face's pixels; strokes outside of it are drawn anew.
HOLE_SHARES = (0.05, 0.25)
# Pixels around a hole that OpenCV looks at.
TELEA_RADIUS = 5

# (a batch of faces, its clean_B3SS) -> (method, made_B3SS), one after the other
Methods = Callable[[CleanBatch, Tensor], Iterator[tuple[str, Tensor]]]


@dataclass(frozen=True)
class _Plan:
    """What is measured.

    name: of the damage.
    input: the method that is what the others were given.
    """

    name: str
    input: str
    methods: Methods


def evaluate_colorization(
    restorer: Restorer,
    faces: FaceSource,
    metrics: Metrics,
    *,
    count: int | None = None,
    samples: int = 8,
    batch_size: int = 4,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Gray faces in colour, their brightness kept, as pasting does it: inside the face's outline, the rest as it was.

    restorer: for colorization.
    count: so many faces, evenly spread; None: all.
    samples: of so many faces the images are kept.
    Raises ValueError: no faces.
    """
    outline_SS = contour_masks(TEMPLATE_XY[None])[0]

    def methods(batch: CleanBatch, clean_B3SS: Tensor) -> Iterator[tuple[str, Tensor]]:
        weights_3 = clean_B3SS.new_tensor(LUMA_RGB)
        gray_B3SS = torch.einsum("bchw,c->bhw", clean_B3SS, weights_3)[:, None].expand_as(clean_B3SS)
        tone_B3SS = gray_B3SS + clean_B3SS.new_tensor(SKIN_TONE_RGB)[:, None, None]
        network_B3SS = restorer.restore(gray_B3SS * 2 - 1, 0.0) / 2 + 0.5
        for name, colours_B3SS in ((GRAY, gray_B3SS), (ONE_TONE, tone_B3SS), (COLORIZED, network_B3SS)):
            made_BSS3 = with_luma_of(colours_B3SS.permute(0, 2, 3, 1), gray_B3SS.permute(0, 2, 3, 1))
            made_B3SS = made_BSS3.permute(0, 3, 1, 2)
            yield name, torch.lerp(clean_B3SS, made_B3SS, outline_SS.to(made_B3SS))

    return _evaluate(_Plan("gray", GRAY, methods), faces, metrics, count, samples, batch_size, on_progress)


def evaluate_inpainting(
    restorer: Restorer,
    faces: FaceSource,
    metrics: Metrics,
    *,
    seed: int = 0,
    count: int | None = None,
    samples: int = 8,
    batch_size: int = 4,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Faces under strokes of a brush that cover 5 to 25 % of them, filled; all other pixels are the clean face's.

    restorer: for inpainting.
    seed: decides the strokes.
    count, samples: see `evaluate_colorization`.
    Raises ValueError: no faces.
    """

    def methods(batch: CleanBatch, clean_B3SS: Tensor) -> Iterator[tuple[str, Tensor]]:
        side = clean_B3SS.shape[-1]
        holes = [strokes(side, seeded(seed, "strokes", name)) for name in batch.names]
        holes_B1SS = torch.from_numpy(np.stack(holes))[:, None].to(clean_B3SS.device)
        yield "holes", torch.where(holes_B1SS, torch.ones_like(clean_B3SS), clean_B3SS)
        for name in (TELEA, NAVIER_STOKES):
            made = [_by_opencv(face, hole, name) for face, hole in zip(batch.faces_BHW3, holes, strict=True)]
            yield name, to_unit(np.stack(made), clean_B3SS.device)
        yield FILLED, restorer.inpaint(clean_B3SS * 2 - 1, holes_B1SS.float()) / 2 + 0.5

    return _evaluate(_Plan("strokes", "holes", methods), faces, metrics, count, samples, batch_size, on_progress)


def strokes(side: int, generator: torch.Generator) -> np.ndarray:
    """hole_SS bool, over a share of the face within HOLE_SHARES."""
    low, high = HOLE_SHARES
    while True:
        hole_SS = brush_mask(draw(PRESETS["inpainting"], side, generator))
        if low <= hole_SS.mean() <= high:
            return hole_SS


def _by_opencv(face_SS3: np.ndarray, hole_SS: np.ndarray, name: str) -> np.ndarray:
    import cv2

    method = cv2.INPAINT_TELEA if name == TELEA else cv2.INPAINT_NS
    return np.asarray(cv2.inpaint(face_SS3, hole_SS.astype(np.uint8), TELEA_RADIUS, method))


@torch.no_grad()
def _evaluate(
    plan: _Plan,
    faces: FaceSource,
    metrics: Metrics,
    count: int | None,
    samples: int,
    batch_size: int,
    on_progress: OnProgress | None,
) -> Evaluation:
    indices = spread(count, len(faces))
    shown = {faces.names[indices[place]] for place in spread(samples, len(indices))} if indices else set[str]()
    gatherer, kept, left_out = Gatherer(metrics), list[Sample](), list[str]()
    for number, batch in enumerate(clean_batches(faces, indices, batch_size)):
        left_out.extend(batch.left_out)
        if batch.names:
            clean_B3SS = to_unit(batch.faces_BHW3, torch.device("cpu"))
            gatherer.add_clean(clean_B3SS)
            made = _measured(plan, gatherer, batch, clean_B3SS)
            kept += _samples(plan, batch, made, shown)
        if on_progress is not None:
            done = min(len(indices), (number + 1) * batch_size)
            on_progress(done, len(indices), f"face {done} of {len(indices)}")
    if not gatherer.rows:
        raise ValueError(
            f"none of the faces can be read; the first one: {left_out[0] if left_out else 'there is none'}"
        )
    return Evaluation(
        columns=columns_of(metrics, to_input=True),
        rows=tuple(gatherer.rows),
        means=means_of(gatherer.rows, gatherer.set_distances()),
        accuracies=(),
        samples=tuple(kept),
        skipped=metrics.skipped,
        left_out=tuple(left_out),
    )


def _measured(plan: _Plan, gatherer: Gatherer, batch: CleanBatch, clean_B3SS: Tensor) -> dict[str, Tensor]:
    """Method -> made_B3SS, in 8 bits as its files would be."""
    made = {name: (faces_B3SS.clamp(0, 1) * 255).round() / 255 for name, faces_B3SS in plan.methods(batch, clean_B3SS)}
    for name, faces_B3SS in made.items():
        gatherer.add(Group(plan.name, name, None), batch.names, faces_B3SS, clean_B3SS, made[plan.input])
    return made


def _samples(plan: _Plan, batch: CleanBatch, made: dict[str, Tensor], shown: set[str]) -> list[Sample]:
    return [
        Sample(
            face,
            plan.name,
            (
                ("clean", batch.faces_BHW3[index]),
                *((name, to_levels(faces_B3SS[index])) for name, faces_B3SS in made.items()),
            ),
        )
        for index, face in enumerate(batch.names)
        if face in shown
    ]
