"""What a painter is told it did wrong: in colours, in holes, in whole faces.

Shape legend: B faces, S side of a face, s half of it; RGB in [-1, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from codeformer_core.networks.discriminator import Discriminator, DiscriminatorConfig
from codeformer_core.networks.painter import Painter, PainterConfig, half_sized, luma
from codeformer_core.training.losses.adversarial import discriminator_loss, generator_loss
from codeformer_core.training.losses.identity import load_identity_loss
from codeformer_core.training.losses.perceptual import choose_perceptual

from .damage import damaged
from .faces import grown, holes, some_gray, without_colours

JUDGE_RATE = 2e-4
# Side of what is judged of a whole face: its pixels, not their means.
CUT = 256


class Judge:
    """A discriminator that learns while it judges."""

    def __init__(self) -> None:
        self.network = Discriminator(DiscriminatorConfig(24, 3, "group"))
        self.optimizer = torch.optim.Adam(self.network.parameters(), JUDGE_RATE, betas=(0.5, 0.99))

    def __call__(self, made_B3HW: Tensor, true_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """(how well it told them apart, how far each made one is from passing as true: one number for each face)."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            told = discriminator_loss(self.network(true_B3HW), self.network(made_B3HW.detach()))
            self.optimizer.zero_grad()
            told.backward()
            self.optimizer.step()
            scores = self.network(made_B3HW)
        return told, torch.stack([generator_loss(score) for score in scores.float()])


