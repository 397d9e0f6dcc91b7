"""Videos with known truth through `restore_video`: how steady faces are, how much they flicker, where the time goes.

    python benchmarks/video.py CLIPS [--clip NAME ...] [--no-network] [--no-paths] [--frames N] [--out FILE.json]

CLIPS holds NAME.mp4, NAME.json with the truth of each frame, and make_clips.py, which draws the clean frames. All
positions are in percent of the distance of the eyes. Jitter: root mean square of the second difference of (found -
true) over twelve points of the face's rim, where three frames in a row show the face. Flicker: mean of |(R[t] - R[t-1])
- (C[t] - C[t-1])| in levels of 255, R restored and C clean, both at the places of the still face. Swim: root mean
square of the second difference of R's shift against C, by least squares.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import codeformer_core as cf
from codeformer_core.faces.geometry import TEMPLATE_XY, invert
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.options import RestoreOptions
from codeformer_core.pipeline.restore import Models
from codeformer_core.pipeline.video.look import Look, looks
from codeformer_core.pipeline.video.options import VideoOptions
from codeformer_core.pipeline.video.read import Reader
from codeformer_core.pipeline.video.smoother import matrix_of, measured
from codeformer_core.pipeline.video.source import probe
from codeformer_core.pipeline.video.window import Window
from codeformer_core.runtime.plain_host import PlainHost

CLIPS = ("move", "cross", "cut", "dark")
RIM = np.array([(256 + 200 * np.cos(a), 280 + 240 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12, endpoint=False)])
SIDE = 256


@dataclass
class Timed:
    """A model whose calls are timed."""

    model: object
    verb: str
    seconds: float = 0.0
    items: int = 0

    def __getattr__(self, name: str):
        value = getattr(self.model, name)
        if name != self.verb:
            return value

        def timed(*args, **kwargs):
            begun = time.perf_counter()
            try:
                return value(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begun
                self.items += len(args[0])

        return timed


@dataclass
class Truth:
    """What a clip shows."""

    name: str
    frames: list
    cuts: list
    maker: object
    clean: list = field(default_factory=list)

    def face(self, frame: int, person: int) -> dict | None:
        found = [face for face in self.frames[frame]["faces"] if face["id"] == person]
        return found[0] if found and found[0]["inside"] and not found[0]["hidden"] else None


def load_truth(folder: Path, name: str) -> Truth:
    spec = importlib.util.spec_from_file_location("make_clips", folder / "make_clips.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    record = json.loads((folder / f"{name}.json").read_text())
    return Truth(name, record["frames"], record["cuts"], maker)


def onto(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    back = invert(matrix)
    return points @ back[:, :2].T + back[:, 2]


def seen(folder: Path, truth: Truth, detector) -> list[Look]:
    info = probe(folder / f"{truth.name}.mp4")
    return [replace(look, frame=None) for look in looks(Reader(info).frames(), 0, detector, RestoreOptions(), {})]


def steadiness(truth: Truth, found_looks: list[Look], smoothing: str) -> dict:
    """Jitter, error, tracks, switches, boxes that are nobody's."""
    window = Window(VideoOptions(smoothing=smoothing))
    found: dict[int, list] = {}
    nobody = 0
    for frame in window.frames(found_looks):
        for tracked in frame.faces:
            one = tracked.aligned
            faces = truth.frames[frame.number]["faces"]
            apart = [np.abs(np.array(face["landmarks_xy"]) - one.face.landmarks_array()).mean() for face in faces]
            nearest = int(np.argmin(apart))
            nobody += apart[nearest] > 0.5 * one.face.eye_distance
            found.setdefault(one.track or 0, []).append((frame.number, faces[nearest]["id"], one.matrix))
    switches = sum(a[1] != b[1] for path in found.values() for a, b in itertools.pairwise(path))
    jitters, errors = [], []
    for path in found.values():
        people = [person for _, person, _ in path]
        person = max(set(people), key=people.count)
        places: dict[int, np.ndarray] = {}
        for number, _, matrix in path:
            face = truth.face(number, person)
            if face is None:
                continue
            true = Face(tuple(face["box_xyxy"]), tuple(map(tuple, face["landmarks_xy"])), 1.0)
            eyes = true.eye_distance
            places[number] = (onto(matrix, RIM) - onto(matrix_of(measured(true)), RIM)) / eyes * 100
        turns = second_differences(places)
        jitters.append((np.square(turns).sum(-1).mean() / 2, len(turns)))
        off = np.array(list(places.values()))
        errors.append((np.square(off - off.mean(0)).sum(-1).mean() / 2, len(off)))
    return {
        "jitter": _pooled(jitters),
        "error": _pooled(errors),
        "tracks": len(found),
        "switches": int(switches),
        "nobody": int(nobody),
        "cuts": window.statistics.cuts,
    }


