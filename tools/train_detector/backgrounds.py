"""What lies behind the faces: photos without faces, textures made here, and the margins of portraits.

Shape legend: H W and S sides in pixels, C channels (BGR, uint8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codeformer_core.faces.geometry import CROP_SIZE
from codeformer_core.imaging.files import read_image
from codeformer_core.runtime.packages import import_for_faces

from .portraits import Portrait

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_LONGEST_SIDE = 1280
# Columns of the 512 face left of the head: hair, shoulders and what was behind the person.
_MARGIN = 84


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """Where backgrounds are drawn from.

    photos: uint8 (H, W, 3) without faces; may be empty.
    portraits: whose margins are used.
    """

    photos: Sequence[np.ndarray]
    portraits: Sequence[Portrait]

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """(side, side, 3)."""
        kind = rng.random()
        if kind < 0.5 and self.photos:
            scene = _piece(rng, self.photos[int(rng.integers(len(self.photos)))], side)
        elif kind < 0.62 and self.portraits:
            scene = _piece(rng, _margin(rng, self.portraits[int(rng.integers(len(self.portraits)))]), side)
        else:
            scene = texture(rng, side)
        if rng.random() < 0.3:
            _draw_shapes(rng, scene, int(rng.integers(1, 12)))
        if rng.random() < 0.12:
            _draw_text(rng, scene)
        return scene


def read_backgrounds(folder: Path | None) -> list[np.ndarray]:
    """Photos of a folder, at most 1280 pixels on the longer side. None: no photos.

    Raises ValueError naming the folder when it has none, and what `read_image` raises.
    """
    if folder is None:
        return []
    cv2 = import_for_faces("cv2")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_ENDINGS)
    if not paths:
        raise ValueError(f"--backgrounds {folder}: no photo in it; {', '.join(PHOTO_ENDINGS)} are read")
    photos = []
    for path in paths:
        photo = (read_image(path, strict=True).image_HWC[..., :3].numpy() * 255 + 0.5).astype(np.uint8)[..., ::-1]
        factor = min(1.0, _LONGEST_SIDE / max(photo.shape[:2]))
        size = (max(1, round(photo.shape[1] * factor)), max(1, round(photo.shape[0] * factor)))
        photos.append(cv2.resize(np.ascontiguousarray(photo), size, interpolation=cv2.INTER_AREA))
    return photos


def texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Noise of several octaves between two or three colours, as a gradient, stripes, or plain."""
    cv2 = import_for_faces("cv2")
    height_SS = np.zeros((side, side), np.float32)
    weight = 1.0
    for octave in range(int(rng.integers(1, 7))):
        cells = 2 ** (octave + 1) + 1
        noise = rng.random((cells, cells), np.float32)
        height_SS += weight * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        weight *= rng.uniform(0.4, 1.0)
    steps_S = np.linspace(-1, 1, side, dtype=np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    along_SS = steps_S[None] * math.cos(angle) + steps_S[:, None] * math.sin(angle)
    if rng.random() < 0.4:
        height_SS += along_SS * rng.uniform(0.5, 4)
    if rng.random() < 0.3:
        height_SS += np.sin(along_SS * rng.uniform(4, 120) + height_SS * rng.uniform(0, 3)) * rng.uniform(0.3, 1.5)
    height_SS -= height_SS.min()
    height_SS /= max(float(height_SS.max()), 1e-6)
    levels = np.linspace(0, 1, 4)
    colors_4C = rng.integers(0, 256, (4, 3)) if rng.random() < 0.7 else _skin_colors(rng, 4)
    table_256C = np.stack([np.interp(np.linspace(0, 1, 256), levels, colors_4C[:, c]) for c in range(3)], axis=1)
    return table_256C.astype(np.uint8)[(height_SS * 255).astype(np.uint8)]


def _piece(rng: np.random.Generator, photo: np.ndarray, side: int) -> np.ndarray:
    """A square of the photo, the small ones enlarged up to four times, mirrored or on its side now and then."""
    cv2 = import_for_faces("cv2")
    shorter = min(photo.shape[:2])
    cut = int(np.clip(math.exp(rng.uniform(math.log(side / 4), math.log(side * 4))), min(8, shorter), shorter))
    top, left = (int(rng.integers(0, length - cut + 1)) for length in photo.shape[:2])
    shrinks = cut > side
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    piece = cv2.resize(photo[top : top + cut, left : left + cut], (side, side), interpolation=interpolation)
    piece = piece[:, ::-1] if rng.random() < 0.5 else piece
    return np.ascontiguousarray(np.rot90(piece, int(rng.integers(4))) if rng.random() < 0.15 else piece)


def _margin(rng: np.random.Generator, portrait: Portrait) -> np.ndarray:
    level = portrait.levels[0]
    width = level.shape[1] * _MARGIN // CROP_SIZE
    return level[:, :width] if rng.random() < 0.5 else level[:, -width:]


def _skin_colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """BGR (count, 3): shades of human skin, from dark to light."""
    light_N1 = rng.uniform(0.15, 1.0, (count, 1))
    return np.clip(np.array([[165, 190, 235]]) * light_N1 + rng.normal(0, 10, (count, 3)), 0, 255)


def _draw_shapes(rng: np.random.Generator, scene: np.ndarray, count: int) -> None:
    """Ellipses, boxes and lines in place, half of them in the colours of skin: heads without faces, hands."""
    cv2 = import_for_faces("cv2")
    side = scene.shape[0]
    for _ in range(count):
        color = tuple(float(c) for c in (_skin_colors(rng, 1)[0] if rng.random() < 0.5 else rng.integers(0, 256, 3)))
        x, y = (int(value) for value in rng.integers(0, side, 2))
        size = int(math.exp(rng.uniform(math.log(3), math.log(side / 3))))
        kind = rng.random()
        if kind < 0.5:
            axes = (size, max(1, int(size * rng.uniform(0.3, 1.5))))
            cv2.ellipse(scene, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
        elif kind < 0.75:
            corner = (x + size, y + int(size * rng.uniform(0.3, 2)))
            cv2.rectangle(scene, (x, y), corner, color, -1)
        else:
            end = tuple(int(value) for value in rng.integers(0, side, 2))
            cv2.line(scene, (x, y), end, color, int(rng.integers(1, 8)), cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.5, 4)), dst=scene)


def _draw_text(rng: np.random.Generator, scene: np.ndarray) -> None:
    """Lines of letters in place."""
    cv2 = import_for_faces("cv2")
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:&@"))
    color = tuple(float(value) for value in rng.integers(0, 256, 3))
    scale = float(rng.uniform(0.3, 1.5))
    y = int(rng.integers(10, scene.shape[0]))
    for _ in range(int(rng.integers(1, 8))):
        text = "".join(rng.choice(letters, int(rng.integers(3, 40))))
        cv2.putText(scene, text, (int(rng.integers(-20, 80)), y), int(rng.integers(0, 8)), scale, color, 1, cv2.LINE_AA)
        y += int(28 * scale) + 2
