"""Steady alignments of a track: a Kalman filter forwards and backwards (Rauch-Tung-Striebel) on the similarity.

What is smoothed are the four numbers of the similarity that brings a face's landmarks onto the template: place (x, y),
logarithm of the scale, and roll. Each moves with constant acceleration but for a disturbance; how noisy the detector is
comes from the track itself. Frames without a detection between two others are bridged by the same motion.
Shape legend: T frames of a window, 4 numbers of a similarity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...faces.geometry import CROP_SIZE, TEMPLATE_XY, invert
from ...faces.types import Face, Point

# Frames seen before and after one that is smoothed. More than 12 after it gain 4 %; fewer cost steadiness.
LOOK_AHEAD = 12
LOOK_BACK = 3 * LOOK_AHEAD
# How strongly the acceleration changes from frame to frame, as a part of the detector's noise.
DISTURBANCE = 0.3
# Below this many detections a track has no motion that could be told from noise.
MIN_SMOOTHED = 5
# Deviations of noise that even a perfect detector has: 0.02 pixels of the crop's eyes, so that nothing divides by 0.
_LEAST_NOISE = 1e-4
_COMPLEX = np.array((1, 1j))
# Deviations from the median of seven frames from which on a measurement is wrong; and what any may deviate besides, of
# the face's size (place), as a factor (scale) and in radians (roll).
_OUTLIER = 6.0
_OUTLIER_4 = np.array((0.04, 0.04, 0.05, 0.05))
# MAD -> standard deviation of a normal distribution; and of the residuals of a quadratic over seven frames, whose
# middle weighs 7/21, to the deviation of the values.
_MAD = 1.4826 / math.sqrt(1 - 7 / 21)
# Savitzky-Golay over seven frames, quadratic: weights of the middle's fit.
_SG_7 = np.array([-2, 3, 6, 7, 6, 3, -2]) / 21


def measured(face: Face) -> np.ndarray | None:
    """The similarity template -> image of a face, by least squares: x, y (of the crop's middle, in pixels of the
    image), log of the scale, roll in radians. None for landmarks in one place."""
    points = face.landmarks_array()
    centre, template = points.mean(0), TEMPLATE_XY - TEMPLATE_XY.mean(0)
    spread = points - centre
    # As complex numbers a similarity is one product: its best factor is a quotient of sums.
    onto, points_N = template @ _COMPLEX, spread @ _COMPLEX
    factor = complex(np.sum(np.conj(onto) * points_N)) / float(np.square(np.abs(onto)).sum())
    if not math.isfinite(abs(factor)) or abs(factor) < 1e-9:
        return None
    middle = (CROP_SIZE - 1) / 2 * (1 + 1j) - complex(TEMPLATE_XY.mean(0) @ _COMPLEX)
    place = complex(centre @ _COMPLEX) + factor * middle
    return np.array((place.real, place.imag, math.log(abs(factor)), math.atan2(factor.imag, factor.real)))


def matrix_of(similarity_4: np.ndarray) -> np.ndarray:
    """The alignment image -> 512 crop, float64 (2, 3), read-only."""
    x, y, log_scale, roll = (float(value) for value in similarity_4)
    scale = math.exp(log_scale)
    cos, sin = scale * math.cos(roll), scale * math.sin(roll)
    linear = np.array([(cos, -sin), (sin, cos)])
    middle = (CROP_SIZE - 1) / 2 * np.ones(2)
    to_image = np.hstack((linear, (np.array((x, y)) - linear @ middle)[:, None]))
    matrix = invert(to_image)
    matrix.setflags(write=False)
    return matrix


def smoothed(similarities: Mapping[int, np.ndarray], first: int, last: int) -> dict[int, np.ndarray]:
    """Steady similarities of the frames `first` to `last`.

    similarities: as measured, by frame; some before and after these, the more the steadier. Frames outside the span of
    what was measured get none.
    """
    frames = sorted(similarities)
    if not frames:
        return {}
    values_T4 = np.full((frames[-1] - frames[0] + 1, 4), np.nan)
    for frame in frames:
        values_T4[frame - frames[0]] = similarities[frame]
    values_T4[:, 3] = _unwrapped(values_T4[:, 3])
    # Pixels and radians become parts of the face's size, so that one least noise fits all.
    unit_4 = np.array([math.exp(float(np.nanmedian(values_T4[:, 2]))) * CROP_SIZE] * 2 + [1, 1])
    values_T4 = values_T4 / unit_4
    if len(frames) >= MIN_SMOOTHED:
        noise_4 = _noise(values_T4[~np.isnan(values_T4[:, 0])])
        values_T4 = _rts(_without_outliers(values_T4, noise_4), noise_4)
    else:
        values_T4 = _bridged(values_T4)
    wanted = range(max(first, frames[0]), min(last, frames[-1]) + 1)
    return {frame: values_T4[frame - frames[0]] * unit_4 for frame in wanted}


def _noise(values_N4: np.ndarray) -> np.ndarray:
    """Deviation of each number from a smooth motion."""
    if len(values_N4) < len(_SG_7):
        differences = np.diff(values_N4, 2, axis=0)
        return np.maximum(1.4826 * np.median(np.abs(differences), axis=0) / math.sqrt(6), _LEAST_NOISE)
    fits = np.stack([np.convolve(column, _SG_7, "valid") for column in values_N4.T], axis=1)
    residuals = values_N4[3:-3] - fits
    return np.maximum(_MAD * np.median(np.abs(residuals), axis=0), _LEAST_NOISE)


def _without_outliers(values_T4: np.ndarray, noise_4: np.ndarray) -> np.ndarray:
    """The values without those far from the median of their neighbours, as half hidden faces have them."""
    padded = np.pad(values_T4, ((3, 3), (0, 0)), mode="edge")
    windows = np.stack([padded[shift : shift + len(values_T4)] for shift in range(7)])
    known = ~np.isnan(values_T4[:, 0])
    medians_T4 = np.nanmedian(windows[:, known], axis=0)
    kept = values_T4.copy()
    far = (np.abs(values_T4[known] - medians_T4) > _OUTLIER * noise_4 + _OUTLIER_4).any(1)
    # The ends anchor the span of the track.
    places = np.flatnonzero(known)[far]
    kept[places[(places > 0) & (places < len(values_T4) - 1)]] = np.nan
    return kept


def _rts(values_T4: np.ndarray, noise_4: np.ndarray) -> np.ndarray:
    """The smoothed values. In units of the noise all four share one gain, which does not depend on the values."""
    scaled_T4 = values_T4 / noise_4
    step = np.array([(1, 1, 0.5), (0, 1, 1), (0, 0, 1)])
    push = np.array((1 / 6, 1 / 2, 1.0))
    disturbance = DISTURBANCE**2 * np.outer(push, push)
    known = ~np.isnan(scaled_T4[:, 0])
    count = len(scaled_T4)
    states = np.zeros((count, 3, 4))
    spreads = np.zeros((count, 3, 3))
    state = np.zeros((3, 4))
    state[0] = scaled_T4[0]
    spread = np.diag((1.0, 1e4, 1e4))
    for index in range(count):
        if index:
            state, spread = step @ state, step @ spread @ step.T + disturbance
        if known[index] and index:
            gain = spread[:, :1] / (spread[0, 0] + 1)
            state = state + gain * (scaled_T4[index] - state[0])
            spread = spread - gain @ spread[:1]
        states[index], spreads[index] = state, spread
    for index in range(count - 2, -1, -1):
        expected = step @ spreads[index] @ step.T + disturbance
        surprise = states[index + 1] - step @ states[index]
        states[index] += spreads[index] @ step.T @ np.linalg.solve(expected, surprise)
    return states[:, 0] * noise_4


def _bridged(values_T4: np.ndarray) -> np.ndarray:
    """The values with straight lines in their gaps."""
    known = np.flatnonzero(~np.isnan(values_T4[:, 0]))
    every = np.arange(len(values_T4))
    filled_T4 = np.empty_like(values_T4)
    for number in range(4):
        filled_T4[:, number] = np.interp(every, known, values_T4[known, number])
    return filled_T4


def _unwrapped(angles: np.ndarray) -> np.ndarray:
    """Angles without jumps of a whole turn; NaN stays."""
    known = ~np.isnan(angles)
    unwrapped = angles.copy()
    unwrapped[known] = np.unwrap(angles[known])
    return unwrapped


def steady_face(face: Face, shape_52: np.ndarray, matrix: np.ndarray) -> Face:
    """The face with landmarks that lie in its steady crop as `shape_52`, and its box moved along.

    shape_52: in pixels of the crop.
    matrix: image -> crop.
    """
    back = invert(matrix)
    points = shape_52 @ back[:, :2].T + back[:, 2]
    a, b, c, d, e = (_point(point) for point in points)
    dx, dy = points.mean(0) - face.landmarks_array().mean(0)
    left, top, right, bottom = face.box_xyxy
    box = (left + float(dx), top + float(dy), right + float(dx), bottom + float(dy))
    return Face(box, (a, b, c, d, e), face.score)


def _point(point: np.ndarray) -> Point:
    return float(point[0]), float(point[1])
