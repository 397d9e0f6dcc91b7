"""What a GPU makes of CodeFormer, in under five minutes: faces/s by batch, precision and way of running, spandrel
beside it, whole photos and film frames, memory, and the share of the matrix peak.

python benchmarks/gpu.py [--device cuda] [--batches 1,4,16,32] [--dtypes float32,bfloat16,float16] [--seconds 2]
                         [--ways eager,compiled,graphed] [--matrix-size 8192] [--tiny]

Faces lie in the GPU's memory and stay there, in channels_last. The share compares the network's convolutions and matrix
products, counted as the published network writes them, with a square matrix product measured in the same precision.
"photos" is all of `restore_images` (detection, crops, network, paste, on the device) for images with six faces, from
pinned memory and back. "frames" are the same for many small images with one face, as of a film.
--tiny: a small network and small numbers, which run on a CPU in a minute, as a test of this program.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import machine
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import codeformer_core as cf
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer, CodeFormerConfig

FIDELITY = 0.5
TINY = replace(
    PUBLISHED_CODEFORMER,
    autoencoder=replace(PUBLISHED_CODEFORMER.autoencoder, base_channels=16, channel_multipliers=(1, 1, 1, 1, 1, 2)),
    width=64,
    layers=1,
    mlp_width=64,
    fuse_sizes=(32,),
)
Run = Callable[[], object]


@dataclass(frozen=True)
class Settings:
    device: torch.device
    config: CodeFormerConfig
    batches: list[int]
    dtypes: list[torch.dtype]
    ways: list[str]
    seconds: float
    matrix_size: int

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", default="1,4,16,32")
    parser.add_argument("--dtypes", default="float32,bfloat16,float16")
    parser.add_argument("--ways", default="eager,compiled,graphed")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row")
    parser.add_argument("--matrix-size", type=int, default=8192)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if given.tiny:
        given.batches, given.dtypes, given.seconds, given.matrix_size = "1", "bfloat16", 0.0, 256
    settings = Settings(
        torch.device(given.device),
        TINY if given.tiny else PUBLISHED_CODEFORMER,
        [int(batch) for batch in given.batches.split(",")],
        [getattr(torch, name) for name in given.dtypes.split(",")],
        given.ways.split(","),
        given.seconds,
        given.matrix_size,
    )
    started = time.perf_counter()
    # The fast way to multiply float32 on GPUs, as hosts set it.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    state = CodeFormer(settings.config).state_dict()
    flops = count_flops(settings)
    print(machine.describe())
    print(f"fidelity {FIDELITY}, {flops / 1e9:.0f} GFLOP a face")
    networks(settings, state, flops)
    whole_images(settings, state)
    print(f"{time.perf_counter() - started:.0f} s in all")


def count_flops(settings: Settings) -> float:
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        network = CodeFormer(settings.config, device="meta")
        # With gradients the network's layers are the published ones, without shortcuts.
        network.restore(torch.empty(1, 3, 512, 512, device="meta"), FIDELITY)
    return counter.get_total_flops()


def networks(settings: Settings, state: dict[str, Tensor], flops: float) -> None:
    print(f"{'network':<12} {'precision':<9} {'batch':>5} {'faces/s':>9} {'MiB':>7} {'of peak':>8}")
    for dtype in settings.dtypes:
        peak = matrix_peak(settings, dtype)
        network = CodeFormer(settings.config, device=settings.device, dtype=dtype).eval().requires_grad_(False)
        network.load_state_dict(state)
        for batch in settings.batches:
            faces_B3HW = torch.rand(batch, 3, 512, 512, device=settings.device).to(dtype) * 2 - 1
            makers = {"eager": eager, "compiled": compiled, "graphed": graphed}
            rows: list[tuple[str, Callable[[], Run]]] = [
                (way, partial(makers[way], settings, network, faces_B3HW)) for way in settings.ways
            ]
            rows.append(("spandrel", partial(spandrel, settings, state, faces_B3HW)))
            for name, make in rows:
                print_row(settings, name, dtype, batch, make, flops, peak)


def print_row(
    settings: Settings, name: str, dtype: torch.dtype, batch: int, make: Callable[[], Run], flops: float, peak: float
) -> None:
    label = f"{name:<12} {str(dtype).removeprefix('torch.'):<9} {batch:5}"
    try:
        rate, mib = faces_per_second(settings, make(), batch)
    except (RuntimeError, ImportError) as error:
        # A batch that doesn't fit, no compiler, no CUDA graphs: the other rows still tell something.
        print(f"{label} not measured: {type(error).__name__}: {str(error).splitlines()[0][:80]}", flush=True)
        return
    memory = "" if mib is None else f"{mib:.0f}"
    print(f"{label} {rate:9.2f} {memory:>7} {100 * rate * flops / peak:6.1f} %", flush=True)


def eager(settings: Settings, network: CodeFormer, faces_B3HW: Tensor) -> Run:
    return lambda: network.restore(faces_B3HW, FIDELITY)


def compiled(settings: Settings, network: CodeFormer, faces_B3HW: Tensor) -> Run:
    """For this batch alone: nothing is left open. Where there are graphs, the compiler makes one of it."""
    torch.compiler.reset()
    if settings.on_gpu:
        restore = torch.compile(network.restore, dynamic=False, mode="reduce-overhead")
    else:
        # Traced as on a GPU, but not translated, which takes a CPU minutes.
        restore = torch.compile(network.restore, dynamic=False, backend="eager")
    return lambda: restore(faces_B3HW, FIDELITY)


def graphed(settings: Settings, network: CodeFormer, faces_B3HW: Tensor) -> Run:
    if not settings.on_gpu:
        raise RuntimeError("graphs need CUDA")
    # What allocates or chooses kernels at a first call may not be in the recording.
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            network.restore(faces_B3HW, FIDELITY)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network.restore(faces_B3HW, FIDELITY)
    return graph.replay


def spandrel(settings: Settings, state: dict[str, Tensor], faces_B3HW: Tensor) -> Run:
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormerArch

    if settings.config is TINY:
        raise RuntimeError("spandrel reads the published size alone")
    theirs = CodeFormerArch().load(to_published(state, settings.config)).model.eval()
    theirs = theirs.to(settings.device, faces_B3HW.dtype)
    return lambda: theirs(faces_B3HW, weight=FIDELITY)


def faces_per_second(settings: Settings, run: Run, faces: int) -> tuple[float, float | None]:
    """The median, and the memory in MiB that was in use at the widest point."""
    run()
    run()
    if settings.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    until, times = time.perf_counter() + settings.seconds, [machine.seconds(run)]
    while time.perf_counter() < until or len(times) < 3:
        times.append(machine.seconds(run))
    return faces / median(times), torch.cuda.max_memory_allocated() / 2**20 if settings.on_gpu else None


def matrix_peak(settings: Settings, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product."""
    size = settings.matrix_size
    one, other = (torch.randn(size, size, device=settings.device).to(dtype) for _ in range(2))
    rate, _ = faces_per_second(settings, lambda: one @ other, 1)
    return rate * 2 * size**3


