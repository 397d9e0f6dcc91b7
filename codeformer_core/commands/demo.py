"""`python -m codeformer_core demo`: one photo, restored, with an image of before and after, and a self-test.

By itself it takes what comes with the package and downloads nothing. Where another model was asked for and can't be
had it says so, and shows the faces that it would have restored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import OK, UsageError
from .reports import add_language, lines_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..faces.detection import FaceDetector
    from ..faces.types import Face
    from ..imaging.codecs.content import Picture
    from ..models.library import ModelLibrary
    from ..models.managed import ManagedRestorer
    from .repaint_trial import RepaintTrial

EXAMPLE = Path(__file__).parents[2] / "docs" / "images" / "example.jpg"
# In place of the example, which is an old print, where true colours are asked for.
IN_COLOUR = Path(__file__).parents[2] / "web" / "examples" / "codeformer_example_portrait.jpg"
BOX_COLOUR = (64, 224, 96)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.add_argument("photo", nargs="?", type=Path, default=EXAMPLE, help="default: the example of the README")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="default %(default)s")
    parser.add_argument(
        "--model",
        default="codeformer_starter",
        metavar="FILE|NAME",
        help="default %(default)s, which comes with the package; a name that `weights list` shows is downloaded",
    )
    add_language(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, also where the model was not available and the faces were drawn instead, which the demo reports."""
    console = Console(sys.stdout, sys.stderr)
    if args.photo == EXAMPLE and not EXAMPLE.is_file():
        raise UsageError("name a photo: the example image lies in the repository, not in the installed package")
    console.line("loading torch, and the face detector that is installed")
    from ..imaging.files import read_image
    from ..models.files import as_choice
    from ..weights.catalog import WITHOUT_FACEXLIB
    from ..weights.download import DownloadError
    from .tools import choose_device, model_library

    image = read_image(args.photo)
    library = model_library(choose_device("auto"), console)
    try:
        detector = library.load_detector()
    except ImportError as error:  # facexlib is missing or broken; YuNet works without it
        console.complain(f"note: {error}")
        detector = library.load_detector(WITHOUT_FACEXLIB)
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        restorer = library.load_restorer(as_choice(args.model), fetch=True)
    except DownloadError as error:
        console.complain(f"not restored: {error}")
        return _show_faces(args, image, detector, console)
    return _restore(args, image, detector, restorer, library, console)


def _restore(
    args: argparse.Namespace,
    image: Picture,
    detector: FaceDetector,
    restorer: ManagedRestorer,
    library: ModelLibrary,
    console: Console,
) -> int:
    from ..imaging.files import read_image, write_image
    from ..models.kinds import starter_event
    from ..pipeline.restore import restore_images
    from ..study.tiles import draw_grid
    from .batch import side_by_side
    from .trial import crops_to_try, try_restorer

    result = restore_images(
        image.image_HWC[None],
        restorer=restorer,
        detector=detector,
        parser=library.load_parser(),
        keep_crops=False,
        on_progress=lambda stage, done, total: console.progress(done / max(total, 1), f"{stage} {done}/{total}"),
    )
    console.clear()
    pair_HWC = side_by_side(image.image_HWC, result.images_BHWC[0])
    faces = [*result.faces[0], *(left_out.face for left_out in result.skipped[0])]
    trial = try_restorer(image.image_HWC, faces, restorer, restorer.recommended_fidelity)
    made = {"restored": result.images_BHWC[0], "compare": pair_HWC}
    if trial:
        made["trial"] = draw_grid(("the photo", "made worse", "restored from that"), trial.shown_3SS3).image_HW3
    if args.photo == EXAMPLE:
        in_colour_HWC = read_image(IN_COLOUR).image_HWC
        crops_NSS3, _ = crops_to_try(in_colour_HWC, detector.detect(in_colour_HWC[None])[0])
    else:
        crops_NSS3, _ = crops_to_try(image.image_HWC, faces)
    repainted = _repaint(crops_NSS3, library) if len(crops_NSS3) else {}
    for name, one in repainted.items():
        made[name] = draw_grid(one.words, one.shown_3SS3).image_HW3
    for name, image_HWC in made.items():
        path = args.output / f"{args.photo.stem}_{name}.png"
        write_image(path, replace(image, image_HWC=image_HWC), overwrite=True)
        console.line(f"wrote {path}")
    console.line("\n".join(lines_of(result, args)))
    console.line(trial.in_words() if trial else "no face is large enough to put the restorer to the test")
    for one in repainted.values():
        console.line(one.line)
    if starter := starter_event(args.model):
        console.line(f"{lines_of([starter], args)[0]}. With the published one: make demo MODEL=codeformer")
    return OK


def _repaint(crops_NSS3: Tensor, library: ModelLibrary) -> dict[str, RepaintTrial]:
    """The same faces through the two other verbs, by the best models that are here."""
    from .repaint_trial import try_colorizing, try_inpainting

    colorizer, inpainter = (library.load_restorer(task=task) for task in ("colorization", "inpainting"))
    return {"colorized": try_colorizing(crops_NSS3, colorizer), "filled": try_inpainting(crops_NSS3, inpainter)}


def _show_faces(args: argparse.Namespace, image: Picture, detector: FaceDetector, console: Console) -> int:
    from ..imaging.files import write_image

    found = detector.detect(image.image_HWC[None])[0]
    path = args.output / f"{args.photo.stem}_faces.png"
    write_image(path, replace(image, image_HWC=draw_faces(image.image_HWC, found)), overwrite=True)
    console.line(f"what works without it: {len(found)} face(s) found by {detector.name}, drawn in {path}")
    console.line("without --model the demo restores with the starter, which comes with the package")
    return OK


def draw_faces(image_HWC: Tensor, faces: Sequence[Face]) -> Tensor:
    """The image (RGB [0, 1]) with each face's box, landmarks and score."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw

    levels_HW3 = (image_HWC[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    canvas = Image.fromarray(levels_HW3)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(max(canvas.size) / 400))
    for face in faces:
        draw.rectangle(face.box_xyxy, outline=BOX_COLOUR, width=line)
        draw.text((face.box_xyxy[0] + 2 * line, face.box_xyxy[1] + line), f"{face.score:.2f}", fill=BOX_COLOUR)
        for x, y in face.landmarks_xy:
            draw.ellipse((x - line, y - line, x + line, y + line), fill=BOX_COLOUR)
    return torch.from_numpy(np.asarray(canvas).copy()).float() / 255
