"""Colorizing: the published recipe on aligned crops; in whole pictures the faces and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.events import METHOD_KINDS
from codeformer_core.imaging.gray import LUMA_RGB
from codeformer_core.pipeline.colorize import colorize_aligned, colorize_photos

from .conftest import GivenDetector, InvertingRestorer, placed_face
from .facts import facts, kinds, steps
from .test_parity_networks import assert_equal_enough

HEIGHT, WIDTH = 180, 260
FACE, OTHER = placed_face(80, 80, 26, 10), placed_face(190, 90, 30, -8)
DETECTOR = GivenDetector(((FACE, OTHER),))


@dataclass
class Painter:
    """Stands for a colorization network: the face's gray, half as bright, in orange."""

    name: str = "painter.pth"
    tasks: tuple[str, ...] = ("colorization",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    batches: list[int] = field(default_factory=list)
    fidelities: list[float] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return 2

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        assert faces_B3HW.shape[1:] == (3, 512, 512) and faces_B3HW.dtype == torch.float32
        self.batches.append(len(faces_B3HW))
        self.fidelities.append(fidelity)
        gray_B1HW = (faces_B3HW + 1).mean(1, keepdim=True) / 2
        return gray_B1HW * torch.tensor((0.9, 0.5, 0.1)).view(3, 1, 1) * 2 - 1


class NoDetector:
    """Must not be asked."""

    name = "none"
    default_confidence = 0.5
    module = None

    def bytes_for(self, images_BHWC: Tensor) -> int:
        raise AssertionError("no face should be looked for")

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[cf.Face]]:
        raise AssertionError("no face should be looked for")


@pytest.fixture(scope="module")
def photo(astronaut: Tensor) -> Tensor:
    """(1, 180, 260, 3), in colour; the faces' places in it are made up."""
    return astronaut[None, 40 : 40 + HEIGHT, 100 : 100 + WIDTH].clone()


@pytest.fixture(scope="module")
def gray_photo(photo: Tensor) -> Tensor:
    return luma(photo)[..., None].expand(-1, -1, -1, 3).contiguous()


def luma(images_BHW3: Tensor) -> Tensor:
    return images_BHW3[..., :3] @ images_BHW3.new_tensor(LUMA_RGB) / sum(LUMA_RGB)


def spread(images_BHW3: Tensor) -> Tensor:
    """How far the channels are apart."""
    return images_BHW3.amax(-1) - images_BHW3.amin(-1)


# --- aligned crops ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_aligned_crops_are_colorized_as_published(published_state, golden, astronaut):
    restorer = cf.load_restorer(published_state("codeformer_colorization"))
    published = load_file(golden / "networks" / "codeformer_colorization.safetensors")["output_w0_adain1"]
    colorized = colorize_aligned(astronaut[None], restorer=restorer)
    ours_13HW = colorized.images_BHWC.permute(0, 3, 1, 2) * 2 - 1
    assert_equal_enough(ours_13HW[:, :, ::4, ::4], published.clamp(-1, 1))
    assert facts(colorized) == [
        ("faces", None, {"colorized": 1}),
        ("task_assumed", None, {"restorer": "the given state dict", "task": "colorization"}),
        ("colorized_by", None, {"restorer": "the given state dict"}),
        ("fidelity", None, {"fidelity": 0}),
        ("redrawn", None, {}),
    ]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(512, 512), (90, 120)])
def test_crops_keep_their_number_size_and_alpha(astronaut, channels, size):
    height, width = size
    given = torch.stack([astronaut[:height, :width].roll(step, 0) for step in (0, 7, 20)])
    given = torch.cat((given, given[..., :1].roll(3, 1)), -1)[
        ..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    ]
    before, painter = given.clone(), Painter()
    colorized = colorize_aligned(given, restorer=painter)
    assert colorized.images_BHWC.shape == (3, height, width, 4 if channels in (2, 4) else 3)
    assert spread(colorized.images_BHWC[..., :3]).mean() > 0.1
    if channels in (2, 4):
        assert torch.equal(colorized.images_BHWC[..., 3], given[..., -1])
    assert torch.equal(given, before)
    assert painter.batches == [2, 1] and painter.fidelities == [0, 0]
    resized = ("crops_resized", None, {"width": 120, "height": 90, "size": 512})
    assert (resized in facts(colorized)) == (size != (512, 512))


