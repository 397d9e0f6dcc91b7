"""Archives on Ray Data, on two nodes; and processes that are killed."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from codeformer_core.pipeline.bulk.engine_ray import RayEngine
from codeformer_core.pipeline.bulk.restore_bulk import restore_bulk

from .cheap import LOCAL, Brighter, CheapModels, Ending, blue_image, image_bytes, is_brighter, write_images
from .test_local import failures_of, files_below, records_of, sums

ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python")
Cluster = importlib.import_module("ray.cluster_utils").Cluster

ROOT = Path(__file__).parents[3]
# Workers import this folder's modules. Ray's own niceness would let them starve beside other programs.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
# Ray would end workers where other programs take the machine's memory.
ENVIRONMENT |= {"RAY_memory_monitor_refresh_ms": "0"}
RAY = replace(LOCAL, engine="ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def engine(environment):
    """On a cluster of two nodes."""
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        assert len([found for found in ray.nodes() if found["Alive"]]) == 2
        yield RayEngine(workers=1)
    finally:
        ray.shutdown()
        cluster.shutdown()


def workers(name: str) -> list[psutil.Process]:
    """The processes of this test's Ray that run a step, those that have begun."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
            if f"({name})" in title and "__init__" not in title:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_killed_workers_lose_nothing(tmp_path, engine):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 24)
    killed: list[str] = []

    def kill(step):
        for process in workers(step)[:1]:
            process.send_signal(signal.SIGKILL)
            killed.append(step)

    def kill_early():
        """Those that may have gone when the first result comes."""
        for step in ("_Prepare", "_Restore"):
            while step not in killed:
                kill(step)
                time.sleep(0.5)

    def kill_late(what, progress):
        if progress.done and "_Finish" not in killed:
            kill("_Finish")

    watcher = threading.Thread(target=kill_early, daemon=True)
    watcher.start()
    report = restore_bulk([str(source)], str(target), CheapModels(), RAY, engine=engine, on_progress=kill_late)
    watcher.join(10)
    assert sorted(killed) == ["_Finish", "_Prepare", "_Restore"]
    assert sums(report) == (24, 24, 0, 0)
    assert files_below(target) == files_below(source)
    assert set(Counter(record["key"] for record in records_of(target)).values()) == {1}
    assert all(is_brighter((target / name).read_bytes()) for name in files_below(target))


def test_an_image_that_ends_its_worker_takes_no_other_along(tmp_path, engine):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 6)
    (source / "blue.png").write_bytes(blue_image())
    (source / "broken.png").write_bytes(b"no image")
    options = replace(RAY, attempts=2)
    report = restore_bulk([str(source)], str(target), CheapModels(Ending()), options, engine=engine)
    assert sums(report) == (8, 6, 2, 0)
    rows = {Path(row["source"]).name: row for row in failures_of(report)}
    assert set(rows) == {"blue.png", "broken.png"}
    assert "worker ended" in rows["blue.png"]["reason"] and rows["broken.png"]["step"] == "preparing"
    assert files_below(target) == files_below(source) - {"blue.png", "broken.png"}


def test_shards_and_the_same_bytes_as_in_one_process(tmp_path, engine):
    source = tmp_path / "in"
    write_images(source, 20)
    (source / "group.png").write_bytes(image_bytes(3, faces=12, side=256))
    options = replace(RAY, kind="shards", pack_images=8)
    report = restore_bulk([str(source)], str(tmp_path / "shards"), CheapModels(), options, engine=engine)
    assert sums(report) == (21, 21, 0, 0) and report.faces == 32
    import webdataset

    shards = sorted(map(str, (tmp_path / "shards").glob("*.tar")))
    samples = {sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)}
    restore_bulk([str(source)], str(tmp_path / "local"), CheapModels(), LOCAL)
    assert {f"{key}.png" for key in samples} == files_below(tmp_path / "local")
    for key, sample in samples.items():
        assert sample["png"] == (tmp_path / "local" / f"{key}.png").read_bytes()
        assert json.loads(sample["json"])["of"] <= 8


def test_models_that_cannot_be_loaded_end_the_run(tmp_path, engine):
    write_images(tmp_path / "in", 2)

    class Unloadable(CheapModels):
        def load(self):
            raise ValueError("codeformer.pth is damaged")

    with pytest.raises(RuntimeError, match=r"could not load its models: codeformer\.pth is damaged"):
        restore_bulk([str(tmp_path / "in")], str(tmp_path / "out"), Unloadable(), RAY, engine=engine)


WHOLE_RUN = """
import sys
from codeformer_core.pipeline.bulk.restore_bulk import restore_bulk
from tests.core.bulk.cheap import LOCAL, Brighter, CheapModels
restore_bulk([sys.argv[1]], sys.argv[2], CheapModels(Brighter(seconds=0.05)), LOCAL)
"""


def test_a_run_that_is_killed_whole_is_continued(tmp_path, environment):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 80)
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-c", WHOLE_RUN, str(source), str(target)]
        run = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ}, start_new_session=True)
    try:
        for _ in range(3000):
            if run.poll() is not None or any(path.stat().st_size for path in (target / "_bulk").glob("journal/*")):
                break
            time.sleep(0.05)
        assert run.poll() is None, (tmp_path / "log").read_text()
    finally:
        family = [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=30)
        run.wait()
    done = len(records_of(target))
    assert 0 < done < 80
    report = restore_bulk([str(source)], str(target), CheapModels(Brighter()), LOCAL)
    assert sums(report) == (80, 80 - done, 0, done)
    assert files_below(target) == files_below(source)
    assert set(Counter(record["key"] for record in records_of(target)).values()) == {1}
    assert {path.name for path in (target / "_bulk").iterdir()} == {"journal", "settings.json"}