def second_differences(values: dict[int, np.ndarray]) -> np.ndarray:
    """Of values by the numbers of their frames, where three follow each other."""
    middles = [number for number in values if number - 1 in values and number + 1 in values]
    return np.array([values[number - 1] - 2 * values[number] + values[number + 1] for number in middles])


def _pooled(values: list) -> float:
    return round(float(np.sqrt(sum(v * n for v, n in values) / sum(n for _, n in values))), 2)


def still_face(truth: Truth, frame: int, person: int, image: np.ndarray) -> np.ndarray | None:
    """The still aligned face of a picture, float32 (S, S, 3)."""
    face = truth.face(frame, person)
    if face is None:
        return None
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    points = np.stack((columns, rows), -1) * (512 / SIDE)
    pose = face["pose"]
    moved = points + truth.maker.displacement(points, *pose[5:])
    linear = truth.maker.to_picture(pose)
    places = (moved @ linear[:, :2].T + linear[:, 2]).astype(np.float32)
    return cv2.remap(image.astype(np.float32), places[..., 0], places[..., 1], cv2.INTER_LINEAR)


def flicker(truth: Truth, frames: dict[int, np.ndarray], person: int, gain: float) -> dict:
    """Of frames by their numbers, uint8 RGB: flicker, swim and PSNR against the clean ones, and how sharp they are."""
    eyes = float(np.linalg.norm(TEMPLATE_XY[1] - TEMPLATE_XY[0])) * SIDE / 512
    shifts: dict[int, np.ndarray] = {}
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] * (512 / SIDE)
    inside = ((columns - 256) / 150) ** 2 + ((rows - 300) / 190) ** 2 < 1
    differences, errors, sharp, sharp_clean = [], [], [], []
    last = None
    for number in sorted(frames):
        now = still_face(truth, number, person, frames[number])
        if now is None:
            last = None
            continue
        clean = still_face(truth, number, person, truth.clean[number][..., ::-1]) * gain
        shifts[number] = shift_between(clean, now, inside) / eyes * 100
        if last is not None and last[0] == number - 1:
            differences.append(np.abs((now - last[1]) - (clean - last[2]))[inside].mean() / gain)
        errors.append(np.square((now - clean)[inside]).mean())
        sharp.append(np.abs(np.diff(now, axis=1))[:, :][inside[:, 1:]].mean())
        sharp_clean.append(np.abs(np.diff(clean, axis=1))[inside[:, 1:]].mean())
        last = (number, now, clean)
    return {
        "flicker": round(float(np.mean(differences)), 2),
        "swim": round(float(np.sqrt(np.square(second_differences(shifts)).sum(-1).mean() / 2)), 3),
        "psnr": round(float(10 * np.log10(255**2 / np.mean(errors))), 2),
        "gradients": round(float(np.sum(sharp) / np.sum(sharp_clean)), 3),
    }


