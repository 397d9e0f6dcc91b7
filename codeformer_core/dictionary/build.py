"""From aligned faces to the 16 dictionaries, in a work folder in which an interrupted build continues.

Shape legend: K atoms, C channels, n side of an atom.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ..faces.events import Event
from ..models.dfdnet.names import DICTIONARIES, Dictionary
from ..networks.dfdnet import PARTS
from ..runtime.atomic import replaced, write_whole
from ..runtime.foreign import is_object
from ..runtime.progress import OnProgress
from ..weights.safetensors_cache import separate, write_safetensors
from .clusters import cluster, require_scikit_learn
from .extractor import Extractor
from .faces import AlignedFaces
from .options import DictionaryOptions
from .spool import Counted, SpoiledWork, Spool

CLUSTERING = "clustering faces"
# The entry in a file's header.
ENTRY = "dfdnet_dictionary"
FORMAT = 1
_PLAN = "plan.json"


@dataclass(frozen=True, eq=False)
class Built:
    """A finished build.

    dictionary: atoms_KCnn, float32, by their published names; mapped from files in the work folder, so write them
    before that is removed.
    nearest: part -> of each atom of its finest scale, the face most like it.
    metadata: for the header.
    """

    dictionary: dict[str, Tensor]
    nearest: dict[str, list[int]]
    counted: Counted
    metadata: dict[str, str]

    def events(self, side: int) -> list[Event]:
        """What happened to the faces.

        side: of a face in the network, pixels.
        """
        counted = self.counted
        events = [Event("faces_used", values={"count": len(counted.kept)})]
        if counted.left_out:
            left_out = {"count": len(counted.left_out), "first": counted.left_out[0]}
            events.append(Event("images_left_out", values=left_out))
        if counted.reduced:
            events.append(Event("faces_reduced", values={"count": counted.reduced, "size": side}))
        if counted.enlarged:
            events.append(Event("faces_enlarged", values={"count": counted.enlarged, "size": side}))
        return events


def build_dictionary(
    faces: AlignedFaces, extractor: Extractor, options: DictionaryOptions, work: Path, on_progress: OnProgress
) -> Built:
    """Build the 16 dictionaries.

    work: a folder for this build alone; made here, to be removed by the caller once the result is written.
    on_progress: may raise to cancel; the same call then continues, to the same numbers.
    Raises ImportError without scikit-learn; ValueError for fewer faces than atoms, and for a work folder with other
    faces or, once clustering began, other options, or with damaged files; OSError when the disk is full.
    """
    require_scikit_learn()
    options.check_faces(len(faces.names))
    plan = {
        "format": FORMAT,
        **asdict(options),
        "pictures": len(faces.names),
        "pictures_hash": faces.fingerprint,
        "vgg_hash": extractor.fingerprint,
        "widths": list(extractor.config.widths),
        "part_sizes": list(extractor.config.part_sizes),
    }
    _open(work, plan)
    spool = Spool(work, extractor)
    _check_disk(work, spool.bytes_needed(len(faces.names), options.atoms))
    counted = spool.fill(faces, on_progress)
    options.check_faces(len(counted.kept), len(counted.left_out))
    total = len(DICTIONARIES) * (options.passes + 1)
    for number, piece in enumerate(DICTIONARIES):
        begun = number * (options.passes + 1)
        if not _result(work, piece).is_file():
            atoms_KD, nearest_K = cluster(
                spool.features_ND(piece, len(counted.kept)),
                options,
                number,
                lambda done, begun=begun: on_progress(CLUSTERING, begun + done, total),
            )
            found = {
                "atoms": torch.from_numpy(atoms_KD).view(-1, *extractor.shape(piece)),
                "nearest": torch.from_numpy(nearest_K),
            }
            write_safetensors(found, _result(work, piece))
        spool.path(piece).unlink(missing_ok=True)
    on_progress(CLUSTERING, total, total)
    return _collected(work, counted, plan)


def write_dictionary(built: Built, path: Path) -> None:
    """The 16 dictionaries as one safetensors file, the same bytes for the same numbers. Raises OSError."""
    import safetensors.torch

    with replaced(path) as temporary:
        try:
            # With one entry in its header, since several would come in any order.
            safetensors.torch.save_file(separate(built.dictionary), temporary, metadata=built.metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path} could not be written as safetensors: {error}") from error


def _open(work: Path, plan: Mapping[str, object]) -> None:
    """Raises ValueError where another build was begun in this folder."""
    is_file = work.is_file()
    if not is_file:
        work.mkdir(parents=True, exist_ok=True)
    path = work / _PLAN
    if not path.is_file():
        if is_file or any(work.iterdir()):
            raise ValueError(f"{work} is there already, and no build was begun in it. Name another output")
        write_whole(path, json.dumps(plan).encode())
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        if not is_object(begun):
            raise ValueError(f"it holds a {type(begun).__name__}")
    except ValueError as error:
        raise SpoiledWork(path, error) from error
    keys = sorted(key for key in begun.keys() | plan.keys() if begun.get(key) != plan.get(key))
    if keys and not any(work.glob("*.safetensors")) and {*keys} <= {field.name for field in fields(DictionaryOptions)}:
        # The faces are measured alike whatever the options, and nothing was clustered yet.
        write_whole(path, json.dumps(plan).encode())
    elif keys:
        differences = ", ".join(f"{key} {begun.get(key)} there and {plan.get(key)} now" for key in keys)
        raise ValueError(
            f"{work} holds an interrupted build with other faces or options ({differences}). Repeat those to go "
            "on with it, or delete the folder to begin anew"
        )


def _check_disk(work: Path, needed: int) -> None:
    """Raises OSError before hours of work that would not fit."""
    needed -= sum(path.stat().st_size for path in work.iterdir())
    free = shutil.disk_usage(work).free
    if free < needed:
        raise OSError(
            f"{work} needs {needed / 1e9:.1f} GB for features and atoms, and the disk has {free / 1e9:.1f} GB free. "
            "Name an output on a larger disk, or take fewer faces or atoms"
        )


def _result(work: Path, piece: Dictionary) -> Path:
    return work / f"{piece.published}.safetensors"


def _collected(work: Path, counted: Counted, plan: Mapping[str, object]) -> Built:
    found = {piece: _read_result(_result(work, piece)) for piece in DICTIONARIES}
    rows: dict[str, list[int]] = {part: found[Dictionary(part, 0)]["nearest"].numpy().tolist() for part in PARTS}
    nearest = {part: [counted.kept[row] for row in rows[part]] for part in PARTS}
    dictionary = {piece.published: tensors["atoms"] for piece, tensors in found.items()}
    metadata = {ENTRY: json.dumps({**plan, "faces": len(counted.kept)})}
    return Built(dictionary, nearest, counted, metadata)


def _read_result(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise SpoiledWork(path, error) from error
