"""Which of our DFDNet's tensors is which of the published ones.

Names of the published layout: csxmli2016/DFDNet at df94970, seen in its checkpoint's keys. Those of the dictionaries,
which come as files of their own, are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...networks.dfdnet import DILATIONS, PARTS, STRIDES, VGG_CONVOLUTIONS

# No shape tells it.
ASSUMED_IMAGE_SIZE = 512
SIZES = tuple(ASSUMED_IMAGE_SIZE // stride for stride in STRIDES)

RGB_KEYS = ("VggExtract.RGB_mean", "VggExtract.RGB_std")
# In published files, but of no use here: VGG's other copy and its classifier, outputs for training, a blur's gradient.
UNUSED = re.compile(r"VggExtract\.model\..*|to_rgb\d\..*|up\d\.conv1\.0\.weight_flip")

_VGG_PREFIX = "VggExtract.features"
_PART_CODES = {"left_eye": "le", "right_eye": "re", "nose": "no", "mouth": "mo"}


@dataclass(frozen=True)
class Dictionary:
    """The atoms of one part at one scale (index into STRIDES), in both layouts."""

    part: str
    scale: int

    @property
    def ours(self) -> str:
        return f"transfers.{self.part}.{self.scale}.dictionary.weight"

    @property
    def published(self) -> str:
        return f"dictionary.{SIZES[self.scale]}.{self.part}"

    @property
    def filename(self) -> str:
        return f"{self.part}_{SIZES[self.scale]}_center.npy"


DICTIONARIES = tuple(Dictionary(part, scale) for part in PARTS for scale in range(len(STRIDES)))


@dataclass(frozen=True)
class Link:
    """Our tensor is these published ones, one after the other along the first axis.

    spectral: each is divided by its spectral norm.
    """

    ours: str
    published: tuple[str, ...]
    spectral: bool = False

    def needed(self) -> tuple[str, ...]:
        """The published keys that this takes."""
        if not self.spectral:
            return self.published
        return tuple(f"{name}_{piece}" for name in self.published for piece in ("orig", "u", "v"))


def published_keys() -> tuple[str, ...]:
    """All keys of a joined state dict; they are the same whatever the sizes."""
    needed = (key for link in links() for key in link.needed())
    return (*RGB_KEYS, *needed, *(dictionary.published for dictionary in DICTIONARIES))


def our_keys() -> tuple[str, ...]:
    """All keys of our network."""
    renamed = (link.ours for link in links())
    normalize = ("features.normalize.weight", "features.normalize.bias")
    return (*normalize, *renamed, *(dictionary.ours for dictionary in DICTIONARIES))


def vgg_names() -> list[tuple[str, str]]:
    """Ours and the published name of the first convolution in each of VGG's blocks."""
    return [(f"features.blocks.{block}.0", names[0]) for block, names in enumerate(_vgg_blocks())]


def sources(key: str) -> tuple[str, ...]:
    """Where a joined key may stand in the published pieces, best first. VGG is there up to three times."""
    if not key.startswith(_VGG_PREFIX):
        return (key,)
    layer = key.split(".", 3)[3]
    return key, f"VggExtract.model.features.{layer}", f"features.{layer}"


def links() -> Iterator[Link]:
    """All tensors but the dictionaries and ImageNet's constants."""
    for block, names in enumerate(_vgg_blocks()):
        for i, name in enumerate(names):
            yield from _plain(f"features.blocks.{block}.{i}", name)
    for part in PARTS:
        for scale, size in enumerate(SIZES):
            published = f"{_PART_CODES[part]}_{size}"
            yield from _spectral(f"transfers.{part}.{scale}.confidence_in", f"{published}.0")
            yield from _spectral(f"transfers.{part}.{scale}.confidence_out", f"{published}.2")
    for i in range(len(DILATIONS)):
        yield from _spectral(f"context.branches.{i}.conv_in", f"MSDilate.conv{i + 1}.0")
        yield from _spectral(f"context.branches.{i}.conv_out", f"MSDilate.conv{i + 1}.2")
    yield from _spectral("context.merge", "MSDilate.convi")
    for i in range(len(STRIDES)):
        ours, published = f"decoder.{i}", f"up{i}"
        yield Link(f"{ours}.blur.weight", (f"{published}.conv1.0.weight",))
        yield from _spectral(f"{ours}.conv", f"{published}.conv1.1")
        yield from _spectral(f"{ours}.scale_shift_in", f"{published}.ScaleModel1.0", f"{published}.ShiftModel1.0")
        yield from _spectral(f"{ours}.scale_out", f"{published}.ScaleModel1.2")
        yield from _spectral(f"{ours}.shift_out", f"{published}.ShiftModel1.2")
        yield from _spectral(f"{ours}.up", f"{published}.convup.1")
    yield from _spectral("tail.conv_in", "up4.0")
    for i in range(2):
        yield from _plain(f"tail.blocks.{i}.conv_in", f"up4.{2 + i}.Model.0")
        yield from _plain(f"tail.blocks.{i}.conv_out", f"up4.{2 + i}.Model.2")
    yield from _plain("tail.conv_out", "up4.4")


def _vgg_blocks() -> Iterator[list[str]]:
    """torchvision counts rectifiers and poolings too; DFDNet's stages end at the tapped convolutions."""
    index = 0
    for block, convolutions in enumerate(VGG_CONVOLUTIONS):
        yield [f"{_VGG_PREFIX}.{max(block - 1, 0)}.{index + 2 * i}" for i in range(convolutions)]
        index += 2 * convolutions + 1


def _plain(ours: str, published: str) -> Iterator[Link]:
    for parameter in ("weight", "bias"):
        yield Link(f"{ours}.{parameter}", (f"{published}.{parameter}",))


def _spectral(ours: str, *published: str) -> Iterator[Link]:
    yield Link(f"{ours}.weight", tuple(f"{name}.weight" for name in published), spectral=True)
    yield Link(f"{ours}.bias", tuple(f"{name}.bias" for name in published))
