"""The three steps of an image: its faces are found, restored together with those of others, and put back.

Each takes and gives `Work`, so that an engine may run them in one process or on many machines. What goes wrong with an
image is noted in it, and the others continue.
Shape legend: N faces, S side of an aligned crop, H W height and width.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...imaging.codecs.content import Picture
from ...imaging.codecs.encode import encode
from ...imaging.codecs.suffixes import WRITABLE
from ...imaging.files import decode_image
from ...models.restorer import check_task, fidelity_of
from ...runtime import memory
from ..align import AlignedFace
from ..detail import detail_of
from ..plan import Plan, plan
from ..restore import Models, restore_crops
from ..results import RestoredFace
from ..steps import Prepared, gray_images, paste_restored, prepare, recipe_of
from .listing import read_source
from .record import face_records, image_record
from .source import BulkSource, result_place

if TYPE_CHECKING:
    from ...faces.detection import FaceDetector
    from ..person import Person
    from .options import BulkOptions

logger = logging.getLogger(__name__)

PREPARING, RESTORING, FINISHING, WRITING = "preparing", "restoring", "finishing", "writing"
STAGES = (PREPARING, RESTORING, FINISHING, WRITING)
# From so many faces of an image on they travel between machines in half precision: 1,000 faces are 2 GB then. The
# difference is an eighth of a step of 8-bit images.
_MANY_FACES = 100


@dataclass
class Work:
    """An image on its way.

    data: the file's bytes.
    planned: its faces.
    crops_N3SS: the faces as they were, RGB [0, 1].
    gray: whether it has no colour.
    restored_N3SS, masks_NSS: the faces as the network made them, and how much of each is to show.
    detail, restorer, fidelity: how they were made.
    opened: the image as it was read and as it is worked on; it stays in its process.
    encoded, record: the result's bytes, and what is to know of it.
    failure: the step that failed, and why.
    full: whether the target can take no more.
    seconds: of each step.
    """

    source: BulkSource
    data: bytes = b""
    planned: Plan | None = None
    crops_N3SS: Tensor | None = None
    gray: bool = False
    restored_N3SS: Tensor | None = None
    masks_NSS: Tensor | None = None
    detail: tuple[float, float] = (0.0, 0.0)
    restorer: str = ""
    fidelity: float | None = None
    opened: tuple[Picture, Prepared] | None = None
    encoded: bytes = b""
    record: dict[str, Any] = field(default_factory=dict[str, Any])
    failure: tuple[str, str] | None = None
    full: bool = False
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def faces(self) -> Sequence[AlignedFace]:
        return self.planned.aligned if self.planned else ()

    @property
    def bytes_open(self) -> int:
        """What the image takes of the memory while it is open."""
        return (
            0
            if self.opened is None
            else sum(
                image.numel() * image.element_size() for image in (self.opened[0].image_HWC, self.opened[1].rgb_BHW3)
            )
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "opened": None}
        for name in ("crops_N3SS", "restored_N3SS", "masks_NSS"):
            value: Tensor | None = state[name]
            if value is not None:
                array = value.cpu().numpy()
                state[name] = array.astype(np.float16) if len(self.faces) > _MANY_FACES else array
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("crops_N3SS", "restored_N3SS", "masks_NSS"):
            if state[name] is not None:
                # Copied: what comes from shared memory can't be written to.
                state[name] = torch.from_numpy(np.array(state[name], np.float32))
        self.__dict__.update(state)

    def fail(self, stage: str, error: BaseException) -> None:
        """Note what went wrong; nothing of the image stays in memory."""
        text = " ".join(str(error).split())
        expected = isinstance(error, ValueError | OSError | ImportError | RuntimeError) and bool(text)
        self.failure = stage, text if expected else f"{type(error).__name__}: {text}"
        self.data = self.encoded = b""
        self.crops_N3SS = self.restored_N3SS = self.masks_NSS = self.planned = self.opened = None


@contextmanager
def _noting(work: Work, stage: str) -> Generator[None]:
    """Errors are noted in the work, and the time that the step takes."""
    started = time.perf_counter()
    try:
        yield
    except Exception as error:  # noqa: BLE001 - noted; it goes to the table of failures
        work.fail(stage, error)
    finally:
        work.seconds[stage] = work.seconds.get(stage, 0.0) + time.perf_counter() - started


def prepare_images(
    sources: Iterable[BulkSource], detector: FaceDetector, options: BulkOptions, person: Person | None
) -> list[Work]:
    """Read, decode, find the faces and cut them out."""
    return [_prepare_image(source, detector, options, person) for source in sources]


@torch.no_grad()
def _prepare_image(source: BulkSource, detector: FaceDetector, options: BulkOptions, person: Person | None) -> Work:
    work = Work(source)
    with _noting(work, PREPARING):
        work.data = read_source(source)
        _, prepared = work.opened = _open(work, options)
        recipe = recipe_of(options.restore)
        planned = plan(prepared.rgb_BHW3, detector, options.restore, recipe, prepared.sizes, person=person)
        faces = planned.aligned
        if faces:
            memory.require(len(faces) * 8 * 512 * 512 * 4, "cpu", f"{source.name}: restoring {len(faces)} faces")
            work.crops_N3SS = torch.stack([recipe.crop(prepared.rgb_BHW3[0], one.matrix) for one in faces])
            work.gray = bool(gray_images(prepared.rgb_BHW3, faces))
        work.planned = planned
    return work


def _open(work: Work, options: BulkOptions) -> tuple[Picture, Prepared]:
    picture = decode_image(work.data, work.source.name, strict=options.strict)
    return picture, prepare(picture.image_HWC[None], options.restore)


@torch.no_grad()
def restore_works(works: Sequence[Work], models: Models, options: BulkOptions) -> None:
    """Restore the faces of many images in full batches."""
    waiting = [work for work in works if work.failure is None]
    started = time.perf_counter()
    try:
        _restore_together(waiting, models, options)
    except Exception as error:  # noqa: BLE001 - noted below; one image must not take the others along
        if len(waiting) == 1:
            waiting[0].fail(RESTORING, error)
        else:
            logger.warning("%d images could not be restored together, so each is alone: %s", len(waiting), error)
            for work in waiting:
                with _noting(work, RESTORING):
                    _restore_together([work], models, options)
    else:
        faces = sum(len(work.faces) for work in waiting)
        seconds = time.perf_counter() - started
        for work in waiting:
            work.seconds[RESTORING] = seconds * len(work.faces) / faces if faces else seconds / len(waiting)


def _restore_together(works: Sequence[Work], models: Models, options: BulkOptions) -> None:
    restorer = models.restorer
    check_task(restorer, "restoration")
    fidelity = fidelity_of(restorer, options.restore.fidelity)
    # Each face with its crop and whether its image is gray, whatever image it comes from.
    faces: list[tuple[AlignedFace, Tensor, bool]] = []
    for work in works:
        if work.crops_N3SS is not None:
            faces += [(one, crop, work.gray) for one, crop in zip(work.faces, work.crops_N3SS, strict=True)]

    def run(part: slice) -> list[RestoredFace]:
        aligned, crops, gray = zip(*faces[part], strict=True)
        return restore_crops(aligned, torch.stack(crops), models, options.restore, gray)

    made: list[RestoredFace] = []
    if faces:
        for _, batch in memory.in_batches(len(faces), options.restore.batch_size or restorer.faces_at_once(), run):
            made += batch
    start = 0
    for work in works:
        own = made[start : start + len(work.faces)]
        start += len(work.faces)
        if own:
            work.restored_N3SS = torch.stack([face.restored_3HW for face in own]).cpu()
            masks = [face.mask_HW for face in own if face.mask_HW is not None]
            work.masks_NSS = torch.stack(masks).cpu() if masks else None
        # They are cut again where the faces are put back, which costs less than sending them.
        work.crops_N3SS = None
        work.detail = detail_of(options.restore.detail, restorer, fidelity)
        work.restorer, work.fidelity = restorer.name, fidelity if restorer.uses_fidelity else None


def finish_works(works: Iterable[Work], options: BulkOptions) -> None:
    """Put the restored faces back, encode the images and say what was done."""
    for work in works:
        if work.failure is None:
            with _noting(work, FINISHING):
                _finish(work, options)


@torch.no_grad()
def _finish(work: Work, options: BulkOptions) -> None:
    assert work.planned is not None
    picture, prepared = work.opened or _open(work, options)
    recipe = recipe_of(options.restore)
    faces = [
        RestoredFace(
            one,
            recipe.crop(prepared.rgb_BHW3[0], one.matrix),
            work.restored_N3SS[index],
            None if work.masks_NSS is None else work.masks_NSS[index],
        )
        for index, one in enumerate(work.faces)
        if work.restored_N3SS is not None
    ]
    pasted = paste_restored(prepared, work.planned, faces, options.restore, work.detail)
    image_HWC = pasted.images_BHWC[0]
    place = result_place(work.source.place, options.file_format, picture.format)
    file_format = WRITABLE["." + place.rpartition(".")[2].lower()]
    changed = bool(pasted.faces[0]) or image_HWC.shape != picture.image_HWC.shape or recipe.is_official
    if changed or file_format != picture.format:
        work.encoded = encode(replace(picture, image_HWC=image_HWC), file_format, work.source.name)
    else:
        # Encoded once more it would only lose.
        work.encoded = work.data
    work.record = image_record(work.source, place, picture, image_HWC.shape, face_records(pasted))
    work.record |= {"restorer": work.restorer, "fidelity": work.fidelity}
    work.data, work.opened, work.planned, work.restored_N3SS, work.masks_NSS = b"", None, None, None, None
