"""What the program needs to know of an architecture: its files, its sizes, and how faces go through its networks.

A new restorer is one subclass of `Architecture`, registered in `architectures`. Detection, loading, saving, conversion,
the pipeline and every front end work with nothing else.

Shape legend: B faces, S side of an aligned face; RGB in [-1, 1].
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from ..networks.operations import Device, DType, Operations
from ..weights.metadata import ENTRY, CheckpointMetadata, quoted
from ..weights.reading import WeightsError
from ..weights.state_dict import count_and_first, difference

log = logging.getLogger(__name__)

# "published": the keys of those who published the network; "ours": those of its module here.
Layout = Literal["published", "ours"]
# A network of any architecture, and its sizes; only its own architecture knows their types.
Network = Any
Config = Any

TASKS = ("restoration", "colorization", "inpainting", "autoencoder")
# Who says what a network was trained for; where nobody does, its sizes are those of a published one for this task.
TaskSource = Literal["file", "user", "sizes"]
# What shapes don't tell where a network takes images of any size.
ASSUMED_IMAGE_SIZE = 512
# Of a file without metadata.
NO_METADATA = CheckpointMetadata()


@dataclass(frozen=True)
class RestoreRequest:
    """What is wanted of a network.

    task: one of the model's, "restoration", ...
    fidelity: 0 (best quality) .. 1 (closest to the input).
    component_boxes_B44: (B, 4, 4) x0, y0, x1, y1 of each face's eyes, nose and mouth in pixels of the face; None: those
        of the template, which the faces are aligned to.
    """

    task: str
    fidelity: float
    component_boxes_B44: Tensor | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a state dict holds.

    config: sizes of the network, as its class takes them; None where another package reads them.
    layout: whose keys they are.
    task: what it was trained for.
    also: further tasks that it learned.
    source: the file, for messages.
    task_source: who says its task.
    """

    architecture: Architecture
    config: Config
    layout: Layout
    task: str
    also: tuple[str, ...] = ()
    source: str = "the given state dict"
    task_source: TaskSource = "file"

    @property
    def tasks_in_words(self) -> str:
        """Its tasks, and that they are a guess where they are one."""
        tasks = ", ".join((self.task, *self.also))
        return f"{tasks} by its sizes; the file doesn't say" if self.task_source == "sizes" else tasks

    def taken_for(self, task: str | None) -> Checkpoint:
        """The same as a network for `task` where the file doesn't say another; None: as it is."""
        if task is None or self.task_source == "file" or task not in self.architecture.tasks:
            return self
        return replace(self, task=task, task_source="user")

    def build(
        self, state: Mapping[str, Tensor], *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> Network:
        """The network with the weights of `state`, see `Architecture.build`."""
        return self.architecture.build(state, self, device=device, dtype=dtype, operations=operations)

    def in_layout(self, state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
        """`state` in these keys. Raises WeightsError where it can't be converted to them."""
        if layout == self.layout:
            return dict(state)
        try:
            convert = self.architecture.from_published if layout == "ours" else self.architecture.to_published
            return convert(state, self.config)
        except WeightsError as error:
            raise WeightsError(f"{self.source}: {error}") from error


class Architecture(ABC):
    """One kind of network. Objects have no state: one of each is in `architectures.ARCHITECTURES`."""

    # In file headers and in the public interface.
    id: str
    # In messages: "looks like a <title> checkpoint".
    title: str
    # What its networks can be trained for; the first one is assumed.
    tasks: tuple[str, ...] = ("restoration",)
    # Classes of its networks' configs.
    config_types: tuple[type, ...] = ()
    # Whose keys the modules have.
    module_layout: Layout = "ours"
    # Whether a host's own layers can take the place of torch's.
    takes_operations: bool = True
    # False for networks that only belong to the training of others.
    restores_faces: bool = True
    # Whether `restore` makes use of where the eyes, nose and mouth lie.
    needs_landmarks: bool = False
    # The end of a message about a file that can't be used.
    cure: str = "The file is incomplete or of another version; download it again."

    def __repr__(self) -> str:
        return self.id

    # --- files -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def detect(self, state: Mapping[str, object]) -> bool:
        """Whether these keys are one of its networks', whole or not. Exactly one architecture says so of a file."""

    def layout_of(self, state: Mapping[str, object]) -> Layout:
        """Whose keys a detected state dict has."""
        return "published"

    @abstractmethod
    def read_config(self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> Config:
        """The sizes, from shapes, and from metadata what shapes can't tell.

        Raises WeightsError for metadata that contradicts the shapes; ValueError, KeyError, IndexError and
        ZeroDivisionError for a state dict that is broken.
        """

    def empty_network(
        self, config: Config, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> Network:
        """A network of these sizes with torch's initial weights. Raises ValueError for sizes that none can have."""
        raise NotImplementedError(f"{self.title} networks are built by another package")

    def from_published(self, state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
        """Published keys -> our keys. Raises WeightsError where that can't be."""
        return dict(state)

    def to_published(self, state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
        """Our keys -> published keys. Raises WeightsError where that can't be."""
        return dict(state)

    def published_config(self, state: Mapping[str, object]) -> Config:
        """Sizes of the published network, or None.

        For messages about a state dict that lacks the keys which tell sizes.
        """
        return None

    def read(self, state: Mapping[str, Tensor], source: str, metadata: CheckpointMetadata = NO_METADATA) -> Checkpoint:
        """What a detected state dict holds; what is returned can be built.

        Raises WeightsError that names `source` with the first missing, unexpected or misshapen tensors, or with both
        values where its metadata contradicts its shapes.
        """
        layout = self.layout_of(state)
        try:
            config = self.read_config(state, layout, metadata)
            expected = self.expected(config, layout)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error
        except ValueError as error:
            raise self.broken(source, state, f"its sizes are impossible: {error}") from error
        except (KeyError, IndexError, ZeroDivisionError) as error:
            raise self.broken(source, state, self._missing_of_published(state, layout)) from error
        if expected is not None and (problem := difference(self.without_unused(state), expected)):
            raise self.broken(source, state, problem)
        try:
            task, also = self._tasks_of(config, metadata, source)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error
        told = metadata.task in self.tasks or len(self.tasks) == 1
        return Checkpoint(self, config, layout, task, also, source, "file" if told else "sizes")

    def build(
        self,
        state: Mapping[str, Tensor],
        checkpoint: Checkpoint,
        *,
        device: Device,
        dtype: DType,
        operations: Operations,
    ) -> Network:
        """The network of `checkpoint` with the weights of `state`, in eval mode, gradients off.

        operations: torch.nn or a host's own layers.
        Raises WeightsError for weights that can't be used.
        """
        network = self.empty_network(checkpoint.config, device=device, dtype=dtype, operations=operations)
        network.load_state_dict(checkpoint.in_layout(state, "ours"), strict=True)
        return network.eval().requires_grad_(False)

    def expected(self, config: Config, layout: Layout) -> dict[str, Tensor] | None:
        """The state dict of a network of these sizes, on the meta device; None where the sizes alone don't tell it."""
        ours = self.empty_network(config, device="meta").state_dict()
        return ours if layout == "ours" else self.to_published(ours, config)

    def without_unused(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """`state` without what published files hold beside the network."""
        return state

    def usual_task(self, config: Config) -> str:
        """The task of a file whose metadata doesn't tell it."""
        return self.tasks[0]

    def title_of(self, state: Mapping[str, object]) -> str:
        """The title, with the version where there are several."""
        return self.title

    def broken(self, source: str, state: Mapping[str, object], problem: str) -> WeightsError:
        """The error for a detected file that can't be used."""
        return WeightsError(
            f"{source}: looks like a {self.title_of(state)} checkpoint, but can't be used: {problem}. {self.cure}"
        )

    def _missing_of_published(self, state: Mapping[str, Tensor], layout: Layout) -> str:
        """Where a key that tells a size is absent, what else is absent can only be said of the published network."""
        published = self.published_config(state)
        expected = None if published is None else self.expected(published, layout)
        missing = expected.keys() - state.keys() if expected else set[str]()
        return count_and_first(missing, "missing keys of the published network") or "a tensor has an impossible shape"

    def _tasks_of(self, config: Config, metadata: CheckpointMetadata, source: str) -> tuple[str, tuple[str, ...]]:
        if metadata.architecture not in (None, self.id):
            raise ContradictionError("architecture", quoted(metadata.architecture), f'its keys are those of "{self}"')
        task = self.usual_task(config) if metadata.task is None else metadata.task
        if task not in self.tasks:
            if task in TASKS:
                fitting = f'its keys are those of "{self}", for {" or ".join(self.tasks)}'
                raise ContradictionError("task", quoted(task), fitting)
            task = self.usual_task(config)
            log.warning(
                "%s: its header says %s.task = %s, which this program doesn't know; taken for %s by its sizes",
                source,
                ENTRY,
                quoted(metadata.task),
                task,
            )
        # A program that knows fewer tasks than the file was trained for can do those it knows.
        if unknown := [other for other in metadata.also if other not in self.tasks]:
            log.warning(
                "%s: its header's %s.tasks names %s, which is not a task of a %s; left out",
                source,
                ENTRY,
                quoted(unknown[0]),
                self,
            )
        return task, tuple(other for other in metadata.also if other in self.tasks and other != task)

    # --- saving ------------------------------------------------------------------------------------------------------

    def metadata_of(self, config: Config, task: str, also: tuple[str, ...] = ()) -> CheckpointMetadata:
        """What the header of a file says, so that it is read as the same network."""
        return CheckpointMetadata(self.id, task, image_size=config.image_size, also=also)

    def config_of(self, network: Network) -> Config:
        """The sizes of a loaded network."""
        return network.config

    def same_sizes(self, one: Config, other: Config) -> bool:
        """Whether two configs stand for the same network."""
        return one == other

    def layout_problem(self, config: Config, layout: Layout) -> str:
        """What a file in this layout would lose of the network, with the fix; empty where it loses nothing."""
        return ""

    def warnings_for_others(self, config: Config) -> list[str]:
        """What other programs, which read the published layout, would take for something else."""
        return []

    def describe(self, config: Config) -> str:
        """Sizes worth telling, such as "512 pixels"."""
        return f"{config.image_size} pixels"

    # --- faces -------------------------------------------------------------------------------------------------------

    def uses_fidelity(self, network: Network) -> bool:
        """Whether fidelity changes anything."""
        return False

    def face_size(self, network: Network) -> int:
        """Side of the network's faces in pixels."""
        return network.config.image_size

    @abstractmethod
    def floats_per_face(self, network: Network) -> int:
        """Estimate of the activations that one face needs at the widest point: how many numbers.

        benchmarks/restorers.py measures it.
        """

    def restore(self, network: Network, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        """restored_B3SS, about [-1, 1], not clamped. Only where `restores_faces`."""
        raise NotImplementedError(f"{self.title} networks can't restore faces")

    def inpaint(self, network: Network, faces_B3SS: Tensor, mask_B1SS: Tensor) -> Tensor:
        """faces_B3SS with the pixels filled where the mask is above 0.5.

        Only for networks with "inpainting" among their tasks.
        """
        raise NotImplementedError(f"{self.title} networks can't inpaint")


class ContradictionError(WeightsError):
    """A file's metadata doesn't fit its shapes."""

    def __init__(self, key: str, value: str, found: str) -> None:
        super().__init__(
            f"its header says {ENTRY}.{key} = {value}, but {found}. The header was changed, or belongs to other "
            "weights; export the network again from its training run"
        )
