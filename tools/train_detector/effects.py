"""What happens to a scene between the world and the file: light, colour, blur, noise, few pixels, JPEG.

Shape legend: H W sides in pixels, C channels (BGR, uint8).
"""

from __future__ import annotations

import math

import numpy as np

from codeformer_core.runtime.packages import import_for_faces


def relit(rng: np.random.Generator, face: np.ndarray) -> np.ndarray:
    """One face in a light of its own: brightness, contrast and gamma."""
    gamma = math.exp(rng.uniform(-0.5, 0.5))
    gain, shift = rng.uniform(0.6, 1.25), rng.uniform(-25, 25)
    steps = np.arange(256) / 255
    tints_C = np.clip(1 + rng.normal(0, 0.04, 3), 0.8, 1.2)
    table_256C = np.stack([steps**gamma * 255 * gain * tint + shift for tint in tints_C], axis=1)
    return _looked_up(face, table_256C)


def weathered(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """The whole scene as a camera, a scanner or an old print would have it."""
    cv2 = import_for_faces("cv2")
    if rng.random() < 0.03:
        scene = _as_drawing(rng, scene)
    if rng.random() < 0.22:
        scene = _gray(rng, scene)
    if rng.random() < 0.6:
        scene = relit(rng, scene)
    if rng.random() < 0.25:
        scene = cv2.GaussianBlur(scene, (0, 0), float(math.exp(rng.uniform(math.log(0.4), math.log(2.5)))))
    elif rng.random() < 0.08:
        scene = _moved(rng, scene)
    if rng.random() < 0.2:
        scene = _few_pixels(rng, scene)
    if rng.random() < 0.3:
        scene = _noisy(rng, scene)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 96))]
        scene = cv2.imdecode(cv2.imencode(".jpg", scene, quality)[1], cv2.IMREAD_COLOR)
    return np.ascontiguousarray(scene)


def _looked_up(image: np.ndarray, table_256C: np.ndarray) -> np.ndarray:
    cv2 = import_for_faces("cv2")
    return cv2.LUT(np.ascontiguousarray(image), np.clip(table_256C, 0, 255).astype(np.uint8)[None])


def _gray(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Gray, or toned as old prints are."""
    cv2 = import_for_faces("cv2")
    gray = cv2.cvtColor(cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.6:
        return gray
    tone_C = np.array([rng.uniform(0.6, 0.9), rng.uniform(0.85, 0.95), 1.0])
    return _looked_up(gray, np.arange(256)[:, None] * tone_C)


def _as_drawing(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Dark lines on light paper, as in an engraving."""
    cv2 = import_for_faces("cv2")
    gray = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    around = cv2.GaussianBlur(gray, (0, 0), float(rng.uniform(1.5, 5)))
    lines = cv2.divide(gray, cv2.max(around, 1), scale=float(rng.uniform(200, 250)))
    return cv2.cvtColor(lines, cv2.COLOR_GRAY2BGR)


def _moved(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    cv2 = import_for_faces("cv2")
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    middle, angle = (length - 1) / 2, rng.uniform(0, math.pi)
    along = np.array((math.cos(angle), math.sin(angle))) * middle
    start, end = ((round(middle + sign * along[0]), round(middle + sign * along[1])) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return cv2.filter2D(scene, -1, kernel / kernel.sum())


def _few_pixels(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Shrunk and enlarged again; faces that were small become a few blurred dots."""
    cv2 = import_for_faces("cv2")
    height, width = scene.shape[:2]
    factor = rng.uniform(0.35, 0.8)
    small = cv2.resize(scene, (max(1, int(width * factor)), max(1, int(height * factor))), interpolation=cv2.INTER_AREA)
    back = cv2.INTER_CUBIC if rng.random() < 0.6 else cv2.INTER_LINEAR
    return cv2.resize(small, (width, height), interpolation=back)


def _noisy(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Gray or coloured grain."""
    channels = 1 if rng.random() < 0.5 else 3
    noise = rng.standard_normal((*scene.shape[:2], channels), np.float32) * np.float32(rng.uniform(2, 18))
    return np.clip(scene + noise, 0, 255).astype(np.uint8)
