"""What a face parser is, and facexlib's ParseNet as one.

Shape legend: B faces, H W height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime import memory
from ..runtime.packages import fill_network, import_for_faces, place_of

# Pixels per side at which ParseNet was trained and looks at a face.
PARSED_SIZE = 512
CLASS_COUNT = 19
# Activations of one face in float32, with some room.
BYTES_PER_FACE = 6 * 1024**3 // 10
MAX_PER_PASS = 4


class FaceParser(Protocol):
    """Says for each pixel of an aligned face what part of the head it is."""

    @property
    def name(self) -> str: ...

    @property
    def module(self) -> nn.Module:
        """What a host's memory manager moves."""
        ...

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        """Estimate of the memory that `parse` takes on the module's device, besides the weights."""
        ...

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        """labels_BHW, uint8, on the device and at the size of faces_B3HW.

        The 19 classes of CelebAMask-HQ: 0 background, 1 skin, 2 nose, 3 eyeglasses, 4 and 5 eyes, 6 and 7 brows, 8 and
        9 ears, 10 inside of the mouth, 11 and 12 lips, 13 hair, 14 hat, 15 earrings, 16 necklace, 17 neck, 18 clothes.

        faces_B3HW: RGB in [-1, 1], aligned to the 512 template.
        """
        ...


@dataclass(frozen=True)
class ParseNetParser:
    """A `FaceParser`. The module may be moved or cast by its owner between calls."""

    module: nn.Module
    name: str = "parsenet"

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return BYTES_PER_FACE * min(len(faces_B3HW), MAX_PER_PASS)

    @torch.no_grad()
    def parse(self, faces_B3HW: Tensor, batch_size: int | None = None) -> Tensor:
        """See `FaceParser.parse`.

        batch_size: faces per forward pass, fewer after an out-of-memory error; None: as many as the memory allows, at
        most 4.
        Raises ValueError for another shape, RuntimeError when the network answers with non-finite numbers.
        """
        if faces_B3HW.ndim != 4 or faces_B3HW.shape[1] != 3 or 0 in faces_B3HW.shape[2:]:
            raise ValueError(
                "a face parser takes (batch, 3, height, width), got a tensor of shape "
                f"{tuple(faces_B3HW.shape)}. Give RGB, channels before height and width"
            )
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}. Leave it out to have one chosen")
        height, width = faces_B3HW.shape[2:]
        labels_BHW = torch.empty((len(faces_B3HW), height, width), dtype=torch.uint8, device=faces_B3HW.device)
        rows_H, columns_W = _nearest(height).to(faces_B3HW.device), _nearest(width).to(faces_B3HW.device)
        if batch_size is None:
            batch_size = memory.batch_size(BYTES_PER_FACE, place_of(self.module)[0], MAX_PER_PASS)
        passes = memory.in_batches(len(faces_B3HW), batch_size, lambda part: self._parse_pass(faces_B3HW[part]))
        for part, parsed_BHW in passes:
            labels_BHW[part] = parsed_BHW.to(faces_B3HW.device)[:, rows_H[:, None], columns_W]
        return labels_BHW

    def _parse_pass(self, faces_B3HW: Tensor) -> Tensor:
        device, dtype = place_of(self.module)
        inputs_B3HW = faces_B3HW.to(device).float()
        if inputs_B3HW.shape[2:] != (PARSED_SIZE, PARSED_SIZE):
            # plain bilinear without averaging, as the official code resizes
            inputs_B3HW = F.interpolate(inputs_B3HW, (PARSED_SIZE, PARSED_SIZE), mode="bilinear", align_corners=False)
        # The network also paints an image, which nobody needs here.
        logits_BCHW, _ = self.module(inputs_B3HW.to(dtype))
        if not bool(logits_BCHW.isfinite().all()):
            raise RuntimeError(
                f"face parser {self.name} answered with non-finite numbers ({dtype} on {device}). "
                "Run it in float32; where it does, the weights file is damaged, so download it again"
            )
        return logits_BCHW.argmax(dim=1).to(torch.uint8)


def build_parsenet(state_dict: Mapping[str, Tensor], device: str | torch.device = "cpu") -> ParseNetParser:
    """The parser with the published weights (parsing_parsenet.pth) on `device`.

    Raises ValueError naming the first keys that do not fit, ImportError when facexlib is missing or broken.
    """
    facexlib_parsenet = import_for_faces("facexlib.parsing.parsenet")
    module = facexlib_parsenet.ParseNet(in_size=PARSED_SIZE, out_size=PARSED_SIZE, parsing_ch=CLASS_COUNT)
    fill_network(module, state_dict, "parsenet")
    return ParseNetParser(module.eval().requires_grad_(False).to(device))


def _nearest(length: int) -> Tensor:
    """For each of `length` pixels the index of the parsed pixel its centre falls on."""
    return ((torch.arange(length) + 0.5) * (PARSED_SIZE / length)).long()
