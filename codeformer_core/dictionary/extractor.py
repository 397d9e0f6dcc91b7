"""VGG's features of a face's parts, as DFDNet compares them with its atoms.

Shape legend: B faces, C channels, H W height and width, S side of a face, n side of an atom, D = C*n*n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.components import boxes_from_five
from ..faces.geometry import CROP_SIZE, TEMPLATE_XY
from ..models.dfdnet.architecture import DFDNET
from ..models.dfdnet.names import ASSUMED_IMAGE_SIZE, DICTIONARIES, Dictionary
from ..models.dfdnet.weights import features_of, read_part_sizes
from ..models.restorer import Restorer
from ..networks.dfdnet import PARTS, STRIDES, VGG_CONVOLUTIONS, DFDNet, DFDNetConfig, Features
from ..networks.operations import set_memory_format
from ..weights.reading import WeightsError
from ..weights.state_dict import difference


@dataclass(frozen=True, eq=False)
class Extractor:
    """Makes features of a face's parts.

    config: sizes of the DFDNet that the features are for; its number of atoms is not used.
    fingerprint: of the VGG.
    run: faces_B3SS, RGB [-1, 1], on the CPU -> features_BCHW of every scale, finest first, on any device.
    """

    config: DFDNetConfig
    fingerprint: str
    run: Callable[[Tensor], list[Tensor]]

    def shape(self, piece: Dictionary) -> tuple[int, int, int]:
        """C, n, n of an atom."""
        side = self.config.atom_side(piece.part, piece.scale)
        return self.config.widths[1 + piece.scale], side, side

    @property
    def boxes(self) -> dict[str, tuple[int, ...]]:
        """Of each part, in pixels of an aligned face: where the template that it was aligned to has them."""
        side = self.config.image_size
        boxes_44 = boxes_from_five(TEMPLATE_XY * (side / CROP_SIZE), side)
        return {part: tuple(box.tolist()) for part, box in zip(PARTS, boxes_44, strict=True)}

    @torch.no_grad()
    def parts(self, faces_B3SS: Tensor) -> dict[Dictionary, Tensor]:
        """features_BD of every part at every scale, float32 on the CPU, in the face's own style.

        Resized to the atoms' side as the network does it.

        faces_B3SS: RGB [-1, 1].
        """
        features = self.run(faces_B3SS)
        found: dict[Dictionary, Tensor] = {}
        for piece in DICTIONARIES:
            _, side, _ = self.shape(piece)
            x0, y0, x1, y1 = (edge // STRIDES[piece.scale] for edge in self.boxes[piece.part])
            crops_BCHW = features[piece.scale][:, :, y0:y1, x0:x1].float()
            sized_BCnn = F.interpolate(crops_BCHW, (side, side), mode="bilinear", align_corners=False)
            found[piece] = sized_BCnn.flatten(1).cpu()
        return found


def from_state(state: Mapping[str, Tensor], source: str, device: torch.device | str = "cpu") -> Extractor:
    """The VGG of a DFDNet's file in either layout, or of the published network without its dictionaries; in float32.

    Raises WeightsError, naming `source`, for anything else.
    """
    if not DFDNET.detect(state):
        raise WeightsError(
            f"{source} is not a DFDNet, and only DFDNet has dictionaries. Give DFDNet's file, published or joined"
        )
    try:
        vgg, part_sizes = features_of(state), read_part_sizes(state)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    firsts = [vgg[f"blocks.{block}.0.weight"] for block in range(len(VGG_CONVOLUTIONS))]
    widths = tuple(first.shape[0] if first.dim() else 1 for first in firsts)
    expected = Features(widths, device="meta", dtype=torch.float32, operations=torch.nn).state_dict()
    if problem := difference(vgg, expected):
        raise WeightsError(f"{source}: its VGG19 can't be used: {problem}. Give DFDNet's file, downloaded whole")
    network = Features(widths, device=device, dtype=torch.float32, operations=torch.nn)
    network.load_state_dict(vgg)
    network.eval().requires_grad_(False)
    set_memory_format(network, torch.channels_last)

    def run(faces_B3SS: Tensor) -> list[Tensor]:
        return network(faces_B3SS.to(device).contiguous(memory_format=torch.channels_last))

    return Extractor(DFDNetConfig(ASSUMED_IMAGE_SIZE, widths, 1, part_sizes), _fingerprint(vgg), run)


def from_restorer(restorer: Restorer, ready: Callable[[], torch.device]) -> Extractor:
    """The VGG of a loaded DFDNet. The fingerprint is its name.

    ready: puts it on its device before every run, and returns the device.
    Raises ValueError for another model.
    """
    if not isinstance(restorer.module, DFDNet):
        raise ValueError(
            f"{restorer.name} is not a DFDNet ({restorer.architecture}), and only DFDNet has dictionaries. Load "
            "DFDNet's file"
        )

    def run(faces_B3SS: Tensor) -> list[Tensor]:
        return restorer.module.features(faces_B3SS.to(ready(), restorer.dtype))

    return Extractor(restorer.module.config, restorer.name, run)


def _fingerprint(vgg: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(vgg):
        digest.update(key.encode() + vgg[key].float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
