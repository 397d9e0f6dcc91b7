"""Long videos: killed twice and continued, and memory that stays flat."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from codeformer_core.pipeline.video.journal import Journal, parts_folder

from .clips import CYAN, Brighter, Disk, DiskDetector, decoded, packets, same_samples, scene_clip, times
from .test_restore_video import QUICK, run, walking

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys, importlib.util
sys.path.append(sys.argv[1])
spec = importlib.util.spec_from_file_location("clips", sys.argv[2])
clips = importlib.util.module_from_spec(spec)
sys.modules["clips"] = clips
spec.loader.exec_module(clips)
import codeformer_core as cf
from codeformer_core.pipeline.options import PasteOptions, RestoreOptions
options = RestoreOptions(when_worse="paste", detail=0.0, paste=PasteOptions(mask="outline", color_match="off"))
cf.restore_video(sys.argv[3], sys.argv[4], restorer=clips.Brighter(), detector=clips.DiskDetector(jitter=0.4),
                 options=options, resume=True)
"""


@pytest.mark.slow
def test_a_film_that_is_killed_twice_is_finished(tmp_path):
    source = scene_clip(tmp_path / "in.mkv", 700, walking(), cuts=(140, 420), codec="ffv1")
    target = tmp_path / "out.mkv"
    command = [sys.executable, "-c", PROGRAM, str(ROOT), str(Path(__file__).with_name("clips.py"))]
    command += [str(source), str(target)]
    for parts in (1, 2):
        process = subprocess.Popen(command)
        while process.poll() is None:
            found = Journal.read(parts_folder(target))
            if found is not None and len(found.parts) >= parts:
                break
            time.sleep(0.05)
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not target.exists()
    subprocess.run(command, check=True)
    run(source, tmp_path / "whole.mkv", detector=DiskDetector(jitter=0.4))
    pairs = zip(decoded(target), decoded(tmp_path / "whole.mkv"), strict=True)
    assert all(same_samples(a, b) for a, b in pairs)
    assert times(target) == times(tmp_path / "whole.mkv") and packets(target) == packets(source)


@pytest.mark.slow
def test_memory_of_the_process_stays_flat(tmp_path):
    process, seen = psutil.Process(), {}

    def watch(stage, done, total):
        if done % 100 == 0:
            seen[done] = process.memory_info().rss

    source = scene_clip(tmp_path / "in.mp4", 1200, walking(), sound=False)
    run(source, tmp_path / "out.mp4", restorer=Brighter(), options=QUICK, on_progress=watch)
    early, late = max(seen[at] for at in (100, 200, 300)), max(seen[at] for at in (900, 1000, 1100))
    assert late <= early * 1.05, seen


MEMORY = """
import sys, importlib.util, threading, time
sys.path.append(sys.argv[1])
spec = importlib.util.spec_from_file_location("clips", sys.argv[2])
clips = importlib.util.module_from_spec(spec)
sys.modules["clips"] = clips
spec.loader.exec_module(clips)
import psutil
import codeformer_core as cf
from codeformer_core.pipeline.options import PasteOptions, RestoreOptions
options = RestoreOptions(when_worse="paste", detail=0.0, batch_size=1, paste=PasteOptions(mask="outline"))
process, seen = psutil.Process(), []


def run(source, target):
    cf.restore_video(source, target, restorer=clips.Brighter(), detector=clips.DiskDetector(), options=options)


def watch():
    while True:
        seen.append(process.memory_info().rss)
        time.sleep(0.02)


run(sys.argv[3], sys.argv[5])
before = process.memory_info().rss
threading.Thread(target=watch, daemon=True).start()
run(sys.argv[4], sys.argv[6])
print((max(seen) - before) >> 20)
"""


@pytest.mark.slow
def test_memory_at_1080p_with_two_faces(tmp_path):
    """Above what a small video has loaded, in MiB; all waiting frames have come after about 50."""

    def two(size):
        return lambda t: [
            Disk(size * 0.3 + t, size * 0.5, size * 0.16),
            Disk(size * 1.1 - t, size * 0.5, size * 0.16, CYAN),
        ]

    small = scene_clip(tmp_path / "small.mp4", 10, two(120), sound=False)
    large = scene_clip(tmp_path / "large.mp4", 56, two(1080), sound=False, width=1920, height=1080)
    command = [sys.executable, "-c", MEMORY, str(ROOT), str(Path(__file__).with_name("clips.py"))]
    command += [str(small), str(large), str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    # 574 on two cores; x264 holds some frames more for every further core.
    assert 100 < int(made.stdout) < 660
