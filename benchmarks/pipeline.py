"""A photo with many faces through the whole pipeline, by stage. Random weights: only the time is looked at.

python benchmarks/pipeline.py [PHOTO] [--detector yunet] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import machine
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.imaging.files import read_image
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer

PHOTO = Path(__file__).parents[1] / "tests" / "golden" / "photos" / "composite__group09.jpg"


class Timed:
    """Passes calls on to a part of the pipeline and adds up their time under a name."""

    def __init__(self, part, verb: str, spent: dict[str, float], stage: str) -> None:
        self._part, self._verb, self._spent, self._stage = part, verb, spent, stage

    def __getattr__(self, name: str):
        value = getattr(self._part, name)
        if name != self._verb:
            return value

        def timed(*arguments, **options):
            start = time.perf_counter()
            try:
                return value(*arguments, **options)
            finally:
                self._spent[self._stage] += time.perf_counter() - start

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", type=Path, default=PHOTO)
    parser.add_argument("--detector", default="yunet")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.manual_seed(0)
    state: dict[str, Tensor] = to_published(CodeFormer(PUBLISHED_CODEFORMER).state_dict(), PUBLISHED_CODEFORMER)
    restorer = cf.load_restorer(state, options.device)
    detector = cf.load_detector(options.detector, options.device)
    spent: dict[str, float] = defaultdict(float)

    start = time.perf_counter()
    picture = read_image(options.photo)
    spent["read"] = time.perf_counter() - start
    start = time.perf_counter()
    result = cf.restore_images(
        picture.image_HWC[None],
        restorer=Timed(restorer, "restore", spent, "restore"),  # pyright: ignore[reportArgumentType]
        detector=Timed(detector, "detect", spent, "detect"),  # pyright: ignore[reportArgumentType]
        mask="box",
        keep_crops=False,
    )
    whole = time.perf_counter() - start
    spent["align, mask and paste"] = whole - spent["detect"] - spent["restore"]

    height, width = picture.image_HWC.shape[:2]
    count = len(result.faces[0])
    print(machine.describe())
    print(f"{options.photo.name}: {width}x{height}, {count} faces, {detector.name}, soft box, on {options.device}")
    for stage, taken in spent.items():
        print(f"{stage:<24} {taken:8.3f} s")
    print(f"{'whole':<24} {whole + spent['read']:8.3f} s, {whole / max(count, 1):.3f} s per face")


if __name__ == "__main__":
    main()
