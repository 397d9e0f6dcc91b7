"""A trained network on faces that are degraded here: metrics, code accuracy and images.

Shape legend: B faces, H W their side, 3 colours RGB, T tokens of the latent map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...degradation import Degradation
from ...models.restorer import Restorer
from ...networks.codeformer import CodeFormer, uses_adain
from ...networks.vqgan import VQAutoencoder
from ..data.files import FaceSource
from .choose import Metrics
from .classical import BASELINES, Baseline
from .faces import CleanBatch, clean_batches, degraded, spread, to_unit
from .folders import OnProgress, to_levels
from .measuring import Gatherer
from .results import DEGRADED, RESTORED, CodeAccuracy, Evaluation, Group, Sample, columns_of, means_of

# Codebooks that differ by more than rounding to a half-precision file are not the same.
_SAME_CODEBOOK = 1e-2


def evaluate_model(
    network: CodeFormer | Restorer,
    teacher: VQAutoencoder | None,
    faces: FaceSource,
    degradations: Mapping[str, Degradation],
    fidelities: Sequence[float],
    metrics: Metrics,
    *,
    task: str = "restoration",
    tasks: Mapping[str, str] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 4,
    count: int | None = None,
    samples: int = 8,
    baselines: Sequence[Baseline] = BASELINES,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Every face clean against degraded, filtered without learning, and restored at every fidelity.

    Restored faces are rounded to 8 bits before they are measured, as their files would be.

    network, teacher: on `device`, in float32. A loaded restorer of any architecture is measured at its own task.
    teacher: the stage I autoencoder, for the code accuracy; only with a CodeFormer.
    fidelities: at least one, 0 or more.
    task: "inpainting" restores without adain, all others with it, as published.
    tasks: degradation -> its own task.
    count: so many faces, evenly spread; None: all.
    samples: of so many faces the images are kept.
    baselines: what else is made of the degraded faces, a row each; non-local means take about a second for a face of
    512 pixels.
    Raises ValueError: no faces, no fidelity, faces of another size than the network's, a teacher of another codebook.
    """
    device = torch.device(device)
    fidelities = tuple(dict.fromkeys(fidelities))  # twice the same would count each face twice
    indices = spread(count, len(faces))
    if not indices or not degradations or not fidelities or min(fidelities) < 0:
        raise ValueError(
            f"nothing to evaluate: {len(indices)} faces, {len(degradations)} degradations, fidelities "
            f"{list(fidelities)}; each needs at least one, and fidelities must be 0 or more"
        )
    if teacher is not None:
        if isinstance(network, Restorer):
            raise ValueError(f"{network.name} has no codes that a teacher could judge; leave the teacher out")
        check_teacher(network, teacher)
    shown = {faces.names[indices[place]] for place in spread(samples, len(indices))}
    wanted = {name: (tasks or {}).get(name, task) for name in degradations}
    run = _Run(network, teacher, degradations, fidelities, metrics, wanted, seed, device, shown, tuple(baselines))
    done, total = 0, len(indices) * len(degradations)
    with torch.no_grad():
        for start, batch in enumerate(clean_batches(faces, indices, batch_size)):
            batch_length = len(batch.names) + len(batch.left_out)
            for name in run.measured(batch):
                done += batch_length
                if on_progress is not None:
                    on_progress(done, total, f"{name}, face {start * batch_size + batch_length} of {len(indices)}")
    return run.evaluation()


def check_teacher(network: CodeFormer, teacher: VQAutoencoder) -> None:
    """Raise ValueError unless the teacher's codes are the network's codes."""
    one, other = teacher.config.image_size, network.config.image_size
    if one != other or teacher.config.latent_size != network.config.latent_size:
        raise ValueError(f"the teacher is for faces of {one} pixels and the network for {other}; give its own teacher")
    ours_KD, theirs_KD = network.codebook.weight, teacher.codebook.weight
    if ours_KD.shape != theirs_KD.shape:
        raise ValueError(
            f"the teacher's codebook has {tuple(theirs_KD.shape)} numbers and the network's {tuple(ours_KD.shape)}; "
            "give the stage I file that the network was trained with"
        )
    apart = float((ours_KD - theirs_KD.to(ours_KD)).detach().abs().max())
    if apart > _SAME_CODEBOOK * float(theirs_KD.detach().abs().max()):
        raise ValueError(
            f"the teacher's codebook is another one than the network's (they differ by up to {apart:g}), so its codes "
            "mean something else; give the stage I file that the network was trained with"
        )


