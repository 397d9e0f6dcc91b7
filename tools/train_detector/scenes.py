"""A scene: faces of known landmarks put onto a background, each scene from the seed and its number alone.

Sizes, places, turns, masks and hindrances are drawn here; the shares are what is worth changing.
Shape legend: S side of the scene, N faces, 5 2 landmarks in x and y, C channels (BGR, uint8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codeformer_core.faces.geometry import CROP_SIZE
from codeformer_core.runtime.packages import import_for_faces

from .backgrounds import Backgrounds, texture
from .effects import relit, weathered
from .pasting import Paste, paste
from .portraits import FACE_WIDTH, LEVEL_SIDES, Portrait, turned

# Pixels of the face's box; smaller ones are in the scene too, but neither asked for nor punished.
MIN_FACE, MAX_FACE = 11.0, 290.0
# The share of a box that has to lie in the scene for its face to be asked for.
_VISIBLE = 0.55
# The share of an earlier face's box that a later paste may cover.
_COVERED = 0.22
_MAX_FACES = 6
_MIRRORED = (1, 0, 2, 4, 3)


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed scene.

    boxes_N4, landmarks_N52: pixels, pixel centres at whole numbers; may reach outside.
    is_wanted_N: False for faces too small or too much cut off, which training passes over.
    """

    image_SSC: np.ndarray
    boxes_N4: np.ndarray
    landmarks_N52: np.ndarray
    is_wanted_N: np.ndarray


