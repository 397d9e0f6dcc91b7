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

from .clips import Brighter, DiskDetector, decoded, packets, same_samples, scene_clip, times
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
