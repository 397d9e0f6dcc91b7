"""DFDNet: restores the components of a face from dictionaries of sharp eyes, noses and mouths.

Source: "Blind Face Restoration via Deep Multi-scale Component Dictionaries", arXiv 2008.00418; sizes of the published
checkpoint at the end.
Shape legend: B faces, C channels, H W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .containers import ModuleDict, ModuleList
from .dfdnet_parts import SLOPE, Box, PartTransfer
from .operations import Device, DType, Factory, LayerOptions, Operations, set_memory_format

PARTS = ("left_eye", "right_eye", "nose", "mouth")
# Pixels of the face per pixel of a feature map, finest first: the paper's four scales.
STRIDES = (2, 4, 8, 16)
# 3x3 convolutions in each of VGG19's blocks; every block but the first has its output tapped.
VGG_CONVOLUTIONS = (2, 2, 4, 4, 4)
DILATIONS = (4, 3, 2, 1)


@dataclass(frozen=True)
class DFDNetConfig:
    """image_size: side of the faces in pixels.
    widths: channels of VGG's five blocks; the decoder has the same backwards.
    atoms: K of every dictionary.
    part_sizes: side of the atoms in pixels of the face, in the order of PARTS; at a scale of stride s an atom has
    part_size // s pixels.
    """

    image_size: int
    widths: tuple[int, ...]
    atoms: int
    part_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.widths) != len(VGG_CONVOLUTIONS):
            raise ValueError(f"widths needs {len(VGG_CONVOLUTIONS)} numbers, got {len(self.widths)}: {self.widths}")
        if len(self.part_sizes) != len(PARTS):
            raise ValueError(f"part_sizes needs {len(PARTS)} numbers, got {len(self.part_sizes)}: {self.part_sizes}")
        if self.image_size % STRIDES[-1]:
            raise ValueError(f"image_size {self.image_size} must be a multiple of {STRIDES[-1]}")
        if min(self.part_sizes) < 2 * STRIDES[-1]:
            # One pixel has no deviation.
            raise ValueError(f"part_sizes must be {2 * STRIDES[-1]} or more, got {self.part_sizes}")
        if self.atoms < 1:
            raise ValueError(f"atoms must be 1 or more, got {self.atoms}")

    def atom_side(self, part: str, scale: int) -> int:
        return self.part_sizes[PARTS.index(part)] // STRIDES[scale]


class Features(nn.Module):
    """VGG19 up to its last convolution."""

    def __init__(self, widths: tuple[int, ...], *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        # [-1, 1] -> ImageNet's mean and deviation. A layer: hosts stream the weights of layers, not of their parents.
        self.normalize = operations.Conv2d(3, 3, 1, groups=3, **options)
        self.blocks = ModuleList(
            ModuleList(
                operations.Conv2d((3, *widths)[i] if j == 0 else width, width, 3, padding=1, **options)
                for j in range(convolutions)
            )
            for i, (width, convolutions) in enumerate(zip(widths, VGG_CONVOLUTIONS, strict=True))
        )

    def forward(self, faces_B3HW: Tensor) -> list[Tensor]:
        """features_BCHW of every scale, finest first. All are rectified but the coarsest."""
        taps: list[Tensor] = []
        x = self.normalize(faces_B3HW)
        last = self.blocks[-1][-1]
        for i, block in enumerate(self.blocks):
            x = F.max_pool2d(x, 2) if i else x
            for convolution in block:
                x = convolution(x)
                x = x if convolution is last else F.relu(x, inplace=True)
            if i:
                taps.append(x)
        return taps


class TwoConvolutions(nn.Module):
    """3x3 convolution, leaky ReLU, 3x3 convolution."""

    def __init__(
        self, channels: int, dilation: int = 1, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.conv_in = operations.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, **options)
        self.conv_out = operations.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, **options)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv_out(F.leaky_relu(self.conv_in(x_BCHW), SLOPE, inplace=True))


class Context(nn.Module):
    """The coarsest features seen through windows of four widths, added to themselves."""

    def __init__(self, channels: int, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        self.branches = ModuleList(TwoConvolutions(channels, dilation, **factory) for dilation in DILATIONS)
        channels_in = len(DILATIONS) * channels
        self.merge = operations.Conv2d(channels_in, channels, 3, padding=1, device=device, dtype=dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.merge(torch.cat([branch(x_BCHW) for branch in self.branches], dim=1))


class DecoderLevel(nn.Module):
    """Features scaled and shifted by the transferred features, then doubled.

    Scale and shift start from the same features, so their first convolutions are one.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.blur = operations.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False, **options)
        self.conv = operations.Conv2d(in_channels, out_channels, 3, padding=1, **options)
        self.scale_shift_in = operations.Conv2d(in_channels, 2 * out_channels, 3, padding=1, **options)
        self.scale_out = operations.Conv2d(out_channels, out_channels, 3, padding=1, **options)
        self.shift_out = operations.Conv2d(out_channels, out_channels, 3, padding=1, **options)
        self.up = operations.Conv2d(out_channels, out_channels, 3, padding=1, **options)

    def forward(self, x_BCHW: Tensor, transferred_BCHW: Tensor) -> Tensor:
        # Published as two leaky ReLUs in a row.
        x_BCHW = F.leaky_relu(self.conv(self.blur(x_BCHW)), SLOPE**2, inplace=True)
        scale_BCHW, shift_BCHW = F.leaky_relu(self.scale_shift_in(transferred_BCHW), SLOPE).chunk(2, dim=1)
        x_BCHW = torch.addcmul(torch.sigmoid(self.shift_out(shift_BCHW)), x_BCHW, self.scale_out(scale_BCHW))
        doubled_BCHW = F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)
        return F.leaky_relu(self.up(doubled_BCHW), SLOPE, inplace=True)


