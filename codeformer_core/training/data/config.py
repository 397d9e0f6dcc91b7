"""Where the training faces lie and how they come to the device. Imports nothing heavy, for the command line's sake."""

from __future__ import annotations

from dataclasses import dataclass

CACHES = ("none", "disk", "device")
PLACES_TO_DEGRADE = ("worker", "device")


@dataclass(frozen=True)
class DataConfig:
    """Which faces are trained on, and how they are read.

    faces: folder of face images, a pattern of WebDataset shards (faces-*.tar, faces-{000..012}.tar) or one .tar; may be
    empty where `manifest` names the faces.
    validation: the same for validation faces; None: the rows of `manifest` whose split says so.
    manifest: CSV with a column "file" (relative to its own folder, or a member's name where `faces` are shards) and
    `split_column`; rows whose column "kept" is 0 are left out.
    split_column: its values are "train" and "val" (or "validation"); rows with others are left out.
    flip: half of the draws are mirrored.
    tones: the share of draws whose colours become an old photo's (gray, tinted, faded) before they are degraded, 0..1.
    cache: "none" decodes at every draw; "disk" keeps all faces decoded in one file; "device" keeps them in one tensor
    beside the network, without workers, and degrades there too.
    cache_folder: for "disk"; None: comfyui-codeformer/faces in the user's cache folder.
    workers: processes that read ahead; 0 reads in the training process.
    degrade_on: "worker" (OpenCV, one face at a time) or "device" (torch, a batch at a time).
    Raises ValueError for an unknown word or a negative number.
    """

    faces: str
    validation: str | None
    manifest: str | None
    split_column: str
    flip: bool
    tones: float
    cache: str
    cache_folder: str | None
    workers: int
    degrade_on: str

    @classmethod
    def for_reading(cls, faces: str, manifest: str | None = None) -> DataConfig:
        """Faces as they are, one after the other, in this process: for measuring."""
        return cls(
            faces=faces,
            validation=None,
            manifest=manifest,
            split_column="split",
            flip=False,
            tones=0.0,
            cache="none",
            cache_folder=None,
            workers=0,
            degrade_on="worker",
        )

    def __post_init__(self) -> None:
        if self.cache not in CACHES:
            raise ValueError(f"data.cache: expected one of {', '.join(CACHES)}, got {self.cache!r}")
        if self.degrade_on not in PLACES_TO_DEGRADE:
            known = " or ".join(PLACES_TO_DEGRADE)
            raise ValueError(f"data.degrade_on: expected {known}, got {self.degrade_on!r}")
        if not 0 <= self.tones <= 1:
            raise ValueError(f"data.tones: expected a share from 0 (colours as they are) to 1, got {self.tones}")
        if self.workers < 0:
            raise ValueError(f"data.workers: expected 0 (read in the training process) or more, got {self.workers}")
