"""An archive of generated images through `restore_bulk` with a restorer that costs little: rate, memory, and losses.

    python benchmarks/bulk.py [--images 20000] [--alone 1000] [--workers 2] [--share 0.25] [--seconds 0.02]
        [--out X.json]

One process does the first images alone. Ray does all of them, while three of its workers are killed; at half of the
images the whole run is killed, and a new one continues. Rates are told per second of the clock, and per second of
processor time, which another program on the machine doesn't change.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch
from machine import describe  # which puts the checkout on the path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
ENVIRONMENT |= {"RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0"}
GIB = 1 << 30


@dataclass
class Busy:
    """Brighter faces, after as much work as a small network takes."""

    seconds: float

    def __post_init__(self) -> None:
        self.name, self.tasks = "busy", ("restoration",)
        self.uses_fidelity = self.needs_landmarks = False
        self.recommended_fidelity = 0.5

    def faces_at_once(self) -> int:
        return 8

    def restore(self, faces_B3HW: torch.Tensor, fidelity: float = 0.5, component_boxes_B44=None) -> torch.Tensor:
        end = time.process_time() + self.seconds * len(faces_B3HW)
        while time.process_time() < end:
            torch.sin(faces_B3HW[0, 0])
        return (faces_B3HW + 0.3).clamp(-1, 1)


def run_child(args: argparse.Namespace) -> None:
    """One run, with a line for each step forward."""
    from codeformer_core.pipeline.bulk.restore_bulk import restore_bulk
    from tests.core.bulk.cheap import LOCAL, CheapModels

    torch.set_num_threads(1)
    engine = None
    if args.child == "ray":
        import ray

        from codeformer_core.pipeline.bulk.engine_ray import RayEngine

        ray.init(
            num_cpus=args.workers, object_store_memory=200 << 20, include_dashboard=False, log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )  # fmt: skip
        engine = RayEngine(workers=args.workers)

    def show(what, progress):
        told = {"what": what, "done": progress.done, "seconds": progress.seconds, "busy": progress.utilisation()}
        print(json.dumps(told), flush=True)

    models = CheapModels(Busy(args.seconds), says="busy")
    report = restore_bulk([args.source], args.target, models, LOCAL, engine=engine, on_progress=show)
    print(json.dumps({"what": "report", "report": asdict(report)}), flush=True)


def start(args: argparse.Namespace, engine: str, source: Path, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", engine, "--source", str(source), "--target", str(target)]
    command += ["--workers", str(args.workers), "--seconds", str(args.seconds)]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        head = psutil.Process(process.pid)
        return [head, *head.children(recursive=True)]
    except psutil.Error:
        return []


def cpu_and_memory(process: subprocess.Popen[str]) -> tuple[float, int]:
    """Seconds of all its processes that live, and the memory that is theirs alone."""
    seconds, memory = 0.0, 0
    for one in family(process):
        try:
            times = one.cpu_times()
            seconds += times.user + times.system
            memory += one.memory_full_info().uss
        except psutil.Error:
            continue
    return seconds, memory


@dataclass
class Watched:
    """What was seen of a run."""

    done: list[int]
    seconds: list[float]
    cpu: list[float]
    memory: list[int]
    killed: int = 0
    report: dict | None = None
    busy: dict | None = None

    def rates(self) -> tuple[float, float]:
        """Images in a second of the clock and of processor time, between the first results and the last."""
        first = next(index for index, done in enumerate(self.done) if done)
        done = self.done[-1] - self.done[first]
        return done / (self.seconds[-1] - self.seconds[first]), done / (self.cpu[-1] - self.cpu[first])


def lines(process: subprocess.Popen[str]) -> Iterator[dict]:
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("{"):
            yield json.loads(text)


def watch(process: subprocess.Popen[str], kill_at: list[int], end_at: int | None) -> Watched:
    """Follow a run; at each count of `kill_at` one of its workers is killed, at `end_at` all of it."""
    seen = Watched([], [], [], [])
    looked = 0.0
    for told in lines(process):
        if told["what"] == "report":
            seen.report = told["report"]
            continue
        if told["what"] != "restoring":
            continue
        seen.busy = told["busy"]
        if time.monotonic() - looked > 2 or not seen.done:
            looked = time.monotonic()
            cpu, memory = cpu_and_memory(process)
            seen.done.append(told["done"])
            seen.seconds.append(looked)
            seen.cpu.append(cpu)
            seen.memory.append(memory)
        if kill_at and told["done"] >= kill_at[0]:
            step = ("_Prepare", "_Restore", "_Finish")[seen.killed % 3]
            chosen = [one for one in family(process) if step in " ".join(one.cmdline())]
            if chosen:
                chosen[0].send_signal(signal.SIGKILL)
                kill_at.pop(0)
                seen.killed += 1
        if end_at is not None and told["done"] >= end_at:
            for one in family(process):
                one.kill()
            break
    process.wait()
    return seen


def check(source: Path, target: Path) -> dict[str, int]:
    """What lies in the target and in its journal."""
    made = {path.relative_to(target) for path in target.rglob("*.png")}
    came = {path.relative_to(source) for path in source.rglob("*.png")}
    keys: Counter[str] = Counter()
    for path in (target / "_bulk/journal").iterdir():
        keys.update(json.loads(line)["key"] for line in path.read_text().splitlines())
    return {
        "missing": len(came - made),
        "too many": len(made - came),
        "noted": len(keys),
        "noted twice": sum(count > 1 for count in keys.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--alone", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.25, help="of the images that have a face")
    parser.add_argument("--seconds", type=float, default=0.02, help="of processor time that a face costs")
    parser.add_argument("--out", type=Path)
    for hidden in ("--child", "--source", "--target"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run_child(args)
        return
    from tests.core.bulk.cheap import image_bytes

    with TemporaryDirectory() as folder:
        source, alone, target = Path(folder, "in"), Path(folder, "alone"), Path(folder, "out")
        every = round(1 / args.share)
        for number in range(args.images):
            path = source / f"{number // 100:03d}" / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(number, faces=int(number % every == 0)))
            if number < args.alone:
                copy = alone / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        one = watch(start(args, "local", alone, Path(folder, "alone-out")), [], None)
        half = args.images // 2
        first = watch(start(args, "ray", source, target), [half // 4, half // 2, half * 3 // 4], half)
        second = watch(start(args, "ray", source, target), [], None)
        (wall_1, cpu_1), (wall_n, cpu_n) = one.rates(), second.rates()
        third = max(1, len(second.memory) // 3)
        result = {
            "machine": describe(),
            "images": args.images,
            "one process": {"images/s": wall_1, "images per CPU second": cpu_1},
            "ray": {"workers": args.workers, "images/s": wall_n, "images per CPU second": cpu_n, "busy": second.busy},
            "rate against one process times workers": wall_n / (wall_1 * args.workers),
            "the same in processor time": cpu_n / cpu_1,
            "memory GiB, first third": max(second.memory[:third]) / GIB,
            "memory GiB, last third": max(second.memory[-third:]) / GIB,
            "workers killed": first.killed,
            "done when all was killed": first.done[-1],
            "report of the second run": second.report,
            "result": check(source, target),
        }
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
