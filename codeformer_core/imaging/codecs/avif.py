"""Whether this Pillow reads and writes AVIF."""

from __future__ import annotations

from PIL import Image


def require_avif(name: str) -> None:
    """Raise ImportError, naming the file and the cure, where Pillow can't."""
    Image.init()
    if "AVIF" not in Image.SAVE:
        raise ImportError(
            f"{name}: AVIF needs Pillow 11.3 or newer, built with libavif; cure: pip install --upgrade pillow, or "
            "use PNG, JPEG, WebP or TIFF"
        )
