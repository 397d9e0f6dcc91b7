"""Events as text, in both languages: the only place where sentences are compared."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import errno
import re
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import pytest

import codeformer_core as cf
from codeformer_core.commands import errors
from codeformer_core.commands import reports as commands
from codeformer_core.faces.events import KINDS, METHOD_KINDS, SKIP_KINDS, Event, SkippedFace
from codeformer_core.pipeline.report import MAX_LINES, SMALL_BATCH, report, report_lines
from codeformer_core.pipeline.report_texts import LANGUAGES
from codeformer_core.pipeline.report_texts.texts import Texts
from codeformer_core.runtime.errors import ExistingFileError, InputError, InputProblem

from .conftest import placed_face

FACE = placed_face(30, 110, 10)
AT = "({:.0f}, {:.0f})".format(*FACE.center_xy)
ENGLISH, CHINESE = LANGUAGES["en"], LANGUAGES["zh"]
LAYOUT = [field.name for field in dataclasses.fields(Texts) if field.type == "str"]


def counted(image: int | None, **steps: int) -> Event:
    return Event("faces", image, values=steps)


def small(image: int, size: float = 20.0) -> Event:
    return SkippedFace(FACE, "too_small", {"size": size, "limit": 30}).as_event(image)


MADE_WITH = (
    Event("detector", values={"detector": "yunet"}),
    Event("mask_outline_instead"),
    Event("fidelity", values={"fidelity": 0.5}),
    Event("restored_by", values={"restorer": "codeformer.pth"}),
)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_has_its_text(language):
    assert set(LANGUAGES[language].events) == set(KINDS) - {"faces"}
    assert len(KINDS) == len(set(KINDS))


def test_both_languages_use_the_same_values():
    for kind, text in ENGLISH.events.items():
        assert fields(text) == fields(CHINESE.events[kind]), kind
    for name in LAYOUT:
        assert fields(getattr(ENGLISH, name)) == fields(getattr(CHINESE, name)), name
    assert ENGLISH.steps.keys() == CHINESE.steps.keys()


def test_chinese_is_chinese():
    same = {kind for kind, text in CHINESE.events.items() if not re.search("[\u4e00-\u9fff]", text)}
    assert same == {"sha256", "measured", "adjusted"}, "these have no words but names"
    assert all(re.search("[\u4e00-\u9fff]", word) for word in (*CHINESE.steps.values(), *CHINESE.words.values()))


def test_what_is_said_is_no_front_ends():
    assert not [text for text in ENGLISH.events.values() if re.search(r"connect|--|Cure|slider", text)]


# --- totals, images, what made them ----------------------------------------------------------------------------------


def test_one_image():
    events = [counted(0, found=2, restored=1), small(0), *MADE_WITH]
    assert report_lines(events) == [
        "2 faces found, 1 restored, 1 skipped",
        f"  face at {AT}: smaller than 30 px (it is 20 px)",
        "restored by codeformer.pth, fidelity 0.5, mask: outline from landmarks (there is no face parser), "
        "detector: yunet",
    ]
    assert report_lines(events, "zh") == [
        "找到 2 张人脸，修复 1 张，跳过 1 张",
        f"  {AT} 处的人脸：小于 30 像素（实为 20 像素）",
        "修复模型：codeformer.pth，保真度 0.5，遮罩：由关键点绘制的轮廓（没有人脸解析模型），检测器：yunet",
    ]


def test_a_small_batch_has_a_line_for_each_image_after_the_totals():
    events = [counted(0, found=1, restored=1), counted(1, found=0, restored=0), Event("other_image", 0)]
    assert report_lines(events) == [
        "2 images: 1 face found, 1 restored",
        "image 1: 1 face found, 1 restored; looks like another image than the one in which its faces were found",
        "image 2: 0 faces found, 0 restored",
    ]
    assert report_lines(events, "zh") == [
        "2 张图片：找到 1 张人脸，修复 1 张",
        "图片 1：找到 1 张人脸，修复 1 张；看起来不是找到人脸时的那张图片",
        "图片 2：找到 0 张人脸，修复 0 张",
    ]


def test_of_more_images_only_those_with_something_to_say():
    count = SMALL_BATCH + 1
    events = [counted(image, found=2, restored=2 - (image == 3)) for image in range(count)] + [small(3)]
    assert report_lines(events) == [
        f"{count} images: {2 * count} faces found, {2 * count - 1} restored, 1 skipped",
        "image 4: 2 faces found, 1 restored, 1 skipped",
        f"  face at {AT}: smaller than 30 px (it is 20 px)",
    ]


def test_a_thousand_images_stay_short():
    events = [counted(image, found=2, restored=1) for image in range(1000)]
    events += [small(image, 10 + image / 100) for image in range(0, 1000, 2)]
    events += [Event("duplicate", image, FACE) for image in range(1, 4)] + [Event("images_changed", 7)]
    assert report_lines([*events, *MADE_WITH])[:-1] == [
        "1000 images: 2000 faces found, 1000 restored, 503 skipped",
        "500 faces (image 1, 3, 5, 7, 9, 11, 13, 15 and 492 more): smaller than 30 px (it is 10 to 20 px)",
        "3 faces (image 2-4): the same face as another detection with a better score",
        "image 8: changed since its faces were picked; all are kept",
    ]
    assert report_lines(events, "zh")[1:3] == [
        "500 张人脸（图片 1, 3, 5, 7, 9, 11, 13, 15 及另外 492 张）：小于 30 像素（实为 10 至 20 像素）",
        "3 张人脸（图片 2-4）：与另一个得分更高的检测结果是同一张脸",
    ]
    assert len(report_lines(events)) < MAX_LINES


def test_faces_that_have_numbers_are_called_by_them():
    skipped = SkippedFace(FACE, "turned", {"yaw": 52.3, "limit": 30, "number": 2})
    events = [skipped.as_event(0), counted(0, given=3, selected=2)]
    assert report_lines(events) == [
        "3 faces given, 2 selected, 1 skipped",
        "  face 2: turned by about 52 degrees, more than 30",
    ]
    assert report_lines(events, "zh")[1] == "  人脸 2：转头约 52 度，超过 30 度"


def test_steps_of_one_image_are_joined_whoever_counted_them():
    events = [counted(0, found=3), Event("detector", values={"detector": "yunet"}), counted(0, picked=2)]
    assert report_lines(events) == ["3 faces found, 2 picked", "detector: yunet"]


def test_crops_are_counted_without_images():
    events = [
        counted(None, filled=1),
        Event("nothing_marked", 0),
        Event("filled_share", 1, values={"share": 0.0123}),
        Event("crops_resized", values={"width": 300, "height": 200, "size": 512}),
        Event("filled_by", values={"restorer": "filler.pth"}),
    ]
    assert report_lines(events) == [
        "1 face filled",
        "image 1: nothing is marked",
        "image 2: 1% filled",
        "crops of 300x200 pixels were resized to 512x512 and back",
        "filled by filler.pth",
    ]


def test_facts_without_a_count_name_their_image():
    events = [Event("landmarks_lost", 1, FACE, {"components": ("nose", "mouth")})]
    lost = "its 68 landmarks have no nose, mouth within the crop; the five points place its components"
    assert report_lines(events) == [f"image 2: face at {AT}: {lost}"]
    assert "缺少鼻子、嘴；" in report(events, "zh")


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.001, "<1%"), (0.25, "25%"), (0.994, "99%"), (0.999, ">99%"), (1, "100%")]
)
def test_shares_never_round_to_nothing_or_all(share, text):
    assert report([Event("filled_share", 0, values={"share": share})]) == f"image 1: {text} filled"


def test_degradations_of_an_image_share_its_line():
    events = [
        Event("strokes", 0, values={"count": 1}),
        Event("blur", 0, values={"sigma": 3.21}),
        Event("color_shift", 0, values={"red": 3.0, "green": -2.0, "blue": 0.0}),
        Event("adjusted", 0, values={"what": "contrast", "factor": 1.1}),
    ]
    assert report(events) == (
        "image 1: 1 white stroke; blur of sigma 3.2 px; colors shifted by +3, -2, +0; contrast 1.10"
    )
    assert report(events, "zh") == "图片 1：1 道白色笔画；模糊 sigma 3.2 像素；颜色偏移 +3, -2, +0；对比度 1.10"
    few = [Event("gray", image) for image in range(MAX_LINES) for _ in range(3)]
    assert len(report_lines(few)) == MAX_LINES
    many = [Event("strokes", image, values={"count": 1 + image}) for image in range(50)]
    assert report(many) == "image 1-50: 1 to 50 white strokes"


def test_measures_are_a_table_with_means():
    rows = [(31.25, 0.9), (float("inf"), 0.8)]
    events = [
        Event("measured", image, values=dict(zip(("PSNR dB", "SSIM"), row, strict=True)))
        for image, row in enumerate(rows)
    ]
    lines = report_lines([*events, Event("alpha_ignored")])
    assert [line.split() for line in lines] == [
        ["image", "PSNR", "dB", "SSIM"],
        ["1", "31.25", "0.9000"],
        ["2", "inf", "0.8000"],
        ["mean", "inf", "0.8500"],
        ["transparency", "was", "not", "looked", "at"],
    ]
    assert len({len(line) for line in lines[:4]}) == 1
    assert len(report_lines(events[:1])) == 2, "no mean of one"
    assert report_lines(events, "zh")[-1].split()[0] == "平均"


# --- what a front end adds -------------------------------------------------------------------------------------------


def test_a_front_ends_cure_follows_what_it_cures_once():
    cures = {"other_image": "Give the right one", "mask_outline_instead": "Get a parser", "no_mask": "unused"}
    events = [counted(0, found=1), counted(1, found=1), Event("other_image", 0), Event("other_image", 1), *MADE_WITH]
    lines = report_lines(events, "en", cures)
    assert lines[1].endswith("its faces were found. Give the right one") and lines[2].endswith("its faces were found")
    assert lines[3].endswith("detector: yunet. Get a parser")
    assert report_lines(events, "zh", {"other_image": "请给出原图"})[1].endswith("的那张图片。请给出原图")


def test_a_result_is_reported_as_its_events():
    @dataclasses.dataclass
    class Result:
        events: tuple[Event, ...]

    assert report(Result(MADE_WITH)) == report(MADE_WITH)
    assert cf.report is report and report([]) == ""


def literals(path: Path) -> dict[str, Any]:
    """The tables of a module that can't be imported without its host."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict)
    }


