"""Seconds per face of what keeps a restoration from doing harm (colours, detail, judging), beside the network's own.

python benchmarks/care.py [--rounds 7] [--threads N]

The network is a CodeFormer of the published sizes with random weights, which take the same time as trained ones.
"""

from __future__ import annotations

import argparse
from statistics import median

import machine
import numpy as np
import torch

from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer
from codeformer_core.pipeline.color_match import match_color
from codeformer_core.pipeline.detail import PhotoDetail, with_photos_detail
from codeformer_core.pipeline.judge import judge


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    network = CodeFormer(PUBLISHED_CODEFORMER).eval()
    crop_3SS, face_3SS, mask_SS = torch.rand(3, 512, 512), torch.rand(3, 512, 512), torch.rand(512, 512)
    image_HW3, matrix = crop_3SS.permute(1, 2, 0), np.eye(2, 3)
    photo = PhotoDetail.of(crop_3SS)
    times = machine.compare(
        {
            "network": lambda: network.restore(crop_3SS[None] * 2 - 1, 0.5),
            "colours": lambda: match_color(face_3SS, crop_3SS, mask_SS, "low-frequency"),
            "detail": lambda: with_photos_detail(face_3SS, PhotoDetail.of(crop_3SS), image_HW3, matrix, 1.0, 1.0),
            "judging": lambda: judge(face_3SS, crop_3SS, photo),
        },
        options.rounds,
    )
    print(machine.describe())
    print(machine.HEADER)
    for name, values in times.items():
        print(machine.row(name, values))
    care = sum(median(values) for name, values in times.items() if name != "network")
    print(f"care takes {100 * care / median(times['network']):.1f} % of the network's time")


if __name__ == "__main__":
    main()
