"""Training faces from a feed: the order, the places, the caches, the workers, and faces that break on the way."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.degradation import PRESETS
from codeformer_core.training.data.cache import CachedFaces
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.draws import Place, Recipe
from codeformer_core.training.data.feed import Batch, Feed
from codeformer_core.training.data.files import FileFaces
from codeformer_core.training.data.flag import Flag
from codeformer_core.training.data.sources import open_faces
from codeformer_core.training.data.tones import Tone, draw_tone, in_tone
from codeformer_core.training.data.work import Assembler

ROOT = Path(__file__).parents[3]
COUNT, SIDE = 24, 16
ALONE = Place(0, 1)
STAGE2 = PRESETS["stage2"]


def face(number: int, side: int = SIDE) -> np.ndarray:
    """A face nobody would know; its first row says which one it is, and no face equals its mirror."""
    pixels_HW3 = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels_HW3[0] = number
    return pixels_HW3


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for number in range(COUNT):
        place = folder / ("even" if number % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        Image.fromarray(face(number)).save(place / f"{number:03d}.png")
    return folder


def config(faces: Path | str, **changes) -> DataConfig:
    plain = DataConfig(str(faces), None, None, "split", True, 0.0, "none", None, 0, "worker")
    return replace(plain, **changes)


def feed(config: DataConfig, *, source=None, start_step: int = 0, batch_size: int = 4, **changes) -> Feed:
    options = {
        "recipe_at": lambda step: Recipe(STAGE2 if step % 2 else None, step / 100),
        "seed": 7,
        "batch_size": batch_size,
        "accumulate": 1,
        "place": ALONE,
        "start_step": start_step,
        "device": torch.device("cpu"),
    }
    return Feed(source or open_faces(config, "train", SIDE), config=config, **{**options, **changes})


def taken(feed: Feed, count: int) -> list[Batch]:
    with closing(feed):
        return list(islice(feed, count))


def same(first: Batch, second: Batch) -> bool:
    """Bytes, names and recipes alike."""
    degraded = [batch.degraded_B3HW for batch in (first, second)]
    same_degraded = degraded[0] is degraded[1] if degraded[0] is None or degraded[1] is None else torch.equal(*degraded)
    return (
        torch.equal(first.clean_B3HW, second.clean_B3HW)
        and same_degraded
        and first.names == second.names
        and first.recipe == second.recipe
    )


def joined(batches: list[Batch]) -> Batch:
    degraded = [batch.degraded_B3HW for batch in batches if batch.degraded_B3HW is not None]
    codes = [batch.codes_BT for batch in batches if batch.codes_BT is not None]
    return Batch(
        torch.cat([batch.clean_B3HW for batch in batches]),
        torch.cat(degraded) if degraded else None,
        torch.cat(codes) if codes else None,
        tuple(name for batch in batches for name in batch.names),
        batches[0].recipe,
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_a_feed_that_starts_later_goes_on_where_another_would_be(faces, tmp_path, workers, cache):
    plain = taken(feed(config(faces)), 9)
    chosen = config(faces, workers=workers, cache=cache, cache_folder=str(tmp_path))
    later = taken(feed(chosen, start_step=5), 4)
    assert all(map(same, plain[5:], later))
    assert not same(plain[0], plain[2])


def test_the_device_cache_draws_the_same_faces_and_degradations(faces):
    on_device = config(faces, degrade_on="device")
    plain = taken(feed(on_device), 9)
    later = taken(feed(replace(on_device, cache="device"), start_step=5), 4)
    assert all(map(same, plain[5:], later))


def test_degrading_in_workers_draws_what_the_device_draws(faces):
    by_worker = taken(feed(config(faces)), 2)
    by_device = taken(feed(config(faces, degrade_on="device")), 2)
    assert torch.equal(by_worker[1].clean_B3HW, by_device[1].clean_B3HW)
    assert by_worker[1].degraded_B3HW is not None and by_device[1].degraded_B3HW is not None
    difference = by_worker[1].degraded_B3HW.int() - by_device[1].degraded_B3HW.int()
    assert difference.abs().float().mean() < 0.1


def test_another_seed_is_another_order(faces):
    assert taken(feed(config(faces)), 1)[0].names != taken(feed(config(faces), seed=8), 1)[0].names


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_places_and_accumulated_parts_together_are_the_whole_batch(faces, accumulate):
    codes_N2T = torch.arange(COUNT * 2 * 3, dtype=torch.int16).reshape(COUNT, 2, 3)
    whole = taken(feed(config(faces), batch_size=8, codes_N2T=codes_N2T), 3)
    places = [
        taken(
            feed(config(faces), batch_size=8, accumulate=accumulate, place=Place(rank, 2), codes_N2T=codes_N2T),
            3 * accumulate,
        )
        for rank in range(2)
    ]
    for step, expected in enumerate(whole):
        parts = [places[rank][step * accumulate + micro] for micro in range(accumulate) for rank in range(2)]
        assert all(len(part.names) == 8 / len(parts) for part in parts)
        together = joined(parts)
        assert same(together, expected)
        assert torch.equal(together.codes_BT, expected.codes_BT) and expected.codes_BT.dtype == torch.int64


def test_every_face_comes_once_per_epoch_and_epochs_differ(faces):
    source = open_faces(config(faces), "train", SIDE)
    batches = taken(feed(config(faces), source=source, batch_size=5), 3 * COUNT // 5 + 1)
    names = [name for batch in batches for name in batch.names]
    epochs = [names[start : start + COUNT] for start in range(0, 3 * COUNT, COUNT)]
    assert all(sorted(epoch) == sorted(source.names) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_half_of_the_draws_are_mirrored_and_codes_with_them(faces):
    source = open_faces(config(faces), "train", SIDE)
    codes_N2T = torch.arange(COUNT * 2).reshape(COUNT, 2, 1)
    flips = []
    for batch in taken(feed(config(faces), source=source, batch_size=16, codes_N2T=codes_N2T), 60):
        for clean_3HW, name, code in zip(batch.clean_B3HW, batch.names, batch.codes_BT[:, 0].tolist(), strict=True):
            index, flipped = divmod(code, 2)
            assert name == source.names[index]
            expected = source.read(index)
            expected = expected[:, ::-1] if flipped else expected
            assert np.array_equal(clean_3HW.permute(1, 2, 0).numpy(), expected)
            flips.append(flipped)
    # Three deviations of a fair coin.
    assert abs(np.mean(flips) - 0.5) < 3 * 0.5 / math.sqrt(len(flips))
    unflipped = taken(feed(config(faces, flip=False), source=source, codes_N2T=codes_N2T), 10)
    assert all((batch.codes_BT % 2 == 0).all() for batch in unflipped)


@pytest.mark.parametrize("options", [{}, {"degrade_on": "device", "cache": "device"}])
def test_a_share_of_the_draws_gets_the_tones_of_old_photos_and_all_else_stays(faces, options):
    plain = taken(feed(config(faces, **options), batch_size=16), 20)
    toned = taken(feed(config(faces, tones=0.25, **options), batch_size=16), 20)
    changed = []
    for before, after in zip(plain, toned, strict=True):
        assert before.names == after.names
        for row, pair in enumerate(zip(before.clean_B3HW, after.clean_B3HW, strict=True)):
            changed.append(not torch.equal(*pair))
            if before.degraded_B3HW is not None and not changed[-1]:
                assert torch.equal(before.degraded_B3HW[row], after.degraded_B3HW[row])
    assert abs(np.mean(changed) - 0.25) < 3 * math.sqrt(0.25 * 0.75 / len(changed))


def test_tones_are_the_same_in_workers_and_on_the_device(faces):
    by_worker = taken(feed(config(faces, tones=1.0)), 2)
    by_device = taken(feed(config(faces, tones=1.0, degrade_on="device", cache="device")), 2)
    assert all(map(torch.equal, *([batch.clean_B3HW for batch in each] for each in (by_worker, by_device))))


def test_a_tone_maps_black_and_white_and_keeps_its_share_of_colour():
    face_3HW = torch.tensor([[0, 255, 255], [0, 255, 0], [0, 255, 0]], dtype=torch.uint8)[:, None]
    red = 255 * 0.299
    gray = in_tone(face_3HW, Tone((0, 0, 0), (1, 1, 1), 0))
    assert gray[:, 0].T.tolist() == [[0] * 3, [255] * 3, [round(red)] * 3]
    brown = in_tone(face_3HW, Tone((0.2, 0.4, 0), (1, 0.8, 0.6), 0.5))
    expected = [51 + 0.8 * red + (255 - red) / 2, 102 + 0.4 * red - red / 2, 0.6 * red - red / 2]
    assert brown[:, 0, :2].T.tolist() == [[51, 102, 0], [255, 204, 153]]
    assert brown[:, 0, 2].tolist() == [round(level) for level in expected]
    assert torch.equal(in_tone(face_3HW, Tone((0, 0, 0), (1, 1, 1), 1)), face_3HW)


def test_drawn_tones_are_of_three_kinds_and_leave_a_picture():
    tones = [draw_tone(torch.Generator().manual_seed(seed)) for seed in range(600)]
    gray = [tone for tone in tones if tone.color == 0]
    assert all(len({*tone.dark_3}) == len({*tone.light_3}) == 1 for tone in gray)
    assert 0.2 < len(gray) / len(tones) < 0.4
    assert all(light - dark > 0.04 for tone in tones for dark, light in zip(tone.dark_3, tone.light_3, strict=True))
    assert max(tone.color for tone in tones) > 1


def test_the_recipe_is_that_of_the_step(faces):
    batches = taken(feed(config(faces, workers=1), accumulate=2, start_step=3), 4)
    assert [batch.recipe.fidelity for batch in batches] == [0.03, 0.03, 0.04, 0.04]
    assert [batch.degraded_B3HW is None for batch in batches] == [False, False, True, True]


def break_face(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"cache": "disk"}, {"cache": "device"}])
def test_a_face_that_breaks_is_named_once_and_replaced_by_the_next(tmp_path, caplog, options):
    # Smooth enough to be large: the header stays whole when the second half is lost.
    for number in range(COUNT):
        Image.fromarray(face(number, 64)).save(tmp_path / f"{number:03d}.png")
    chosen = config(tmp_path, flip=False, cache_folder=str(tmp_path / "cache"), **options)
    source = open_faces(replace(chosen, cache="none"), "train", 64)
    whole = taken(feed(chosen, source=source, recipe_at=lambda step: Recipe(None, None)), 2 * COUNT // 4)
    break_face(tmp_path / "005.png")
    if chosen.cache == "disk":
        source = open_faces(chosen, "train", 64)
        assert isinstance(source, CachedFaces) and [index for index, _ in source.broken] == [5]
    with caplog.at_level(logging.WARNING):
        broken = taken(feed(chosen, source=source, recipe_at=lambda step: Recipe(None, None)), 2 * COUNT // 4)
    expected = [[name.replace("005.png", "006.png") for name in batch.names] for batch in whole]
    assert [list(batch.names) for batch in broken] == expected
    assert [record for record in caplog.messages if "005.png" in record and "truncated" in record] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_run_with_too_many_broken_faces_ends(tmp_path):
    for number in range(10):
        Image.fromarray(face(number, 64)).save(tmp_path / f"{number:03d}.png")
    source = open_faces(config(tmp_path), "train", 64)
    for number in (2, 6):
        break_face(tmp_path / f"{number:03d}.png")
    with pytest.raises(RuntimeError, match=r"2 of 10 faces could not be read, more than 5%.*Check the disk"):
        taken(feed(config(tmp_path), source=source), 5)


def test_what_goes_to_workers_is_small_and_whole(faces, tmp_path):
    for cache in ("none", "disk"):
        source = open_faces(config(faces, cache=cache, cache_folder=str(tmp_path)), "train", SIDE)
        sent = pickle.dumps(Assembler(source, 7, True, 0.0, True))
        assert len(sent) < 300 * COUNT
        assert np.array_equal(pickle.loads(sent).source.read(3), source.read(3))


class Unusable:
    """A source with a fault of its own."""

    names = ("one", "two")
    fingerprint = "0"

    def __len__(self) -> int:
        return 2

    def read(self, index: int) -> np.ndarray:
        raise ZeroDivisionError("by chance")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_names_the_face(faces, workers):
    with pytest.raises(RuntimeError, match=r"^the face (one|two) \(draw \d+\): ZeroDivisionError: by chance$"):
        taken(feed(config(faces, workers=workers), source=Unusable()), 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_worker_that_the_system_kills_is_explained(faces):
    with closing(feed(config(faces, workers=1))) as running:
        batches = iter(running)
        next(batches)
        (worker,) = multiprocessing.active_children()
        # Killed while the feed is at work: torch raises wherever this process is when it hears of it.
        killing = threading.Timer(0.1, os.kill, (worker.pid, signal.SIGKILL))
        killing.start()
        with pytest.raises(RuntimeError, match=r"SIGKILL.*memory was full.*fewer data\.workers"):
            list(islice(batches, 100_000))
        killing.join()


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="the worker would not take over the patch")
def test_a_worker_killed_while_it_asks_whether_to_end_holds_nobody_up(faces, monkeypatch):
    """An event with a lock would stay locked, and the training process would wait for it for ever."""
    asked = Flag.is_set

    def killed_when_asking(self: Flag) -> bool:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return asked(self)

    monkeypatch.setattr(Flag, "is_set", killed_when_asking)
    with pytest.raises(RuntimeError, match="ended by the system: SIGKILL"):
        taken(feed(config(faces, workers=1)), 8)


def test_closing_ends_the_workers_at_once_and_a_feed_can_be_iterated_again(faces):
    running = feed(config(faces, workers=2))
    first = next(iter(running))
    assert len(multiprocessing.active_children()) == 2
    assert same(next(iter(running)), first)
    assert len(multiprocessing.active_children()) == 2
    running.close()
    running.close()
    assert multiprocessing.active_children() == []


SCRIPT = """
import signal, sys, time, torch
from itertools import count
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.draws import Place, Recipe
from codeformer_core.training.data.feed import Feed
from codeformer_core.training.data.sources import open_faces

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
config = DataConfig(sys.argv[1], None, None, "split", True, 0.0, "none", None, 2, "worker")
feed = Feed(open_faces(config, "train", 16), config=config, recipe_at=lambda step: Recipe(None, None), seed=1,
            batch_size=4, accumulate=1, place=Place(0, 1), start_step=0, device=torch.device("cpu"))
