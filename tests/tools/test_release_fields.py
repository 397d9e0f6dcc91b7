"""The fields of a release: all that the registry asks for is there, and only for the version that is tagged."""

from __future__ import annotations

import pytest

from tests.core.test_architecture import ROOT
from tools.release_fields import BANNER, ICON, PYPROJECT, filled

REPOSITORY = "https://github.com/someone/ComfyUI-CodeFormer"


def test_a_release_has_every_field():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 can't read TOML")
    text = PYPROJECT.read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    release = tomllib.loads(filled(text, "someone", REPOSITORY, f"v{version}"))
    assert release["project"]["urls"] == {"Repository": REPOSITORY}
    comfy = release["tool"]["comfy"]
    assert comfy["PublisherId"] == "someone"
    for name, file in (("Icon", ICON), ("Banner", BANNER)):
        assert comfy[name] == f"https://raw.githubusercontent.com/someone/ComfyUI-CodeFormer/v{version}/{file}"
        assert (ROOT / file).is_file()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("publisher", "repository", "tag", "message"),
    [
        ("someone", REPOSITORY, "v0.0.9", "tag v0.0.9: pyproject.toml has version"),
        ("", REPOSITORY, None, "give both"),
        ("someone", "ComfyUI-CodeFormer", None, "give both"),
    ],
)
def test_what_is_not_a_release_is_refused(publisher, repository, tag, message):
    text = PYPROJECT.read_text(encoding="utf-8")
    version = text.split('\nversion = "')[1].split('"')[0]
    with pytest.raises(ValueError, match=message):
        filled(text, publisher, repository, tag or f"v{version}")
