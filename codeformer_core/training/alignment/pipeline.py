"""Photos in, aligned faces and their lists out, one photo after the other.

Shape legend: H W photo, C channels.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from ...faces.detection import FaceDetector
from ...faces.selection import skip_duplicates, skip_near_eyes, skip_small_faces
from ...faces.types import Face
from ...imaging.codecs.content import Picture
from ...imaging.files import read_image, write_image
from .claim import claimed
from .crop import AlignedFace, align_face
from .duplicates import KnownFaces, fingerprint_of, gray_of
from .landmarks import look_again
from .ledger import KeptRow, Ledger, RejectedRow
from .options import AlignOptions, settle
from .photos import Photo

logger = logging.getLogger(__name__)

OnPhoto = Callable[[int, int, str], None]

# What the list of rejected faces says of those that are left out before they are aligned.
_TOO_SMALL = {
    "too_small": "smaller than {limit:g} px (it is {size:.0f} px)",
    "eyes_close": "eyes {distance:.1f} px apart, less than {limit:g} px",
}


@dataclass(frozen=True)
class Outcome:
    """What the folder holds in the end, faces of earlier runs included.

    rejected: reason -> number.
    """

    photos: int
    train: int
    validation: int
    rejected: dict[str, int]

    @property
    def kept(self) -> int:
        return self.train + self.validation


def align_photos(
    photos: Sequence[Photo], folder: Path, detector: FaceDetector, options: AlignOptions, on_photo: OnPhoto
) -> Outcome:
    """Cut the faces out of the photos that aren't finished yet and write them into `folder`, with the lists.

    Photos that can't be read are logged, listed as rejected, and passed over.

    on_photo: called with (done, total, name) before each photo.
    Raises ValueError when the folder was begun with other options or another photo of the same name, or while another
    process works there, OSError when it can't be written.
    """
    with claimed(folder):
        return _aligned(photos, folder, detector, options, on_photo)


def _aligned(
    photos: Sequence[Photo], folder: Path, detector: FaceDetector, options: AlignOptions, on_photo: OnPhoto
) -> Outcome:
    settle(folder, options)
    work = _Work(folder, detector, options)
    sizes = [photo.path.stat().st_size for photo in photos]
    open_ = [
        (photo, size)
        for photo, size in zip(photos, sizes, strict=True)
        if not work.ledger.is_finished(photo.source, size)
    ]
    if len(open_) < len(photos):
        logger.info("%d of %d photos are finished already", len(photos) - len(open_), len(photos))
    for done, (photo, size) in enumerate(open_):
        on_photo(len(photos) - len(open_) + done, len(photos), photo.source)
        work.finish(photo, size)
    _fill_both_splits(work.ledger, options)
    validation = sum(row.split == "val" for row in work.ledger.kept)
    return Outcome(len(photos), len(work.ledger.kept) - validation, validation, dict(work.ledger.counts()))


def split_of(source: str, validation_share: float, seed: int) -> str:
    """By the photo's name alone: faces of one photo stay together, and more photos change nobody's split."""
    return "val" if _lot_of(source, seed) < validation_share else "train"


def _lot_of(source: str, seed: int) -> float:
    """A photo's number in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}:{source}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _fill_both_splits(ledger: Ledger, options: AlignOptions) -> None:
    """With few photos chance may leave one split empty, and training refuses that: the photo nearest to the other
    side changes over, and stays there when more photos come."""
    share, seed = options.validation_share, options.seed
    sources = sorted({row.source for row in ledger.kept}, key=lambda source: _lot_of(source, seed))
    splits = {row.split for row in ledger.kept}
    if len(sources) < 2 or len(splits) > 1:
        return
    if share > 0 and "val" not in splits:
        ledger.move(sources[0], "val")
    elif share < 1 and "train" not in splits:
        ledger.move(sources[-1], "train")


