"""What decides which faces a folder holds; kept beside them, because a folder of two kinds is of no use."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ...runtime.atomic import write_whole
from ...runtime.foreign import is_object

OPTIONS_FILE = "align.json"
FORMATS = ("png", "webp")
# 64 pixels is the smallest face that any network here takes.
MIN_SIZE, MAX_SIZE = 64, 2048


@dataclass(frozen=True)
class AlignOptions:
    """How faces are cut out and which are kept.

    detector: its name.
    confidence: None stands for the detector's own.
    size: side of the aligned face in pixels.
    smallest_face: shorter side of its box in the photo, in pixels.
    least_sharpness: variance of the Laplacian of the aligned face at 512 pixels, 8-bit gray.
    most_padding: share of the aligned face outside its photo.
    duplicates: keep them.
    validation_share: of the photos, not of the faces.
    Raises ValueError for numbers without a meaning.
    """

    detector: str
    confidence: float | None
    size: int
    smallest_face: float
    least_sharpness: float
    most_padding: float
    duplicates: bool
    format: str
    validation_share: float
    seed: int

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ValueError(f"the size of a face is {MIN_SIZE} to {MAX_SIZE} pixels, got {self.size}")
        if self.format not in FORMATS:
            raise ValueError(f"faces are written as {' or '.join(FORMATS)}, got {self.format!r}")
        for name in ("most_padding", "validation_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.smallest_face < 0 or self.least_sharpness < 0:
            raise ValueError("smallest_face and least_sharpness are 0 or more")


def settle(folder: Path, options: AlignOptions) -> None:
    """Write the options into a new folder, or hold them against those of a folder that was begun before.

    Raises ValueError, naming both values, when they differ, and when the folder holds images of other origin.
    """
    path = folder / OPTIONS_FILE
    wanted = asdict(options)
    if path.is_file():
        found = _read(path)
        different = [
            f"{name} {found.get(name)!r} there, {value!r} here"
            for name, value in wanted.items()
            if found.get(name) != value
        ]
        if different:
            raise ValueError(
                f"{folder} was begun with other options: {'; '.join(different)}. Use the same options as before, or "
                "another folder"
            )
        return
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise ValueError(
            f"{folder} holds files, but no {OPTIONS_FILE} that says how they came to be. Name a new folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(wanted, indent=2) + "\n").encode())


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). Delete this folder, or name another one") from error
    if not is_object(found):
        raise ValueError(f"{path} is damaged: not an object. Delete this folder, or name another one")
    return found
