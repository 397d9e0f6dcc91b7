"""The model library of this host, and what dropdowns and messages add for its users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import codeformer_core as core
from .host import HOST

LIBRARY = core.ModelLibrary(HOST, how_to_fetch=lambda choice, _entry: f"choose {choice + core.DOWNLOAD!r}")

MODEL_TOOLTIP = (
    "A face restorer from models/facerestore_models, models/codeformer or models/gfpgan: CodeFormer, VQFR, DFDNet, "
    "GFPGAN or RestoreFormer; what is in a file decides, not its name. auto: codeformer.pth, else the best of the "
    "others that is there, at last the small starter that comes with the pack; the report says which, and nothing is "
    "downloaded for it. An entry with (download) is fetched when the node runs, with its hash checked where one is "
    f"known, and stays valid afterwards. Fidelity does nothing with {core.restorers_without_fidelity()}. "
    f"Licence of {core.restorer_licences()}."
)
DETECTOR_TOOLTIP = (
    "Finds the faces. RetinaFace resnet50 finds the most and places them best (110 MB), mobile0.25 is small and quick, "
    "the starter detector and YuNet come with the pack and need no download. auto: the best of them whose file is "
    "here, in the order of this list. Licences: RetinaFace MIT, starter detector and YuNet Apache-2.0."
)
PARSER_TOOLTIP = (
    "Finds the shape and the parts of a face for the paste mask (Face Restore, mask: face and regions). parsenet sees "
    "hair, ears and neck, too (85 MB). face_mesh comes with the pack: 468 landmarks from forehead to chin. auto: "
    "parsenet if its file parsing_parsenet.pth is in models/facedetection, otherwise face_mesh. Licences: parsenet MIT "
    "(facexlib), but its network comes from PSFRGAN, whose own licence is CC BY-NC-SA 4.0; face_mesh Apache-2.0."
)


def or_auto(choices: Sequence[str]) -> list[str]:
    return [core.AUTO, *choices]


class Offered(list[str]):
    """Choices of a dropdown that `validate_inputs` doesn't name: the host refuses what is not in them.

    So everything is in them that stands for a file: a workflow keeps names that this machine lists in another way.
    """

    def __init__(self, choices: Iterable[str] = (), kind: core.ModelKind | None = None) -> None:
        """kind: None in the copies that the host makes to show them."""
        super().__init__(choices)
        self.kind = kind

    def __contains__(self, choice: object) -> bool:
        if super().__contains__(choice):
            return True
        return self.kind is not None and isinstance(choice, str) and not LIBRARY.problem(choice, self.kind)


def verdict(*chosen: tuple[str | None, core.ModelKind]) -> bool | str:
    """For validate_inputs: True, or what is wrong. A choice is None for an input that another node feeds."""
    problems = [LIBRARY.problem(choice, kind) for choice, kind in chosen if choice is not None]
    return "; ".join(filter(None, problems)) or True


def state(choice: str | None, kind: core.ModelKind) -> core.Fingerprint | None:
    """For fingerprint_inputs: what changes when another file would be loaded; None as for `verdict`."""
    return None if choice is None else LIBRARY.fingerprint(choice, kind)
