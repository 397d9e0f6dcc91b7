"""A loaded face restorer: what it is, and how aligned faces go through it.

Shape legend: B faces, H W the network's own square size (512 for all published ones); RGB in [-1, 1].
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..faces.events import Event
from ..runtime import memory
from ..runtime.errors import InputError
from .architecture import Architecture, Network, RestoreRequest, TaskSource

logger = logging.getLogger(__name__)

MAX_FACES_ON_GPU = 8
# Side of the crops that images are cut into; a network of one's own may have been trained for others.
USUAL_FACE_SIZE = 512
# For networks whose files recommend none.
USUAL_FIDELITY = 0.5


class FaceRestorer(Protocol):
    """What the pipeline needs of a restorer; a host's managed restorer offers the same."""

    @property
    def name(self) -> str:
        """The file, for messages."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that it can do, what it was made for first."""
        ...

    @property
    def uses_fidelity(self) -> bool:
        """Whether `fidelity` changes anything."""
        ...

    @property
    def recommended_fidelity(self) -> float:
        """What its file recommends, or 0.5."""
        ...

    @property
    def needs_landmarks(self) -> bool:
        """Whether `restore` makes use of where the eyes, nose and mouth lie."""
        ...

    def faces_at_once(self) -> int:
        """How many faces one call of `restore` should get, from the memory that is free."""
        ...

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        """Aligned 512 faces, RGB [-1, 1] -> the same restored, float32, on the same device."""
        ...


class FaceInpainter(FaceRestorer, Protocol):
    """What filling holes in faces needs of a restorer."""

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """Aligned 512 faces, RGB [-1, 1] -> the same, new where the mask is above 0.5, float32, on the same device."""
        ...


@dataclass(frozen=True)
class Restorer:
    """A network that is loaded, whatever its architecture.

    kind: what knows its networks.
    task: "restoration", "colorization", "inpainting" or "autoencoder".
    also: further tasks that it learned.
    task_source: who says so.
    name: where it came from, for messages.
    device, dtype: where and in what precision faces are computed.
    casts_weights: the module's layers bring their weights to the input's device and precision by themselves.
    recommended_fidelity: what its file recommends, or 0.5.
    generator_dtype: in what precision it generates, where that isn't `dtype`.
    """

    kind: Architecture
    task: str
    name: str
    module: Network = field(repr=False)
    device: torch.device
    dtype: torch.dtype
    casts_weights: bool = False
    recommended_fidelity: float = USUAL_FIDELITY
    also: tuple[str, ...] = ()
    task_source: TaskSource = "file"
    generator_dtype: torch.dtype | None = None

    @property
    def architecture(self) -> str:
        """Id of the architecture, such as "codeformer"."""
        return self.kind.id

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that it can do, what it was made for first."""
        return (self.task, *self.also)

    @property
    def face_size(self) -> int:
        """Side of its faces in pixels."""
        return self.kind.face_size(self.module)

    @property
    def uses_fidelity(self) -> bool:
        """Whether `fidelity` changes anything."""
        return self.kind.uses_fidelity(self.module)

    @property
    def needs_landmarks(self) -> bool:
        """Whether `restore` makes use of where the eyes, nose and mouth lie."""
        return self.kind.needs_landmarks

    @property
    def bytes_per_face(self) -> int:
        """Estimate of the activations that one face needs at the network's widest point."""
        return self.kind.floats_per_face(self.module) * self.dtype.itemsize

    def faces_at_once(self) -> int:
        """More are no faster: a CPU is busy with one face, a GPU with a few."""
        return memory.batch_size(self.bytes_per_face, self.device, 1 if self.device.type == "cpu" else MAX_FACES_ON_GPU)

    def on(self, device: torch.device | str) -> Restorer:
        """The same module, its faces computed on `device`; whoever owns the module has moved it there."""
        return dataclasses.replace(self, device=torch.device(device))

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        """restored_B3HW float32, RGB [-1, 1], clamped, on the faces' device.

        faces_B3HW: RGB [-1, 1], aligned, `face_size` square.
        fidelity: 0 (best quality) .. 1 (closest to the input). Colorization checkpoints were published for 0,
            inpainting ones for `inpaint`.
        component_boxes_B44: (B, 4, 4) x0, y0, x1, y1 of each face's eyes, nose and mouth in its pixels (see
            `faces.components`), for networks that need landmarks; None: where the template has them.
        Raises ValueError for a fidelity outside [0, 1] and for faces of another size.
        """
        check_fidelity(fidelity)
        self._check_restores()
        self._check_faces(faces_B3HW)
        request = RestoreRequest(self.task, fidelity, component_boxes_B44)
        return self._run(lambda network, faces: self.kind.restore(network, faces, request), faces_B3HW)

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """faces_B3HW with the pixels filled where mask_B1HW > 0.5; float32 in [-1, 1], the others untouched.

        faces_B3HW: RGB [-1, 1].
        mask_B1HW: one channel for each face, of the faces' size.
        Raises ValueError for another task's model and for other shapes.
        """
        check_task(self, "inpainting")
        self._check_faces(faces_B3HW)
        if mask_B1HW.shape != (faces_B3HW.shape[0], 1, *faces_B3HW.shape[2:]):
            raise ValueError(
                f"the mask must have the shape (faces, 1, height, width) of its faces {tuple(faces_B3HW.shape)}, "
                f"got {tuple(mask_B1HW.shape)}"
            )
        filled_B3HW = self._run(
            lambda network, faces: self.kind.inpaint(network, faces, mask_B1HW.to(faces.device)), faces_B3HW
        )
        # Once more, with the faces as they came: in bfloat16 the network's copy of them is rounded.
        return torch.where(mask_B1HW.to(faces_B3HW.device) > 0.5, filled_B3HW, faces_B3HW.float())

    def _check_restores(self) -> None:
        if not self.kind.restores_faces:
            raise ValueError(f"{self.name} is a {self.kind.title} and can't restore faces: choose codeformer.pth")

    def _check_faces(self, faces_B3HW: Tensor) -> None:
        size = self.face_size
        if faces_B3HW.shape[1:] == (3, USUAL_FACE_SIZE, USUAL_FACE_SIZE) != (3, size, size):
            raise ValueError(
                f"{self.name} was trained for faces of {size} pixels; images need a model for {USUAL_FACE_SIZE}. "
                f"Choose another one, or train with image_size {USUAL_FACE_SIZE}"
            )
        if faces_B3HW.ndim != 4 or faces_B3HW.shape[1:] != (3, size, size):
            raise ValueError(f"faces must have the shape (n, 3, {size}, {size}), got {tuple(faces_B3HW.shape)}")

    @torch.no_grad()
    def _run(self, verb: Callable[[Network, Tensor], Tensor], faces_B3HW: Tensor) -> Tensor:
        network = self.module
        output_B3HW = verb(network, faces_B3HW.to(self.device, self.dtype)).float()
        if not torch.isfinite(output_B3HW).all():
            if not torch.isfinite(faces_B3HW).all():
                raise ValueError("the faces hold values that are NaN or infinite; the step that made them failed")
            output_B3HW = self._retry(verb, network, faces_B3HW)
        return output_B3HW.clamp(-1, 1).to(faces_B3HW.device)

    def _retry(self, verb: Callable[[Network, Tensor], Tensor], network: Network, faces_B3HW: Tensor) -> Tensor:
        rounded = self.generator_dtype or self.dtype
        if rounded != torch.float32:
            logger.warning("%s gave values that are not numbers in %s; trying again in float32", self.name, rounded)
            exact = network if self.casts_weights else copy.deepcopy(network).float()
            if self.generator_dtype is not None:
                exact.generate_in(torch.float32)
            output_B3HW = verb(exact, faces_B3HW.to(self.device, torch.float32))
            if torch.isfinite(output_B3HW).all():
                return output_B3HW
        raise RuntimeError(
            f"{self.name} gave values that are not numbers even in float32. "
            "Its file is damaged: check it with `python -m codeformer_core weights verify` and download it again"
        )


