"""How a face goes into its image, as options of a command: those of `PasteOptions`."""

from __future__ import annotations

import argparse

from ..faces.choices import REGIONS
from ..pipeline.options import MaskKind, PasteOptions, RestoreOptions
from .errors import UsageError
from .values import add_option

# Their values when they aren't given.
DEFAULTS = {
    "regions": (),
    "grow": 0.0,
    "feather": 0.0,
    "opacity": 1.0,
    "color_match": "automatic",
    "chroma_only": False,
}


def add_pasting(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the arguments; `paste_options` makes one value of them."""
    pasting = parser.add_argument_group("pasting", "pixels are those of the 512x512 crop in which a face is restored")
    pasting.add_argument(
        "--regions",
        type=_regions,
        default=(),
        metavar="NAME,...",
        help=f"paste only these parts of a face, in place of --mask: {', '.join(REGIONS)} (needs ParseNet)",
    )
    add_option(
        pasting,
        PasteOptions,
        "grow",
        "--grow",
        metavar="PIXELS",
        help="move the mask's edge outwards, or inwards if negative; a box can only shrink",
    )
    add_option(
        pasting, PasteOptions, "feather", "--feather", metavar="PIXELS", help="fade the mask's edge over so many pixels"
    )
    add_option(
        pasting, PasteOptions, "opacity", "--opacity", help="how much of the restored face shows, 0..1 (default 1)"
    )
    add_option(
        pasting,
        PasteOptions,
        "color_match",
        "--color-match",
        help="colours of the face: automatic (default), the light and skin tone that it had in its photo; "
        "low-frequency, that of the result's background; mean-std, the background's mean and contrast per channel; "
        "off, the restorer's",
    )
    add_option(
        pasting,
        PasteOptions,
        "chroma_only",
        "--chroma-only",
        help="keep the image's brightness, take only the face's colours",
    )


def check_pasting(args: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other or --parity."""
    if args.regions and args.mask != "auto":
        raise UsageError("--regions takes the place of --mask: leave one of them out")
    try:
        RestoreOptions(parity=args.parity, paste=paste_options(args, "face"))
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def paste_options(args: argparse.Namespace, mask: MaskKind) -> PasteOptions:
    """The `PasteOptions` of a command.

    mask: what --mask stands for.
    """
    return PasteOptions(mask=mask, **{name: getattr(args, name) for name in DEFAULTS})


def _regions(text: str) -> tuple[str, ...]:
    # Here and not above: it needs torch, which --help need not wait for.
    from ..faces.regions import parse_regions

    try:
        return parse_regions(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
