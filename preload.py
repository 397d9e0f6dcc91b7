"""Flags of this pack for Stable-Diffusion-WebUI, which calls `preload` before it reads its command line."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--codeformer-pack-cpu",
        action="store_true",
        help="CodeFormer pack: restore faces on the CPU, whatever the settings say",
    )