batches = iter(feed)
next(batches)
try:
    print("running", flush=True)
    while not asked:
        next(batches)
    for _ in range(20):
        next(batches)
    print("saved", flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups there")
@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "stopped"), (signal.SIGTERM, "saved")])
def test_a_signal_to_all_processes_leaves_the_workers_quiet_and_working(faces, number, said):
    """As Ctrl-C in a terminal does; the program then ends without closing its feed, and at once."""
    program = subprocess.Popen(
        # A machine with one core is warned of two workers.
        [sys.executable, "-W", "ignore:This DataLoader", "-c", SCRIPT, str(faces)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None and program.stdout.readline() == "running\n"
        os.killpg(program.pid, number)
        out, err = program.communicate(timeout=20)
    finally:
        if program.poll() is None:
            program.kill()
    assert (out, err, program.returncode) == (f"{said}\n", "", 0)


def test_batches_that_cannot_be_cut_are_refused_with_all_numbers(faces):
    with pytest.raises(ValueError, match=r"batch of 6 faces .* accumulate 2 x processes 2 = 4"):
        feed(config(faces), batch_size=6, accumulate=2, place=Place(0, 2))


def test_codes_of_other_faces_are_refused(faces):
    with pytest.raises(ValueError, match=r"codes of shape \(5, 2, 3\) for 24 faces"):
        feed(config(faces), codes_N2T=torch.zeros(5, 2, 3))


def test_the_source_is_the_faces(faces):
    source = open_faces(config(faces), "train", SIDE)
    assert isinstance(source, FileFaces) and len(source) == COUNT
    assert list(source.names) == sorted(source.names)
    for name, index in zip(source.names, range(COUNT), strict=True):
        assert np.array_equal(source.read(index), face(int(Path(name).stem)))