class _Work:
    """The state of one run: the lists so far, the names taken, and the fingerprints of all faces kept."""

    def __init__(self, folder: Path, detector: FaceDetector, options: AlignOptions) -> None:
        self.folder = folder
        self.detector = detector
        self.options = options
        self.ledger = Ledger(folder)
        self._taken = {row.file.casefold() for row in self.ledger.kept}
        self._known = KnownFaces(self._read_gray)
        for row in self.ledger.kept:
            self._known.add(row.file, row.fingerprint)

    def finish(self, photo: Photo, size: int) -> None:
        """Everything about one photo, its files first and its rows last."""
        kept: list[KeptRow] = []
        rejected: list[RejectedRow] = []
        try:
            image_HWC = read_image(photo.path, strict=True).image_HWC[..., :3].contiguous()
        except (ValueError, OSError, ImportError) as error:
            reason = str(error).replace(f"{photo.path}: ", "")
            logger.warning("%s", error)
            rejected.append(RejectedRow(photo.source, "0", "", f"unreadable: {' '.join(reason.split())}"))
        else:
            self._sort(photo, image_HWC, kept, rejected)
        self.ledger.finish(photo.source, size, kept, rejected)
        for row in kept:
            self._taken.add(row.file.casefold())

    def _sort(self, photo: Photo, image_HWC: Tensor, kept: list[KeptRow], rejected: list[RejectedRow]) -> None:
        detected = self.detector.detect(image_HWC[None], self.options.confidence)[0]
        faces = skip_duplicates(detected).kept
        if not faces:
            rejected.append(RejectedRow(photo.source, "0", "", "no face"))
        for number, face in enumerate(faces, start=1):
            reason, aligned = self._judged(image_HWC, face)
            fingerprint = ""
            if aligned is not None and not reason:
                gray_SS = gray_of(aligned.face_SSC)
                fingerprint = fingerprint_of(gray_SS)
                if not self.options.duplicates and (same := self._known.repeated_by(gray_SS, fingerprint)):
                    reason = f"duplicate: of {same}"
            if aligned is None or reason:
                box = " ".join(f"{value:.1f}" for value in face.box_xyxy)
                rejected.append(RejectedRow(photo.source, str(number), box, reason))
            else:
                row = self._row(photo, number, aligned, fingerprint)
                write_image(self.folder / row.file, Picture(aligned.face_SSC), overwrite=True)
                self._known.add(row.file, fingerprint)
                kept.append(row)

    def _judged(self, image_HWC: Tensor, face: Face) -> tuple[str, AlignedFace | None]:
        """The reason for which a face is not kept, or an empty text; and the aligned face where it was made."""
        options = self.options
        for skipped in (*skip_small_faces([face], options.smallest_face).skipped, *skip_near_eyes([face]).skipped):
            return f"too small: {_TOO_SMALL[skipped.kind].format(**skipped.values)}", None
        aligned = align_face(image_HWC, look_again(image_HWC, face, self.detector), options.size)
        if aligned is None:
            return "no alignment: its landmarks allow none", None
        if aligned.padding > options.most_padding:
            return (
                f"padded: {aligned.padding:.0%} lies outside the photo, more than {options.most_padding:.0%}",
                aligned,
            )
        if aligned.sharpness < options.least_sharpness:
            return f"blurred: sharpness {aligned.sharpness:.1f}, less than {options.least_sharpness:g}", aligned
        return "", aligned

    def _read_gray(self, name: str) -> np.ndarray:
        return gray_of(read_image(self.folder / name).image_HWC)

    def _row(self, photo: Photo, number: int, aligned: AlignedFace, fingerprint: str) -> KeptRow:
        return KeptRow(
            file=self._free_name(photo, number),
            source=photo.source,
            split=split_of(photo.source, self.options.validation_share, self.options.seed),
            landmarks=" ".join(f"{value:.2f}" for value in aligned.landmarks_52.ravel()),
            eye_distance=f"{aligned.eye_distance:.1f}",
            sharpness=f"{aligned.sharpness:.1f}",
            padding=f"{aligned.padding:.4f}",
            kept="1",
            fingerprint=fingerprint,
        )

    def _free_name(self, photo: Photo, number: int) -> str:
        """The photo's own name and the face's number; where another photo has that name, with a mark of its folder."""
        stem = PurePosixPath(photo.source).stem.lstrip(".") or "photo"
        name = f"{stem}_{number}.{self.options.format}"
        if name.casefold() in self._taken:
            mark = hashlib.blake2b(photo.source.encode(), digest_size=4).hexdigest()
            name = f"{stem}_{mark}_{number}.{self.options.format}"
        return name
