"""One micro step's faces: read, mirrored, toned and degraded, here or in a worker process.

Shape legend: B faces of this process's micro step, H W their size.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from ...degradation import Degradation, Drawn, degrade_on_cpu, draw
from .draws import FaceDraw, Recipe, Request, generator_of
from .files import BrokenFace, FaceSource
from .tones import Tone, draw_tone, in_tone

logger = logging.getLogger(__name__)

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Chance:
    """What chance decided about one draw.

    tone: None keeps the face's own.
    drawn: None without a degradation.
    """

    flipped: bool
    tone: Tone | None
    drawn: Drawn | None


@dataclass(frozen=True)
class Faces:
    """A request carried out.

    clean_B3HW: uint8, on the CPU.
    degraded_B3HW: uint8, on the CPU; None without a degradation, or where the device does it.
    indices: the faces that were read.
    broken: (index, reason) of faces that could not be read and were replaced.
    """

    step: int
    recipe: Recipe
    clean_B3HW: Tensor
    degraded_B3HW: Tensor | None
    indices: tuple[int, ...]
    chances: tuple[Chance, ...]
    broken: tuple[tuple[int, str], ...]

    def pin_memory(self) -> Faces:
        """Called by torch's DataLoader."""
        degraded_B3HW = None if self.degraded_B3HW is None else self.degraded_B3HW.pin_memory()
        return replace(self, clean_B3HW=self.clean_B3HW.pin_memory(), degraded_B3HW=degraded_B3HW)


@dataclass(frozen=True)
class Failure:
    """An error in a worker, which is raised in the training process.

    text: with the face's name.
    """

    text: str
    details: str


@dataclass(frozen=True)
class Assembler:
    """From requests to faces; picklable, a data set in the eyes of torch's DataLoader."""

    source: FaceSource
    seed: int
    flip: bool
    tones: float
    degrades: bool

    def __getitem__(self, request: Request) -> Faces | Failure:
        """Never raises in a worker's hands: torch would wrap the error into pages of text."""
        broken: list[tuple[int, str]] = []
        clean: list[np.ndarray] = []
        degraded: list[np.ndarray] = []
        indices: list[int] = []
        chances: list[Chance] = []
        for face_draw in request.draws:
            index = face_draw.index
            try:
                index, face_HW3 = read_or_next(self.source, index, broken)
                chance = chance_of(
                    self.seed, face_draw, self.flip, self.tones, request.recipe.degradation, face_HW3.shape[0]
                )
                if chance.flipped:
                    face_HW3 = np.ascontiguousarray(face_HW3[:, ::-1])
                if chance.tone is not None:
                    toned_3HW = in_tone(torch.from_numpy(face_HW3).permute(2, 0, 1), chance.tone)
                    face_HW3 = np.ascontiguousarray(toned_3HW.permute(1, 2, 0).numpy())
                clean.append(face_HW3)
                if self.degrades and chance.drawn is not None:
                    degraded.append(degrade_on_cpu(face_HW3, chance.drawn))
            except Exception as error:  # noqa: BLE001 - raised again, with its cause, by the feed
                name = self.source.names[index]
                text = f"the face {name} (draw {face_draw.number}): {type(error).__name__}: {error}"
                return Failure(text, traceback.format_exc())
            indices.append(index)
            chances.append(chance)
        return Faces(
            request.step,
            request.recipe,
            stacked(clean),
            stacked(degraded) if degraded else None,
            tuple(indices),
            tuple(chances),
            tuple(broken),
        )


def chance_of(
    seed: int, face_draw: FaceDraw, flip: bool, tones: float, degradation: Degradation | None, side: int
) -> Chance:
    """The random choices of one draw. Whatever `flip` and `tones` are, the same degradation is drawn.

    side: of the face in pixels.
    """
    generator = generator_of(seed, face_draw.number)
    heads = bool(torch.rand((), generator=generator) < 0.5)
    drawn = None if degradation is None else draw(degradation, side, generator)
    toned = bool(torch.rand((), generator=generator) < tones)
    return Chance(flip and heads, draw_tone(generator) if toned else None, drawn)


def read_or_next(source: FaceSource, index: int, broken: list[tuple[int, str]]) -> tuple[int, np.ndarray]:
    """The face, or the next one that can be read, and its index; what couldn't is added to `broken`."""
    for further in range(len(source)):
        candidate = (index + further) % len(source)
        try:
            return candidate, source.read(candidate)
        except BrokenFace as error:
            broken.append((candidate, str(error)))
    raise RuntimeError("none of the faces can be read any more; is the disk still there?")


def stacked(faces_HW3: Sequence[np.ndarray]) -> Tensor:
    """uint8 (B, 3, H, W), contiguous."""
    return torch.from_numpy(np.stack(faces_HW3)).permute(0, 3, 1, 2).contiguous()


def begin_worker(_number: int) -> None:
    """How a worker process behaves: on one core, and it stays until the training process lets it go.

    Ctrl-C and a request to end go to all processes of a terminal or a job, and the training process, which saves
    first, may still want a batch. When the training process is gone, torch ends its workers within seconds.
    """
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    """A training process that ends while it takes a batch from the worker's hands is not an error of the worker's."""
    if issubclass(kind, (EOFError, ConnectionError)):
        logger.debug("the training process hung up: %s", error)
    else:
        sys.__excepthook__(kind, error, place)
