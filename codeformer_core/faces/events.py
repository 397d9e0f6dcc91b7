"""Facts about what was done to images, without words; `pipeline.report` turns them into sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from .types import Face

Value = int | float | str | tuple[str, ...]

# Why a face is left as it is.
SkipKind = Literal[
    "not_finite",
    "eyes_close",
    "too_small",
    "too_large",
    "duplicate",
    "not_largest",
    "not_center",
    "turned",
    "low_score",
    "not_numbered",
    "not_picked",
    "not_first",
    "outside_mask",
    "no_face_shape",
    "outside_image",
    "opacity_zero",
    "mask_empty",
    "clip_mask_black",
    "crop_unchanged",
    "not_person",
    "is_person",
    "already_sharper",
    "other_person",
]
# What is to know of a whole batch, of an image or of a face.
NoteKind = Literal[
    # faces and their images
    "other_image",
    "images_changed",
    "picks_gone",
    "picks_without_image",
    "numbers_beyond",
    "landmarks_lost",
    "points_outside",
    "face_enlarged",
    "person",
    "faded_softer",
    "faded_other",
    "judged",
    "from_mesh",
    # crops
    "crops_resized",
    "crops_stretched",
    "blank_crop",
    # inpainting
    "filled_share",
    "nothing_marked",
    "face_gone",
    "mask_beside_faces",
    "mask_without_face",
    "no_mask",
    "no_white_pixel",
    "empty_mask",
    # models
    "task_assumed",
    "no_fidelity",
    "own_fidelity",
    "starter",
    "saved",
    "bytes",
    "sha256",
    "rounded",
    # dictionaries
    "atoms",
    "faces_used",
    "images_left_out",
    "faces_reduced",
    "faces_enlarged",
    # comparing and measuring
    "compared_face",
    "compared_first",
    "not_square",
    "no_face",
    "distance",
    "sharpness",
    "best",
    "measured",
    "measured_resized",
    "proportions_differ",
    "one_reference",
    "one_image",
    "alpha_ignored",
    # videos
    "video_frames",
    "video_tracks",
    "video_resumed",
    "video_bridged",
    "video_faded",
    "video_broken",
    "video_restamped",
    "video_cut_short",
    "video_left_out",
    "video_hdr",
    "video_copied",
    "video_encoder",
]
# What happens to an image that is made worse.
DegradationKind = Literal[
    "undamaged",
    "strokes",
    "blur",
    "oval_blur",
    "lens_blur",
    "grain",
    "screen",
    "fading",
    "scratches",
    "scanner_blur",
    "shrunk",
    "noise",
    "jpeg",
    "color_shift",
    "adjusted",
    "gray",
]
# By what the result was made.
MethodKind = Literal[
    "restored_by",
    "colorized_by",
    "filled_by",
    "generated_in",
    "computed_in",
    "fidelity",
    "brightness_kept",
    "redrawn",
    "components_68",
    "components_5",
    "mask_regions",
    "mask_face",
    "mask_mesh",
    "mask_head",
    "mask_face_instead",
    "mask_outline",
    "mask_outline_instead",
    "mask_box",
    "mask_box_instead",
    "official_recipe",
    "detector",
]
# "faces": how many of an image, or of all, were found, restored and so on: values by step.
EventKind = Literal["faces"] | SkipKind | NoteKind | DegradationKind | MethodKind

SKIP_KINDS: tuple[str, ...] = get_args(SkipKind)
METHOD_KINDS: tuple[str, ...] = get_args(MethodKind)
KINDS: tuple[str, ...] = ("faces", *SKIP_KINDS, *get_args(NoteKind), *get_args(DegradationKind), *METHOD_KINDS)


@dataclass(frozen=True)
class Event:
    """One fact.

    image: index in the batch; None for what concerns all images.
    face: which face, in pixels of its image; None for what concerns none or all.
    values: plain values by name; each kind has its own.
    """

    kind: EventKind
    image: int | None = None
    face: Face | None = None
    values: Mapping[str, Value] = field(default_factory=dict[str, "Value"])


@dataclass(frozen=True)
class SkippedFace:
    """A face that is left as it is, and why.

    values: as those of `Event`.
    """

    face: Face
    kind: SkipKind
    values: Mapping[str, Value] = field(default_factory=dict[str, "Value"])

    def as_event(self, image: int) -> Event:
        """image: index in the batch."""
        return Event(self.kind, image, self.face, self.values)
