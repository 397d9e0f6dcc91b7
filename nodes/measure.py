"""Nodes for experiments: faces made worse on purpose, and how near pictures come to their originals."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .choices import LIBRARY
from .reports import report

logger = logging.getLogger(__name__)

DEGRADE_ALIASES = ("codeformer", "degrade", "blur noise jpeg", "low quality", "augment faces")
MEASURE_ALIASES = ("codeformer", "psnr", "ssim", "compare images", "face quality", "identity similarity")
NO_IDENTITY = "none"


class DegradeFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerDegradeFaces",
            display_name="Degrade Faces",
            category="image/face restore",
            description="Makes good faces as bad as those that CodeFormer is trained on, to test a restoration.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Faces that fill their picture, best 512x512. Other sizes get the same strengths "
                    "scaled by their longer side. Transparency is kept.",
                ),
                io.Combo.Input(
                    "kind",
                    options=list(core.DEGRADATION_NAMES),
                    tooltip="What is done. photo: what prints, scans and phones leave: grain, scratches, fading, a "
                    "little blur; some faces stay clean. gray: the same with little or no colour. small: mild faults "
                    "as in faces that are a little too small. large: strong ones. paper: the ranges of CodeFormer's "
                    "paper. colorization: large, and colours that have gone wrong. inpainting: white brush "
                    "strokes alone. x2 to x30: fixed strengths; the face "
                    "is shrunk so many times, and blur, noise and compression grow with it.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=core.MAX_SEED,
                    control_after_generate=True,
                    tooltip="Which numbers are drawn. The same seed gives the same faults; each picture of a batch has "
                    "its own, which do not depend on how many pictures there are.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The pictures, made worse, of the size they had."),
                io.String.Output(display_name="report", tooltip="What was drawn for each picture."),
            ],
        )
        return host.aliased(schema, *DEGRADE_ALIASES)

    @classmethod
    def execute(cls, image: Tensor, kind: str, seed: int) -> io.NodeOutput:
        degraded = core.degrade_images(image, kind=kind, seed=seed, on_progress=host.Progress())
        (images_BHWC,) = host.placed((degraded.images_BHWC,))
        return io.NodeOutput(images_BHWC, report(degraded))


class MeasureFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerMeasureFaces",
            display_name="Measure Faces",
            category="image/face restore",
            description="Measures how near pictures come to their originals.",
            inputs=[
                io.Image.Input("image", tooltip="What is measured: one picture for each reference, or one for all."),
                io.Image.Input(
                    "reference",
                    tooltip="The originals: one for each picture, or one for all. Pictures of another size are "
                    "resized to theirs.",
                ),
                host.advanced(
                    io.Combo.Input(
                        "identity",
                        options=[NO_IDENTITY, *_recognition_files()],
                        tooltip="A face recognition network (ArcFace as .onnx, in models/facedetection) that tells "
                        "whether both are the same person: 1 the same face, around 0 strangers. It needs aligned "
                        "faces. none: not measured.",
                    )
                ),
            ],
            outputs=[
                io.Float.Output(display_name="psnr", tooltip="Mean PSNR in dB; infinite where pictures are equal."),
                io.Float.Output(display_name="ssim", tooltip="Mean SSIM, 1 for equal pictures."),
                io.String.Output(display_name="report", tooltip="All numbers of each picture, as a table."),
            ],
        )
        return host.aliased(schema, *MEASURE_ALIASES)

    @classmethod
    def execute(cls, image: Tensor, reference: Tensor, identity: str) -> io.NodeOutput:
        file = None if identity == NO_IDENTITY else _recognition_file(identity)
        measured = core.measure_images(image, reference, identity=file, on_progress=host.Progress())
        return io.NodeOutput(measured.mean(core.PSNR), measured.mean(core.SSIM), report(measured))


def _recognition_files() -> list[str]:
    """ONNX files beside the detectors that are none of them."""
    return [name for name in LIBRARY.names(core.DETECTOR, (".onnx",)) if core.find_entry(name) is None]


def _recognition_file(name: str) -> Path:
    path = LIBRARY.find(name, core.DETECTOR)
    if path is None:
        raise ValueError(f"identity: {name!r} is not in {LIBRARY.folder_for(core.DETECTOR)}: choose another, or none")
    return path
