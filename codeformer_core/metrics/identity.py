"""Identity: whether a face-recognition network takes the restored face for the clean one.

The network is an ArcFace-like ONNX file that the user names (Deng et al. 2019, arXiv 1801.07698); OpenCV runs it on the
CPU.
Shape legend: B faces, H W height and width, E numbers of an embedding, S = 112.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.geometry import CROP_SIZE, TEMPLATE_XY, invert
from ..runtime.packages import import_for_faces
from ..weights.file_format import sniff
from ..weights.reading import WeightsError
from .kinds import Better, check_pair
from .onnx_shapes import OnnxShapes, Shape, read_onnx_shapes

SIDE = 112
# The five points of a 112x112 face as insightface aligns it for ArcFace, in the order of TEMPLATE_XY.
ARCFACE_XY = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
FIX = (
    "give an ArcFace-like recognition network as ONNX: input (1, 3, 112, 112) of RGB in [-1, 1], output (1, E), "
    "such as insightface's w600k_r50.onnx"
)


class Identity:
    """Cosine of the angle between the embeddings of the restored and the clean face; 1 for equal faces."""

    name = "identity"
    better: Better = "higher"

    def __init__(self, network_file: str | os.PathLike[str]) -> None:
        """Raises WeightsError naming the file for TorchScript, pickles, other formats, and other shapes."""
        self._path = Path(network_file)
        self._network = _read_network(self._path)

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        restored_BE, clean_BE = self.embeddings(restored_B3HW), self.embeddings(clean_B3HW)
        return F.cosine_similarity(restored_BE, clean_BE, dim=1).double()

    def embeddings(self, faces_B3HW: Tensor) -> Tensor:
        """embeddings_BE float32 on the CPU.

        faces_B3HW: aligned to the 512 template, RGB in [0, 1].
        """
        # Times 255, minus 127.5, divided by 127.5, as it was trained.
        inputs_B3SS = (align_for_arcface(faces_B3HW.float().cpu()) * 2 - 1).numpy()
        rows: list[np.ndarray] = []
        for face_3SS in inputs_B3SS:  # one by one: many files have a batch of 1 built in
            self._network.setInput(face_3SS[None])
            rows.append(np.asarray(self._network.forward(), dtype=np.float32).reshape(-1))
        embeddings_BE = torch.from_numpy(np.stack(rows))
        if not torch.isfinite(embeddings_BE).all():
            raise WeightsError(f"{self._path} gives values that are NaN or infinite for a face; {FIX}")
        return embeddings_BE


def align_for_arcface(faces_B3HW: Tensor) -> Tensor:
    """faces_B3SS: the crop that recognition networks are trained on.

    The crop lies within the faces, and where it shrinks several samples make one pixel.

    faces_B3HW: aligned to the 512 template, square, any size.
    """
    size = faces_B3HW.shape[2]
    if size != faces_B3HW.shape[3]:
        raise ValueError(f"faces must be square to be aligned, got {tuple(faces_B3HW.shape[2:])}")
    points_XY = (TEMPLATE_XY + 0.5) * (size / CROP_SIZE) - 0.5
    to_face = invert(fitted_similarity(points_XY, ARCFACE_XY))
    samples = max(1, math.ceil(math.hypot(to_face[0, 0], to_face[1, 0])))
    steps = (torch.arange(SIDE * samples, dtype=torch.float64) + 0.5) / samples - 0.5
    y_SS, x_SS = torch.meshgrid(steps, steps, indexing="ij")
    places_SS = [row[0] * x_SS + row[1] * y_SS + row[2] for row in to_face.tolist()]
    grid_SS2 = torch.stack([(place_SS * 2 + 1) / size - 1 for place_SS in places_SS], dim=-1).to(faces_B3HW)
    grid_BSS2 = grid_SS2.expand(len(faces_B3HW), -1, -1, -1)
    sampled = F.grid_sample(faces_B3HW, grid_BSS2, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, samples).clamp(0, 1)


def fitted_similarity(from_XY: npt.NDArray[np.float64], to_XY: npt.NDArray[np.float64]) -> np.ndarray:
    """The similarity (rotation, one scale, shift) with least squares, float64 (2, 3).

    In complex numbers it is to = a * from + b, whose least squares are those of a straight line.
    """
    source, target = (points[:, 0] + 1j * points[:, 1] for points in (from_XY, to_XY))
    middle, target_middle = np.mean(source), np.mean(target)
    centred = source - middle
    factor = np.vdot(centred, target - target_middle) / np.vdot(centred, centred)
    shift = target_middle - factor * middle
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _read_network(path: Path) -> Any:
    cv2 = import_for_faces("cv2")
    try:
        kind = sniff(path)
        if kind.kind == "safetensors":
            raise WeightsError(f"{path} holds weights without the network they belong to; {FIX}")
        if kind.kind != "none" or "TorchScript" in kind.found:
            raise WeightsError(f"{path}: TorchScript and pickles are code, which is not run; {FIX}")
        shapes = read_onnx_shapes(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is not there; {FIX}") from error
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{error}; {FIX}") from error
    _check_shapes(path, shapes)
    try:
        # By its bytes: on Windows OpenCV opens no path with letters outside the code page.
        network = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
        network.setInput(np.zeros((1, 3, SIDE, SIDE), np.float32))
        output = np.asarray(network.forward())
    except cv2.error as error:
        raise WeightsError(
            f"OpenCV {cv2.__version__} can't run {path} on a face of (1, 3, {SIDE}, {SIDE}): "
            f"{' '.join(error.err.split())}. Its input is {_in_words(shapes.inputs)}; {FIX}"
        ) from error
    if output.ndim < 2 or output.shape[0] != 1 or output.size != output.shape[1] or output.size < 2:
        raise WeightsError(f"{path} gives {tuple(output.shape)} for one face, expected (1, E); {FIX}")
    return network


def _check_shapes(path: Path, shapes: OnnxShapes) -> None:
    """What the file states must allow (1, 3, 112, 112) -> (1, E); sides it leaves open are taken as fitting."""
    stated = list(shapes.inputs.values())
    if len(stated) != 1 or (stated[0] and not _allows(stated[0], (1, 3, SIDE, SIDE))):
        raise WeightsError(
            f"{path} takes {_in_words(shapes.inputs)}, expected one input of (1, 3, {SIDE}, {SIDE}); {FIX}"
        )
    if len(shapes.outputs) != 1:
        raise WeightsError(f"{path} gives {_in_words(shapes.outputs)}, expected one output (1, E); {FIX}")


def _allows(shape: Shape, wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(side in (None, need) for side, need in zip(shape, wanted, strict=True))


def _in_words(shapes: dict[str, Shape]) -> str:
    if not shapes:
        return "nothing"
    return " and ".join(
        f"{name} ({', '.join('?' if side is None else str(side) for side in shape)})" for name, shape in shapes.items()
    )
