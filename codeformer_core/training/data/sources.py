"""From a data config to the faces of a split: which files they are, checked before anything runs."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Literal

from .cache import cached_on_disk
from .config import DataConfig
from .files import (
    FaceFile,
    FaceSource,
    checked,
    face_file,
    list_folder,
    refuse_repeated_names,
    shortened,
)
from .manifest import Row, read_manifest
from .shards import list_shards, member_of, names_shards

logger = logging.getLogger(__name__)

Split = Literal["train", "validation"]


def open_faces(config: DataConfig, split: Split, image_size: int, least: int = 1) -> FaceSource:
    """The faces of one split, sorted by name, at image_size; larger files are reduced by area averaging when read.

    With cache "disk" they are decoded now, which takes a while the first time. least: how many are needed.
    Raises ValueError: no faces or too few, faces that are not square or too small, a place or manifest that isn't
    right, a face that is in both splits. Pictures that can't be opened are logged and left out.
    """
    files = _listed(config, split)
    if config.validation is not None:
        other = _listed(config, "validation" if split == "train" else "train")
        _refuse_overlap(files, other, config)
    source = checked(files, image_size, _where(config, split), least)
    logger.info("%s: %d faces for %s", _where(config, split), len(source), split)
    return cached_on_disk(source, config.cache_folder) if config.cache == "disk" else source


def _where(config: DataConfig, split: Split) -> str:
    if split == "validation" and config.validation is not None:
        return config.validation
    return config.manifest or config.faces


def _listed(config: DataConfig, split: Split) -> list[FaceFile]:
    if split == "validation" and config.validation is not None:
        return _listed_place(config.validation, "data.validation")
    if config.manifest is None:
        if split == "validation":
            raise ValueError(
                "there are no validation faces: set data.validation to a folder or shards of their own, or "
                "data.manifest to a CSV that says which rows are val"
            )
        return _listed_place(config.faces, "data.faces")
    manifest = Path(config.manifest)
    rows = read_manifest(manifest, config.split_column)
    _refuse_rows_in_both(rows, manifest)
    chosen = sorted({row.file for row in rows if row.split == split})
    if not chosen:
        raise ValueError(f"{manifest}: column {config.split_column} has no row for {split}")
    if names_shards(config.faces):
        return _members_named(chosen, config.faces, manifest)
    return _files_named(chosen, config.faces, manifest)


def _listed_place(place: str, option: str) -> list[FaceFile]:
    if not place:
        raise ValueError(f"{option} is empty: name a folder of aligned faces, or WebDataset shards (faces-*.tar)")
    if names_shards(place):
        files = list_shards(place)
        refuse_repeated_names(files, place)
        return files
    folder = Path(place)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{option}: {place} {kind}: name a folder of aligned faces, or WebDataset shards (*.tar)")
    return list_folder(folder)


def _files_named(names: list[str], faces: str, manifest: Path) -> list[FaceFile]:
    paths = [manifest.parent / name for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if not path.is_file()]
    if missing:
        raise ValueError(
            f"{manifest}: {len(missing)} of {len(names)} files are missing in {manifest.parent}: "
            f"{shortened(missing)}. Cure: names are relative to the manifest's own folder; put it beside the faces"
        )
    if faces:
        folder = os.path.realpath(faces)
        outside = [
            name
            for name, path in zip(names, paths, strict=True)
            if not os.path.realpath(path).startswith(os.path.join(folder, ""))
        ]
        if outside:
            raise ValueError(
                f"{manifest}: {len(outside)} of {len(names)} files lie outside data.faces {faces}: "
                f"{shortened(outside)}. Cure: set data.faces to {manifest.parent}, or leave it empty"
            )
    return [face_file(path, Path(name).as_posix()) for name, path in zip(names, paths, strict=True)]


def _members_named(names: list[str], faces: str, manifest: Path) -> list[FaceFile]:
    members = list_shards(faces)
    by_name = {member_of(file): file for file in members}
    missing = [name for name in names if name not in by_name]
    if missing:
        example = f", like {next(iter(by_name))!r}" if by_name else ""
        raise ValueError(
            f"{manifest}: {len(missing)} of {len(names)} files are in none of the shards {faces}, which hold "
            f"{len(members)} pictures: {shortened(missing)}. "
            f"Cure: the column file must hold the members' names{example}"
        )
    return sorted((by_name[name] for name in names), key=lambda file: file.name)


def _refuse_rows_in_both(rows: list[Row], manifest: Path) -> None:
    counts = Counter(file for file, _ in {(row.file, row.split) for row in rows})
    both = sorted(file for file, count in counts.items() if count > 1)
    if both:
        raise ValueError(
            f"{manifest}: {len(both)} faces are in train and in val: {shortened(both)}. "
            "Cure: give each face one row; validation on training faces says nothing"
        )


def _refuse_overlap(files: list[FaceFile], other: list[FaceFile], config: DataConfig) -> None:
    taken = {(os.path.realpath(file.path), file.offset) for file in other}
    both = [file.name for file in files if (os.path.realpath(file.path), file.offset) in taken]
    if both:
        places = f"data.faces {config.manifest or config.faces} and data.validation {config.validation}"
        raise ValueError(
            f"{places} share {len(both)} faces: {shortened(both)}. "
            "Cure: folders of which none lies inside the other; validation on training faces says nothing"
        )
