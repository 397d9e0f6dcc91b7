"""What every stage is to the engine.

Shape legend: B faces, H W their side, T tokens, D channels of a code; images are RGB in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...networks.vqgan import VQAutoencoder, VQNetwork

# The losses of images; the adversarial one is weighed against their sum.
IMAGE_TERMS = ("pixel", "perceptual", "identity", "pixel_before_path")


@dataclass(frozen=True)
class Faces:
    """A batch as networks see it.

    degraded_B3HW: None for the autoencoder.
    codes_BT: None where they were not precomputed.
    fidelity: None for codes only.
    task: what they teach, None for the autoencoder.
    """

    clean_B3HW: Tensor
    degraded_B3HW: Tensor | None
    codes_BT: Tensor | None
    fidelity: float | None
    task: str | None = None


@dataclass(frozen=True)
class Output:
    """What a stage makes of a batch.

    terms: losses by the names of `LossWeights`, not yet weighed.
    made_B3HW: the image, where one was made.
    predicted_BT: the codes used.
    codes_BT: the right ones (the same thing for the autoencoder; None: not needed).
    """

    terms: dict[str, Tensor]
    made_B3HW: Tensor | None
    predicted_BT: Tensor
    codes_BT: Tensor | None
    latent_BDHW: Tensor


class Stage(nn.Module):
    """A network and what is needed beside it. `forward(faces)` gives an Output.

    teacher: None for stage I.
    """

    network: VQNetwork
    teacher: Teacher | None

    @property
    def last_layer(self) -> Tensor:
        """The weight at which image and adversarial losses are weighed against each other."""
        raise NotImplementedError


class Teacher(nn.Module):
    """The trained autoencoder of stage I: what it makes of a clean face is what the others learn."""

    def __init__(self, network: VQAutoencoder) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def codes(self, clean_B3HW: Tensor) -> Tensor:
        """codes_BT int64.

        Always in float32 (TF32 would depend on the batch), so that codes computed beforehand are the same.
        """
        cudnn = torch.backends.cudnn
        exactly = cudnn.flags(enabled=True, benchmark=False, deterministic=cudnn.deterministic, allow_tf32=False)
        with torch.autocast(clean_B3HW.device.type, enabled=False), exactly:
            return self.network.quantize(self.network.encode(clean_B3HW.float()))