def test_only_the_colours(astronaut):
    given = luma(astronaut[None])[..., None].expand(-1, -1, -1, 3) * 0.6 + 0.2
    whole, chroma = (
        colorize_aligned(given, restorer=Painter(), chroma_only=chroma_only) for chroma_only in (False, True)
    )
    assert (luma(whole.images_BHWC) - luma(given)).abs().mean() > 0.1
    assert torch.allclose(luma(chroma.images_BHWC), luma(given), atol=1e-5)
    assert spread(chroma.images_BHWC).mean() > 0.1
    assert "brightness_kept" in kinds(chroma) and "redrawn" in kinds(whole)


def test_a_crop_of_one_colour_is_no_face(astronaut):
    given = torch.stack((torch.full((512, 512, 3), 0.5), astronaut))
    painter = Painter()
    colorized = colorize_aligned(given, restorer=painter)
    assert painter.batches == [1]
    assert torch.equal(colorized.images_BHWC[0], given[0]) and not torch.equal(colorized.images_BHWC[1], given[1])
    assert facts(colorized, "faces", "blank_crop") == [("faces", None, {"colorized": 1}), ("blank_crop", 0, {})]
    assert steps(colorize_aligned(given[:1], restorer=painter)) == {None: {"colorized": 0}}


@pytest.mark.parametrize("task", ["restoration", "inpainting", "autoencoder"])
def test_a_model_of_another_task_is_refused_with_the_one_to_choose(photo, task):
    words = rf"some\.pth is a model for {task}; colorizing .*: choose codeformer_colorization\.pth"
    other = InvertingRestorer(name="some.pth", tasks=(task,))
    with pytest.raises(ValueError, match=words):
        colorize_aligned(photo, restorer=other)
    with pytest.raises(ValueError, match=words):
        colorize_photos(photo, restorer=other, face_source=DETECTOR)


def test_a_colorization_model_restores_nothing(photo):
    with pytest.raises(ValueError, match=r"painter\.pth is a model for colorization; .*choose codeformer\.pth"):
        cf.restore_aligned(photo, restorer=Painter())


def test_fidelity_outside_0_to_1(photo):
    with pytest.raises(ValueError, match="fidelity must be from 0"):
        colorize_aligned(photo, restorer=Painter(), fidelity=1.5)
    with pytest.raises(ValueError, match="fidelity must be from 0"):
        colorize_photos(photo, restorer=Painter(), face_source=DETECTOR, fidelity=float("nan"))


# --- whole pictures --------------------------------------------------------------------------------------------------


def test_faces_of_a_gray_photo_get_colour_and_keep_their_brightness(gray_photo):
    before = gray_photo.clone()
    colorized = colorize_photos(gray_photo, restorer=Painter(), face_source=DETECTOR)
    images_BHW3, masks_BHW = colorized.images_BHWC, colorized.masks_BHW
    assert torch.equal(gray_photo, before) and images_BHW3.shape == gray_photo.shape
    assert torch.equal(images_BHW3[masks_BHW == 0], gray_photo[masks_BHW == 0])
    assert 0.05 < (masks_BHW > 0).float().mean() < 0.9
    assert spread(images_BHW3)[masks_BHW > 0.99].mean() > 0.1
    assert torch.allclose(luma(images_BHW3), luma(gray_photo), atol=1e-4)
    assert colorized.faces.per_image == ((FACE, OTHER),)
    assert steps(colorized) == {0: {"found": 2, "colorized": 2}}
    assert sorted(facts(colorized, *METHOD_KINDS)) == [
        ("brightness_kept", None, {}),
        ("colorized_by", None, {"restorer": "painter.pth"}),
        ("detector", None, {"detector": "given"}),
        ("fidelity", None, {"fidelity": 0}),
        ("mask_head", None, {}),
    ]


