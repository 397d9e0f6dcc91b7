"""The sizes of a pixel path, from a file of an architecture that has one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..networks.pixel_path import PixelPathConfig
from ..weights.metadata import CheckpointMetadata
from .architecture import ContradictionError

_GATE = "pixel_path.gate_out.weight"


def read_pixel_path(state: Mapping[str, Tensor], metadata: CheckpointMetadata) -> PixelPathConfig | None:
    """None where the file has none.

    The gate's shapes tell how many bands there are; only the metadata tells where they are cut.

    Raises ContradictionError where the two don't fit each other.
    """
    gate = state.get(_GATE)
    if gate is None:
        return None
    bands, width = gate.shape[:2]
    if "pixel_path" in metadata.unusable:
        raise ContradictionError(
            "pixel_path", metadata.unusable["pixel_path"], "a list of sigmas in pixels is needed here"
        )
    if metadata.pixel_path is None or len(metadata.pixel_path) + 1 != bands:
        value = "nothing" if metadata.pixel_path is None else str(list(metadata.pixel_path))
        raise ContradictionError("pixel_path", value, f"its gate has {bands} bands, which {bands - 1} sigmas cut")
    return PixelPathConfig(metadata.pixel_path, width)
