"""The prompts that the tests post, as small pieces put together."""

from __future__ import annotations

import re
from string import Formatter
from typing import Any

import codeformer_core as cf
from codeformer_core.pipeline.report_texts import LANGUAGES

from .server import Done, Prompt


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """A link to another node's output is written [node, output]."""
    return {"class_type": kind, "inputs": inputs}


# Inputs of Face Restore with which the tests' networks, which paint no real faces, are pasted as they are.
AS_IT_IS = {"when_worse": "paste", "color_match": "off"}


def restore_prompt(picture: str = "portrait.png", model: str = "codeformer.pth", **changes: Any) -> Prompt:
    """Photo, loader and Face Restore; pictures before and after, mask and report are handed out.

    changes: inputs of Face Restore to set.
    """
    restore = {
        "image": ["photo", 0],
        "face_restore_model": ["loader", 0],
        "fidelity": 0.5,
        "upscale": 1.0,
        "confidence": 0.0,
        "smallest_face": 0.0,
        "faces": "all",
        "mask": "face",
        "opacity": 1.0,
        "parity": False,
        **AS_IT_IS,
        **changes,
    }
    prompt: Prompt = {
        "photo": node("LoadImage", image=picture),
        "loader": node("CodeFormerLoadModel", model=model, detector="auto", parser="auto", dtype="float32"),
        "restore": node("CodeFormerFaceRestore", **restore),
    }
    return prompt | result_nodes("restore", restore["image"])


def result_nodes(restore: str, before: list[Any]) -> Prompt:
    """Nodes that hand out what Face Restore gave and what it got: "after", "before", "mask", "touched", "report".

    "touched" is white where the mask is above 0, however little: 8 bits alone would hide the smallest values.
    """
    return {
        "before": node("SaveImage", images=before, filename_prefix="before"),
        "after": node("SaveImage", images=[restore, 0], filename_prefix="after"),
        "mask_image": node("MaskToImage", mask=[restore, 1]),
        "mask": node("SaveImage", images=["mask_image", 0], filename_prefix="mask"),
        "above_0": node("ThresholdMask", mask=[restore, 1], value=0.0),
        "touched_image": node("MaskToImage", mask=["above_0", 0]),
        "touched": node("SaveImage", images=["touched_image", 0], filename_prefix="touched"),
        "report": node("PreviewAny", source=[restore, 3]),
    }


def report(done: Done) -> str:
    return done.outputs["report"]["text"][0]


def tells(done: Done, kind: str, **values: Any) -> bool:
    """Whether the report has an event of this kind, with these values where they are given."""
    pattern = ""
    for text, field, _, _ in Formatter().parse(LANGUAGES["en"].events[kind]):
        pattern += re.escape(text)
        if field is not None:
            pattern += re.escape(str(values[field])) if field in values else ".+?"
    return re.search(pattern, report(done)) is not None


def counts(done: Done, image: int | None = None, **steps: int) -> bool:
    """Whether the report says that so many faces were found, restored and so on; image: index, None for all."""
    line = cf.report([cf.Event("faces", values=steps)])
    return (line if image is None else f"image {image + 1}: {line}") in report(done).splitlines()