class Tail(nn.Module):
    """The decoder's last features -> image in [-1, 1]."""

    def __init__(self, channels: int, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        self.conv_in = operations.Conv2d(channels, channels, 3, padding=1, **options)
        self.blocks = ModuleList(TwoConvolutions(channels, **factory) for _ in range(2))
        self.conv_out = operations.Conv2d(channels, 3, 3, padding=1, **options)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = F.leaky_relu(self.conv_in(x_BCHW), SLOPE, inplace=True)
        for block in self.blocks:
            x_BCHW = x_BCHW + block(x_BCHW)
        return torch.tanh(self.conv_out(x_BCHW))


class DFDNet(nn.Module):
    """Blind face restoration. Faces are RGB in [-1, 1], aligned, image_size square; any batch size."""

    def __init__(
        self, config: DFDNetConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> None:
        super().__init__()
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        widths = config.widths
        self.config = config
        self.features = Features(widths, **factory)
        self.transfers = ModuleDict(
            {
                part: ModuleList(
                    PartTransfer(widths[1 + scale], config.atoms, config.atom_side(part, scale), **factory)
                    for scale in range(len(STRIDES))
                )
                for part in PARTS
            }
        )
        self.context = Context(widths[-1], **factory)
        coarsest_first = widths[::-1]
        self.decoder = ModuleList(
            DecoderLevel(coarsest_first[i], coarsest_first[i + 1], **factory) for i in range(len(STRIDES))
        )
        self.tail = Tail(widths[0], **factory)
        set_memory_format(self, torch.channels_last)

    def restore(self, faces_B3HW: Tensor, parts_B44: Tensor) -> Tensor:
        """restored_B3HW in [-1, 1].

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        parts_B44: x0, y0, x1, y1 (the last two not included) of left eye, right eye, nose and mouth as seen in the
        image, in pixels of the face; fractions are cut off. Where parts overlap, the later one counts.
        Raises ValueError for faces of another size and for boxes that leave the face or are too small.
        """
        boxes = self._checked(faces_B3HW, parts_B44)
        features = self.features(faces_B3HW.contiguous(memory_format=torch.channels_last))
        x_BCHW = self.context(features[-1])
        for level in self.decoder:
            scale = len(features) - 1
            x_BCHW = level(x_BCHW, self.transfer(features.pop(), boxes, scale))
        return self.tail(x_BCHW)

    def transfer(self, features_BCHW: Tensor, boxes: list[list[Box]], scale: int) -> Tensor:
        """features_BCHW with all parts of all faces renewed.

        boxes: per face those of PARTS, in pixels of the face.
        scale: index into STRIDES.
        """
        stride = STRIDES[scale]
        renewed_BCHW = features_BCHW.clone()
        for i, part in enumerate(PARTS):
            part_boxes = [_shrunk(face_boxes[i], stride) for face_boxes in boxes]
            crops = self.transfers[part][scale](features_BCHW, part_boxes)
            for face, (crop_CHW, (x0, y0, x1, y1)) in enumerate(zip(crops, part_boxes, strict=True)):
                renewed_BCHW[face, :, y0:y1, x0:x1] = crop_CHW
        return renewed_BCHW

    def _checked(self, faces_B3HW: Tensor, parts_B44: Tensor) -> list[list[Box]]:
        size, coarsest = self.config.image_size, STRIDES[-1]
        if tuple(faces_B3HW.shape[1:]) != (3, size, size):
            raise ValueError(
                f"faces must be {size}x{size} pixels in 3 channels for this network, "
                f"got the shape {tuple(faces_B3HW.shape)}; resize them first"
            )
        if tuple(parts_B44.shape) != (len(faces_B3HW), len(PARTS), 4):
            raise ValueError(
                f"parts must have the shape {(len(faces_B3HW), len(PARTS), 4)}: a box for each of {', '.join(PARTS)} "
                f"in each face; got {tuple(parts_B44.shape)}"
            )
        if not torch.isfinite(parts_B44).all():
            raise ValueError("parts holds numbers that are not finite. Give boxes from landmarks that are all there")
        corners_B44 = parts_B44.to(torch.int64).cpu().numpy()
        boxes: list[list[Box]] = [[(x0, y0, x1, y1) for x0, y0, x1, y1 in face] for face in corners_B44.tolist()]
        for i, face in enumerate(boxes):
            for part, (x0, y0, x1, y1) in zip(PARTS, face, strict=True):
                reaches_out = min(x0, y0) < 0 or max(x1, y1) > size
                if reaches_out or x0 // coarsest >= x1 // coarsest or y0 // coarsest >= y1 // coarsest:
                    raise ValueError(
                        f"the {part} box {(x0, y0, x1, y1)} of face {i} must lie within 0..{size} and be "
                        f"{2 * coarsest - 1} pixels or more on each side. Clamp it to the face and widen it"
                    )
        return boxes


def _shrunk(box: Box, stride: int) -> Box:
    x0, y0, x1, y1 = box
    return x0 // stride, y0 // stride, x1 // stride, y1 // stride


PUBLISHED_DFDNET = DFDNetConfig(
    image_size=512, widths=(64, 128, 256, 512, 512), atoms=512, part_sizes=(80, 80, 50, 110)
)
