"""How far bfloat16 is from float32: codes that stay the same, and the pasted image, on photos; and the time of a face.

python benchmarks/precision.py PHOTO [PHOTO ...] [--model codeformer_starter] [--rounds 3] [--threads N] [--clock wall]

`--model random` is a network of the published size with random weights. "generator" finds the codes in float32 and
generates in bfloat16, as `--dtype auto` does.
"""

from __future__ import annotations

import argparse
from statistics import median

import machine
import torch

import codeformer_core as cf
from codeformer_core.imaging.files import read_image
from codeformer_core.models.restorer import Restorer
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    parser.add_argument("--model", default="codeformer_starter")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="on the CPU (default: torch's own choice)")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    source = CodeFormer(PUBLISHED_CODEFORMER).state_dict() if options.model == "random" else options.model
    exact = cf.load_restorer(source)
    generator = cf.load_restorer(source)
    if not isinstance(generator.module, CodeFormer):
        parser.error(f"{options.model} is not a CodeFormer")
    generator.module.generate_in(torch.bfloat16)
    others = {"bfloat16": cf.load_restorer(source, dtype=torch.bfloat16), "generator": generator}

    detector, fidelity = cf.load_detector("starter_detector"), exact.recommended_fidelity
    same: dict[str, list[float]] = {name: [] for name in others}
    largest: dict[str, list[float]] = {name: [] for name in others}
    for path in options.photos:
        image_1HW3 = read_image(path).image_HWC[None, :, :, :3]
        found = cf.find_faces(image_1HW3, detector=detector)
        crops_NHW3 = cf.crop_faces(image_1HW3, found.faces).crops_NHW3

        def pasted(restorer: Restorer, image_1HW3: torch.Tensor = image_1HW3) -> torch.Tensor:
            # Random faces are worse than any: they are pasted all the same.
            made = cf.restore_images(
                image_1HW3, restorer=restorer, detector=detector, fidelity=fidelity, when_worse="paste"
            )
            return made.images_BHWC

        expected = pasted(exact)
        for name, other in others.items():
            for crop_HW3 in crops_NHW3:
                face_13HW = crop_HW3.permute(2, 0, 1)[None] * 2 - 1
                equal = codes(exact, face_13HW) == codes(other, face_13HW)
                same[name].append(float(equal.float().mean()))
            largest[name].append(float((pasted(other) - expected).abs().max()) * 255)

    print(machine.describe())
    print(f"{options.model}, fidelity {fidelity:g}, {len(same['bfloat16'])} faces of {len(options.photos)} photos")
    for name in others:
        print(
            f"{name:<10} codes equal: {100 * sum(same[name]) / len(same[name]):.2f} %, worst face "
            f"{100 * min(same[name]):.2f} %; pasted: {max(largest[name]):.2f} of 255 at most"
        )
    face_13HW = torch.rand(1, 3, exact.face_size, exact.face_size) * 2 - 1
    every = {"float32": exact, **others}
    times = machine.compare(
        {name: lambda restorer=restorer: restorer.restore(face_13HW, fidelity) for name, restorer in every.items()},
        options.rounds,
        machine.cpu_seconds if options.clock == "cpu" else machine.seconds,
    )
    print(machine.HEADER)
    for name, values in times.items():
        ratios = [exact / other for exact, other in zip(times["float32"], values, strict=True)]
        print(
            f"{machine.row(name, values)}  {median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def codes(restorer: Restorer, face_13HW: torch.Tensor) -> torch.Tensor:
    network = restorer.module
    return network.predict_codes(network.encode(face_13HW.to(restorer.dtype)))


if __name__ == "__main__":
    main()