class Task(ABC):
    """One task: its painter's sizes, its faces, its loss.

    full_size: whether it learns from faces of full size, else of half.
    coloured: whether gray faces are left out.
    """

    config: PainterConfig
    full_size = False
    coloured = False

    def __init__(self) -> None:
        self.told: dict[str, float] = {}
        self.judges: list[Judge] = []

    @abstractmethod
    def loss(self, painter: Painter, faces: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        """adversarial: whether the judges have a say yet; before, they would only see blur."""

    @abstractmethod
    def shown(self, painter: Painter, faces: Tensor) -> tuple[Tensor, Tensor]:
        """What the painter sees of these faces, and what it makes of that."""

    def tell(self, **values: Tensor) -> None:
        for name, value in values.items():
            before = self.told.get(name, float(value.detach()))
            self.told[name] = 0.98 * before + 0.02 * float(value.detach())


class Colours(Task):
    config = PainterConfig(patch=4, widths=(48, 96, 160, 256))
    coloured = True
    weight = 10

    def loss(self, painter: Painter, faces: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        gray_B1ss, light_B1ss = without_colours(faces, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            painted_B3ss = painter(gray_B1ss.expand(-1, 3, -1, -1), torch.zeros_like(gray_B1ss)).float()
        wanted_B3ss = light_B1ss * (faces - luma(faces))
        loss = (painted_B3ss - luma(painted_B3ss) - wanted_B3ss).abs().mean()
        self.tell(chroma=loss, of_gray=wanted_B3ss.abs().mean())
        return self.weight * loss

    def shown(self, painter: Painter, faces: Tensor) -> tuple[Tensor, Tensor]:
        gray_B1ss = luma(faces)
        gray_B3ss = gray_B1ss.expand(-1, 3, -1, -1)
        painted_B3ss = painter(gray_B3ss, torch.zeros_like(gray_B1ss))
        return gray_B3ss, gray_B1ss + painted_B3ss - luma(painted_B3ss)


class Holes(Task):
    config = PainterConfig(patch=2, widths=(24, 48, 96, 160, 224))
    perceptual_weight, adversarial_weight = 1.2, 0.02

    def __init__(self) -> None:
        super().__init__()
        self.judges = [Judge()]
        self.perceptual = choose_perceptual(None, torch.device("cpu")).measure

    def loss(self, painter: Painter, faces: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        faces = some_gray(faces, generator)
        holes_B1ss = holes(len(faces), generator).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            painted_B3ss = painter(faces, holes_B1ss).float()
        # A painter that is right beside a hole leaves no rim.
        near_B1ss = grown(holes_B1ss, 6)
        wrong_B3ss = (painted_B3ss - faces).abs()
        pixel = (wrong_B3ss * near_B1ss).sum() / (3 * near_B1ss.sum()).clamp_min(1)
        filled_B3ss = torch.where(holes_B1ss > 0, painted_B3ss, faces)
        perceptual = self.perceptual(filled_B3ss, faces)
        self.tell(pixel=pixel, perceptual=perceptual)
        loss = 2 * pixel + 0.1 * wrong_B3ss.mean() + self.perceptual_weight * perceptual
        if adversarial:
            told, missing_B = self.judges[0](filled_B3ss, faces)
            self.tell(judged=told, missing=missing_B.mean())
            loss = loss + self.adversarial_weight * missing_B.mean()
        return loss

    def shown(self, painter: Painter, faces: Tensor) -> tuple[Tensor, Tensor]:
        holes_B1ss = holes(len(faces), torch.Generator().manual_seed(1))
        made_B3ss = torch.where(holes_B1ss, painter(faces, holes_B1ss.float()), faces)
        return torch.where(holes_B1ss, torch.ones_like(faces), faces), made_B3ss


class Faces(Task):
    """Restoring: the more fidelity is asked for, the more a pixel counts and the less what only looks true."""

    config = PainterConfig(patch=4, widths=(64, 96, 160, 224, 256))
    full_size = True
    pixel_weight, perceptual_weight, identity_weight, adversarial_weight = 2.0, 1.0, 0.25, 0.015

    def __init__(self) -> None:
        super().__init__()
        # One for the face at half its side, one for pixels.
        self.judges = [Judge(), Judge()]
        self.perceptual = choose_perceptual(None, torch.device("cpu")).measure
        self.identity = load_identity_loss(squared=False)

    def loss(self, painter: Painter, faces: Tensor, adversarial: bool, generator: torch.Generator) -> Tensor:
        seen_B3SS = damaged(faces, generator)
        fidelity_B = torch.rand(len(faces), generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made_B3SS = painter.restore(seen_B3SS, fidelity_B)
        pixel_B = (made_B3SS - faces).abs().mean((1, 2, 3))
        half_B3ss, true_B3ss = half_sized(made_B3SS), half_sized(faces)
        perceptual = self.perceptual(half_B3ss, true_B3ss)
        identity = self.identity(half_B3ss, true_B3ss)
        self.tell(pixel=pixel_B.mean(), perceptual=perceptual, identity=identity)
        pixel = self.pixel_weight * (pixel_B * (0.5 + fidelity_B)).mean()
        loss = pixel + self.perceptual_weight * perceptual + self.identity_weight * identity
        if adversarial:
            top, left = torch.randint(faces.shape[-1] - CUT, (2,), generator=generator).tolist()
            cut = (..., slice(top, top + CUT), slice(left, left + CUT))
            told_half, half_B = self.judges[0](half_B3ss, true_B3ss)
            told_cut, cut_B = self.judges[1](made_B3SS[cut], faces[cut])
            self.tell(judged=told_half, judged_pixels=told_cut, missing=half_B.mean(), missing_pixels=cut_B.mean())
            loss = loss + self.adversarial_weight * ((half_B + cut_B) * (1.5 - fidelity_B)).mean()
        return loss

    def shown(self, painter: Painter, faces: Tensor) -> tuple[Tensor, Tensor]:
        seen_B3SS = damaged(faces, torch.Generator().manual_seed(1))
        return seen_B3SS, painter.restore(seen_B3SS, torch.full((len(faces),), 0.5))


TASKS: dict[str, type[Task]] = {"colorization": Colours, "inpainting": Holes, "restoration": Faces}


def parts_of(task: Task) -> list[nn.Module | torch.optim.Optimizer]:
    """What has to be saved of a task to continue it."""
    return [part for judge in task.judges for part in (judge.network, judge.optimizer)]
