"""TIFF files taken apart. TIFF 6.0; XMP part 3; for writing see `codecs.tiff`."""

from __future__ import annotations

from dataclasses import replace

from ..metadata import photoshop, xmp
from ..metadata.content import MAX_PART, Metadata, Parts, Warn
from ..metadata.exif import ORIENTATION, STRUCTURAL, exif_of_tiff, resolution
from ..metadata.ifd import LONG, DamagedDirectory, Structure, keep_entries, set_integer

XMP, IPTC, PHOTOSHOP, ICC_PROFILE = 700, 33723, 34377, 34675
_SUB_IMAGES, _LAYERS = 330, 37724
# Kept out of what decoders see, beside the metadata: they would apply an orientation, or complain.
_NOT_FOR_DECODERS = {ORIENTATION, XMP, IPTC, PHOTOSHOP, ICC_PROFILE, _SUB_IMAGES, _LAYERS, 282, 283, 296}


def take_apart(data: bytes, warn: Warn, strict: bool) -> Parts:
    """Raises ValueError without a directory of pixels."""
    try:
        structure = Structure.of(data)
        main = structure.directory(structure.first)
    except DamagedDirectory as error:
        raise ValueError("is truncated or damaged: its directory lies outside the file") from error
    parts: dict[int, bytes] = {}
    for tag in (XMP, IPTC, PHOTOSHOP, ICC_PROFILE):
        entry = main.find(tag)
        if entry is not None and entry.size > MAX_PART:
            warn(f"its TIFF tag {tag} ({entry.size:,} bytes) is too large and left out")
        elif entry is not None:
            parts[tag] = structure.value(entry)
            if tag == IPTC and entry.kind == LONG:
                parts[tag] = _as_written(parts[tag])
    optional = [tag for tag in main.broken if tag not in STRUCTURAL or tag in _NOT_FOR_DECODERS]
    if optional:
        warn(f"its TIFF tags {', '.join(map(str, optional))} are damaged and left out")
    if main.find(_SUB_IMAGES):
        warn("holds further images (SubIFDs); they are left out")
    if main.find(_LAYERS):
        warn("its Photoshop layers are left out")
    resources = photoshop.clean_resources(parts[PHOTOSHOP], warn) if PHOTOSHOP in parts else None
    if IPTC in parts:
        resources = photoshop.with_iptc(resources, parts[IPTC])
    dpi, aspect = resolution(structure, main)
    orientation = structure.integer(main, ORIENTATION, 1)
    packet = parts.get(XMP)
    metadata = Metadata(xmp=None if packet is None else xmp.upright(packet), photoshop=resources, aspect=aspect)
    found = Parts(
        _for_decoders(data),
        metadata,
        parts.get(ICC_PROFILE),
        exif_of_tiff(structure, main, warn),
        orientation if orientation in range(1, 9) else 1,
        dpi,
    )
    return replace(found, several=_is_directory(structure, main.next))


def _is_directory(structure: Structure, position: int) -> bool:
    try:
        return position != 0 and bool(structure.directory(position).entries)
    except DamagedDirectory:
        return False


def _for_decoders(data: bytes) -> bytes:
    changed = bytearray(data)
    structure = Structure.of(changed)
    main = structure.directory(structure.first)
    set_integer(changed, structure, main.find(ORIENTATION), 1)
    keep_entries(changed, structure, structure.first, lambda tag: tag in STRUCTURAL and tag not in _NOT_FOR_DECODERS)
    return bytes(changed)


def _as_written(records: bytes) -> bytes:
    """Some programs store IPTC as 32-bit numbers in the file's byte order. Its records begin with 0x1C."""
    if records.startswith(b"\x1c"):
        return records
    swapped = b"".join(records[at : at + 4][::-1] for at in range(0, len(records), 4))
    return swapped if swapped.startswith(b"\x1c") else records
