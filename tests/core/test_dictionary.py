"""A dictionary of one's own for DFDNet: built, interrupted, looked at; used by a network end to end."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import codeformer_core as cf
from codeformer_core.cli import main
from codeformer_core.dictionary.build import ENTRY, build_dictionary, write_dictionary
from codeformer_core.dictionary.clusters import cluster
from codeformer_core.dictionary.extractor import from_state
from codeformer_core.dictionary.faces import FolderFaces
from codeformer_core.dictionary.options import DictionaryOptions
from codeformer_core.models.dfdnet.names import DICTIONARIES, RGB_KEYS
from codeformer_core.models.dfdnet.weights import with_dictionary
from codeformer_core.networks.dfdnet import STRIDES, DFDNet, DFDNetConfig
from codeformer_core.runtime.progress import no_progress
from codeformer_core.weights.reading import WeightsError

from ..face_pictures import small_faces
from .facts import line_of
from .test_dfdnet import shapes_of

# The published proportions, so narrow that a face takes a tenth of a second.
NARROW = DFDNetConfig(image_size=512, widths=(4, 4, 6, 8, 8), atoms=3, part_sizes=(80, 80, 50, 110))


def published_state(fill) -> dict[str, Tensor]:
    """A published network with its VGG, without dictionaries and ImageNet's constants."""
    shapes = {key: shape for key, shape in shapes_of(NARROW).items() if key not in RGB_KEYS}
    return {key: torch.from_numpy(value) for key, value in fill.fill_state_dict(shapes).items()}


def dictionary_of(config: DFDNetConfig, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        piece: (config.widths[1 + piece.scale], config.atom_side(piece.part, piece.scale)) for piece in DICTIONARIES
    }
    return {
        piece.published: torch.rand((config.atoms, channels, side, side), generator=generator)
        for piece, (channels, side) in shapes.items()
    }


