"""RetinaFace and YuNet on real photographs, on pictures that can hold no face, and without their packages."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.faces import detection
from codeformer_core.faces.detectors import retinaface, yunet
from codeformer_core.faces.detectors.retinaface import RetinaFaceDetector, build_retinaface
from codeformer_core.faces.detectors.yunet import WEIGHTS_PATH, YuNetDetector
from codeformer_core.imaging.tensors import detector_view
from codeformer_core.runtime.packages import import_for_faces

GOLDEN = Path(__file__).parents[1] / "golden"
PHOTOS = GOLDEN / "photos"
WITHOUT_FACE = sorted(PHOTOS.glob("no_face__*.jpg"))


@pytest.fixture(scope="module")
def weights():
    return torch.load(GOLDEN / "models" / "retinaface_mobilenet0.25_mit.pth", map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def mobile(weights):
    return build_retinaface(weights)


@pytest.fixture(params=["retinaface", "yunet"])
def detector(request, mobile):
    return mobile if request.param == "retinaface" else YuNetDetector()


def photo(path):
    return torch.from_numpy(np.array(Image.open(path).convert("RGB")))[None] / 255


def landmark_errors(faces, name):
    """Mean landmark distance to the nearest found face, in eye distances, per face of the composite."""
    truths = [entry["landmarks"] for entry in json.loads((PHOTOS / f"{name}.json").read_text())]
    found = np.stack([face.landmarks_array() for face in faces])
    errors = []
    for truth in np.array(truths):
        eye_distance = np.linalg.norm(truth[0] - truth[1])
        errors.append(np.linalg.norm(found - truth, axis=2).mean(axis=1).min() / eye_distance)
    return np.array(errors)


@pytest.mark.parametrize(("name", "count", "limit"), [("group09", 9, 0.08), ("group25_rot30", 25, 0.11)])
def test_retinaface_finds_every_face(mobile, name, count, limit):
    faces = mobile.detect(photo(PHOTOS / f"composite__{name}.jpg"))[0]
    errors = landmark_errors(faces, f"composite__{name}")
    assert len(faces) == len(errors) == count
    assert errors.max() < 0.2
    assert errors.mean() < limit
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


@pytest.mark.parametrize(("name", "count", "limit"), [("group09", 9, 0.10), ("group25_rot30", 25, 0.16)])
def test_yunet_finds_every_face_less_exactly(name, count, limit):
    """Measured: 9.1 % and 14.6 %. Left and right exchanged would give more than 50 %."""
    faces = YuNetDetector().detect(photo(PHOTOS / f"composite__{name}.jpg"))[0]
    errors = landmark_errors(faces, f"composite__{name}")
    assert len(faces) == len(errors) == count
    assert errors.max() < 0.3
    assert errors.mean() < limit


def test_there_are_pictures_without_a_face():
    assert len(WITHOUT_FACE) == 6


@pytest.mark.parametrize("path", WITHOUT_FACE, ids=lambda path: path.stem.rpartition("__")[2])
def test_no_face_where_there_is_none(detector, path):
    assert detector.detect(photo(path)) == [[]]


def test_a_face_that_fills_the_picture_needs_the_coarse_look_of_yunet(monkeypatch):
    portrait = photo(PHOTOS / "composite__group09.jpg")[:, 181:388, 1131:1311]
    faces = YuNetDetector().detect(portrait)[0]
    assert len(faces) == 1
    assert faces[0].score > 0.85
    monkeypatch.setattr(yunet, "COARSE_MIN_FACE_SIZE", 10_000)
    assert YuNetDetector().detect(portrait) == [[]]  # 0.59 by the fine look alone


@pytest.mark.parametrize("crop", [(1536, 1536), (1100, 700), (300, 1536)], ids=str)
def test_equals_facexlib_on_the_same_view(mobile, weights, crop):
    picture = photo(PHOTOS / "composite__group09.jpg")[:, : crop[0], : crop[1]]
    size = detection.view_size(*crop, retinaface.SHORTER_SIDE)
    view = detection.resized_view(detector_view(picture[0]), size)
    theirs = import_for_faces("facexlib.detection.retinaface").RetinaFace("mobile0.25", device="cpu")
    theirs.load_state_dict({key.removeprefix("module."): value for key, value in weights.items()})
    with torch.no_grad():
        rows = theirs.detect_faces(view, 0.8) / size.factor
    faces = mobile.detect(picture)[0]
    assert len(faces) == len(rows) > 0
    np.testing.assert_allclose([face.box_xyxy for face in faces], rows[:, :4], atol=0.1)
    np.testing.assert_allclose([face.landmarks_array().ravel() for face in faces], rows[:, 5:], atol=0.1)
    np.testing.assert_allclose([face.score for face in faces], rows[:, 4] * size.factor, atol=1e-3)


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_a_batch_equals_single_pictures(mobile, batch_size):
    pictures = torch.cat([photo(PHOTOS / f"composite__{name}.jpg") for name in ("group09", "group25_rot30")])
    pictures = pictures[:, ::2, ::2]
    together = mobile.detect(pictures, batch_size=batch_size)
    alone = [mobile.detect(picture[None])[0] for picture in pictures]
    assert [len(faces) for faces in together] == [len(faces) for faces in alone] == [9, 25]
    for faces, same_faces in zip(together, alone, strict=True):
        for one, other in zip(faces, same_faces, strict=True):
            np.testing.assert_allclose(one.landmarks_array(), other.landmarks_array(), atol=0.05)


def test_yunet_takes_batches():
    pictures = torch.cat([photo(PHOTOS / f"composite__{name}.jpg") for name in ("group09", "group25_rot30")])
    yunet_detector = YuNetDetector()
    assert yunet_detector.detect(pictures) == [yunet_detector.detect(picture[None])[0] for picture in pictures]


BLACK = [
    (1, 1, 1, 3),
    (1, 1, 200_000, 3),
    (2, 200_000, 1, 1),
    (2, 20, 20, 3),
    (1, 300, 200, 2),
    (1, 9, 4000, 4),
]


@pytest.mark.parametrize("shape", BLACK, ids=str)
def test_black_pictures_of_any_shape_hold_no_face(detector, shape):
    assert detector.detect(torch.zeros(shape)) == [[]] * shape[0]


def test_a_face_of_few_pixels_is_no_trouble(detector):
    tiny = torch.nn.functional.interpolate(
        photo(PHOTOS / "composite__group09.jpg").permute(0, 3, 1, 2), size=(20, 20), mode="area"
    ).permute(0, 2, 3, 1)
    for face in detector.detect(tiny)[0]:
        assert min(face.width, face.height) > 0


def test_views_stay_within_the_pixel_budget():
    for size in [(8, 20_000), (20_000, 8), (9, 4000), (640, 100_000), (20_000, 20_000)]:
        view = detection.view_size(*size, 640)
        assert view.height * view.width <= detection.VIEW_PIXEL_BUDGET
    assert detection.view_size(1080, 1920, 640) == detection.ViewSize(640, 1137, 640 / 1080)
    assert detection.view_size(320, 400, 640) == detection.ViewSize(640, 800, 2.0)


def test_gray_pictures_and_transparency(detector):
    picture = photo(PHOTOS / "composite__group09.jpg")
    gray = picture.mean(dim=-1, keepdim=True)
    assert len(detector.detect(gray)[0]) == 9
    transparent = torch.cat((picture, torch.zeros_like(gray)), dim=-1)
    assert detector.detect(transparent) == detector.detect(picture)


def test_confidence(detector):
    picture = photo(PHOTOS / "composite__group09.jpg")
    assert detector.detect(picture, confidence=1.0) == [[]]
    many = detector.detect(picture[:, ::4, ::4], confidence=0.01)[0]
    assert 9 <= len(many) <= 10_000
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"confidence must be within 0 and 1"):
            detector.detect(picture, confidence=wrong)


def test_refuses_other_tensors(detector, mobile):
    for wrong in (torch.zeros(64, 64, 3), torch.zeros(1, 3, 64, 64)):
        with pytest.raises(ValueError, match=r"images must"):
            detector.detect(wrong)
    with pytest.raises(ValueError, match=r"batch_size must be at least 1"):
        mobile.detect(torch.zeros(1, 64, 64, 3), batch_size=0)


def test_non_finite_answers_are_reported():
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, inputs_BCHW):
            count = len(retinaface.anchors(*inputs_BCHW.shape[2:]))
            scores = torch.full((len(inputs_BCHW), count, 2), float("nan"))
            return torch.zeros(len(inputs_BCHW), count, 4), scores, torch.zeros(len(inputs_BCHW), count, 10)

    with pytest.raises(RuntimeError, match=r"non-finite.*float32"):
        RetinaFaceDetector("broken", Broken()).detect(torch.zeros(1, 64, 64, 3))


def test_boxes_without_area_or_outside_are_no_faces():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 9], [-9, 0, -1, 9], [0, 50, 9, 60]], dtype=np.float32)
    faces = detection.faces_in_image(
        boxes, np.ones((4, 5, 2)), np.array([0.9] * 4), detection.ViewSize(80, 80, 2.0), (25, 40)
    )
    assert [face.box_xyxy for face in faces] == [(0, 0, 5, 5)]


def test_the_owner_may_cast_the_module(weights):
    detector = build_retinaface(weights)
    detector.module.to(torch.bfloat16)
    faces = detector.detect(photo(PHOTOS / "composite__group09.jpg"))[0]
    assert len(faces) == 9
    assert landmark_errors(faces, "composite__group09").mean() < 0.09


@pytest.mark.filterwarnings("ignore:.*:UserWarning:torchvision")
def test_recognises_the_network_by_its_keys(weights, mobile):
    assert mobile.name == "retinaface_mobile0.25"
    assert mobile.module is not None and not mobile.module.training
    facexlib_retinaface = import_for_faces("facexlib.detection.retinaface")
    resnet = facexlib_retinaface.RetinaFace("resnet50", device="cpu").state_dict()
    resnet = {f"module.{key}": value for key, value in resnet.items() if not key.endswith("num_batches_tracked")}
    assert build_retinaface(resnet).name == "retinaface_resnet50"


def test_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match=r"not a RetinaFace.*first key is 'params'"):
        build_retinaface({"params": torch.zeros(1)})
    incomplete = {key: value for key, value in weights.items() if "fpn.merge2" not in key}
    with pytest.raises(ValueError, match=r"mobile0\.25 \(missing: fpn\.merge2\.0\.weight, .* and 2 more"):
        build_retinaface(incomplete)
    with pytest.raises(ValueError, match=r"unexpected: strange"):
        build_retinaface(weights | {"strange": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"wrong shape: body.stage1.0.0.weight \(1,\) instead of \(8, 3, 3, 3\)"):
        build_retinaface(weights | {"module.body.stage1.0.0.weight": torch.zeros(1)})


def forget(monkeypatch, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)


def test_missing_packages_are_named_with_the_cure(monkeypatch, weights):
    forget(monkeypatch, "facexlib")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"'cv2', which facexlib needs.*pip install --upgrade opencv-python"):
        build_retinaface(weights)
    with pytest.raises(ImportError, match=r"'cv2', and it is not installed.*pip install --upgrade opencv-python"):
        YuNetDetector().detect(torch.zeros(1, 64, 64, 3))
    forget(monkeypatch, "facexlib")
    monkeypatch.setitem(sys.modules, "facexlib", None)
    with pytest.raises(ImportError, match=r"'facexlib', and it is not installed.*pip install --upgrade facexlib"):
        build_retinaface(weights)


@pytest.mark.parametrize(
    ("package", "raised", "cure"),
    [
        ("cv2", 'ImportError("libGL.so.1: cannot open shared object file")', "opencv-python-headless"),
        ("cv2", 'AttributeError("_ARRAY_API not found")', "pip install --upgrade opencv-python"),
        ("torchvision", 'RuntimeError("operator torchvision::nms does not exist")', "matching pair"),
    ],
)
def test_broken_packages_are_named_with_the_cure(monkeypatch, tmp_path, weights, package, raised, cure):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(f"raise {raised}")
    monkeypatch.syspath_prepend(tmp_path)
    forget(monkeypatch, "facexlib")
    forget(monkeypatch, package)
    with pytest.raises(ImportError, match=rf"'{package}' is installed but does not import.*{cure}"):
        build_retinaface(weights)


def test_an_empty_opencv_shell_is_recognised(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))
    with pytest.raises(ImportError, match=r"empty shell.*pip uninstall"):
        YuNetDetector().detect(torch.zeros(1, 64, 64, 3))


def test_tracking_packages_are_not_needed(monkeypatch, weights):
    """facexlib asks pip for numba and filterpy, which often do not install; detection works without."""
    forget(monkeypatch, "facexlib")
    for package in ("numba", "filterpy"):
        forget(monkeypatch, package)
        monkeypatch.setitem(sys.modules, package, None)
    assert build_retinaface(weights).name == "retinaface_mobile0.25"


def test_opencv_too_old_for_yunet(monkeypatch):
    cv2 = import_for_faces("cv2")
    pictures = torch.zeros(1, 64, 64, 3)
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "__version__", "4.7.0-dev")
        with pytest.raises(RuntimeError, match=r"needs OpenCV 4\.8 or newer.*4\.7\.0.*pip install --upgrade"):
            YuNetDetector().detect(pictures)
    monkeypatch.delattr(cv2, "FaceDetectorYN")
    assert YuNetDetector().detect(pictures) == [[]]  # through FaceDetectorYN_create
    monkeypatch.delattr(cv2, "FaceDetectorYN_create")
    with pytest.raises(RuntimeError, match=r"needs OpenCV"):
        YuNetDetector().detect(pictures)


def test_yunet_weights_anywhere_and_damaged(tmp_path):
    picture = photo(PHOTOS / "composite__group09.jpg")
    elsewhere = tmp_path / "лица 顔.onnx"
    elsewhere.write_bytes(WEIGHTS_PATH.read_bytes())
    assert len(YuNetDetector(elsewhere).detect(picture)[0]) == 9
    elsewhere.write_bytes(b"not a network")
    for use in (YuNetDetector(elsewhere).check, lambda: YuNetDetector(elsewhere).detect(picture)):
        with pytest.raises(RuntimeError, match=r"cannot use the face detector .*顔\.onnx.* comes with this package"):
            use()
    elsewhere.unlink()
    with pytest.raises(RuntimeError, match=r"cannot be read.*comes with this package"):
        YuNetDetector(elsewhere).check()
    YuNetDetector().check()


def test_yunet_leaves_opencv_as_it_was(capfd):
    cv2 = import_for_faces("cv2")
    logging_5 = getattr(cv2.utils, "logging", None)
    before = logging_5.getLogLevel() if logging_5 else None
    YuNetDetector().detect(torch.zeros(1, 64, 64, 3))
    assert (logging_5.getLogLevel() if logging_5 else None) == before
    assert capfd.readouterr() == ("", "")


def test_importing_the_face_modules_is_light():
    code = (
        "import sys; from codeformer_core.faces import parsing, selection; "
        "from codeformer_core.faces.detectors import retinaface, yunet; "
        "print({'cv2', 'facexlib', 'torchvision'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
