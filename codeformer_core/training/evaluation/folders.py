"""Restored faces in one folder against the clean ones in another, paired by their names without the ending.

Shape legend: B faces, H W height and width, 3 colours RGB.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...imaging.codecs.suffixes import READABLE
from ...imaging.files import read_image
from ...imaging.tensors import split_alpha
from ..data.files import BAD_DATA
from .choose import Metrics
from .measuring import Gatherer
from .results import RESTORED, Evaluation, Group, Sample, columns_of, means_of

OnProgress = Callable[[int, int, str], None]

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """Two files of one name."""

    name: str
    restored: Path
    clean: Path


def evaluate_folders(
    restored_folder: str | os.PathLike[str],
    clean_folder: str | os.PathLike[str],
    metrics: Metrics,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    samples: int = 8,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Every restored image against the clean one of the same stem.

    samples: of so many faces the images are kept for the report.
    on_progress: called with (done, total, name).
    Raises ValueError with counts and the first names: nothing to compare, a name that only one folder has or that one
    has twice, two images of different sizes, files that are not images.
    """
    device = torch.device(device)
    pairs = paired(Path(restored_folder), Path(clean_folder))
    shown = set(range(0, len(pairs), max(1, -(-len(pairs) // max(samples, 1))))) if samples else set[int]()
    gatherer = Gatherer(metrics)
    group = Group("", RESTORED, None)
    kept: list[Sample] = []
    done = 0
    for batch, restored_B3HW, clean_B3HW in _batches(pairs, batch_size):
        restored_B3HW, clean_B3HW = restored_B3HW.to(device), clean_B3HW.to(device)
        gatherer.add_clean(clean_B3HW)
        gatherer.add(group, [pair.name for pair in batch], restored_B3HW, clean_B3HW)
        for index, pair in enumerate(batch):
            if done + index in shown:
                images = (("clean", to_levels(clean_B3HW[index])), (RESTORED, to_levels(restored_B3HW[index])))
                kept.append(Sample(pair.name, "", images))
        done += len(batch)
        if on_progress is not None:
            on_progress(done, len(pairs), batch[-1].name)
    return Evaluation(
        columns=columns_of(metrics, to_input=False),
        rows=tuple(gatherer.rows),
        means=means_of(gatherer.rows, gatherer.set_distances()),
        accuracies=(),
        samples=tuple(kept),
        skipped=metrics.skipped,
        left_out=(),
    )


def paired(restored_folder: Path, clean_folder: Path) -> list[Pair]:
    """All pairs, sorted by name, their sizes compared by the files' headers; raises as `evaluate_folders` does."""
    restored, clean = _by_stem(restored_folder), _by_stem(clean_folder)
    if lonely := _lonely(restored, clean, restored_folder, clean_folder):
        raise ValueError(f"{'; '.join(lonely)}. Each restored face needs the clean one of the same name")
    pairs = [Pair(stem, restored[stem], clean[stem]) for stem in sorted(restored)]
    sizes = [(pair, _size(pair.restored), _size(pair.clean)) for pair in pairs]
    different = [entry for entry in sizes if entry[1] != entry[2]]
    if different:
        listed = ", ".join(f"{pair.name} ({one} and {other})" for pair, one, other in different[:_NAMES_SHOWN])
        raise ValueError(
            f"{len(different)} of {len(pairs)} pairs differ in size: {listed}{_more(different)}. Images are compared "
            "pixel by pixel: restore without enlarging, or resize one folder"
        )
    return pairs


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in READABLE and not path.name.startswith(".")
    )
    if not files:
        raise ValueError(f"{folder}: the folder holds no images ({' '.join(READABLE)})")
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise ValueError(f"{folder}: {found[path.stem].name} and {path.name} have one name; remove one of them")
        found[path.stem] = path
    return found


def _lonely(restored: dict[str, Path], clean: dict[str, Path], *folders: Path) -> list[str]:
    texts: list[str] = []
    for folder, here, there in ((folders[0], restored, clean), (folders[1], clean, restored)):
        alone = sorted(here.keys() - there.keys())
        if alone:
            listed = ", ".join(here[stem].name for stem in alone[:_NAMES_SHOWN])
            texts.append(f"{len(alone)} of {len(here)} images only in {folder}: {listed}{_more(alone)}")
    return texts


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""


def _size(path: Path) -> str:
    """Width x height of the upright image, from the file's header."""
    from PIL import ExifTags, Image

    try:
        with warnings.catch_warnings():
            # A warning about a large image says nothing new; reading it asks for the memory.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            # Orientations from 5 on exchange width and height.
            lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return f"{image.height}x{image.width}" if lies else f"{image.width}x{image.height}"
    except (OSError, *BAD_DATA) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def _batches(pairs: Sequence[Pair], batch_size: int) -> Iterator[tuple[list[Pair], Tensor, Tensor]]:
    """Batches of images of one size, in order."""
    batch: list[tuple[Pair, Tensor, Tensor]] = []
    for pair in pairs:
        restored_3HW, clean_3HW = read_rgb(pair.restored), read_rgb(pair.clean)
        if restored_3HW.shape != clean_3HW.shape:
            raise ValueError(f"{pair.restored} and {pair.clean} differ in size")
        if batch and (len(batch) == batch_size or batch[0][1].shape != restored_3HW.shape):
            yield _stacked(batch)
            batch = []
        batch.append((pair, restored_3HW, clean_3HW))
    if batch:
        yield _stacked(batch)


def _stacked(batch: Sequence[tuple[Pair, Tensor, Tensor]]) -> tuple[list[Pair], Tensor, Tensor]:
    return (
        [pair for pair, _, _ in batch],
        torch.stack([restored for _, restored, _ in batch]),
        torch.stack([clean for _, _, clean in batch]),
    )


def read_rgb(path: Path) -> Tensor:
    """(3, H, W) float32 RGB in [0, 1]; alpha is not looked at."""
    return (
        split_alpha(read_image(path, strict=True).image_HWC[None], str(path)).rgb_BHW3[0].permute(2, 0, 1).contiguous()
    )


def to_levels(face_3HW: Tensor) -> np.ndarray:
    """RGB in [0, 1] -> uint8 (H, W, 3) numpy."""
    return (face_3HW.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
