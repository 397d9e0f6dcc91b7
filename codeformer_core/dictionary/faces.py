"""The aligned faces that a dictionary is made of: images in a folder, or a batch in memory.

Shape legend: B images, H W height and width, C channels, S side of a face in the network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..imaging.files import read_image
from ..imaging.tensors import check_images, is_constant, resize, split_alpha
from ..training.data.files import BrokenFace, FaceFile, FileFaces, list_folder


class AlignedFaces(Protocol):
    """Square images, each an aligned face, by number."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str:
        """Hex; changes when a face is added, removed, renamed or replaced."""
        ...

    def read(self, index: int) -> Tensor:
        """image_HW3, RGB [0, 1], square, of any size.

        Raises BrokenFace, with name and reason, for what is not a face.
        """
        ...


@dataclass(frozen=True)
class FolderFaces:
    """All images in a folder and the folders inside it."""

    files: tuple[FaceFile, ...]

    @classmethod
    def listed(cls, folder: Path) -> FolderFaces:
        """The images in `folder`. Raises ValueError where there is no folder, or no image in it."""
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise ValueError(f"{folder} {kind}: name a folder of aligned faces")
        files = tuple(list_folder(folder))
        if not files:
            raise ValueError(
                f"{folder} holds no images. Put aligned faces there, for example with "
                f"`python -m codeformer_core train align PHOTOS -o {folder}`"
            )
        return cls(files)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.name for file in self.files)

    @property
    def fingerprint(self) -> str:
        return FileFaces(self.files, 0).fingerprint

    def read(self, index: int) -> Tensor:
        file = self.files[index]
        try:
            image = read_image(file.path, strict=True)
        except (ValueError, OSError) as error:
            raise BrokenFace(f"{file.name}: {str(error).removeprefix(f'{file.path}: ')}") from error
        return _face(image.image_HWC[..., :3], file.name)


@dataclass(frozen=True, eq=False)
class BatchFaces:
    """The images of a batch.

    images_BHWC: floats [0, 1], gray or colour; what is behind transparency counts.
    """

    images_BHWC: Tensor

    def __post_init__(self) -> None:
        check_images(self.images_BHWC, "the faces")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"face {number}" for number in range(1, len(self.images_BHWC) + 1))

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(tuple(self.images_BHWC.shape)).encode())
        for image_HWC in self.images_BHWC:
            digest.update(image_HWC.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def read(self, index: int) -> Tensor:
        image_HW3 = split_alpha(self.images_BHWC[index : index + 1]).rgb_BHW3[0]
        return _face(image_HW3, self.names[index])


def _face(image_HW3: Tensor, name: str) -> Tensor:
    height, width = image_HW3.shape[:2]
    if height != width:
        raise BrokenFace(f"{name}: is not square ({width}x{height}), and aligned faces are")
    if is_constant(image_HW3):
        raise BrokenFace(f"{name}: is of one colour, so there is no face")
    return image_HW3


def fitted(image_HW3: Tensor, side: int) -> Tensor:
    """image_SS3 in [0, 1]."""
    return resize(image_HW3[None], side, side)[0].clamp(0, 1)
