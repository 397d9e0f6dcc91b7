"""Our starter detector beside YuNet and RetinaFace: recall, landmark error, false faces and time, in one run.

python benchmarks/detector.py STARTER [--photos ../shared/photos] [--retinaface ../shared/models/X.pth] [--threads 2]

The photos: `no_face__*` have none; `composite__*.json` beside their pictures hold five landmarks for each face.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
import numpy as np
import torch
from torch import Tensor

from codeformer_core.faces.detection import FaceDetector
from codeformer_core.faces.detectors.starter.detector import build_starter_detector
from codeformer_core.faces.detectors.yunet import YuNetDetector
from codeformer_core.faces.geometry import box_iou, boxes_of
from codeformer_core.faces.types import Face
from codeformer_core.imaging.files import read_image
from codeformer_core.imaging.tensors import resize
from codeformer_core.models.loading import load_detector
from codeformer_core.weights.reading import read_state_dict

SHARED = Path(__file__).parents[2] / "shared"
# Faces below this confidence are of no use to anybody; with it the numbers of false faces are counted.
LOWEST = 0.05
ALLOWED_FALSE = 1
SMALLEST_FACE = 40.0
SAME_FACE_IOU = 0.4
# Landmarks farther off than this part of the eye distance belong to another face: this one was not found.
FARTHEST = 0.6
COMPOSITES = {"group09": "9 upright", "group25_rot30": "25 rotated", "group100_tiny": "100 tiny"}


@dataclass(frozen=True)
class Found:
    """Faces by photo, all with a score above LOWEST."""

    detector: FaceDetector
    faces: dict[str, list[Face]]

    def threshold(self) -> float:
        """The lowest score above which at most ALLOWED_FALSE faces are seen where there is none."""
        false = sorted(self.false_scores(), reverse=True)
        return false[ALLOWED_FALSE] if len(false) > ALLOWED_FALSE else LOWEST

    def false_scores(self) -> list[float]:
        return [face.score for name, faces in self.faces.items() if name.startswith("no_face") for face in faces]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("starter", type=Path, help="starter_detector.safetensors")
    parser.add_argument("--photos", type=Path, default=SHARED / "photos")
    parser.add_argument("--retinaface", default=str(SHARED / "models" / "retinaface_mobilenet0.25_mit.pth"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--misses", action="store_true", help="list the faces that YuNet finds and the starter doesn't")
    options = parser.parse_args()
    _use_threads(options.threads)
    paths = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in (".jpg", ".png", ".webp"))
    if not any(path.name.startswith("no_face") for path in paths):
        raise SystemExit(f"{options.photos}: no photo named no_face__*: the threshold can't be set")
    photos = {path.name: read_image(path).image_HWC[None, ..., :3] for path in paths}
    starter = build_starter_detector(read_state_dict(options.starter))
    yunet = YuNetDetector()
    detectors = [starter, yunet, load_detector(options.retinaface)]
    wanted = {
        name: [face for face in yunet.detect(photo)[0] if min(face.width, face.height) >= SMALLEST_FACE]
        for name, photo in photos.items()
    }
    print(machine.describe())
    count = sum(map(len, wanted.values()))
    print(f"{len(photos)} photos; YuNet at its own confidence finds {count} faces of {SMALLEST_FACE:g} px or more\n")
    composites = [name for name in COMPOSITES if (options.photos / f"composite__{name}.json").is_file()]
    header = ["detector", "threshold", f"recall, at most {ALLOWED_FALSE} false", "own confidence", "recall", "false"]
    print("| " + " | ".join([*header, *(f"landmarks, {COMPOSITES[name]}" for name in composites), "ms"]) + " |")
    print("|" + "---|" * (len(header) + len(composites) + 1))
    times = _milliseconds(detectors, photos, options.rounds)
    for detector, milliseconds in zip(detectors, times, strict=True):
        found = Found(detector, {name: detector.detect(photo, LOWEST)[0] for name, photo in photos.items()})
        limit, own = found.threshold(), detector.default_confidence
        row = [detector.name, f"{limit:.2f}", _recall(wanted, found.faces, limit), f"{own:.2f}"]
        row += [_recall(wanted, found.faces, own), str(sum(score > own for score in found.false_scores()))]
        row += [_landmark_error(options.photos, name, detector, photos) for name in composites]
        print("| " + " | ".join([*row, f"{milliseconds:.0f}"]) + " |", flush=True)
        if options.misses and detector is starter:
            _list_misses(wanted, found, limit)


def _use_threads(count: int) -> None:
    import cv2

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _recall(wanted: dict[str, list[Face]], found: dict[str, list[Face]], confidence: float) -> str:
    hits = sum(_is_found(face, found[name], confidence) for name, faces in wanted.items() for face in faces)
    count = sum(map(len, wanted.values()))
    return f"{hits / count:.1%} ({hits})"


def _is_found(face: Face, others: Sequence[Face], confidence: float) -> bool:
    return any(other.score > confidence and _iou(face, other) >= SAME_FACE_IOU for other in others)


def _iou(first: Face, second: Face) -> float:
    return float(box_iou(*boxes_of([first, second])))


def _list_misses(wanted: dict[str, list[Face]], found: Found, limit: float) -> None:
    for name, faces in wanted.items():
        for face in faces:
            if not _is_found(face, found.faces[name], limit):
                best = max((_iou(face, other) * other.score for other in found.faces[name]), default=0.0)
                box = ", ".join(f"{value:.0f}" for value in face.box_xyxy)
                print(f"missed: {name} box {box}, YuNet's score {face.score:.2f}, best overlap times score {best:.2f}")
    print("false:", ", ".join(f"{score:.2f}" for score in sorted(found.false_scores(), reverse=True)[:8]))


def _landmark_error(folder: Path, name: str, detector: FaceDetector, photos: dict[str, Tensor]) -> str:
    """Mean distance of the five points as a part of the eye distance, and how many faces were found at all."""
    known = json.loads((folder / f"composite__{name}.json").read_text(encoding="utf-8"))
    photo = next(photo for key, photo in photos.items() if key.startswith(f"composite__{name}."))
    faces = detector.detect(photo)[0]
    errors = []
    for entry in known:
        points_52 = np.array(entry["landmarks"])
        eye_distance = math.dist(points_52[0], points_52[1])
        away = [float(np.linalg.norm(face.landmarks_array() - points_52, axis=1).mean()) for face in faces]
        if away and min(away) <= FARTHEST * eye_distance:
            errors.append(min(away) / eye_distance)
    return f"{np.mean(errors):.1%} of {len(errors)}" if errors else "none found"


def _milliseconds(detectors: Sequence[FaceDetector], photos: dict[str, Tensor], rounds: int) -> list[float]:
    """The median of each, taken in turn, on the first photo at 640x640."""
    picture = resize(next(iter(photos.values())), 640, 640)
    runs: dict[str, Callable[[], object]] = {
        detector.name: lambda detector=detector: detector.detect(picture) for detector in detectors
    }
    return [1000 * median(times) for times in machine.compare(runs, rounds).values()]


if __name__ == "__main__":
    main()