@pytest.fixture(scope="module")
def network_file(fill, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "latest_net_G.pth"
    torch.save(published_state(fill), path)
    return path


@pytest.fixture(scope="module")
def model_file(fill, tmp_path_factory) -> Path:
    """A whole one, joined, in the published names."""
    path = tmp_path_factory.mktemp("joined") / "dfdnet.safetensors"
    constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    rgb = {key: torch.tensor(value).view(1, 3, 1, 1) for key, value in zip(RGB_KEYS, constants, strict=True)}
    save_file(rgb | published_state(fill) | dictionary_of(NARROW), path)
    return path


@pytest.fixture(scope="module")
def face_folder(tmp_path_factory) -> Path:
    """14 made-up faces of 512 pixels, one of 256, and what is no face: broken, not square, of one colour."""
    folder = tmp_path_factory.mktemp("faces")
    generator = np.random.default_rng(3)
    for number in range(15):
        side = 256 if number == 7 else 512
        coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"face{number:02}.png")
    (folder / "broken.png").write_bytes((folder / "face00.png").read_bytes()[:5000])
    Image.new("RGB", (300, 200)).save(folder / "wide.png")
    Image.new("RGB", (512, 512), "red").save(folder / "red.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def build(faces: Path, model: Path, output: Path, *more: str) -> int:
    return main(["dictionary", "build", str(faces), "-o", str(output), "--model", str(model), "--device", "cpu", *more])


# --- the steps -------------------------------------------------------------------------------------------------------


def test_clusters_are_found_and_their_nearest_members_named():
    generator = np.random.default_rng(0)
    centers_KD = generator.normal(0, 10, (4, 30)).astype(np.float32)
    labels_N = np.arange(80) % 4
    features_ND = centers_KD[labels_N] + generator.normal(0, 0.1, (80, 30))
    told: list[int] = []
    # With this seed the first four are of four clusters.
    seed = next(s for s in range(99) if len({*labels_N[np.random.default_rng([s, 5]).choice(80, 4, False)]}) == 4)
    atoms_KD, nearest_K = cluster(features_ND.astype(np.float16), DictionaryOptions(4, seed, 3), 5, told.append)
    assert atoms_KD.dtype == np.float32 and told == [0, 1, 2, 3]
    assert sorted(labels_N[nearest_K]) == [0, 1, 2, 3]
    assert np.abs(atoms_KD - centers_KD[labels_N[nearest_K]]).max() < 0.15
    for atom_D, nearest in zip(atoms_KD, nearest_K, strict=True):
        assert nearest == np.square(features_ND - atom_D).sum(1).argmin()


def test_features_are_those_that_the_network_compares(model_file):
    """The same crops that `PartTransfer` is given, before it matches them."""
    extractor = from_state(load_file(model_file), "dfdnet.safetensors")
    network = cf.load_restorer(model_file).module
    face_B3SS = torch.rand((1, 3, 512, 512), generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = extractor.parts(face_B3SS)
    features = network.features(face_B3SS)
    assert set(found) == set(DICTIONARIES)
    for piece, features_BD in found.items():
        seen: list[Tensor] = []
        transfer = network.transfers[piece.part][piece.scale]
        hook = transfer.dictionary.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        stride = STRIDES[piece.scale]
        x0, y0, x1, y1 = (edge // stride for edge in extractor.boxes[piece.part])
        transfer(features[piece.scale], [(x0, y0, x1, y1)])
        hook.remove()
        assert torch.allclose(features_BD, seen[0].flatten(1), atol=1e-5), piece


def test_a_network_without_dictionaries_measures_the_same(model_file, network_file):
    whole = from_state(load_file(model_file), "whole")
    alone = from_state(torch.load(network_file, weights_only=True), "alone")
    face_B3SS = torch.rand(1, 3, 512, 512) * 2 - 1
    assert whole.config == alone.config and whole.fingerprint == alone.fingerprint
    found, expected = alone.parts(face_B3SS), whole.parts(face_B3SS)
    assert all(torch.equal(found[piece], expected[piece]) for piece in DICTIONARIES)


# --- from faces to a restored face -----------------------------------------------------------------------------------


def test_32_atoms_of_real_faces_restore_a_face(network_file, model_file, astronaut, tmp_path, capsys):
    faces = tmp_path / "faces"
    faces.mkdir()
    for number, face_HW3 in enumerate(small_faces()[:48]):
        Image.fromarray(face_HW3).resize((512, 512), Image.Resampling.BICUBIC).save(faces / f"{number}.jpg")
    mine, whole = (tmp_path / f"{name}.safetensors" for name in ("mine", "dfdnet_mine"))
    assert build(faces, network_file, mine, "-k", "32") == 0
    said = capsys.readouterr().out
    assert "mine.safetensors: 32 atoms of each part and scale" in said and "\n48 faces\n" in said
    atoms = load_file(mine)
    assert {key: tuple(value.shape) for key, value in atoms.items()} == {
        piece.published: (32, NARROW.widths[1 + piece.scale], *[NARROW.atom_side(piece.part, piece.scale)] * 2)
        for piece in DICTIONARIES
    }
    # No atom is there twice, and none is empty.
    assert all(len(value.flatten(1).unique(dim=0)) == 32 for value in atoms.values())
    with safe_open(mine, "pt") as file:
        header = json.loads(file.metadata()[ENTRY])
    assert (header["atoms"], header["seed"], header["faces"], header["format"]) == (32, 0, 48, 1)
    assert len(header["pictures_hash"]) == 32 and str(tmp_path) not in json.dumps(header)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["faces"], "the work is cleared away"

    assert main(["dictionary", "use", str(mine), "--model", str(model_file), "-o", str(whole)]) == 0
    before, after = cf.load_restorer(model_file), cf.load_restorer(whole)
    assert after.architecture == "dfdnet" and (before.module.config.atoms, after.module.config.atoms) == (3, 32)
    face_B3SS = astronaut.permute(2, 0, 1)[None] * 2 - 1
    restored_B3SS = after.restore(face_B3SS)
    assert restored_B3SS.isfinite().all() and restored_B3SS.std() > 0
    assert (restored_B3SS - before.restore(face_B3SS)).abs().max() > 1e-4, "other atoms, another face"
    with safe_open(whole, "pt") as file:
        assert json.loads(file.metadata()[ENTRY]) == header, "a file says where its dictionary is from"

    # One atom for each face: every face finds itself.
    extractor = from_state(load_file(model_file), "model")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(faces.iterdir())[:4]:
        (few / path.name).symlink_to(path)
    listed = FolderFaces.listed(few)
    built = build_dictionary(listed, extractor, DictionaryOptions(4), tmp_path / "work", no_progress)
    assert all(sorted(indices) == [0, 1, 2, 3] for indices in built.nearest.values())
    seeded = [
        build_dictionary(
            listed, extractor, DictionaryOptions(2, seed, 1), tmp_path / f"seed{seed}", no_progress
        ).dictionary
        for seed in (0, 1)
    ]
    assert any(not torch.equal(atoms, seeded[1][key]) for key, atoms in seeded[0].items()), "another seed, other atoms"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [("measuring faces", 8), ("clustering faces", 20)])
def test_an_interrupted_build_goes_on_to_the_same_bytes(model_file, face_folder, tmp_path, monkeypatch, moment):
    from codeformer_core.dictionary import spool

    monkeypatch.setattr(spool, "KEPT_EVERY", 8)
    measured: list[int] = []
    extractor = from_state(load_file(model_file), "model")
    parts = type(extractor).parts
    monkeypatch.setattr(type(extractor), "parts", lambda self, x: measured.append(len(x)) or parts(self, x))

    def told(interrupt: bool) -> Callable[[str, int, int], None]:
        def on_progress(stage: str, done: int, _total: int) -> None:
            if interrupt and stage == moment[0] and done >= moment[1]:
                raise Killed

        return on_progress

    faces, options = FolderFaces.listed(face_folder), DictionaryOptions(5, 1, 4)
    straight = build_dictionary(faces, extractor, options, tmp_path / "straight", told(False))
    once = sum(measured)
    assert once == 15
    work = tmp_path / "interrupted"
    with pytest.raises(Killed):
        build_dictionary(faces, extractor, options, work, told(True))
    finished = [path for path in work.iterdir() if path.suffix == ".safetensors"]
    assert len(finished) == (0 if moment[0] == "measuring faces" else 4)
    if finished:
        with pytest.raises(ValueError, match=r"other faces or options \(atoms 5 there and 6 now\)\. Repeat"):
            build_dictionary(faces, extractor, DictionaryOptions(6, 1, 4), work, no_progress)
    else:
        # DictionaryOptions play no part as long as faces are measured.
        with pytest.raises(Killed):
            build_dictionary(faces, extractor, DictionaryOptions(6, 1, 4), work, told(True))
    resumed = build_dictionary(faces, extractor, options, work, told(False))
    assert sum(measured) == 2 * once, "no face was measured twice"
    files = [tmp_path / f"{name}.safetensors" for name in ("straight", "resumed")]
    for built, file in zip((straight, resumed), files, strict=True):
        write_dictionary(built, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not list(work.glob("*.features"))


def test_a_changed_face_set_is_refused(model_file, face_folder, tmp_path):
    faces = shutil.copytree(face_folder, tmp_path / "faces")
    extractor = from_state(load_file(model_file), "model")
    build_dictionary(FolderFaces.listed(faces), extractor, DictionaryOptions(2, 0, 1), tmp_path / "work", no_progress)
    (faces / "face03.png").unlink()
    with pytest.raises(ValueError, match=r"interrupted build .*pictures 18 there and 17 now, pictures_hash .*delete"):
        build_dictionary(
            FolderFaces.listed(faces), extractor, DictionaryOptions(2, 0, 1), tmp_path / "work", no_progress
        )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"other is there already, and no build was begun in it\. Name another"):
        build_dictionary(
            FolderFaces.listed(faces), extractor, DictionaryOptions(2, 0, 1), tmp_path / "other", no_progress
        )
    assert (tmp_path / "other" / "letter.txt").read_text() == "mine"


def test_what_is_no_face_is_told_and_the_picture_shows_the_others(model_file, face_folder, tmp_path, capsys):
    output = tmp_path / "deep" / "mine.safetensors"
    assert build(face_folder, model_file, output, "-k", "6", "--passes", "2") == 0
    out, err = capsys.readouterr()
    assert "warning: left out: broken.png: " in err and "truncated" in err
    assert "left out: wide.png: is not square (300x200)" in err and "left out: red.png: is of one colour" in err
    assert "\n15 faces\n3 images were left out, the first: broken.png" in out
    assert line_of("faces_enlarged", count=1, size=512) in out
    sheet = np.asarray(Image.open(output.with_suffix(".png")).convert("RGB"))
    tiles = [sheet[y : y + 64, x : x + 64] for y, x in tile_places(sheet.shape[0])]
    assert len(tiles) == 4 and all(tile.std() > 5 for tile in tiles)


def tile_places(height: int) -> list[tuple[int, int]]:
    """Of each part's first tile."""
    return [(part * height // 4 + 44, 0) for part in range(4)]


def test_the_picture_shows_the_part_of_the_nearest_face(model_file, face_folder):
    from codeformer_core.dictionary.sheet import draw_sheet

    faces, extractor = FolderFaces.listed(face_folder), from_state(load_file(model_file), "model")
    index = faces.names.index("face09.png")
    sheet_HW3 = draw_sheet(faces, extractor, {part: [index] for part in extractor.boxes})
    face_HW3 = faces.read(index)
    for (y, x), (x0, y0, x1, y1) in zip(tile_places(len(sheet_HW3)), extractor.boxes.values(), strict=True):
        part_13HW = face_HW3[y0:y1, x0:x1].permute(2, 0, 1)[None]
        expected_13HW = F.interpolate(part_13HW, (64, 64), mode="bilinear", antialias=True)
        shown_13HW = sheet_HW3[y : y + 64, x : x + 64].permute(2, 0, 1)[None]
        assert (shown_13HW - expected_13HW).abs().max() < 0.02


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-k", "0"), r"the number of atoms \(k\) must be 1 or more, got 0"),
        (
            ("-k", "19"),
            r"19 atoms need 19 faces or more, and there are 18\. Ask for fewer atoms \(k 18 at most\)",
        ),
        (("--passes", "0"), "passes must be 1 or more, got 0"),
        (("--seed", "-1"), "seed must be from 0 to 4294967295, got -1"),
    ],
)
def test_impossible_options_begin_nothing(model_file, face_folder, tmp_path, capsys, more, message):
    assert build(face_folder, model_file, tmp_path / "mine.safetensors", *more) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_faces_that_are_none_do_not_count(model_file, face_folder, tmp_path, capsys):
    assert build(face_folder, model_file, tmp_path / "mine.safetensors", "-k", "16") == 1
    assert "there are 15 (3 more were left out, the log says why). Ask for fewer" in capsys.readouterr().err


def test_places_that_are_no_use_are_named(model_file, face_folder, tiny_state, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    (tmp_path / "empty").mkdir()
    other = tmp_path / "codeformer.safetensors"
    save_file(tiny_state, other)
    half = tmp_path / "half.safetensors"
    state = load_file(model_file)
    save_file({key: value for key, value in state.items() if "features.2.19" not in key}, half)
    for faces, model, to, code, message in (
        (tmp_path / "empty", model_file, output, 2, "empty holds no images. Put aligned faces there"),
        (tmp_path / "gone", model_file, output, 2, "gone does not exist: name a folder of aligned faces"),
        (face_folder, tmp_path / "gone.pth", output, 1, "gone.pth: there is no such file"),
        (face_folder, other, output, 1, "codeformer.safetensors is not a DFDNet, and only DFDNet has dictionaries"),
        (face_folder, half, output, 1, "half.safetensors: there is no whole VGG19 in it: 2 tensors are missing"),
        (face_folder, model_file, tmp_path / "mine.pth", 2, "only safetensors are written"),
        (face_folder, model_file, other, 2, "codeformer.safetensors is there already; --overwrite replaces it"),
    ):
        assert build(faces, model, to, "-k", "2") == code
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_missing_scikit_learn_is_told_before_anything_is_measured(
    model_file, face_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    assert build(face_folder, model_file, tmp_path / "mine.safetensors", "-k", "2") == 1
    assert re.search(r"needs scikit-learn, .*Run pip install scikit-learn", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change", [lambda weight: weight[:-1], torch.Tensor.flatten, torch.Tensor.sum, torch.Tensor.int]
)
def test_a_vgg_of_other_shapes_is_named(fill, change):
    """A network without dictionaries is not looked at as a whole."""
    state = published_state(fill)
    key = next(key for key in state if key.startswith("VggExtract.") and state[key].dim() == 4)
    with pytest.raises(
        WeightsError,
        match=r"latest\.pth: its VGG19 can't be used: \d+ tensors of another .*first: blocks\..*Give DFDNet's",
    ):
        from_state({**state, key: change(state[key])}, "latest.pth")


def test_a_full_disk_and_features_without_numbers_are_told(model_file, face_folder, tmp_path, monkeypatch):
    faces, state = FolderFaces.listed(face_folder), load_file(model_file)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(OSError, match=r"full needs .* GB for features and atoms, .*Name an output on a larg"):
            build_dictionary(faces, from_state(state, "model"), DictionaryOptions(2), tmp_path / "full", no_progress)
    key = "VggExtract.features.0.0.weight"
    loud = from_state({**state, key: state[key] * 1e6}, "model")
    with pytest.raises(ValueError, match=r"features of face00\.png .* beyond 65504 .*Give a DFDNet with its own"):
        build_dictionary(faces, loud, DictionaryOptions(2), tmp_path / "loud", no_progress)


@pytest.fixture
def begun(model_file, tmp_path) -> tuple[Path, Callable[[], None]]:
    """An interrupted build's folder, with one dictionary of the 16 done; and what goes on with it."""
    folder, work = tmp_path / "four", tmp_path / "four.part"
    folder.mkdir()
    generator = np.random.default_rng(5)
    for number in range(4):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize((512, 512)).save(folder / f"{number}.png")
    extractor = from_state(load_file(model_file), "model")

    def go_on(until: int = 99) -> None:
        def on_progress(stage: str, done: int, _total: int) -> None:
            if stage == "clustering faces" and done >= until:
                raise Killed

        build_dictionary(FolderFaces.listed(folder), extractor, DictionaryOptions(2, 0, 1), work, on_progress)

    with pytest.raises(Killed):
        go_on(until=2)
    return work, go_on


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("plan.json", lambda path: path.write_text("{"), r"plan\.json is damaged \(Expecting"),
        ("plan.json", lambda path: path.write_text("[]"), r"plan\.json is damaged \(it holds a list"),
        ("faces.json", lambda path: path.write_text('{"seen": 4'), r"faces\.json is damaged \(Expecting"),
        ("faces.json", lambda path: path.write_text('{"seen": 4, "x": 1}'), r"faces\.json is damaged .*argument 'x'"),
        (
            "faces.json",
            lambda path: path.write_text('{"seen": 4, "kept": [0, 1, 2, 99]}'),
            r"faces\.json is damaged \(other faces than the first 4",
        ),
        (
            "dictionary.128.nose.features",
            lambda path: path.write_bytes(b"few"),
            r"nose\.features is damaged \(it holds 0 faces instead of 4\)",
        ),
        ("dictionary.128.nose.features", Path.unlink, r"nose\.features is damaged \(it holds 0 faces instead of 4\)"),
        (
            "dictionary.256.left_eye.safetensors",
            lambda path: path.write_bytes(path.read_bytes()[:50]),
            r"dictionary\.256\.left_eye\.safetensors is damaged",
        ),
    ],
)
def test_damaged_work_is_named(begun, name, damage, message):
    work, go_on = begun
    damage(work / name)
    with pytest.raises(ValueError, match=message + r".*Delete the folder .*four\.part and build anew"):
        go_on()


def test_faces_that_were_counted_and_are_gone_are_not_made_up(begun):
    """Zeros would stand for them."""
    work, go_on = begun
    (work / "faces.json").write_text('{"seen": 2, "kept": [0, 1]}')
    for path in work.glob("*.features"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"features is damaged \(it holds 0 faces instead of 2\)"):
        go_on()


def test_one_build_at_a_time_and_never_over_its_own_input(model_file, face_folder, tmp_path, capsys):
    from codeformer_core.runtime.lock import locked

    faces = shutil.copytree(face_folder, tmp_path / "faces with a face")
    model = Path(shutil.copy(model_file, tmp_path / "model.safetensors"))
    output = tmp_path / "mine.safetensors"
    with locked(tmp_path / "mine.safetensors.lock", lambda: None):
        assert build(faces, model, output, "-k", "2") == 1
    assert "mine.safetensors is being built by another command. Wait" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in (model, faces / "face00.png")}
    assert build(faces, model, faces / "face00.safetensors", "-k", "2", "--overwrite") == 2
    assert re.search(r"face00\.safetensors lies among the faces in .*name a file outside", capsys.readouterr().err)
    assert build(faces, model, model, "-k", "2", "--overwrite") == 2
    assert "model.safetensors is read by this command and would be lost" in capsys.readouterr().err
    for given, to in ((model_file, model), (model, model)):
        command = ["dictionary", "use", str(given), "--model", str(model), "-o", str(to), "--overwrite"]
        assert main(command) == 2 and "would be lost" in capsys.readouterr().err
    output.with_name("mine.safetensors.part").write_text("a letter")
    assert build(faces, model, output, "-k", "2") == 1
    assert "mine.safetensors.part is there already, and no build was begun in it" in capsys.readouterr().err
    assert build(faces, model, model / "mine.safetensors", "-k", "2") == 1
    assert re.search(r"model\.safetensors: can't be written to .*Name a file in", capsys.readouterr().err)
    assert all(path.read_bytes() == data for path, data in before.items())


# --- use and join ----------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path) -> dict[str, Tensor]:
    """A dictionary of 5 atoms, for tests to spoil."""
    wider = DFDNetConfig(512, NARROW.widths, 5, NARROW.part_sizes)
    return dictionary_of(wider, 1)


def use(dictionary: dict[str, Tensor], model: Path, folder: Path) -> int:
    save_file(dictionary, folder / "mine.safetensors")
    whole = folder / "whole.safetensors"
    return main(["dictionary", "use", str(folder / "mine.safetensors"), "--model", str(model), "-o", str(whole)])


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("dictionary.128.nose", None, r"lacks 1 of the 16 dictionaries, the first: dictionary\.128\.nose\. Give"),
        (
            "dictionary.128.nose",
            lambda atoms: atoms[:4],
            r"dictionary\.256\.left_eye has 5 atoms and dictionary\.128\.nose has 4; all dictionaries need as many",
        ),
        (
            "dictionary.64.mouth",
            lambda atoms: atoms[:, :5],
            r"dictionary\.64\.mouth has the shape \(5, 5, 13, 13\); its atoms must be squares in 8 channels",
        ),
        (
            "dictionary.32.nose",
            lambda atoms: torch.zeros(5, 8, 4, 4),
            r"dictionary\.32\.nose has atoms of 4x4 pixels instead of 3x3",
        ),
        ("dictionary.32.nose", lambda atoms: atoms * torch.nan, r"dictionary\.32\.nose holds numbers that are NaN"),
        ("dictionary.32.nose", lambda atoms: atoms.int(), r"dictionary\.32\.nose holds torch\.int32 of the shape"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_named(written, model_file, tmp_path, capsys, key, change, message):
    atoms = written.pop(key)
    if change is not None:
        written[key] = change(atoms).contiguous()
    ours = tmp_path / "ours.safetensors"
    save_file(with_dictionary(load_file(model_file), dictionary_of(NARROW)), ours)
    for model in (model_file, ours):
        assert use(written, model, tmp_path) == 1
        assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "whole.safetensors").exists()


def test_both_layouts_take_a_dictionary_alike(written, model_file):
    published = load_file(model_file)
    once = with_dictionary(published, written)
    ours = with_dictionary(published, dictionary_of(NARROW))
    twice = with_dictionary(ours, written)
    assert once.keys() == twice.keys() == DFDNet(NARROW, device="meta").state_dict().keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)
    with pytest.raises(WeightsError, match=r"16 missing keys, the first: dictionary\."):
        with_dictionary({key: value for key, value in published.items() if "dictionary." not in key}, written)