def whole_images(settings: Settings, state: dict[str, Tensor]) -> None:
    print(f"{'whole images':<28} {'images/s':>9} {'faces/s':>9}")
    for dtype in settings.dtypes:
        restorer = cf.load_restorer(state, settings.device, dtype)
        detector = cf.load_detector("starter_detector", settings.device)
        small = settings.seconds == 0
        for name, images, side, faces in (
            ("photos", 1 if small else 4, 768 if small else 1536, 2 if small else 6),
            ("frames", 2 if small else 32, 384 if small else 720, 1),
        ):
            images_BHWC = torch.rand(images, side, side, 3)
            if settings.on_gpu:
                images_BHWC = images_BHWC.pin_memory()
            run = restoring(settings, restorer, detector, images_BHWC, faces)
            rate, _ = faces_per_second(settings, run, images)
            label = f"{name} of {side}, {str(dtype).removeprefix('torch.')}"
            print(f"{label:<28} {rate:9.2f} {rate * faces:9.2f}", flush=True)


def restoring(
    settings: Settings, restorer: cf.Restorer, detector: cf.FaceDetector, images_BHWC: Tensor, faces: int
) -> Run:
    """Images of noise show no face: the detector looks, and then known places are taken."""
    side = images_BHWC.shape[1]

    class Known:
        name, default_confidence, module = "known places", detector.default_confidence, None

        def bytes_for(self, images_BHWC: Tensor) -> int:
            return detector.bytes_for(images_BHWC)

        def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
            detector.detect(images_BHWC, confidence)
            return [[face_at(i, faces, side) for i in range(faces)] for _ in images_BHWC]

    def run() -> Tensor:
        on_device = images_BHWC.to(settings.device, non_blocking=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = cf.restore_images(
                on_device, restorer=restorer, detector=Known(), fidelity=FIDELITY, when_worse="paste", keep_crops=False
            )
        return made.images_BHWC.to("cpu")

    return run


def face_at(index: int, count: int, side: int) -> Face:
    """One of `count` faces in a row."""
    width = side / count
    xy = np.asarray(TEMPLATE_XY) / 512 * min(width, side / 2) + [index * width, side / 4]
    (left, top), (right, bottom) = xy.min(0), xy.max(0)
    return Face((float(left), float(top), float(right), float(bottom)), tuple(map(tuple, xy.tolist())), 0.99)


if __name__ == "__main__":
    main()
