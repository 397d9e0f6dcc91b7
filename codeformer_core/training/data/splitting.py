"""What a folder is to `train all`: faces that are split already, faces to be split, or photos to be aligned."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...runtime.atomic import write_whole
from .files import BAD_DATA, FaceFile, list_folder

MANIFEST_NAME = "manifest.csv"
COLUMNS = ("file", "split")
# One face in so many is kept for measuring.
VALIDATION_EVERY = 10
# So many files are looked at to tell faces from photos.
_LOOKED_AT = 200


@dataclass(frozen=True)
class FacePlace:
    """As in DataConfig. All None: the folder holds photos, which have to be aligned first."""

    faces: str | None = None
    validation: str | None = None
    manifest: str | None = None

    @property
    def has_faces(self) -> bool:
        return self.faces is not None or self.manifest is not None


def look_at(folder: Path, image_size: int, run: Path) -> FacePlace:
    """What `folder` is.

    With folders train/ and val/, or with a manifest.csv that has a column `split`, it says itself how it is split. If
    all images are square and at least image_size wide, they are faces: a tenth of them, chosen by their names, is for
    validation, which is written into `run`/manifest.csv. Anything else is photos.
    Raises ValueError where there is no such folder or no image in it, for a single face, and where `run` lies among
    the images, since those that it shows would be taken for faces.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; name a folder of photos or of aligned faces")
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        return FacePlace(str(folder / "train"), str(folder / "val"))
    if _is_split(folder / MANIFEST_NAME):
        return FacePlace(manifest=str(folder / MANIFEST_NAME))
    if run.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"-o {run}: it lies among the images of {folder}; name a folder outside")
    images = list_folder(folder)
    if not images:
        raise ValueError(f"{folder}: there is no image in it; name a folder of photos or of aligned faces")
    step = max(1, len(images) // _LOOKED_AT)
    if not all(_is_face(Path(image.path), image_size) for image in images[::step]):
        return FacePlace()
    if len(images) == 1:
        raise ValueError(f"{folder}: 1 face, and one is kept for measuring; name a folder with more faces")
    return FacePlace(manifest=str(_split(images, run)))


def _is_split(manifest: Path) -> bool:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            return set(COLUMNS) <= set(csv.DictReader(stream).fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _is_ours(manifest: Path) -> bool:
    with manifest.open("rb") as stream:
        return stream.readline().strip() == ",".join(COLUMNS).encode()


def _is_face(path: Path, image_size: int) -> bool:
    try:
        with Image.open(path) as image:
            return image.width == image.height >= image_size
    except (OSError, *BAD_DATA):
        return True  # said by name when it is read


def _split(images: list[FaceFile], run: Path) -> Path:
    """At least one face on either side, whatever the hashes say. Raises ValueError for a manifest that isn't ours."""
    path = run / MANIFEST_NAME
    if path.exists() and not _is_ours(path):
        raise ValueError(
            f"-o {run}: its {MANIFEST_NAME} was not written by a run and would be replaced; name another folder"
        )

    def drawn(image: FaceFile) -> bytes:
        return hashlib.sha256(image.name.encode("utf-8", "surrogateescape")).digest()

    by_hash = sorted(images, key=drawn)
    validation = set(by_hash[: max(1, len(by_hash) // VALIDATION_EVERY)])
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((Path(each.path).resolve(), "val" if each in validation else "train") for each in images)
    run.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return path