def test_cures_are_for_kinds_that_there_are_in_every_language():
    nodes = literals(Path(__file__).parents[2] / "nodes" / "reports.py")
    for cures in (nodes["CURES"], commands.CURES):
        assert cures.keys() == LANGUAGES.keys() and cures["en"].keys() == cures["zh"].keys()
        assert cures["en"] and set(cures["en"]) <= set(KINDS)
    for fixes in (nodes["FIXES"], errors.FIXES):
        assert fixes and set(fixes) <= set(get_args(InputProblem))


# --- the command line's part -----------------------------------------------------------------------------------------


def asked(language: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(language=language)


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "de_DE.UTF-8"}, "en"),
        ({"LANG": "de_DE", "LC_ALL": "zh_TW"}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": ""}, "zh"),
    ],
)
def test_the_language_is_the_systems_unless_one_is_asked_for(monkeypatch, variables, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert commands.language_of(asked()) == language
    assert commands.language_of(asked("en")) == "en" and commands.language_of(asked("zh")) == "zh"


def test_a_picture_of_many_has_one_line():
    events = [counted(0, found=2, restored=1), small(0)]
    assert commands.in_one_line(events, asked("en")) == (
        f"2 faces found, 1 restored, 1 skipped; face at {AT}: smaller than 30 px (it is 20 px)"
    )
    assert "；" in commands.in_one_line(events, asked("zh"))
    assert "--holes" in commands.in_one_line([Event("no_white_pixel")], asked("en"))


def test_errors_end_in_the_option_that_helps():
    error = ExistingFileError(errno.EEXIST, "exists already and is kept", "a.png")
    assert errors.one_line(error) == "a.png: exists already and is kept. --overwrite replaces it"
    assert errors.one_line(InputError("there is no parser", "no_parser")) == (
        "there is no parser. --download fetches it"
    )
    assert errors.one_line(InputError("other images", "faces_of_other_images")) == "other images"


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("faces", "measured")])
def test_every_text_can_be_filled_in(kind, language):
    image = 0 if kind in SKIP_KINDS else None
    # What has a format is a number.
    values = {name: 2 if spec else "word" for _, name, spec, _ in Formatter().parse(ENGLISH.events[kind]) if name}
    event = Event(kind, image, FACE if image == 0 else None, values)
    text = report([event], language)
    assert text and "{" not in text and "}" not in text
    assert (kind in METHOD_KINDS) <= ("\n" not in text)
