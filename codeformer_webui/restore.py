"""The face restorer behind the host's "Restore faces"."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import host, images, settings, work
from .options import FAILED_KEY, NAME, Wanted

OWN_CODEFORMER = "CodeFormer"


class FaceRestorer(host.FaceRestoration):
    """overrides: values in place of the settings' for the run that goes on, see `axis`."""

    def __init__(self) -> None:
        self.overrides: dict[str, Any] = {}
        self._infotext: dict[str, Any] = {}

    def name(self) -> str:
        return NAME

    def restore(self, np_image: np.ndarray) -> np.ndarray:
        """image_HWC uint8 RGB in and out. What fails is logged, and the image comes back as it was: it is a generated
        one, which an error here would lose."""
        try:
            return self._restored(np_image, settings.wanted().with_values(self.overrides))
        except Exception as error:  # noqa: BLE001  # whatever it is, the picture is kept
            host.log_error(f"{NAME}: the faces were not restored")
            self._infotext = {FAILED_KEY: reason(error)}
            return np_image

    def take_infotext(self) -> dict[str, Any]:
        """What is to be told of the last image, once; the FAILED_KEY where nothing was done."""
        taken, self._infotext = self._infotext, {}
        return taken

    def _restored(self, np_image: np.ndarray, wanted: Wanted) -> np.ndarray:
        done = work.restore(images.array_to_tensor(np_image), wanted)
        self._infotext = done.infotext
        return images.to_array(done.image_1HWC)


class Replacement(FaceRestorer):
    """In the place of the host's CodeFormer, whose name it has."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original

    def name(self) -> str:
        return OWN_CODEFORMER

    def restore(self, np_image: np.ndarray, w: float | None = None) -> np.ndarray:
        """w: the fidelity that the host's Extras ask for. They lose nothing by an error, so that they get it."""
        if w is None:
            return super().restore(np_image)
        return self._restored(np_image, settings.wanted().with_values({"fidelity": float(w)}))


RESTORER = FaceRestorer()


def register() -> None:
    """Lists our restorer, once; and puts it in the place of the host's own where the user wants that."""
    listed = host.face_restorers()
    if listed is None:
        return
    listed[:] = [each for each in listed if each.name() != NAME]
    listed.append(RESTORER)
    takes_over = settings.get("take_over", False)
    for place, each in enumerate(listed):
        if takes_over and each.name() == OWN_CODEFORMER and not hasattr(each, "original"):
            listed[place] = Replacement(each)
        elif not takes_over and hasattr(each, "original"):
            listed[place] = each.original
    _tell_extras(listed)


def unregister() -> None:
    """Before a reload, which may come without us: the host keeps its list."""
    listed = host.face_restorers()
    if listed is not None:
        listed[:] = [getattr(each, "original", each) for each in listed if each.name() != NAME]
        _tell_extras(listed)


def _tell_extras(listed: list[Any]) -> None:
    """The host's own Extras use the CodeFormer that this module of theirs holds."""
    theirs = host.own_codeformer()
    if theirs is not None:
        theirs.codeformer = next((each for each in listed if each.name() == OWN_CODEFORMER), None)


def is_chosen() -> bool:
    """Whether "Restore faces" means us."""
    return chosen() is not None


def chosen() -> FaceRestorer | None:
    """Our restorer that "Restore faces" runs, under its own name or the host's."""
    name = host.setting("face_restoration_model", None)
    ours = [each for each in host.face_restorers() or [] if hasattr(each, "take_infotext")]
    return next((each for each in ours if each.name() == name), None)


def reason(error: BaseException) -> str:
    """One line for an infotext."""
    text = " ".join(host.without_base(str(error)).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
