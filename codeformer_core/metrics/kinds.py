"""Kinds of metrics: a number per face, a number per set of faces, or skipped with the reason.

Shape legend: B faces, 3 colours RGB, H W height and width, F features of one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

# "neither": a property to compare, of which no value is the best.
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Skipped:
    """A metric that isn't computed.

    reason: "skipped: FILE, ..." with the fix.
    """

    name: str
    reason: str


class FaceMetric(Protocol):
    """A number for every face."""

    @property
    def name(self) -> str: ...

    @property
    def better(self) -> Better: ...

    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        """values_B float64 on the CPU; NaN for a face that has no value.

        restored_B3HW, clean_B3HW: RGB float in [0, 1].
        Raises ValueError for inputs that `check_pair` refuses.
        """
        ...


@runtime_checkable
class ReferenceMetric(Protocol):
    """A metric for every face that can keep what it computes from the clean side, for many restored faces."""

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        """See `FaceMetric.measure`."""
        check_pair(restored_B3HW, clean_B3HW)
        return self.measure_to(restored_B3HW, self.reference(clean_B3HW))

    def reference(self, clean_B3HW: Tensor) -> Any:
        """The part of the clean faces that `measure_to` needs.

        clean_B3HW: RGB float in [0, 1].
        """
        ...

    def measure_to(self, restored_B3HW: Tensor, reference: Any) -> Tensor:
        """values_B, the same as `measure` with the faces that `reference` was made from."""
        ...


class DerivedMetric(Protocol):
    """A number for every face that follows from another metric's."""

    @property
    def name(self) -> str: ...

    @property
    def better(self) -> Better: ...

    @property
    def source(self) -> str:
        """The name of the other metric; without it this one is missing, too."""
        ...

    def derive(self, values_B: Tensor) -> Tensor:
        """This metric's values; NaN where the other one has no value.

        values_B: of the other metric, float64.
        """
        ...


class SetMetric(Protocol):
    """A distance of a set of faces to another one; each image is reduced to its features once."""

    @property
    def name(self) -> str: ...

    @property
    def better(self) -> Better: ...

    @property
    def has_reference(self) -> bool:
        """Whether the other set's statistics were given, so that `distance` ignores `clean_NF`."""
        ...

    def features(self, faces_B3HW: Tensor) -> np.ndarray:
        """features_BF float64.

        faces_B3HW: RGB float in [0, 1].
        """
        ...

    def distance(self, restored_NF: np.ndarray, clean_NF: np.ndarray | None) -> float:
        """NaN for sets too small to have one."""
        ...


def check_pair(restored_B3HW: Tensor, clean_B3HW: Tensor) -> None:
    """Raise ValueError unless both are float faces of one shape with finite values in [0, 1]."""
    check_faces(restored_B3HW, "restored")
    check_faces(clean_B3HW, "clean")
    if restored_B3HW.shape != clean_B3HW.shape:
        raise ValueError(
            f"restored faces {tuple(restored_B3HW.shape)} and clean faces {tuple(clean_B3HW.shape)} differ in shape; "
            "bring them to the same number and size"
        )


def check_faces(faces_B3HW: Tensor, what: str) -> None:
    """Raise ValueError unless `faces_B3HW` are float RGB faces with finite values in [0, 1]."""
    if faces_B3HW.ndim != 4 or faces_B3HW.shape[1] != 3 or not faces_B3HW.is_floating_point():
        raise ValueError(
            f"{what} faces must be floats of the shape (n, 3, height, width), got {faces_B3HW.dtype} "
            f"{tuple(faces_B3HW.shape)}"
        )
    if faces_B3HW.numel() == 0:
        raise ValueError(f"{what} faces hold no pixels: {tuple(faces_B3HW.shape)}")
    low, high = (float(value) for value in torch.aminmax(faces_B3HW.detach()))
    # NaN fails this comparison as well.
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"{what} faces must lie within 0 and 1, got {low:g} to {high:g}; a network's output must be brought there: "
            "((x + 1) / 2).clamp(0, 1)"
        )
