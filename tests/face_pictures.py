"""Aligned faces of people who don't exist, for tests; see faces/README.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "faces"
SIDE = 64


def large_faces() -> list[Path]:
    """Twelve aligned faces of 512 pixels, WebP."""
    return sorted((FOLDER / "large").glob("*.webp"))


def small_faces() -> np.ndarray:
    """(64, 64, 64, 3) uint8 RGB: aligned faces of 64 pixels."""
    sheet_HW3 = np.asarray(Image.open(FOLDER / "sheet.webp").convert("RGB"))
    rows, columns = sheet_HW3.shape[0] // SIDE, sheet_HW3.shape[1] // SIDE
    tiles = sheet_HW3.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    return tiles.reshape(-1, SIDE, SIDE, 3)
