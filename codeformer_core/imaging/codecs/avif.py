"""Whether this Pillow reads and writes AVIF."""

from __future__ import annotations

from PIL import Image


def require_avif(name: str) -> None:
    """Raise ImportError, naming the file and the fix, where Pillow can't."""
    Image.init()
    if "AVIF" not in Image.SAVE:
        raise ImportError(
            f"{name}: AVIF needs Pillow 11.3 or newer, built with libavif: pip install --upgrade pillow, or take PNG, "
            "JPEG, WebP or TIFF"
        )
