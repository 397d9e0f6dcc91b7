"""The steps at which restoring images can differ, as this project does them; `reference` has the official ones.

Shape legend: B images, H W their height and width; N faces, S side of an aligned crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..faces.detection import FaceDetector
from ..faces.events import SkipKind
from ..faces.geometry import crop_face
from ..faces.order import reading_order
from ..faces.parsing import FaceParser
from ..faces.selection import Selection, choose_faces
from ..faces.types import Face
from ..imaging.gray import match_gray
from .background import Resize, Upscaler, resize_background
from .color_match import match_color
from .composite import NewFace, Target, composite
from .detail import PhotoDetail, with_photos_detail
from .judge import Judgement, judge
from .options import PasteOptions, RestoreOptions
from .paste_masks import MaskMaker, make_mask_maker
from .results import RestoredFace
from .sizes import Sizes, plan_sizes


class Recipe:
    """Float from end to end; images keep their size unless an upscale was asked for."""

    is_official = False
    resize_background: Resize = staticmethod(resize_background)
    keeps_gray = True
    """Whether upscalers give no colour to images without any."""

    def plan_sizes(self, height: int, width: int, upscale: float) -> Sizes:
        return plan_sizes(height, width, upscale)

    def prepare(self, rgb_BHW3: Tensor, _sizes: Sizes) -> Tensor:
        """The images as they are worked on."""
        return rgb_BHW3

    def detector(self, detector: FaceDetector) -> FaceDetector:
        """What looks for the faces."""
        return detector

    def choose(
        self, faces: Sequence[Face], image_size_hw: tuple[int, int], options: RestoreOptions, enlarged: float
    ) -> Selection:
        """Which of an image's detections are restored, in reading order.

        enlarged: pixels of the image as it is worked on per pixel of the image that came.
        """
        chosen = choose_faces(
            faces,
            image_size_hw,
            which=options.faces,
            min_face_size=options.min_face_size * enlarged,
            max_face_size=(options.max_face_size or math.inf) * enlarged,
        )
        return Selection(tuple(reading_order(chosen.kept)), chosen.skipped)

    def crop(self, image_HW3: Tensor, matrix: np.ndarray) -> Tensor:
        """crop_3SS, RGB [0, 1]."""
        return crop_face(image_HW3, matrix)

    def finish_faces(self, faces_N3SS: Tensor) -> Tensor:
        """Restored faces, RGB [0, 1], as they come from the network."""
        return faces_N3SS

    def match_gray(self, faces_N3SS: Tensor, crops_N3SS: Tensor) -> Tensor:
        """Faces of an image without colour, toned like their crops."""
        return match_gray(faces_N3SS, crops_N3SS)

    def face_to_parse(self, network_N3SS: Tensor, _finished_N3SS: Tensor) -> Tensor:
        """What the paste masks are made from, RGB [-1, 1].

        network_N3SS: [-1, 1], as the network made them.
        _finished_N3SS: [0, 1], as they will be pasted.
        """
        return network_N3SS

    def mask_maker(self, options: PasteOptions, parser: FaceParser | None) -> MaskMaker:
        return make_mask_maker(options, parser)

    def beside_photo(
        self, restored: RestoredFace, image_HW3: Tensor, detail: tuple[float, float], options: RestoreOptions
    ) -> tuple[Tensor, Judgement | None]:
        """The restored face, RGB [0, 1], with its photo's own colours and detail; and how it compares with what it was.

        detail: see `detail.detail_of`.
        """
        face_3SS, crop_3SS = restored.restored_3HW, restored.crop_3HW
        if options.paste.color_match == "automatic" and not options.paste.chroma_only:
            face_3SS = match_color(face_3SS, crop_3SS, restored.mask_HW, "low-frequency")
        judged = options.when_worse != "paste"
        if not (judged or any(detail)):
            return face_3SS, None
        photo = PhotoDetail.of(crop_3SS)
        face_3SS = with_photos_detail(face_3SS, photo, image_HW3, restored.aligned.matrix, *detail)
        return face_3SS, judge(face_3SS, crop_3SS, photo) if judged else None

    def composite(
        self, target: Target, new: NewFace, options: PasteOptions, face_upscaler: Upscaler | None, _upscale: float
    ) -> SkipKind | None:
        """Blend one face into its image, in place. The reason where nothing of it shows."""
        return composite(target, new, options, face_upscaler)

    def finish(self, _canvas_BHW3: Tensor) -> None:
        """Last change of the result, in place."""


USUAL = Recipe()
