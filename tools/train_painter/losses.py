"""The losses of each painter task.

Shape legend: B faces, s half of a face's side; RGB in [-1, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from codeformer_core.networks.discriminator import Discriminator, DiscriminatorConfig
from codeformer_core.networks.painter import Painter, PainterConfig, luma
from codeformer_core.training.losses.adversarial import discriminator_loss, generator_loss
from codeformer_core.training.losses.identity import load_identity_loss
from codeformer_core.training.losses.perceptual import choose_perceptual

from .faces import damaged, grown, holes, some_gray, without_colours

DISCRIMINATOR_RATE = 2e-4


class OnlineDiscriminator:
    """A discriminator that takes a training step on every batch it scores."""

    def __init__(self) -> None:
        self.network = Discriminator(DiscriminatorConfig(24, 3, "group"))
        self.optimizer = torch.optim.Adam(self.network.parameters(), DISCRIMINATOR_RATE, betas=(0.5, 0.99))

    def __call__(self, made_B3ss: Tensor, true_B3ss: Tensor) -> tuple[Tensor, Tensor]:
        """(the discriminator's own loss, the adversarial loss of `made_B3ss`)."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            own = discriminator_loss(self.network(true_B3ss), self.network(made_B3ss.detach()))
            self.optimizer.zero_grad()
            own.backward()
            self.optimizer.step()
            return own, generator_loss(self.network(made_B3ss))


class Task(ABC):
    """One task: the painter's sizes, which faces it uses, and its loss.

    coloured: whether gray faces are left out.
    """

    config: PainterConfig
    coloured = False

    def __init__(self) -> None:
        self.recorded: dict[str, float] = {}
        self.discriminators: list[OnlineDiscriminator] = []

    @abstractmethod
    def loss(self, painter: Painter, faces_B3ss: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        """adversarial: whether the adversarial loss is on; early in training it would only see blur."""

    @abstractmethod
    def shown(self, painter: Painter, faces_B3ss: Tensor) -> tuple[Tensor, Tensor]:
        """(the painter's input, its output) for these faces, for the pictures beside the checkpoint."""

    def record(self, **values: Tensor) -> None:
        for name, value in values.items():
            before = self.recorded.get(name, float(value.detach()))
            self.recorded[name] = 0.98 * before + 0.02 * float(value.detach())


class Colours(Task):
    config = PainterConfig(patch=4, widths=(48, 96, 160, 256))
    coloured = True
    weight = 10

    def loss(self, painter: Painter, faces_B3ss: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        gray_B1ss, light_B1ss = without_colours(faces_B3ss, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            painted_B3ss = painter(gray_B1ss.expand(-1, 3, -1, -1), torch.zeros_like(gray_B1ss)).float()
        wanted_B3ss = light_B1ss * (faces_B3ss - luma(faces_B3ss))
        loss = (painted_B3ss - luma(painted_B3ss) - wanted_B3ss).abs().mean()
        self.record(chroma=loss, of_gray=wanted_B3ss.abs().mean())
        return self.weight * loss

    def shown(self, painter: Painter, faces_B3ss: Tensor) -> tuple[Tensor, Tensor]:
        gray_B1ss = luma(faces_B3ss)
        gray_B3ss = gray_B1ss.expand(-1, 3, -1, -1)
        painted_B3ss = painter(gray_B3ss, torch.zeros_like(gray_B1ss))
        return gray_B3ss, gray_B1ss + painted_B3ss - luma(painted_B3ss)


class Holes(Task):
    config = PainterConfig(patch=2, widths=(24, 48, 96, 160, 224))
    perceptual_weight, adversarial_weight = 1.2, 0.02

    def __init__(self) -> None:
        super().__init__()
        self.discriminators = [OnlineDiscriminator()]
        self.perceptual = choose_perceptual(None, torch.device("cpu")).measure

    def loss(self, painter: Painter, faces_B3ss: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        faces_B3ss = some_gray(faces_B3ss, generator)
        holes_B1ss = holes(len(faces_B3ss), generator).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            painted_B3ss = painter(faces_B3ss, holes_B1ss).float()
        # A painter that is right beside a hole leaves no rim.
        near_B1ss = grown(holes_B1ss, 6)
        wrong_B3ss = (painted_B3ss - faces_B3ss).abs()
        pixel = (wrong_B3ss * near_B1ss).sum() / (3 * near_B1ss.sum()).clamp_min(1)
        filled_B3ss = torch.where(holes_B1ss > 0, painted_B3ss, faces_B3ss)
        perceptual = self.perceptual(filled_B3ss, faces_B3ss)
        self.record(pixel=pixel, perceptual=perceptual)
        loss = 2 * pixel + 0.1 * wrong_B3ss.mean() + self.perceptual_weight * perceptual
        if adversarial:
            own, adversarial_loss = self.discriminators[0](filled_B3ss, faces_B3ss)
            self.record(discriminator=own, adversarial=adversarial_loss)
            loss = loss + self.adversarial_weight * adversarial_loss
        return loss

    def shown(self, painter: Painter, faces_B3ss: Tensor) -> tuple[Tensor, Tensor]:
        holes_B1ss = holes(len(faces_B3ss), torch.Generator().manual_seed(1))
        made_B3ss = torch.where(holes_B1ss, painter(faces_B3ss, holes_B1ss.float()), faces_B3ss)
        return torch.where(holes_B1ss, torch.ones_like(faces_B3ss), faces_B3ss), made_B3ss


class Damage(Task):
    """Damage and holes, alone and together: what is painted is the face as it was. Learns inpainting, too."""

    config = PainterConfig(patch=2, widths=(24, 48, 96, 160, 224))
    # With 0.04 of the last, eyes came out dotted in the squares of a patch.
    perceptual_weight, identity_weight, adversarial_weight = 1.5, 1.5, 0.01
    # Of the faces: those with holes, and of these the otherwise clean ones.
    hole_share, clean_share = 0.45, 0.7

    def __init__(self) -> None:
        super().__init__()
        self.discriminators = [OnlineDiscriminator()]
        self.perceptual = choose_perceptual(None, torch.device("cpu")).measure
        self.identity = load_identity_loss()

    def loss(self, painter: Painter, faces_B3ss: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        count = len(faces_B3ss)
        faces_B3ss = some_gray(faces_B3ss, generator)
        with_hole_B111 = torch.rand((count, 1, 1, 1), generator=generator) < self.hole_share
        clean_B111 = with_hole_B111 & (torch.rand((count, 1, 1, 1), generator=generator) < self.clean_share)
        holes_B1ss = (holes(count, generator) & with_hole_B111).float()
        seen_B3ss = torch.where(clean_B111, faces_B3ss, damaged(faces_B3ss, generator))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            painted_B3ss = painter(seen_B3ss, holes_B1ss).float()
        wrong_B3ss = (painted_B3ss - faces_B3ss).abs()
        pixel = wrong_B3ss.mean()
        near_B1ss = grown(holes_B1ss, 6)
        in_holes = (wrong_B3ss * near_B1ss).sum() / (3 * near_B1ss.sum()).clamp_min(1)
        # Of a clean face only what lies in holes is used.
        made_B3ss = torch.where(clean_B111 & (holes_B1ss == 0), faces_B3ss, painted_B3ss)
        perceptual = self.perceptual(made_B3ss, faces_B3ss)
        identity = self.identity(made_B3ss, faces_B3ss)
        self.record(pixel=pixel, in_holes=in_holes, perceptual=perceptual, identity=identity)
        loss = 2 * pixel + 0.5 * in_holes + self.perceptual_weight * perceptual + self.identity_weight * identity
        if adversarial:
            own, adversarial_loss = self.discriminators[0](made_B3ss, faces_B3ss)
            self.record(discriminator=own, adversarial=adversarial_loss)
            loss = loss + self.adversarial_weight * adversarial_loss
        return loss

    def shown(self, painter: Painter, faces_B3ss: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        seen_B3ss = damaged(faces_B3ss, generator)
        with_hole_B111 = (torch.arange(len(faces_B3ss)) % 3 == 0)[:, None, None, None]
        holes_B1ss = (holes(len(faces_B3ss), generator) & with_hole_B111).float()
        return torch.where(holes_B1ss > 0, torch.ones_like(seen_B3ss), seen_B3ss), painter(seen_B3ss, holes_B1ss)


TASKS: dict[str, type[Task]] = {"colorization": Colours, "inpainting": Holes, "restoration": Damage}


def parts_of(task: Task) -> list[nn.Module | torch.optim.Optimizer]:
    """The modules and optimizers that a checkpoint stores for the task."""
    return [part for one in task.discriminators for part in (one.network, one.optimizer)]
