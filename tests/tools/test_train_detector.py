"""Scenes, targets, loss and steps of the starter detector's training, on made-up faces and small scenes."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from codeformer_core.faces.detectors.starter.decode import cells, decode
from codeformer_core.faces.detectors.starter.detector import build_starter_detector
from codeformer_core.faces.detectors.starter.network import OUTPUTS, STRIDES, StarterNetwork
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.runtime.memory import NotEnoughMemory
from codeformer_core.training.engine.trainer import NotFinite
from codeformer_core.weights.metadata import CheckpointMetadata
from tools.train_detector.__main__ import main
from tools.train_detector.backgrounds import Backgrounds, read_backgrounds
from tools.train_detector.feed import batches
from tools.train_detector.fit import DetectorFit, FitOptions
from tools.train_detector.labels import FACE_BOX, find_labels, read_labels, refined_label, write_labels
from tools.train_detector.loss import losses_of
from tools.train_detector.pasting import Paste, paste
from tools.train_detector.portraits import portrait_of, require_memory, turned
from tools.train_detector.scenes import Scene, SceneMaker
from tools.train_detector.targets import EITHER, FACE, NOTHING, SIZES, targets_of

# BGR of the dots that a made-up face has for its five landmarks.
DOTS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
SIDE = 96


def dotted_face() -> np.ndarray:
    """uint8 BGR (512, 512, 3): gray, with a dot of its own colour on each landmark."""
    import cv2

    face = np.full((512, 512, 3), 90, np.uint8)
    for (x, y), color in zip(TEMPLATE_XY, DOTS, strict=True):
        cv2.circle(face, (round(x), round(y)), 14, color, -1)
    return face


def dot_at(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """The middle (x, y) of the pixels that look like `color`."""
    away = np.abs(picture.astype(int) - color).max(axis=-1)
    rows, columns = np.nonzero(away < 100)
    return np.array((columns.mean(), rows.mean()))


@pytest.fixture(scope="module")
def portraits():
    return [portrait_of(dotted_face(), TEMPLATE_XY, np.array(FACE_BOX))]


@pytest.fixture(scope="module")
def maker(portraits):
    return SceneMaker(portraits, Backgrounds([], portraits), seed=3, side=SIDE)


@pytest.fixture
def face_folder(tmp_path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(dotted_face()[..., ::-1] // (number + 1)).save(folder / f"{number}.png")
    return folder


def one_face(box: tuple[float, float, float, float], *, is_wanted: bool = True, side: int = 320) -> Scene:
    points_52 = np.array(box[:2]) + np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]) * (
        np.array(box[2:]) - box[:2]
    )
    picture = np.zeros((side, side, 3), np.uint8)
    return Scene(picture, np.array([box]), points_52[None], np.array([is_wanted]))


def test_landmarks_lie_where_the_face_was_pasted(portraits):
    angle = math.radians(25)
    linear = 0.3 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.hstack((linear, [[90.0], [20.0]]))
    portrait = portraits[0]
    rng = np.random.default_rng(0)
    new = Paste.of(rng, portrait.levels[1], matrix, TEMPLATE_XY, portrait.outline_P2, 256, is_tile=True)
    picture = np.full((256, 256, 3), 90, np.uint8)
    paste(picture, new)
    for color, point in zip(DOTS, new.landmarks_52, strict=True):
        np.testing.assert_allclose(dot_at(picture, color), point, atol=0.5)
    left, top, right, bottom = new.box
    assert left < new.landmarks_52[:, 0].min() and new.landmarks_52[:, 0].max() < right
    assert top < new.landmarks_52[:, 1].min() and new.landmarks_52[:, 1].max() < bottom


@pytest.mark.parametrize("degrees", [-35, -15, 30])
@pytest.mark.parametrize("level", [0, 1])
def test_a_turned_head_takes_its_landmarks_along(portraits, degrees, level):
    picture, landmarks_52, outline_P2 = turned(portraits[0], level, math.radians(degrees))
    side = picture.shape[0]
    for color, point in zip(DOTS, landmarks_52, strict=True):
        found = (dot_at(picture, color) + 0.5) * 512 / side - 0.5
        np.testing.assert_allclose(found, point, atol=7)
    middle = (landmarks_52[0, 0] + landmarks_52[1, 0]) / 2
    assert np.sign(landmarks_52[2, 0] - middle) == np.sign(degrees)
    assert np.ptp(landmarks_52[:2, 0]) < np.ptp(TEMPLATE_XY[:2, 0])
    assert outline_P2[:, 0].min() < landmarks_52[:, 0].min() + 1


def test_a_scene_follows_from_seed_and_number(maker):
    first, again, other = maker.make(5), maker.make(5), maker.make(6)
    np.testing.assert_array_equal(first.image_SSC, again.image_SSC)
    np.testing.assert_array_equal(first.landmarks_N52, again.landmarks_N52)
    assert not np.array_equal(first.image_SSC, other.image_SSC)
    different_seed = SceneMaker(maker.portraits, maker.backgrounds, seed=4, side=SIDE)
    assert not np.array_equal(first.image_SSC, different_seed.make(5).image_SSC)


def test_scenes_hold_faces_of_all_kinds_and_sometimes_none(maker):
    scenes = [maker.make(index) for index in range(120)]
    assert all(scene.image_SSC.shape == (SIDE, SIDE, 3) for scene in scenes)
    assert all(scene.image_SSC.dtype == np.uint8 for scene in scenes)
    counts = [len(scene.boxes_N4) for scene in scenes]
    assert min(counts) == 0 and max(counts) > 5
    boxes_N4 = np.concatenate([scene.boxes_N4[scene.is_wanted_N] for scene in scenes])
    widths_N = boxes_N4[:, 2] - boxes_N4[:, 0]
    assert len(widths_N) > 100 and widths_N.min() < 16 and widths_N.max() > 60
    unwanted = sum(int((~scene.is_wanted_N).sum()) for scene in scenes)
    assert unwanted > 0


@pytest.mark.parametrize("size", [12.0, 38.0, 60.0, 90.0, 200.0])
def test_targets_come_back_from_perfect_answers(size):
    scene = one_face((100.3, 90.7, 100.3 + size, 90.7 + size))
    targets = targets_of(scene)
    is_face_A = targets.kind_A == FACE
    assert 1 <= is_face_A.sum() <= 2 * 9
    grid = cells(320, 320)
    levels = set((grid.units_A[torch.from_numpy(is_face_A)] / 4).int().tolist())
    assert levels == {stride for stride, (low, high) in SIZES.items() if low <= size < high}

    answer_A15 = torch.zeros(len(is_face_A), OUTPUTS)
    boxes_A4, points_A52 = torch.from_numpy(targets.boxes_A4), torch.from_numpy(targets.points_A52)
    units_A1 = grid.units_A[:, None]
    answer_A15[:, 0] = torch.where(torch.from_numpy(is_face_A), 12.0, -12.0)
    answer_A15[:, 1:3] = ((boxes_A4[:, :2] + boxes_A4[:, 2:]) / 2 - grid.centers_A2) / units_A1
    answer_A15[:, 3:5] = torch.log((boxes_A4[:, 2:] - boxes_A4[:, :2]).clamp(min=1) / units_A1)
    answer_A15[:, 5:] = ((points_A52 - grid.centers_A2[:, None]) / units_A1[:, None]).flatten(1)
    counts = [(320 // stride) ** 2 for stride in STRIDES]
    outputs = [
        part_A15.T.reshape(1, OUTPUTS, 320 // stride, 320 // stride)
        for part_A15, stride in zip(answer_A15.split(counts), STRIDES, strict=True)
    ]
    answers = decode(outputs, grid)
    chosen = torch.from_numpy(is_face_A)
    torch.testing.assert_close(answers.boxes_BA4[0, chosen], boxes_A4[chosen], atol=1e-3, rtol=0)
    torch.testing.assert_close(answers.points_BA52[0, chosen], points_A52[chosen], atol=1e-3, rtol=0)
    losses = losses_of(answers, torch.from_numpy(targets.kind_A)[None], boxes_A4[None], points_A52[None])
    assert float(losses.total) < 1e-4
    worse = losses_of(answers, torch.from_numpy(targets.kind_A)[None], boxes_A4[None] + 2, points_A52[None] + 2)
    assert float(worse.box) > float(losses.box) and float(worse.landmarks) > float(losses.landmarks)


def test_faces_too_small_or_cut_off_are_passed_over():
    targets = targets_of(one_face((100, 100, 140, 140), is_wanted=False))
    assert not (targets.kind_A == FACE).any()
    assert (targets.kind_A == EITHER).sum() > 20
    assert (targets.kind_A == NOTHING).sum() > 1000


def test_a_scene_without_faces_asks_for_nothing():
    picture = np.zeros((64, 64, 3), np.uint8)
    empty = Scene(picture, np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0, bool))
    targets = targets_of(empty)
    assert (targets.kind_A == NOTHING).all()
    grid = cells(64, 64)
    answers = decode([torch.zeros(1, OUTPUTS, 64 // stride, 64 // stride) for stride in STRIDES], grid)
    losses = losses_of(
        answers,
        torch.from_numpy(targets.kind_A)[None],
        torch.from_numpy(targets.boxes_A4)[None],
        torch.from_numpy(targets.points_A52)[None],
    )
    assert float(losses.score) > 0 and float(losses.box) == 0 and float(losses.landmarks) == 0


def test_batches_do_not_depend_on_where_a_run_begins(maker):
    whole = list(batches(maker, 2, 0, 3, workers=2))
    later = list(batches(maker, 2, 2, 3, workers=1))
    assert len(whole) == 3 and len(later) == 1
    assert torch.equal(whole[2].images_BSS3, later[0].images_BSS3)
    assert torch.equal(whole[2].kind_BA, later[0].kind_BA)


OPTIONS = FitOptions(steps=6, batch_size=2, learning_rate=1e-3, save_every=3, log_every=1)


class FewScenes(SceneMaker):
    """The same four scenes again and again."""

    def make(self, index: int) -> Scene:
        return super().make(20 + index % 4)


def test_steps_lower_the_loss(maker, tmp_path):
    seen: list[float] = []
    few = FewScenes(maker.portraits, maker.backgrounds, seed=3, side=SIDE)
    assert any(few.make(index).is_wanted_N.any() for index in range(4))
    options = FitOptions(steps=50, batch_size=4, learning_rate=5e-3, warm_up=1, save_every=50, log_every=1)
    fit = DetectorFit(few, options, tmp_path, torch.device("cpu"))
    result = fit.run(resume=False, on_progress=lambda progress: seen.append(progress.values["loss"]))
    assert result.steps == len(seen) == 50 and result.stopped_by is None
    assert np.mean(seen[-5:]) < 0.85 * np.mean(seen[:5])


def test_a_resumed_run_ends_as_an_uninterrupted_one(maker, tmp_path):
    device = torch.device("cpu")
    whole = DetectorFit(maker, OPTIONS, tmp_path / "whole", device).run(resume=False)

    class Enough(Exception):
        pass

    def stop_after_four(progress):
        if progress.step == 4:
            raise Enough

    with pytest.raises(Enough):
        DetectorFit(maker, OPTIONS, tmp_path / "parts", device).run(resume=False, on_progress=stop_after_four)
    steps: list[int] = []
    parts = DetectorFit(maker, OPTIONS, tmp_path / "parts", device).run(
        resume=True, on_progress=lambda progress: steps.append(progress.step)
    )
    assert steps == [4, 5, 6]
    expected, found = load_file(whole.weights), load_file(parts.weights)
    assert expected.keys() == found.keys() == StarterNetwork().state_dict().keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, msg=key)


def test_what_is_saved_is_a_detector_that_says_what_it_is(maker, tmp_path):
    result = DetectorFit(maker, OPTIONS, tmp_path, torch.device("cpu")).run(resume=False)
    detector = build_starter_detector(load_file(result.weights))
    assert detector.detect(torch.zeros(2, 64, 64, 3), 0.9) == [[], []]
    said = CheckpointMetadata.read(result.weights)
    assert said is not None and said.architecture == "starter_detector"
    assert said.trained["steps"] == "6" and said.trained["seed"] == "3"
    assert result.weights.stat().st_size <= 1_200_000


def test_a_run_in_the_folder_is_gone_on_with_only_as_it_was(maker, tmp_path):
    device = torch.device("cpu")
    DetectorFit(maker, OPTIONS, tmp_path, device).run(resume=False)
    with pytest.raises(ValueError, match="--resume continues"):
        DetectorFit(maker, OPTIONS, tmp_path, device).run(resume=False)
    other = SceneMaker(maker.portraits, maker.backgrounds, seed=9, side=SIDE)
    with pytest.raises(ValueError, match=r"'seed': 3.*'seed': 9"):
        DetectorFit(other, OPTIONS, tmp_path, device).run(resume=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"steps": 0}, "steps must be at least 1"), ({"precision": "float16"}, "float32 or bfloat16")],
)
def test_options_that_make_no_run_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        FitOptions(**changes)


def test_scenes_must_fit_the_coarsest_grid(portraits, tmp_path):
    odd = SceneMaker(portraits, Backgrounds([], portraits), seed=0, side=100)
    with pytest.raises(ValueError, match="divisible by 32, got 100"):
        DetectorFit(odd, OPTIONS, tmp_path, torch.device("cpu"))


class Seeing:
    """A teacher that finds the face beside the template by `shift` pixels, and sees nothing in an empty picture."""

    name = "seeing"
    default_confidence = 0.5
    module = None

    def __init__(self, shift: float) -> None:
        self.shift = shift
        self.calls = 0

    def detect(self, images_BHWC, confidence=None):
        self.calls += 1
        return [[self._face(image_HWC)] for image_HWC in images_BHWC]

    def _face(self, image_HWC) -> Face:
        # First the two rounds of `look_again`, with the face in the middle of a smaller view, then the whole crop.
        side = image_HWC.shape[0]
        scale = 1.0 if side == 512 else (0.45, 0.3)[self.calls % 3 == 1]
        points_52 = (TEMPLATE_XY + self.shift - 255.5) * scale + (side - 1) / 2
        return Face(tuple(np.array(FACE_BOX) + self.shift), tuple(map(tuple, points_52)), 0.9)


class Blind(Seeing):
    def detect(self, images_BHWC, confidence=None):
        return [[] for _ in images_BHWC]


def test_a_teacher_that_sees_nothing_has_no_say(face_folder):
    """Its answer would be the template, which pulls the mean to where the face is not."""
    path = min(face_folder.iterdir())
    template_14 = np.concatenate((TEMPLATE_XY.reshape(10), FACE_BOX)).round(2)
    np.testing.assert_allclose(refined_label(path, [Blind(0)]), template_14)
    np.testing.assert_allclose(refined_label(path, []), template_14)
    seen_14 = refined_label(path, [Seeing(8)])
    assert (seen_14[10:] - FACE_BOX == pytest.approx(8, abs=0.01)) and not np.allclose(seen_14, template_14, atol=1)
    np.testing.assert_allclose(refined_label(path, [Blind(0), Seeing(8)]), seen_14)


def test_labels_are_made_once(face_folder, tmp_path):
    path = tmp_path / "labels.csv"
    (face_folder / 'odd, "name".png').write_bytes(min(face_folder.iterdir()).read_bytes())
    names = sorted(picture.name for picture in face_folder.iterdir())
    told: list[tuple[int, int]] = []
    made = find_labels(path, face_folder, names, {"x": Blind(0)}, lambda *progress: told.append(progress))
    assert told == [(number, len(names)) for number in range(1, len(names) + 1)]
    read = find_labels(path, face_folder, names[::-1], {"x": Blind(0)}, lambda *progress: pytest.fail("made again"))
    assert np.array_equal(read.landmarks_N52, made.landmarks_N52[::-1])
    assert np.array_equal(read.boxes_N4, made.boxes_N4[::-1])
    with pytest.raises(ValueError, match=r"teachers,x.*teachers,y.*--teacher"):
        find_labels(path, face_folder, names, {"y": Blind(0)}, lambda *progress: None)
    path.write_text(path.read_text() + "c.png,1,2\n")
    with pytest.raises(ValueError, match=f"line {len(names) + 2} is not a name with 14 numbers"):
        find_labels(path, face_folder, names, {"x": Blind(0)}, lambda *progress: None)


def test_labels_that_were_made_before_an_end_are_kept(face_folder, tmp_path):
    names = sorted(picture.name for picture in face_folder.iterdir())

    def interrupted(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_labels(tmp_path / "labels.csv", face_folder, names, {"x": Blind(0)}, interrupted)
    assert list(read_labels(tmp_path / "labels.csv", ["x"])) == names[:1]


def test_more_faces_than_fit_into_memory_are_refused(monkeypatch):
    require_memory(1000)
    monkeypatch.setattr("tools.train_detector.portraits.free_bytes", lambda device: 2**30)
    with pytest.raises(NotEnoughMemory, match=r"70000 faces take 38\.\d GiB of memory, and 1\.0 are free"):
        require_memory(70_000)


def test_a_run_that_lost_its_weights_at_the_end_makes_them_again(maker, tmp_path):
    fit = DetectorFit(maker, OPTIONS, tmp_path, torch.device("cpu"))
    weights = fit.run(resume=False).weights
    before = load_file(weights)
    weights.unlink()
    after = load_file(DetectorFit(maker, OPTIONS, tmp_path, torch.device("cpu")).run(resume=True).weights)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_no_number_is_not_saved(maker, tmp_path):
    """Also where a signal asks for it between two lines of the log."""
    fit = DetectorFit(maker, replace(OPTIONS, log_every=1000), tmp_path, torch.device("cpu"))
    with torch.no_grad():
        fit.network.sides[0].weight.fill_(math.nan)
    with pytest.raises(NotFinite, match="step 2"):
        fit.run(resume=False, on_progress=lambda progress: signal.raise_signal(signal.SIGTERM))
    assert fit.checkpoints.newest() is None and not (tmp_path / "starter_detector.safetensors").exists()


def test_backgrounds_are_photos_of_a_folder(tmp_path, portraits):
    assert read_backgrounds(None) == []
    with pytest.raises(ValueError, match="no photo in it"):
        read_backgrounds(tmp_path)
    Image.new("RGB", (2000, 500), (255, 0, 0)).save(tmp_path / "red.png")
    (photo,) = read_backgrounds(tmp_path)
    assert photo.shape == (320, 1280, 3) and photo[0, 0].tolist() == [0, 0, 255]
    drawn = [Backgrounds([photo], portraits).draw(np.random.default_rng(seed), 64) for seed in range(30)]
    assert all(scene.shape == (64, 64, 3) and scene.dtype == np.uint8 for scene in drawn)
    assert any((scene == (0, 0, 255)).all() for scene in drawn)


def run_command(capsys, *words: object) -> tuple[int, str]:
    code = main([*map(str, words)])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_command_trains_and_goes_on(face_folder, tmp_path, capsys):
    output = tmp_path / "run"
    names = sorted(path.name for path in face_folder.iterdir())
    output.mkdir()
    # Labels that lie there are taken; looking at every face again takes seconds.
    row_14 = np.concatenate((TEMPLATE_XY.reshape(10), FACE_BOX))
    write_labels(output / "labels.csv", ["yunet"], dict.fromkeys(names, row_14))
    words = ("--faces", face_folder, "-o", output, "--steps", 1, "--batch-size", 1, "--device", "cpu")
    code, text = run_command(capsys, *words)
    assert code == 0 and "detector: 1 steps done" in text
    assert (output / "starter_detector.safetensors").is_file()
    code, text = run_command(capsys, *words)
    assert code == 1 and "--resume continues" in text
    code, text = run_command(capsys, *words, "--resume")
    assert code == 0 and "1 steps done" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--faces", "nowhere"), "there is no such folder"),
        (("--faces", "EMPTY"), "no face in it"),
        (("--faces", "FACES", "--backgrounds", "nowhere"), "there is no such folder"),
        (("--faces", "FACES", "--steps", "0"), "--steps 0: at least 1"),
        (("--faces", "FACES", "--seed", "-1"), "--seed -1: 0 or more"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(words, expected, face_folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"FACES": str(face_folder), "EMPTY": str(empty)}
    code, text = run_command(capsys, *(places.get(word, word) for word in words), "-o", tmp_path / "run")
    assert code == 2 and expected in text
    assert not (tmp_path / "run").exists()


def test_faces_of_another_size_are_named(tmp_path, capsys):
    folder = tmp_path / "small"
    folder.mkdir()
    Image.new("RGB", (256, 256)).save(folder / "small.png")
    code, text = run_command(capsys, "--faces", folder, "-o", tmp_path / "run", "--steps", 1, "--device", "cpu")
    assert code == 1 and "small.png: aligned faces are 512x512, this is 256x256" in text