# task -> what it is called in messages, and the published file for it
_TASKS = {
    "restoration": ("restoring", "codeformer.pth"),
    "colorization": ("colorizing", "codeformer_colorization.pth"),
    "inpainting": ("inpainting", "codeformer_inpainting.pth"),
}


def check_task(restorer: FaceRestorer, task: str) -> None:
    """Raise ValueError, naming the file to choose, for a model of other tasks."""
    if task in restorer.tasks:
        return
    (doing, filename), tasks = _TASKS[task], " and ".join(restorer.tasks)
    if _task_source(restorer) == "sizes":
        raise InputError(
            f"{restorer.name} is taken as a model for {tasks} by its sizes, because its file doesn't say what it was "
            f"trained for; {doing} faces needs one for {task}: choose {filename}, or say that this is one",
            "task_not_said",
        )
    raise ValueError(f"{restorer.name} is a model for {tasks}; {doing} faces needs one for {task}: choose {filename}")


def made_by(kind: Literal["restored_by", "colorized_by", "filled_by"], restorer: FaceRestorer) -> list[Event]:
    """Which restorer made something, and whether what it is for is only assumed."""
    return [*task_assumed(restorer), Event(kind, values={"restorer": restorer.name}), *_precision(restorer)]


def _precision(restorer: FaceRestorer) -> list[Event]:
    """Where it isn't float32. Restorers of other packages need not tell."""
    dtype: torch.dtype = getattr(restorer, "dtype", torch.float32)
    generator_dtype: torch.dtype | None = getattr(restorer, "generator_dtype", None)
    if generator_dtype is not None:
        return [Event("generated_in", values={"precision": str(generator_dtype).removeprefix("torch.")})]
    if dtype != torch.float32:
        return [Event("computed_in", values={"precision": str(dtype).removeprefix("torch.")})]
    return []


def task_assumed(restorer: FaceRestorer) -> list[Event]:
    """An event with the task that is assumed, if the file doesn't say what it was trained for; else empty."""
    if _task_source(restorer) == "file":
        return []
    return [Event("task_assumed", values={"restorer": restorer.name, "task": restorer.tasks[0]})]


def _task_source(restorer: FaceRestorer) -> TaskSource:
    """Restorers of other packages need not have it."""
    return getattr(restorer, "task_source", "file")


def restored_by(restorer: FaceRestorer, fidelity: float) -> list[Event]:
    """Which restorer, and its fidelity where it knows any."""
    events = made_by("restored_by", restorer)
    return [*events, Event("fidelity", values={"fidelity": fidelity})] if restorer.uses_fidelity else events


def without_fidelity(*restorers: FaceRestorer) -> list[Event]:
    """An event with those of the restorers that have no fidelity; empty if all have one."""
    names = dict.fromkeys(restorer.name for restorer in restorers if not restorer.uses_fidelity)
    return [Event("no_fidelity", values={"restorers": tuple(names)})] if names else []


def fidelity_of(restorer: FaceRestorer, wanted: float | None) -> float:
    """The fidelity to restore with.

    wanted: 0 to 1, or None for the restorer's own.
    Raises ValueError outside that range.
    """
    if wanted is None:
        return restorer.recommended_fidelity
    check_fidelity(wanted)
    return wanted


def check_fidelity(fidelity: float) -> None:
    if not 0 <= fidelity <= 1:  # NaN compares false
        raise ValueError(f"fidelity must be from 0 (best quality) to 1 (closest to the input), got {fidelity}")
