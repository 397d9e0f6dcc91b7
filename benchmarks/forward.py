"""512 faces through CodeFormer: ours beside spandrel_extra_arches, ONNX Runtime and OpenVINO, same run, in turn.

python benchmarks/forward.py [--onnx FILE] [--rounds 7] [--fidelity 0.5] [--batch 1] [--device cpu] [--threads N]
                             [--clock wall] [--skip-bfloat16]

FILE: a CodeFormer of the published size from `codeformer weights export`; without one ONNX Runtime and OpenVINO are
left out, as they are where they aren't installed. All weights are random, which take the same time as trained ones.
Ratios are to spandrel_extra_arches in float32, round by round. `--clock cpu` counts the processor's time, for one
thread on a machine that others use too.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from statistics import median

import machine
import numpy as np
import torch
from spandrel_extra_arches.architectures.CodeFormer import CodeFormerArch
from torch import Tensor

from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer

Run = Callable[[], object]
REFERENCE = "spandrel_extra_arches float32"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", help="an exported CodeFormer of the published size")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fidelity", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="on the CPU (default: torch's own choice)")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--skip-bfloat16", action="store_true")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    faces_B3HW = torch.rand(options.batch, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1

    runs = torch_runs(faces_B3HW, options.fidelity, options.device, not options.skip_bfloat16)
    if options.onnx and importlib.util.find_spec("onnxruntime"):
        runs["ONNX Runtime float32"] = onnxruntime_run(options.onnx, faces_B3HW, options.fidelity)
    if options.onnx and importlib.util.find_spec("openvino"):
        for precision in ("f32",) if options.skip_bfloat16 else ("f32", "bf16"):
            name = f"OpenVINO {'float32' if precision == 'f32' else 'bfloat16'}"
            runs[name] = openvino_run(options.onnx, precision, faces_B3HW, options.fidelity)

    times = machine.compare(runs, options.rounds, machine.cpu_seconds if options.clock == "cpu" else machine.seconds)
    print(machine.describe())
    print(f"{options.batch} face(s), fidelity {options.fidelity:g} on {options.device}; {options.clock} time")
    print(f"{machine.HEADER} {'times as fast':>14} {'(min':>6} {'max)':>6}")
    for name, values in times.items():
        ratios = [theirs / ours for ours, theirs in zip(values, times[REFERENCE], strict=True)]
        print(f"{machine.row(name, values)} {median(ratios):14.2f} {min(ratios):6.2f} {max(ratios):6.2f}")


def torch_runs(faces_B3HW: Tensor, fidelity: float, device: str, with_bfloat16: bool) -> dict[str, Run]:
    torch.manual_seed(0)
    state = CodeFormer(PUBLISHED_CODEFORMER).state_dict()
    theirs = CodeFormerArch().load(to_published(state, PUBLISHED_CODEFORMER)).model.eval().to(device)
    faces_B3HW = faces_B3HW.to(device)
    runs: dict[str, Run] = {REFERENCE: lambda: theirs(faces_B3HW, weight=fidelity)}
    for dtype in (torch.float32, torch.bfloat16) if with_bfloat16 else (torch.float32,):
        ours = CodeFormer(PUBLISHED_CODEFORMER, dtype=dtype).eval().requires_grad_(False).to(device)
        ours.load_state_dict(state)
        runs[f"ours {str(dtype).removeprefix('torch.')}"] = _ours(ours, faces_B3HW.to(dtype), fidelity)
    return runs


def _ours(network: CodeFormer, faces_B3HW: Tensor, fidelity: float) -> Run:
    return lambda: network.restore(faces_B3HW, fidelity)


def onnxruntime_run(path: str, faces_B3HW: Tensor, fidelity: float) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    fed = {"faces": faces_B3HW.numpy(), "fidelity": np.array([fidelity], np.float32)}
    return lambda: session.run(None, fed)


def openvino_run(path: str, precision: str, faces_B3HW: Tensor, fidelity: float) -> Run:
    import openvino

    # By itself OpenVINO computes in bfloat16 where the processor can.
    wanted = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(path, "CPU", wanted)
    fed = {"faces": faces_B3HW.numpy(), "fidelity": np.array([fidelity], np.float32)}
    return lambda: compiled(fed)


if __name__ == "__main__":
    main()
