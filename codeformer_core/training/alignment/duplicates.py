"""Near-duplicates among aligned faces: a short fingerprint to find candidates, then a look at both faces.

The same photo saved twice gives two detections that differ by a few pixels, while a person's neutral and smiling
portraits of one sitting differ less than that in a fingerprint. So a candidate only counts as a duplicate if the two
faces agree once one is laid over the other exactly.

Measured on 1,291 aligned portraits: 14 pairs, each one photo that was cut or retouched differently, agree by 0.9993 to
0.9999 once laid over each other, but for one that was retouched heavily (0.9981, which is not called a duplicate).
Neutral and smiling portraits of one sitting agree by up to 0.9976.

Shape legend: N faces, S side of the aligned face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from ...runtime.packages import import_for_faces

# Bits of 128 that may differ in a candidate: the pairs above have up to 19, and so has one of 1,300 others.
MAX_BITS = 20
# What a candidate's thumbnails must agree by, at the best shift: one in seven candidates has it.
MIN_LIKENESS = 0.93
# From here on the faces, laid over each other, are one.
MIN_AGREEMENT = 0.9985
# Pixels of 128 at the borders that aren't compared: one of the faces may not reach there.
_BORDER = 8
_COMPARED_SIDE, _THUMBNAIL_SIDE, _SHIFT = 128, 32, 3
_GROWTH = 1024
_DCT_SIDE, _DCT_TERMS = 32, 9


def gray_of(face_SSC: Tensor) -> np.ndarray:
    """float32 (128, 128) gray 0..255 of an RGB [0, 1] face."""
    cv2 = import_for_faces("cv2")
    levels_SS = (face_SSC.numpy() @ np.array([0.299, 0.587, 0.114], np.float32)) * 255
    return cv2.resize(levels_SS, (_COMPARED_SIDE, _COMPARED_SIDE), interpolation=cv2.INTER_AREA)


def fingerprint_of(gray_SS: np.ndarray) -> str:
    """128 bits in hex: 64 of the cosine transform's low frequencies (above or below their median), and 64 of
    brightness differences between neighbours."""
    cv2 = import_for_faces("cv2")
    small = cv2.resize(gray_SS, (_DCT_SIDE, _DCT_SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    angles = np.outer(np.arange(_DCT_TERMS), 2 * np.arange(_DCT_SIDE) + 1) * math.pi / (2 * _DCT_SIDE)
    waves = np.cos(angles)
    terms = (waves @ small @ waves.T)[1:, 1:]
    steps = cv2.resize(gray_SS, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.concatenate(((terms > np.median(terms)).ravel(), (steps[:, 1:] > steps[:, :-1]).ravel()))
    return np.packbits(bits).tobytes().hex()


def agreement_of(first_SS: np.ndarray, second_SS: np.ndarray) -> float:
    """Correlation, -1..1, of two gray faces once the second one was laid over the first by a small affine motion.

    The motion: Evangelidis and Psarakis 2008, "Parametric image alignment using enhanced correlation coefficient".
    """
    cv2 = import_for_faces("cv2")
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    still = np.eye(2, 3, dtype=np.float32)
    try:
        _, motion = cv2.findTransformECC(first_SS, second_SS, still, cv2.MOTION_AFFINE, stop, None, 5)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoConv:  # no motion brings them together: two different faces
            return -1.0
        raise
    side = first_SS.shape[0]
    moved_SS = cv2.warpAffine(second_SS, motion, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    # Blurred, since the one that was moved has lost its finest detail.
    inner = [
        cv2.GaussianBlur(gray_SS, (0, 0), 1)[_BORDER:-_BORDER, _BORDER:-_BORDER] for gray_SS in (first_SS, moved_SS)
    ]
    deviations = [gray_SS.std() for gray_SS in inner]
    if min(deviations) == 0:
        return float(np.array_equal(*inner))
    products = (inner[0] - inner[0].mean()) * (inner[1] - inner[1].mean())
    return float(products.mean() / (deviations[0] * deviations[1]))


class KnownFaces:
    """The faces kept so far, and which of them a new one repeats.

    Fingerprints are searched all at once, 16 bytes per face; thumbnails, 1 KiB per face, are made when they are needed.
    """

    def __init__(self, read_gray: Callable[[str], np.ndarray]) -> None:
        """Start without faces.

        read_gray: name -> `gray_of` that face.
        """
        self._read_gray = read_gray
        self._names: list[str] = []
        self._words_N2 = np.zeros((_GROWTH, 2), np.uint64)
        self._thumbnails: dict[str, np.ndarray] = {}

    def add(self, name: str, fingerprint: str) -> None:
        if len(self._names) == len(self._words_N2):
            self._words_N2 = np.concatenate((self._words_N2, np.zeros_like(self._words_N2)))
        self._words_N2[len(self._names)] = _words(fingerprint)
        self._names.append(name)

    def repeated_by(self, gray_SS: np.ndarray, fingerprint: str) -> str | None:
        """The name of the face that this one is, or None."""
        thumbnail = _thumbnail_of(gray_SS)
        for name in self.candidates(fingerprint):
            if name not in self._thumbnails:
                self._thumbnails[name] = _thumbnail_of(self._read_gray(name))
            if (
                _likeness(self._thumbnails[name], thumbnail) >= MIN_LIKENESS
                and agreement_of(self._read_gray(name), gray_SS) >= MIN_AGREEMENT
            ):
                return name
        return None

    def candidates(self, fingerprint: str) -> Iterator[str]:
        """Names of the faces whose fingerprint is nearly this one, the nearest first."""
        different_N2 = self._words_N2[: len(self._names)] ^ _words(fingerprint)
        bits_N = _count_bits(different_N2).sum(axis=1)
        near = np.flatnonzero(bits_N <= MAX_BITS)
        for index in near[np.argsort(bits_N[near], kind="stable")]:
            yield self._names[index]


def _thumbnail_of(gray_SS: np.ndarray) -> np.ndarray:
    cv2 = import_for_faces("cv2")
    small_SS = cv2.resize(gray_SS, (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return small_SS.round().astype(np.uint8)


def _likeness(first_SS: np.ndarray, second_SS: np.ndarray) -> float:
    """Correlation, -1..1, at the best of the shifts by whole pixels."""
    cv2 = import_for_faces("cv2")
    inner = second_SS[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    return float(cv2.matchTemplate(first_SS, inner, cv2.TM_CCOEFF_NORMED).max())


def _words(fingerprint: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(fingerprint), np.uint64)


def _count_bits(words: np.ndarray) -> np.ndarray:
    """Set bits of each uint64, by adding neighbouring fields in parallel (numpy's own counter came with 2.0)."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bytes_ = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (bytes_ * np.uint64(0x0101010101010101) >> np.uint64(56)).astype(np.int64)