@dataclass(frozen=True, eq=False)
class SceneMaker:
    """Scene number `index` is the same whenever and wherever it is made."""

    portraits: Sequence[Portrait]
    backgrounds: Backgrounds
    seed: int
    side: int = 320

    def make(self, index: int) -> Scene:
        rng = np.random.default_rng((self.seed, index))
        image = self.backgrounds.draw(rng, self.side)
        placed: list[Paste] = []
        layout = rng.random()
        if layout < 0.10:
            spots: list[tuple[float, float, float]] = []
        elif layout < 0.20:
            spots = self._in_rows(rng)
        else:
            spots = self._anywhere(rng)
        if rng.random() < 0.3:
            self._put_decoys(rng, image)
        for x, y, width in spots:
            new = self._face(rng, x, y, width, is_tile=0.10 <= layout < 0.20)
            if all(_leaves_visible(new, earlier) for earlier in placed):
                paste(image, new)
                placed.append(new)
        image = weathered(rng, image)
        boxes_N4 = np.array([new.box for new in placed]).reshape(-1, 4)
        landmarks_N52 = np.array([new.landmarks_52 for new in placed]).reshape(-1, 5, 2)
        return Scene(image, boxes_N4, landmarks_N52, self._wanted(boxes_N4))

    def _wanted(self, boxes_N4: np.ndarray) -> np.ndarray:
        sizes_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
        inside_N4 = np.clip(boxes_N4, -0.5, self.side - 0.5)
        visible_N = (inside_N4[:, 2:] - inside_N4[:, :2]).prod(axis=1) / np.maximum(sizes_N2.prod(axis=1), 1e-6)
        return (visible_N >= _VISIBLE) & (sizes_N2.min(axis=1, initial=1e9) >= MIN_FACE)

    def _anywhere(self, rng: np.random.Generator) -> list[tuple[float, float, float]]:
        """Centre x, centre y and width of each face, the largest first."""
        count = int(rng.integers(1, _MAX_FACES + 1))
        logs = rng.uniform(math.log(MIN_FACE * 0.8), math.log(MAX_FACE), count)
        spots = []
        for width in sorted(np.exp(logs).tolist(), reverse=True):
            margin = min(0.15 * width, 0.3 * self.side)
            x, y = rng.uniform(margin, self.side - margin, 2)
            spots.append((float(x), float(y), float(width)))
        return spots

    def _in_rows(self, rng: np.random.Generator) -> list[tuple[float, float, float]]:
        """As in a contact sheet: cells of one size."""
        cell = float(np.clip(math.exp(rng.uniform(math.log(30), math.log(160))), 30, self.side))
        offset_x, offset_y = rng.uniform(0, cell, 2)
        spots = []
        for row in range(int(self.side / cell) + 2):
            for column in range(int(self.side / cell) + 2):
                width = cell * rng.uniform(0.4, 0.55)
                jitter_x, jitter_y = rng.normal(0, 0.04 * cell, 2)
                spots.append((column * cell - offset_x + jitter_x, row * cell - offset_y + jitter_y, float(width)))
        near = [spot for spot in spots if all(-0.3 * cell < value < self.side + 0.3 * cell for value in spot[:2])]
        return [spot for spot in near if rng.random() < 0.9]

    def _choose(self, rng: np.random.Generator) -> Portrait:
        """Faces that look aside are few, so they are drawn up to four times as often."""
        while True:
            portrait = self.portraits[int(rng.integers(len(self.portraits)))]
            if rng.random() < 0.25 + min(abs(portrait.yaw_ratio) / 0.25, 0.75):
                return portrait

    def _face(self, rng: np.random.Generator, x: float, y: float, width: float, *, is_tile: bool) -> Paste:
        portrait = self._choose(rng)
        scale = width / FACE_WIDTH
        level = portrait.level_for(scale)
        source, landmarks_52, outline_P2 = portrait.levels[level], portrait.landmarks_52, portrait.outline_P2
        yaw = 0.0
        if rng.random() < 0.35:
            yaw = float(np.clip(rng.normal(0, math.radians(32)), -math.radians(68), math.radians(68)))
            source, landmarks_52, outline_P2 = turned(portrait, level, yaw)
        if rng.random() < 0.5:
            source, yaw = source[:, ::-1], -yaw
            landmarks_52 = _flipped(landmarks_52)[list(_MIRRORED)]
            outline_P2 = _flipped(outline_P2)
        if rng.random() < 0.7:
            source = relit(rng, source)
        if rng.random() < 0.2:
            source = _hindered(rng, source, landmarks_52)
        matrix = _placement(rng, scale, (x, y), (outline_P2.min(axis=0) + outline_P2.max(axis=0)) / 2, is_tile=is_tile)
        mask_x = 256 + 70 * math.sin(yaw)
        return Paste.of(rng, source, matrix, landmarks_52, outline_P2, mask_x, is_tile=is_tile)

    def _put_decoys(self, rng: np.random.Generator, image: np.ndarray) -> None:
        """Heads whose faces were taken away: what is round a face doesn't make one."""
        for _ in range(int(rng.integers(1, 4))):
            portrait = self.portraits[int(rng.integers(len(self.portraits)))]
            width = math.exp(rng.uniform(math.log(20), math.log(MAX_FACE)))
            scale = width / FACE_WIDTH
            source = _without_face(rng, portrait.levels[portrait.level_for(scale)])
            x, y = rng.uniform(0, self.side, 2)
            matrix = _placement(rng, scale, (x, y), portrait.outline_P2.mean(axis=0), is_tile=False)
            paste(image, Paste.of(rng, source, matrix, portrait.landmarks_52, portrait.outline_P2, 256, is_tile=False))


def _placement(
    rng: np.random.Generator, scale: float, to_xy: tuple[float, float], middle_xy: np.ndarray, *, is_tile: bool
) -> np.ndarray:
    """512 face -> scene: turned, squeezed and sheared a little about the face's middle, which comes to `to_xy`."""
    spread = 8 if is_tile else 20
    degrees = rng.normal(0, spread) if rng.random() < 0.9 else rng.uniform(-95, 95)
    angle = math.radians(float(degrees))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    wide, high = (math.exp(value) for value in np.clip(rng.normal(0, 0.07, 2), -0.2, 0.2))
    linear = scale * turn @ np.array([[wide, float(rng.normal(0, 0.05))], [float(rng.normal(0, 0.03)), high]])
    return np.hstack((linear, (np.array(to_xy) - linear @ middle_xy)[:, None]))


