"""Fills in what only whoever publishes the pack knows: python -m tools.release_fields PUBLISHER REPOSITORY TAG.

Writes PublisherId, Icon, Banner and the repository's address into pyproject.toml, for the release workflow.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
ICON, BANNER = "docs/images/icon.png", "docs/images/banner.webp"


def filled(pyproject: str, publisher: str, repository: str, tag: str) -> str:
    """The text of pyproject.toml with the fields of a release.

    publisher: id in the registry.
    repository: address, such as https://github.com/OWNER/NAME.
    tag: "v" and the version in `pyproject`.
    Raises ValueError for a tag of another version, and where a field is missing.
    """
    version = re.search(r'(?m)^version = "([^"]+)"$', pyproject)
    if version is None or tag != f"v{version[1]}":
        raise ValueError(
            f"tag {tag}: pyproject.toml has version {version[1] if version else 'none'}; tag that, or change it"
        )
    if not publisher or not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"publisher {publisher!r}, repository {repository!r}: give both, the address as on GitHub")
    files = f"{repository.replace('github.com', 'raw.githubusercontent.com')}/{tag}"
    fields = {"PublisherId": publisher, "Icon": f"{files}/{ICON}", "Banner": f"{files}/{BANNER}"}
    for name, value in fields.items():
        pyproject, count = re.subn(rf'(?m)^{name} = ""$', f'{name} = "{value}"', pyproject)
        if count != 1:
            raise ValueError(f'pyproject.toml: expected one line {name} = "", found {count}')
    return pyproject.replace("[tool.comfy]", f'[project.urls]\nRepository = "{repository}"\n\n[tool.comfy]', 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("publisher")
    parser.add_argument("repository")
    parser.add_argument("tag")
    args = parser.parse_args()
    text = filled(PYPROJECT.read_text(encoding="utf-8"), args.publisher, args.repository, args.tag)
    PYPROJECT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
