"""Blending restored faces back into pictures of two sizes, without any network.

python benchmarks/paste.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import math

import machine
import numpy as np
import torch

from codeformer_core.faces.types import Face
from codeformer_core.pipeline.align import AlignedFace
from codeformer_core.pipeline.composite import NewFace, Target
from codeformer_core.pipeline.options import PASTE_DEFAULTS
from codeformer_core.pipeline.recipe import USUAL
from codeformer_core.pipeline.reference import OFFICIAL

PICTURES = {"1920x1080": (1080, 1920), "3840x2160": (2160, 3840)}
COUNTS = (1, 10, 30)
# Pasting asks for its alignment alone.
FACE = Face((0, 0, 1, 1), ((0, 0), (1, 0), (0, 1), (0, 1), (1, 1)), 1.0)
# Part of its cell that a face's aligned crop spans: neighbouring crops overlap, as in a group photo.
SPAN = 1.2


def matrices(count: int, height: int, width: int) -> list[np.ndarray]:
    """Faces on a grid that fills the picture, slightly rotated; picture -> 512 crop."""
    columns = math.ceil(math.sqrt(count * width / height))
    rows = math.ceil(count / columns)
    side = SPAN * min(width / columns, height / rows)
    found = []
    for index in range(count):
        angle = math.radians(10 * math.sin(index))
        scale = 512 / side
        linear = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        center = np.array([(index % columns + 0.5) * width / columns, (index // columns + 0.5) * height / rows])
        found.append(np.column_stack((linear, 256 - linear @ center)))
    return found


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    face_3SS = torch.rand(3, 512, 512, generator=generator)
    shape_SS = torch.ones(512, 512)
    print(machine.describe())
    print(machine.HEADER)
    for name, (height, width) in PICTURES.items():
        canvas_HW3 = torch.rand(height, width, 3, generator=generator)
        target = Target(canvas_HW3, torch.zeros(height, width))
        for count in COUNTS:
            new = [
                NewFace(AlignedFace(0, FACE, matrix), face_3SS, shape_SS) for matrix in matrices(count, height, width)
            ]
            for words, recipe in (("", USUAL), (", parity", OFFICIAL)):

                def run(new=new, recipe=recipe, target=target) -> None:
                    for one in new:
                        recipe.composite(target, one, PASTE_DEFAULTS, None, 1.0)

                label = f"{count:>2} faces, {name}{words}"
                print(machine.row(label, machine.compare({label: run}, options.rounds)[label]))


if __name__ == "__main__":
    main()
