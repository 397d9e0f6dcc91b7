"""From a data config to the faces of a split: which files they are, checked before anything runs."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable
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
from .shards import list_shards, member_of, names_shards, normal_name

logger = logging.getLogger(__name__)

Split = Literal["train", "validation"]


def open_faces(config: DataConfig, split: Split, image_size: int, least: int = 1) -> FaceSource:
    """The faces of one split, sorted by name, at image_size; larger files are reduced by area averaging when read.

    With cache "disk" they are decoded now, which takes a while the first time.

    least: how many are needed.
    Raises ValueError: no faces or too few, faces that are not square or too small, a place or manifest that isn't
    right, a face that is in both splits. Images that can't be opened are logged and left out.
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
    in_shards = names_shards(config.faces)
    chosen = _chosen(rows, split, manifest, normal_name if in_shards else _file_itself(manifest.parent))
    if not chosen:
        raise ValueError(f"{manifest}: column {config.split_column} has no row for {split}")
    if in_shards:
        return _members_named([normal_name(name) for name in chosen], config.faces, manifest)
    return _files_named(chosen, config.faces, manifest)


def _file_itself(folder: Path) -> Callable[[str], str]:
    return lambda name: os.path.normcase(os.path.realpath(folder / name))


def _chosen(rows: list[Row], split: Split, manifest: Path, itself: Callable[[str], str]) -> list[str]:
    """The names of a split's faces, sorted; a face with two spellings once, by the first of them.

    itself: name -> what two names of one face have in common.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        face = itself(row.file)
        spellings[face].add(row.file)
        splits[face].add(row.split)
    both = sorted(min(spellings[face]) for face, found in splits.items() if len(found) > 1)
    if both:
        raise ValueError(
            f"{manifest}: {len(both)} faces are in train and in val: {shortened(both)}. "
            "Give each face one row; validation on training faces says nothing"
        )
    return sorted(min(spellings[face]) for face, found in splits.items() if split in found)


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
            f"{shortened(missing)}. Names are relative to the manifest's own folder; put it beside the faces"
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
                f"{shortened(outside)}. Set data.faces to {manifest.parent}, or leave it empty"
            )
    return [face_file(path, Path(name).as_posix()) for name, path in zip(names, paths, strict=True)]


def _members_named(names: list[str], faces: str, manifest: Path) -> list[FaceFile]:
    members = list_shards(faces)
    by_name = {member_of(file): file for file in members}
    counts = Counter(member_of(file) for file in members)
    if twice := [name for name in names if counts[name] > 1]:
        raise ValueError(
            f"{manifest}: {len(twice)} of {len(names)} files are in the shards {faces} more than once: "
            f"{shortened(twice)}. Give each member a name of its own"
        )
    missing = [name for name in names if name not in by_name]
    if missing:
        example = f", like {next(iter(by_name))!r}" if by_name else ""
        raise ValueError(
            f"{manifest}: {len(missing)} of {len(names)} files are in none of the shards {faces}, which hold "
            f"{len(members)} images: {shortened(missing)}. "
            f"The column file must hold the members' names{example}"
        )
    return sorted((by_name[name] for name in names), key=lambda file: file.name)


def _refuse_overlap(files: list[FaceFile], other: list[FaceFile], config: DataConfig) -> None:
    taken = {(os.path.realpath(file.path), file.offset) for file in other}
    both = [file.name for file in files if (os.path.realpath(file.path), file.offset) in taken]
    if both:
        places = f"data.faces {config.manifest or config.faces} and data.validation {config.validation}"
        raise ValueError(
            f"{places} share {len(both)} faces: {shortened(both)}. "
            "Name folders of which none lies inside the other; validation on training faces says nothing"
        )