def test_the_published_pieces_are_joined_into_one_file(network_file, model_file, tmp_path, capsys):
    state = torch.load(network_file, weights_only=True)
    folder = tmp_path / "DictionaryCenter512"
    folder.mkdir()
    for piece, atoms in zip(DICTIONARIES, dictionary_of(NARROW).values(), strict=True):
        np.save(folder / piece.filename, atoms.flatten(1).numpy())
    # VGG as torchvision keeps it, with a classifier; the network without it.
    prefix = "VggExtract.features."
    vgg = {f"features.{key.split('.', 3)[3]}": value for key, value in state.items() if key.startswith(prefix)}
    torch.save(vgg | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg19.pth")
    torch.save({key: value for key, value in state.items() if prefix not in key}, tmp_path / "latest_net_G.pth")
    command = ["dictionary", "join", str(tmp_path / "latest_net_G.pth"), "--vgg", str(tmp_path / "vgg19.pth")]
    joined = tmp_path / "dfdnet.safetensors"
    assert main([*command, "--dictionary", str(folder), "-o", str(joined)]) == 0
    assert "DFDNet with 3 atoms of each part and scale, our names" in capsys.readouterr().out
    found, expected = cf.load_restorer(joined), cf.load_restorer(model_file)
    assert found.architecture == "dfdnet" and joined.stat().st_size < model_file.stat().st_size
    for key, tensor in expected.module.state_dict().items():
        # Norms are divided out in one order of summing or another, as the numbers lie in memory.
        assert torch.allclose(found.module.state_dict()[key], tensor, rtol=1e-5, atol=1e-6), key
    assert sorted(tmp_path.glob("*.safetensors")) == [joined], "no copies of the pieces"

    (folder / "nose_64_center.npy").unlink()
    assert main([*command, "--dictionary", str(folder), "-o", str(tmp_path / "other.safetensors")]) == 1
    assert "the first: nose_64_center.npy" in capsys.readouterr().err
    without = [*command[:3], "--dictionary", str(model_file), "-o", str(tmp_path / "other.safetensors")]
    assert main(without) == 1
    assert re.search(r"latest_net_G\.pth, .*missing keys, the first: VggExtract\.features", capsys.readouterr().err)


def test_code_in_a_piece_is_not_run(model_file, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    torch.save({"MSDilate.convi.bias": Trap()}, tmp_path / "latest_net_G.pth")
    command = ["dictionary", "join", str(tmp_path / "latest_net_G.pth"), "--dictionary", str(model_file)]
    assert main([*command, "-o", str(tmp_path / "dfdnet.safetensors")]) == 1
    assert "refused, nothing was run" in capsys.readouterr().err and not (tmp_path / "sprung").exists()
