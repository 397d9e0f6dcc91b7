"""A loaded DFDNet with a dictionary of given faces, written as a file that loads as any other.

Shape legend: B images, H W height and width, C channels.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..faces.events import Event
from ..models.dfdnet.weights import with_dictionary
from ..models.managed import ManagedRestorer
from ..models.saving import SavedModel, saved
from ..runtime.progress import OnProgress
from ..weights.safetensors_cache import write_safetensors
from .build import build_dictionary
from .extractor import from_restorer
from .faces import BatchFaces
from .options import DictionaryOptions
from .sheet import draw_sheet
from .spool import FACES_AT_ONCE


@dataclass(frozen=True, eq=False)
class Renewed:
    """A DFDNet with a new dictionary.

    model: the file.
    sheet_HW3: RGB [0, 1], the atoms' nearest faces.
    events: what it was made of, and the file.
    """

    model: SavedModel
    sheet_HW3: Tensor
    events: tuple[Event, ...]


@torch.no_grad()
def renew_dictionary(
    managed: ManagedRestorer,
    images_BHWC: Tensor,
    path: Path,
    *,
    options: DictionaryOptions,
    scratch: Path,
    on_progress: OnProgress,
) -> Renewed:
    """Build a dictionary from aligned faces, and write the network with it as `path`, which is replaced if it is there.

    managed: a DFDNet that a host holds.
    images_BHWC: floats [0, 1], square, any size.
    scratch: a folder for the features, 3.1 MB a face at the published sizes; all is removed again, after an error too.
    Raises ValueError for another model and for fewer faces than atoms, and what `build_dictionary` does.
    """
    restorer = managed.restorer
    extractor = from_restorer(restorer, lambda: managed.loaded(FACES_AT_ONCE).device)
    faces = BatchFaces(images_BHWC)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as work:
        built = build_dictionary(faces, extractor, options, Path(work), on_progress)
        state = {key: tensor.detach().cpu() for key, tensor in restorer.module.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(with_dictionary(state, built.dictionary), path, {"layout": "ours", **built.metadata})
        sheet_HW3 = draw_sheet(faces, extractor, built.nearest)
        atoms = Event("atoms", values={"count": options.atoms, "seed": options.seed})
        events = (atoms, *built.events(extractor.config.image_size))
    model = saved(path)
    return Renewed(model, sheet_HW3, (*events, *model.events))