class _Run:
    """What is gathered while batch after batch is measured."""

    def __init__(
        self,
        network: CodeFormer | Restorer,
        teacher: VQAutoencoder | None,
        degradations: Mapping[str, Degradation],
        fidelities: tuple[float, ...],
        metrics: Metrics,
        tasks: Mapping[str, str],
        seed: int,
        device: torch.device,
        shown: set[str],
        baselines: tuple[Baseline, ...],
    ) -> None:
        self._network = network
        self._restore, self._size = _ways_of(network)
        self._teacher = None if teacher is None else teacher.eval()
        self._degradations = degradations
        self._fidelities = fidelities
        self._metrics = metrics
        self._tasks = tasks
        self._seed = seed
        self._device = device
        self._shown = shown
        self._baselines = baselines
        self._gatherer = Gatherer(metrics)
        self._samples: list[Sample] = []
        self._left_out: list[str] = []
        # degradation -> tokens right by prediction, right by the nearest code, all
        self._tokens = {name: [0, 0, 0] for name in degradations}

    def measured(self, batch: CleanBatch) -> Iterator[str]:
        """Measures the batch under one degradation after the other; yields the name of the one that is done."""
        self._left_out.extend(batch.left_out)
        size = self._size
        if batch.names and batch.faces_BHW3.shape[1:3] != (size, size):
            raise ValueError(
                f"{batch.names[0]}: faces must be {size}x{size} pixels for this network, "
                f"got {batch.faces_BHW3.shape[2]}x{batch.faces_BHW3.shape[1]}"
            )
        clean_B3HW = to_unit(batch.faces_BHW3, self._device)
        codes_BT = None
        if batch.names:
            self._gatherer.add_clean(clean_B3HW)
            if self._teacher is not None:
                codes_BT = self._teacher.quantize(self._teacher.encode(clean_B3HW * 2 - 1))
        for name, degradation in self._degradations.items():
            if batch.names:
                self._measure(batch, clean_B3HW, codes_BT, name, degradation)
            yield name

    def _measure(
        self, batch: CleanBatch, clean_B3HW: Tensor, codes_BT: Tensor | None, name: str, degradation: Degradation
    ) -> None:
        made: list[tuple[Group, Tensor]] = []
        degraded_B3HW = to_unit(degraded(batch, name, degradation, self._seed), self._device)
        made.append((Group(name, DEGRADED, None), degraded_B3HW))
        for baseline in self._baselines:
            filtered_BHW3 = baseline.make(batch, name, degradation, self._seed)
            made.append((Group(name, baseline.name, None), to_unit(filtered_BHW3, self._device)))
        inputs_B3HW = degraded_B3HW * 2 - 1
        for fidelity in self._fidelities:
            restored_B3HW = self._restore(inputs_B3HW, fidelity, self._tasks[name])
            made.append((Group(name, RESTORED, fidelity), in_8_bits(restored_B3HW)))
        for group, faces_B3HW in made:
            self._gatherer.add(group, batch.names, faces_B3HW, clean_B3HW, degraded_B3HW)
        if codes_BT is not None and isinstance(self._network, CodeFormer):
            latent_BDHW = self._network.encode(inputs_B3HW)
            tokens = self._tokens[name]
            tokens[0] += int((self._network.predict_codes(latent_BDHW) == codes_BT).sum())
            tokens[1] += int((self._network.quantize(latent_BDHW) == codes_BT).sum())
            tokens[2] += codes_BT.numel()
        for index, face in enumerate(batch.names):
            if face in self._shown:
                images = [("clean", batch.faces_BHW3[index])]
                images += [(group.label, to_levels(faces_B3HW[index])) for group, faces_B3HW in made]
                self._samples.append(Sample(face, name, tuple(images)))

    def evaluation(self) -> Evaluation:
        rows = self._gatherer.rows
        if not rows:
            raise ValueError(f"none of the faces can be read; the first one: {self._left_out[0]}")
        return Evaluation(
            columns=columns_of(self._metrics, to_input=True),
            rows=tuple(rows),
            means=means_of(rows, self._gatherer.set_distances()),
            accuracies=tuple(
                CodeAccuracy(name, predicted / total, nearest / total)
                for name, (predicted, nearest, total) in self._tokens.items()
                if total
            ),
            samples=tuple(self._samples),
            skipped=self._metrics.skipped,
            left_out=tuple(self._left_out),
        )


def _ways_of(network: CodeFormer | Restorer) -> tuple[Callable[[Tensor, float, str], Tensor], int]:
    """(faces, fidelity, task) -> restored faces; and the side of these."""
    if isinstance(network, Restorer):
        return lambda faces, fidelity, _: network.restore(faces, fidelity), network.face_size
    network.eval()
    return lambda faces, fidelity, task: network.restore(faces, fidelity, uses_adain(task)), network.config.image_size


def in_8_bits(restored_B3HW: Tensor) -> Tensor:
    """A network's output, about [-1, 1] -> [0, 1] in steps of 1/255. Raises ValueError for NaN and infinities."""
    if not torch.isfinite(restored_B3HW).all():
        raise ValueError("the network gives values that are NaN or infinite; its weights are broken")
    return ((restored_B3HW.float().clamp(-1, 1) + 1) * 127.5).round() / 255
