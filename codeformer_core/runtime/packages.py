"""Imports of OpenCV, facexlib, torchvision and spandrel, when they are used, with an error that names the fix.

These are the packages most often missing or broken on a user's machine (several OpenCV wheels on top of each other, a
torchvision built for another torch), so nothing here runs before they are needed.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

# import name -> what to give to pip, where the two differ
_PIP_NAMES = {"cv2": "opencv-python", "PIL": "pillow"}


def import_for_faces(module_name: str) -> ModuleType:
    """Imports `module_name` ("cv2", "facexlib.parsing.parsenet", ...).

    Raises ImportError as `import_package`.
    """
    return import_package(module_name, "working with faces")


def import_package(module_name: str, task: str) -> ModuleType:
    """Imports `module_name`.

    task: what needs it, for messages, such as "working with faces".
    Raises ImportError naming the package that is truly missing or broken (facexlib itself imports cv2, torchvision and
    PIL; neither numba nor filterpy on our paths), and the command that installs it.
    """
    wanted = module_name.partition(".")[0]
    try:
        with warnings.catch_warnings():
            # facexlib and its dependencies warn of their own outdated calls; the user can do nothing about it
            warnings.simplefilter("ignore")
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or wanted).partition(".")[0]
        chain = "" if missing == wanted else f", which {wanted} needs"
        raise ImportError(
            f"{task} needs the package {missing!r}{chain}, and it is not installed. {_fix(missing, str(error))}",
            name=error.name or wanted,
        ) from error
    except Exception as error:
        # A broken install fails in many ways: an absent shared library (ImportError, OSError), another numpy
        # (ImportError, AttributeError), a torchvision for another torch (RuntimeError).
        broken = _deepest_package(error, wanted)
        raise ImportError(
            f"the package {broken!r} is installed but does not import: {type(error).__name__}: {error}. "
            f"{_fix(broken, str(error))}",
            name=broken,
        ) from error
    if module_name == "cv2" and not hasattr(module, "resize"):
        raise ImportError(
            "the package 'cv2' is an empty shell, which remains when two OpenCV packages were installed over "
            "each other and one was removed. Run pip uninstall -y opencv-python opencv-python-headless "
            "opencv-contrib-python opencv-contrib-python-headless, then pip install opencv-python",
            name="cv2",
        )
    return module


def fill_network(module: nn.Module, state_dict: Mapping[str, Tensor], what: str) -> None:
    """Loads published weights into `module`, a leading "module." of the keys taken off.

    Counters of batch norm layers may be absent: files older than torch 0.4.1 have none, and inference does not need
    them.

    what: the network's name, for messages.
    Raises ValueError naming the first missing, unexpected or wrongly shaped keys.
    """
    given = without_module_prefix(state_dict)
    expected = module.state_dict()
    missing = [key for key in expected if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in expected]
    misshaped = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    complaints = [
        f"{kind}: {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshaped))
        if keys
    ]
    if complaints:
        raise ValueError(
            f"these weights do not fit {what} ({'; '.join(complaints)}). "
            f"Give the published file of {what}, complete and unchanged"
        )
    module.load_state_dict(given, strict=False)


def without_module_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state_dict`; their keys lose the "module." that nn.DataParallel leaves in saved
    files."""
    return {key.removeprefix("module."): value for key, value in state_dict.items() if isinstance(value, Tensor)}


def place_of(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where `module` is now and its precision; ask at every call, for a host moves modules as it needs to."""
    parameter = next(module.parameters())
    return parameter.device, parameter.dtype


def _fix(package: str, message: str) -> str:
    if package == "cv2" and "libGL" in message:
        return "Run pip uninstall -y opencv-python, then pip install opencv-python-headless (it needs no display)"
    if package in ("torch", "torchvision"):
        return "Install torch and torchvision as a matching pair, see https://pytorch.org/get-started"
    return f"Run pip install --upgrade {_PIP_NAMES.get(package, package)}"


def _deepest_package(error: Exception, wanted: str) -> str:
    """The package whose import raised: the last of the known ones that the traceback passes through."""
    broken = wanted
    step = error.__traceback__
    while step is not None:
        package = step.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if package in ("cv2", "facexlib", "torchvision", "numpy", "PIL", "tqdm"):
            broken = package
        step = step.tb_next
    return broken
