"""LPIPS with VGG16: how different two images look, for evaluation and as a training loss.

Source: Zhang et al. 2018, arXiv 1801.03924, version 0.1. The package `lpips` has the five linear heads; the VGG16
backbone is a file the user names.
Shape legend: B images, H W height and width.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..weights.reading import WeightsError, read_state_dict
from .kinds import Better, check_pair

# Four poolings halve the image: below 16 pixels the last feature map is empty.
MIN_SIDE = 16
# VGG16's convolutions as torchvision numbers them: number -> channels in and out (Simonyan and Zisserman 2014, D).
_LAYERS = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)},
    **{17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)},
}
FIX = (
    "give torchvision's VGG16 (vgg16-397923af.pth, or the same as .safetensors; its keys begin with features.0.weight)"
)


class PerceptualDistance(nn.Module):
    """LPIPS-VGG: `module(a_B3HW, b_B3HW)` -> distance_B111 >= 0, float32, differentiable in both images.

    Always float32, also under autocast; the weights are frozen, and `train()` leaves the heads' dropout off.

    a_B3HW, b_B3HW: RGB in [-1, 1], normalised to the backbone's range once, in here.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        return super().train(False)

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        if a_B3HW.shape != b_B3HW.shape or a_B3HW.ndim != 4 or min(a_B3HW.shape[2:]) < MIN_SIDE:
            raise ValueError(
                f"LPIPS needs two batches of one shape (n, 3, {MIN_SIDE} or more, {MIN_SIDE} or more), "
                f"got {tuple(a_B3HW.shape)} and {tuple(b_B3HW.shape)}"
            )
        with torch.autocast(a_B3HW.device.type, enabled=False):
            return self.network(a_B3HW.float(), b_B3HW.float())


def load_lpips(backbone_file: str | os.PathLike[str], device: torch.device | str = "cpu") -> PerceptualDistance:
    """LPIPS-VGG on `device`.

    Nothing is downloaded, and torch's random state stays as it was.

    backbone_file: .pth or .safetensors in torchvision's vgg16 layout.
    Raises WeightsError naming the file and its first missing or misshapen keys; ImportError when the package `lpips` is
    not there.
    """
    from lpips.lpips import LPIPS

    backbone = _read_backbone(Path(backbone_file))
    # The constructor draws a random backbone, which is overwritten below; a training run's own draws must not move.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torchvision's remark about the way lpips asks it for the layers
        warnings.simplefilter("ignore")
        network = LPIPS(pretrained=True, net="vgg", version="0.1", pnet_rand=True, verbose=False)
    with torch.no_grad():
        # slice2.5.weight is features.5.weight: the slices keep torchvision's layer numbers.
        for name, parameter in network.get_submodule("net").named_parameters():
            parameter.copy_(backbone["features." + name.partition(".")[2]])
    return PerceptualDistance(network).to(device)


def _read_backbone(path: Path) -> dict[str, Tensor]:
    """features.N.weight and .bias of VGG16; other keys, the classifier's, are left out."""
    state = read_state_dict(path)
    wanted = {f"features.{layer}.weight": (after, before, 3, 3) for layer, (before, after) in _LAYERS.items()}
    wanted |= {f"features.{layer}.bias": (after,) for layer, (_, after) in _LAYERS.items()}
    missing = [key for key in wanted if key not in state]
    misshapen = [key for key in wanted if key in state and tuple(state[key].shape) != wanted[key]]
    if missing or misshapen:
        what = f"lacks {_first(missing)}" if missing else f"has other shapes in {_first(misshapen)}"
        found = ", ".join(list(state)[:3])
        raise WeightsError(f"{path} is not a VGG16 backbone: it {what}; its first keys are {found}; {FIX}")
    for key in wanted:
        if not torch.isfinite(state[key]).all():
            raise WeightsError(f"{path}: {key} holds values that are NaN or infinite; get the file again")
    return {key: state[key] for key in wanted}


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


class Lpips:
    """LPIPS-VGG as a metric of restored against clean faces."""

    name = "LPIPS"
    better: Better = "lower"

    def __init__(self, backbone_file: str | os.PathLike[str], device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._distance = load_lpips(backbone_file, self._device)

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        restored_B3HW, clean_B3HW = (faces.to(self._device) * 2 - 1 for faces in (restored_B3HW, clean_B3HW))
        return self._distance(restored_B3HW, clean_B3HW).flatten().cpu().double()
