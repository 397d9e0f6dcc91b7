"""Which metrics can be computed with the files that were given, and what the others need."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

import torch

from ...faces.detection import FaceDetector
from ...metrics import frechet, identity, lpips
from ...metrics.colours import ColorShift
from ...metrics.descriptors import DlibIdentity
from ...metrics.detail import FINE_BAND, MIDDLE_BAND, BandEnergy, Edges
from ...metrics.feature_weights import INSTALL, PACKAGE, find_feature_weights
from ...metrics.features import PerceptualDistance
from ...metrics.kinds import DerivedMetric, FaceMetric, SetMetric, Skipped
from ...metrics.landmarks import LandmarkDistance
from ...metrics.niqe import PARAMETERS_FILE, Niqe, read_pristine_model
from ...metrics.person import SamePerson
from ...metrics.pixels import GradientSimilarity, Psnr, Ssim

File = str | os.PathLike[str]


@dataclass(frozen=True)
class MetricFiles:
    """Files that metrics need, each None when it isn't given.

    lpips_backbone: torchvision's VGG16.
    inception: torch-fidelity's Inception v3.
    fid_reference: mu and sigma of another set than the clean faces.
    niqe_parameters: a niqe_pris_params.npz; None: the one that comes with the package.
    identity: an ArcFace-like ONNX.
    """

    lpips_backbone: File | None = None
    inception: File | None = None
    fid_reference: File | None = None
    niqe_parameters: File | None = None
    identity: File | None = None


@dataclass(frozen=True)
class Metrics:
    """What is computed for every face and for every set of faces, and what isn't and why."""

    per_face: tuple[FaceMetric, ...]
    per_set: tuple[SetMetric, ...]
    skipped: tuple[Skipped, ...]
    derived: tuple[DerivedMetric, ...] = ()

    @property
    def all(self) -> tuple[FaceMetric | SetMetric, ...]:
        return (*self.per_face, *self.per_set)


def choose_metrics(files: MetricFiles, device: torch.device | str, detector: FaceDetector | None) -> Metrics:
    """Every metric whose file and package are there; the others as Skipped, with what to give.

    Raises WeightsError for a file that is given and isn't what its metric needs.
    """
    per_face: list[FaceMetric] = [Psnr(), Ssim(), GradientSimilarity()]
    per_set: list[SetMetric] = []
    skipped: list[Skipped] = []
    per_face.append(DlibIdentity(device))
    if find_feature_weights() is None:
        skipped.append(Skipped("lite0", f"skipped: the package {PACKAGE} is not installed; {INSTALL}"))
    else:
        per_face.append(PerceptualDistance(device))
    per_face += [Edges(), BandEnergy(*MIDDLE_BAND), BandEnergy(*FINE_BAND)]
    pristine = read_pristine_model(PARAMETERS_FILE if files.niqe_parameters is None else files.niqe_parameters)
    if _installed("scipy"):
        per_face.append(Niqe(pristine))
    else:
        skipped.append(Skipped("NIQE", "skipped: the package scipy is not installed; pip install scipy"))
    per_face.append(ColorShift())
    if files.lpips_backbone is None:
        skipped.append(Skipped("LPIPS", f"skipped: VGG16 backbone file; {lpips.FIX} with --lpips-backbone"))
    elif not _installed("lpips"):
        skipped.append(Skipped("LPIPS", "skipped: the package lpips is not installed; pip install lpips"))
    else:
        per_face.append(lpips.Lpips(files.lpips_backbone, device))
    if files.identity is None:
        skipped.append(Skipped("identity", f"skipped: ArcFace-like ONNX file; {identity.FIX}, with --identity"))
    else:
        per_face.append(identity.Identity(files.identity))
    if detector is None:
        skipped.append(Skipped("landmarks", "skipped: a face detector; give one with --detector, such as yunet"))
    else:
        per_face.append(LandmarkDistance(detector))
    # Read even where FID is skipped: a wrong file shouldn't be found out another day.
    reference = None if files.fid_reference is None else frechet.read_statistics(files.fid_reference)
    if files.inception is None:
        skipped.append(Skipped("FID", f"skipped: Inception v3 weights; {frechet.FIX_FILE} with --inception"))
    elif not _installed("torch_fidelity"):
        skipped.append(Skipped("FID", f"skipped: the package torch-fidelity is not installed; {frechet.FIX_PACKAGE}"))
    else:
        per_set.append(frechet.Fid(frechet.load_inception(files.inception, device), device, reference))
    return Metrics(tuple(per_face), tuple(per_set), tuple(skipped), (SamePerson(),))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