def test_the_whole_face(gray_photo):
    colorized = colorize_photos(
        gray_photo, restorer=Painter(), face_source=DETECTOR, chroma_only=False, mask="box", fidelity=0.25
    )
    inside_BHW = colorized.masks_BHW > 0.99
    expected_BHW3 = gray_photo * torch.tensor((0.9, 0.5, 0.1))
    assert (colorized.images_BHWC - expected_BHW3)[inside_BHW].abs().mean() < 0.01
    assert steps(colorized) == {0: {"found": 2, "colorized": 2}} and "mask_box" in kinds(colorized)


def test_a_photo_in_colour_gets_new_colours(photo):
    colorized = colorize_photos(photo, restorer=Painter(), face_source=DETECTOR)
    assert (colorized.images_BHWC - photo)[colorized.masks_BHW > 0.99].abs().mean() > 0.02


def test_as_many_pictures_as_came_with_and_without_faces(gray_photo):
    batch = torch.cat((gray_photo, gray_photo.flip(2), gray_photo), 0)
    batch = torch.cat((batch, torch.rand(batch[..., :1].shape)), -1)
    batch[:, 0, 0, 0] = torch.arange(3) / 255
    face_source = GivenDetector(((FACE,), (), (OTHER,)))
    colorized = colorize_photos(batch, restorer=Painter(), face_source=face_source)
    assert colorized.images_BHWC.shape == batch.shape
    assert torch.equal(colorized.images_BHWC[..., 3], batch[..., 3])
    assert [torch.equal(ours, given) for ours, given in zip(colorized.images_BHWC, batch, strict=True)] == [
        False,
        True,
        False,
    ]
    assert steps(colorized)[1] == {"found": 0, "colorized": 0}


def test_without_a_face_nothing_changes_and_no_network_runs(photo):
    painter = Painter()
    colorized = colorize_photos(photo, restorer=painter, face_source=GivenDetector(((),)))
    assert torch.equal(colorized.images_BHWC, photo) and not colorized.masks_BHW.any()
    assert painter.batches == [] and colorized.faces.count == 0
    assert steps(colorized) == {0: {"found": 0, "colorized": 0}} and "colorized_by" not in kinds(colorized)


def test_faces_that_are_given_replace_the_detection(photo):
    given = FaceBatch.of(photo, [[FACE]])
    colorized = colorize_photos(photo, restorer=Painter(), face_source=given)
    expected = colorize_photos(photo, restorer=Painter(), face_source=GivenDetector(((FACE,),)))
    assert torch.equal(colorized.images_BHWC, expected.images_BHWC)
    assert steps(colorized) == {0: {"given": 1, "colorized": 1}}
    with pytest.raises(ValueError, match="the faces belong to 1 image, but 2 images came"):
        colorize_photos(photo.expand(2, -1, -1, -1), restorer=Painter(), face_source=given)


def test_faces_of_other_pictures_are_noticed_and_told_once(photo):
    colorized = colorize_photos(1 - photo, restorer=Painter(), face_source=FaceBatch.of(photo, [[FACE]]))
    assert facts(colorized, "other_image") == [("other_image", 0, {})]


def test_a_wrong_model_is_refused_before_any_face_is_looked_for(photo):
    with pytest.raises(ValueError, match=r"choose codeformer_colorization\.pth"):
        colorize_photos(photo, restorer=InvertingRestorer(), face_source=NoDetector())


def test_cancel_between_batches(photo):
    painter, stages = Painter(), []

    def stop(stage: str, done: int, total: int) -> None:
        stages.append((stage, done, total))
        if stage == "colorizing faces":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        colorize_photos(photo, restorer=painter, face_source=DETECTOR, on_progress=stop)
    assert painter.batches == [] and stages[-1] == ("colorizing faces", 0, 2)
