"""Files that enlarge images, opened by the package spandrel; or what they are instead."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..runtime.packages import import_package
from ..weights.reading import WeightsError
from . import architectures

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

logger = logging.getLogger(__name__)

_FIX = "Choose a super-resolution file, such as RealESRGAN_x2plus.pth"
# What spandrel calls the purposes of networks -> what they do instead. Those for restoration keep an image's size.
_OTHER_PURPOSES = {"FaceSR": "restores faces", "Inpainting": "fills holes"}


def open_upscaler(state: Mapping[str, Tensor], source: str) -> ImageModelDescriptor[nn.Module]:
    """The network of a state dict, on the CPU.

    source: the file, for messages.
    Raises WeightsError saying what the file is instead, ImportError with the fix where spandrel is missing.
    """
    spandrel = import_package("spandrel", f"enlarging images with {source}")
    for architecture in architectures.ARCHITECTURES:
        if architecture.detect(state):
            raise WeightsError(f"{source} is a {architecture.title_of(state)}, which enlarges no images. {_FIX}")
    try:
        found = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError as error:
        keys = ", ".join(sorted(state)[:3])
        raise WeightsError(f"{source} is not a network that spandrel knows (first keys: {keys}). {_FIX}") from error
    except Exception as error:  # spandrel has no common error of its own
        # It lists every single key.
        reason = textwrap.shorten(str(error), 250, placeholder=" ...")
        raise WeightsError(
            f"{source} can't be used, spandrel refuses it: {reason}. The file is incomplete or of another version; "
            "download it again"
        ) from error
    name = found.architecture.name
    if found.purpose in _OTHER_PURPOSES:
        raise WeightsError(f"{source} is a {name}, which {_OTHER_PURPOSES[found.purpose]}. {_FIX}")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise WeightsError(
            f"{source} is a {name} that takes {found.input_channels} channels and gives {found.output_channels}; "
            f"RGB images have 3. {_FIX}"
        )
    return found


def supported_dtype(descriptor: ImageModelDescriptor[nn.Module], wanted: torch.dtype, source: str) -> torch.dtype:
    """`wanted`, or float32 with a warning where the network has no use for it."""
    unsupported = {torch.bfloat16: not descriptor.supports_bfloat16, torch.float16: not descriptor.supports_half}
    if unsupported.get(wanted, False):
        logger.warning("%s can't work in %s; it works in float32", source, str(wanted).removeprefix("torch."))
        return torch.float32
    return wanted
