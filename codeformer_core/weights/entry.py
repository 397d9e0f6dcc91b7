"""One weight file as data: where it comes from, how it is known, and what its licence is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

Task = Literal[
    "restoration",
    "colorization",
    "inpainting",
    "autoencoder",
    "detection",
    "parsing",
    "segmentation",
    "alignment",
    "identity",
    "upscaling",
    "evaluation",
    "detail",
]


@dataclass(frozen=True)
class CatalogEntry:
    """One file.

    name: what a user types.
    filename: its name on disk.
    url, mirrors: tried in this order. No url for a file that comes with this package alone, or that no address gives.
    size: bytes, or None where nobody recorded it.
    sha256: 64 lowercase hex digits or None.
    folder: the folder's name below a models root, as ComfyUI users have it.
    sha256_confirmed: False when the hash comes from a single source; then a mismatch only warns.
    aliases: other file names of the same bytes.
    bundled: it comes with this package, in its assets.
    by_hand: how to get a file that no address gives.
    uses_fidelity: whether fidelity changes a restorer's faces.
    strengths: what it is good at, in a few words.
    """

    name: str
    filename: str
    task: Task
    url: str | None
    mirrors: tuple[str, ...]
    size: int | None
    sha256: str | None
    sha256_confirmed: bool
    licence: str
    licence_note: str
    folder: str
    aliases: tuple[str, ...] = ()
    bundled: bool = False
    by_hand: str | None = None
    uses_fidelity: bool = True
    strengths: str = ""

    def __post_init__(self) -> None:
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError(f"{self.name}: sha256 must be 64 lowercase hex digits, got {self.sha256!r}")
        if self.sha256_confirmed and self.sha256 is None:
            raise ValueError(f"{self.name}: a confirmed sha256 is needed, got None")
        for file_name in (self.filename, *self.aliases):
            if not file_name or PurePath(file_name).name != file_name or "\\" in file_name:
                raise ValueError(f"{self.name}: a plain file name is needed, got {file_name!r}")
        if (self.url is not None or self.bundled) == (self.by_hand is not None):
            raise ValueError(
                f"{self.name}: a file that doesn't come with the package needs an address, or else words for how to "
                f"get it; got url {self.url!r}, by_hand {self.by_hand!r}"
            )

    @property
    def can_be_fetched(self) -> bool:
        """Whether `download` may be asked for it, and not the user alone."""
        return self.by_hand is None

    @property
    def expectation(self) -> str:
        """Size and hash in words, for messages: what a good file looks like."""
        parts: list[str] = []
        if self.size is not None:
            parts.append(f"{self.size:,} bytes")
        if self.sha256 is not None:
            parts.append(f"sha256 {self.sha256}" + ("" if self.sha256_confirmed else " (from a single source)"))
        return ", ".join(parts) or "size and hash are not known"

    @property
    def how_to_get(self) -> str:
        """The way to the file in words, for messages."""
        if self.by_hand is not None:
            return self.by_hand
        if self.url is None:
            return "install this package again, which brings it"
        return f"`python -m codeformer_core weights download {self.name}`, or by hand from {self.url}"
