"""The flat options of the WebUI: the core's ranges, infotext there and back, errors. Without a host."""

from __future__ import annotations

import re

import pytest

import codeformer_core as cf
from codeformer_webui.options import (
    AFTER_OVERLAY,
    DEFAULTS,
    FAILED_KEY,
    KEYS,
    RECORDS,
    Wanted,
    infotext_of,
    middle_of,
    option,
    values_in,
)


def test_the_defaults_are_the_cores():
    options = DEFAULTS.restore_options()
    assert options == cf.RestoreOptions()
    for name in RECORDS:
        assert getattr(DEFAULTS, name) in (option(name).default, 0.0)


def test_every_option_reaches_the_core():
    wanted = DEFAULTS.with_values(
        {
            "fidelity": 0.3,
            "opacity": 0.4,
            "faces": "largest",
            "min_face_size": 10,
            "max_face_size": 500,
            "confidence": 0.6,
            "when_worse": "leave",
            "mask": "box",
            "color_match": "off",
            "detail": "keep",
        }
    )
    assert wanted.restore_options(upscale=2.0) == cf.RestoreOptions(
        fidelity=0.3,
        upscale=2.0,
        confidence=0.6,
        min_face_size=10,
        max_face_size=500,
        faces="largest",
        detail=1.0,
        when_worse="leave",
        paste=cf.PasteOptions(mask="box", opacity=0.4, color_match="off"),
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"fidelity": 1.5}, "fidelity must be from 0 to 1"),
        ({"fidelity": True}, "fidelity"),
        ({"opacity": None}, "Opacity must be a number"),
        ({"opacity": "0.5"}, "Opacity must be a number"),
        ({"faces": "smallest"}, "all, largest, center"),
        ({"detail": "some"}, "automatic, keep, off"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"order": "never"}, "order"),
        ({"fidelty": 0.5}, "unknown: fidelty"),
    ],
)
def test_what_is_wrong_is_named(values, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        DEFAULTS.with_values(values)


def test_infotext_keys_survive_the_hosts_readers():
    """A1111's reader takes word characters, spaces and a few signs; SD.Next's takes no signs."""
    for key in (*KEYS.values(), FAILED_KEY):
        assert re.fullmatch(r"\w[\w ]+", key)
    assert len(set(KEYS.values())) == len(KEYS)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(model="codeformer.pth", fidelity=0.25),
        Wanted(second_model="GFPGANv1.4.pth", fidelity=0.0, opacity=0.5, faces="center", order=AFTER_OVERLAY),
        Wanted(min_face_size=64.0, max_face_size=512.0, when_worse="paste", mask="outline"),
    ],
)
def test_an_infotext_says_it_all_again(wanted):
    written = {key: str(value) for key, value in infotext_of(wanted).items()}
    assert DEFAULTS.with_values(values_in(written)) == wanted


def test_an_infotext_names_the_model_that_ran():
    assert infotext_of(Wanted(), "GFPGANv1.4.pth")[KEYS["model"]] == "GFPGANv1.4.pth"
    assert infotext_of(Wanted(model="codeformer.pth (download)"))[KEYS["model"]] == "codeformer.pth"


def test_a_foreign_infotext_says_nothing():
    assert values_in({"Steps": "20", "Face restoration": "CodeFormer"}) == {}
    spoilt = values_in({KEYS["model"]: "auto", KEYS["opacity"]: "much", KEYS["fidelity"]: "?"})
    assert spoilt["opacity"] == 1.0 and spoilt["fidelity"] is None


def test_sliders_have_a_place_for_automatic_values():
    assert middle_of("fidelity") == 0.5