def shift_between(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """x, y in pixels by which `other` is shifted, by least squares (Lucas and Kanade)."""
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), SIDE / 32)
    first, second = (
        cv2.GaussianBlur(cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY), (0, 0), 2.0)
        for image in (one, other)
    )
    slopes = np.stack([cv2.Sobel(first, cv2.CV_32F, *axis, ksize=3) / 8 for axis in ((1, 0), (0, 1))])
    products = np.einsum("ihw,jhw,hw->ij", slopes, slopes, weight)
    shift = np.zeros(2)
    for _ in range(5):
        places = np.array(((1, 0, shift[0]), (0, 1, shift[1])))
        moved = cv2.warpAffine(
            second, places, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        differs = moved - first
        differs -= np.average(differs, weights=weight)
        shift -= np.linalg.solve(products, np.einsum("ihw,hw,hw->i", slopes, differs, weight))
    return shift


# What is measured: its clip, a person, and frames. In "still" the head has stopped, and only the mouth moves.
MEASURED = {
    "move": ("move", 1, 25, 60),
    "still": ("move", 1, 52, 75),
    "cut": ("cut", 3, 25, 45),
    "dark": ("dark", 2, 0, 30),
    "cross": ("cross", 2, 0, 18),
}


def restored_frames(path: Path, first: int) -> dict[int, np.ndarray]:
    info = probe(path)
    return {first + frame.number: frame.picture.to_ndarray(format="rgb24") for frame in Reader(info).frames()}


def restored(args: argparse.Namespace, truth: Truth, part: str, models: Models) -> dict:
    """What the network makes of a part of a clip, by the kind of smoothing; printed as it comes."""
    name, person, first, last = MEASURED[part]
    last = min(last, first + (args.frames or last))
    truth.clean = truth.clean or list(truth.maker.clean_frames(name))
    gain = truth.maker.HARM[name].get("gain", 1.0)
    source = args.clips / f"{name}.mp4"
    info = probe(source)
    decoded = list(Reader(info).frames())
    stamps = [float(frame.pts * info.time_base) for frame in decoded]
    degraded = {frame.number: frame.picture.to_ndarray(format="rgb24") for frame in decoded[first:last]}
    records = {"input": flicker(truth, degraded, person, gain)}
    print(part, "input", json.dumps(records["input"]), flush=True)
    for mode in args.smoothing:
        looked, network = Timed(models.detector, "detect"), Timed(models.restorer, "restore")
        with TemporaryDirectory() as folder:
            target = Path(folder) / f"{mode}.mkv"
            begun = time.perf_counter()
            made = cf.restore_video(
                source,
                target,
                restorer=network,
                detector=looked,
                parser=models.parser,
                options=RestoreOptions(fidelity=args.fidelity, detail=args.detail, when_worse=args.when_worse),
                video=VideoOptions(smoothing=mode),
                encoder="ffv1",
                start=stamps[first],
                end=stamps[last] if last < len(stamps) else None,
            )
            seconds = time.perf_counter() - begun
            records[mode] = flicker(truth, restored_frames(target, first), person, gain) | {
                "frames": made.frames,
                "faces": made.faces,
                "seconds": round(seconds, 1),
                "network": round(network.seconds, 1),
                "detection": round(looked.seconds, 1),
                "whole by network and detection": round(seconds / (network.seconds + looked.seconds), 3),
            }
        print(part, mode, json.dumps(records[mode]), flush=True)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--clip", nargs="+", default=CLIPS, choices=CLIPS)
    parser.add_argument("--part", nargs="+", default=tuple(MEASURED), choices=tuple(MEASURED))
    parser.add_argument("--detector", default="starter_detector")
    parser.add_argument("--smoothing", nargs="+", default=["off", "full"], choices=["off", "alignment", "full"])
    parser.add_argument("--no-network", action="store_true", help="only tracks and paths")
    parser.add_argument("--no-paths", action="store_true", help="only what the network makes")
    parser.add_argument("--frames", type=int, metavar="N", help="restore N frames of each part, not all that count")
    parser.add_argument("--fidelity", type=float, help="as the model recommends if left out")
    parser.add_argument("--detail", type=float, default=0.0)
    parser.add_argument("--when-worse", default="fade", choices=["fade", "leave", "paste"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    library = cf.ModelLibrary(PlainHost())
    detector = library.load_detector(args.detector)
    truths = {name: load_truth(args.clips, name) for name in args.clip}
    results: dict = {"paths": {}, "restored": {}}
    if not args.no_paths:
        for name, truth in truths.items():
            found = seen(args.clips, truth, detector)
            results["paths"][name] = {mode: steadiness(truth, found, mode) for mode in ("off", "full")}
            print(name, json.dumps(results["paths"][name]), flush=True)
    if not args.no_network:
        restorer, face_mesh = library.load_restorer("codeformer_starter"), library.load_parser("face_mesh")
        for part in args.part:
            if MEASURED[part][0] in truths:
                truth = truths[MEASURED[part][0]]
                results["restored"][part] = restored(args, truth, part, Models(restorer, detector, face_mesh))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