def _flipped(points_P2: np.ndarray) -> np.ndarray:
    return np.stack((CROP_SIZE - 1 - points_P2[:, 0], points_P2[:, 1]), axis=1)


def _leaves_visible(new: Paste, earlier: Paste) -> bool:
    """Whether `new` covers little of the earlier face and doesn't have its middle in it."""
    left, top, right, bottom = earlier.box
    x, y = (new.box[0] + new.box[2]) / 2, (new.box[1] + new.box[3]) / 2
    wide = min(right, new.covered[2]) - max(left, new.covered[0])
    high = min(bottom, new.covered[3]) - max(top, new.covered[1])
    share = max(wide, 0.0) * max(high, 0.0) / ((right - left) * (bottom - top))
    return share <= _COVERED and not (left < x < right and top < y < bottom)


def _hindered(rng: np.random.Generator, source: np.ndarray, landmarks_52: np.ndarray) -> np.ndarray:
    """Something before the face: dark glasses, a mask over the mouth, a hat, or a thing across."""
    cv2 = import_for_faces("cv2")
    source = np.ascontiguousarray(source).copy()
    side = source.shape[0]
    points_52 = (landmarks_52 * side / CROP_SIZE).astype(int)
    color = tuple(float(value) for value in rng.integers(0, 256, 3))
    kind = rng.random()
    if kind < 0.3:
        dark = tuple(float(value) for value in rng.integers(0, 60, 3))
        axes = (int(side * rng.uniform(0.07, 0.1)), int(side * rng.uniform(0.05, 0.08)))
        for x, y in points_52[:2].tolist():
            cv2.ellipse(source, (x, y), axes, 0, 0, 360, dark, -1, cv2.LINE_AA)
        cv2.line(source, tuple(points_52[0].tolist()), tuple(points_52[1].tolist()), dark, max(1, side // 60))
    elif kind < 0.45:
        middle = points_52[3:].mean(axis=0)
        axes = (int(side * rng.uniform(0.18, 0.25)), int(side * rng.uniform(0.1, 0.16)))
        cv2.ellipse(source, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, color, -1, cv2.LINE_AA)
    elif kind < 0.65:
        source[: int(side * rng.uniform(0.25, 0.4))] = color
    else:
        start, end = ((int(value) for value in rng.integers(0, side, 2)) for _ in range(2))
        cv2.line(source, tuple(start), tuple(end), color, max(1, int(side * rng.uniform(0.02, 0.12))), cv2.LINE_AA)
    return source


def _without_face(rng: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """The head with its face in pieces, smoothed away, or replaced by a texture."""
    cv2 = import_for_faces("cv2")
    side = level.shape[0]
    assert side in LEVEL_SIDES
    source = level.copy()
    left, top, right, bottom = (int(side * share) for share in (0.26, 0.30, 0.74, 0.88))
    face = source[top:bottom, left:right]
    kind = rng.random()
    if kind < 0.4:
        count = int(rng.integers(3, 6))
        rows = [row for band in np.array_split(face, count, axis=0) for row in np.array_split(band, count, axis=1)]
        high, wide = face.shape[0] // count, face.shape[1] // count
        for number, other in enumerate(rng.permutation(len(rows))):
            y, x = number // count * high, number % count * wide
            face[y : y + high, x : x + wide] = cv2.resize(rows[other].copy(), (wide, high))
        return source
    mask = np.zeros((side, side, 1), np.float32)
    cv2.ellipse(
        mask, ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2), 0, 0, 360, 1.0, -1
    )
    mask = cv2.GaussianBlur(mask, (0, 0), side * 0.03)[..., None]
    if kind < 0.8:
        tiny = cv2.resize(level, (4, 4), interpolation=cv2.INTER_AREA)
        instead = cv2.resize(tiny, (side, side), interpolation=cv2.INTER_CUBIC)
    else:
        instead = texture(rng, side)
    return (source * (1 - mask) + instead * mask).astype(np.uint8)
