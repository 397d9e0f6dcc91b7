"""DFDNet: against recorded outputs of the published one; batches, boxes, precisions; its files, whole and broken."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import codeformer_core as cf
from codeformer_core.models.dfdnet.architecture import DFDNET
from codeformer_core.models.dfdnet.dictionary import read_atoms, read_dictionary
from codeformer_core.models.dfdnet.names import DICTIONARIES, UNUSED, links, published_keys
from codeformer_core.models.dfdnet.weights import from_published, is_published, join, read_config
from codeformer_core.networks.dfdnet import PARTS, PUBLISHED_DFDNET, STRIDES, DFDNet, DFDNetConfig
from codeformer_core.networks.dfdnet_parts import PartTransfer
from codeformer_core.weights.reading import WeightsError

# With as many atoms as were recorded.
PUBLISHED = dataclasses.replace(PUBLISHED_DFDNET, atoms=8)
SMALL = DFDNetConfig(image_size=128, widths=(8, 16, 16, 24, 24), atoms=40, part_sizes=(40, 40, 32, 50))
# Left eye, right eye, nose, mouth; the faces' boxes have other sizes, reach the border, and overlap in the last.
SMALL_PARTS = torch.tensor(
    [
        [(20, 30, 60, 70), (64, 30, 104, 70), (48, 60, 80, 92), (40, 80, 90, 120)],
        [(0, 0, 31, 31), (97, 0, 128, 31), (50, 50, 90, 81), (0, 97, 128, 128)],
        [(16, 32, 48, 64), (80, 32, 112, 64), (48, 64, 80, 96), (32, 96, 96, 128)],
        [(10, 10, 100, 100), (30, 20, 110, 90), (40, 40, 90, 95), (20, 60, 110, 125)],
    ]
)


def rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())


def shapes_of(config: DFDNetConfig) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a published network of these sizes, without dictionaries."""
    shapes: dict[str, tuple[int, ...]] = {"VggExtract.RGB_mean": (1, 3, 1, 1), "VggExtract.RGB_std": (1, 3, 1, 1)}
    ours = DFDNet(config, device="meta").state_dict()
    for link in links():
        whole = ours[link.ours].shape
        shape = (whole[0] // len(link.published), *whole[1:])
        for key in link.needed():
            vectors = {"weight_u": shape[:1], "weight_v": (math.prod(shape[1:]),)}
            shapes[key] = vectors.get(key.rsplit(".", 1)[1], shape)
    return shapes


def dictionary_of(config: DFDNetConfig, fill) -> dict[str, Tensor]:
    """Flat, as published, and as recorded."""
    atoms = {}
    for piece in DICTIONARIES:
        side = config.atom_side(piece.part, piece.scale)
        shape = (config.atoms, config.widths[1 + piece.scale] * side**2)
        atoms[piece.published] = torch.from_numpy(np.abs(fill.fill(piece.published, shape)))
    return atoms


@pytest.fixture(scope="module")
def manifest(golden) -> dict[str, list[int]]:
    return json.loads((golden / "dfdnet" / "dfdnet.json").read_text())


@pytest.fixture(scope="module")
def pieces(fill) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Network and dictionary of a small DFDNet, published layout."""
    state = {key: torch.from_numpy(value) for key, value in fill.fill_state_dict(shapes_of(SMALL)).items()}
    return state, dictionary_of(SMALL, fill)


@pytest.fixture(scope="module")
def network(pieces) -> DFDNet:
    network = DFDNet(SMALL)
    network.load_state_dict(from_published(join(pieces[0], None, pieces[1]), SMALL))
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def faces_B3HW() -> Tensor:
    return torch.rand((4, 3, 128, 128), generator=torch.Generator().manual_seed(5)) * 2 - 1


# --- against the published network -----------------------------------------------------------------------------------


@torch.no_grad()
def test_the_published_networks_face(manifest, fill, golden, astronaut):
    recorded = load_file(golden / "dfdnet" / "dfdnet.safetensors")
    needed = {key: shape for key, shape in manifest.items() if not UNUSED.fullmatch(key)}
    given = {key: torch.from_numpy(value) for key, value in fill.fill_state_dict(needed).items()}
    state = join(given, None, dictionary_of(PUBLISHED, fill))
    assert read_config(state) == PUBLISHED
    restorer = cf.load_restorer(state)
    assert (restorer.architecture, restorer.task, restorer.face_size) == ("dfdnet", "restoration", 512)
    face_B3HW = astronaut.permute(2, 0, 1)[None] * 2 - 1
    parts_B44 = recorded["part_locations"][None]
    restored_B3HW = restorer.restore(face_B3HW, 0.5, parts_B44)
    error = restored_B3HW[:, :, ::4, ::4] - recorded["output"]
    assert rms(error) < 1e-3 * recorded["output"].std()
    assert error.abs().max() < 0.01


def test_nothing_published_is_missing_or_left_over(manifest, fill):
    network = {key: torch.empty(shape, device="meta") for key, shape in manifest.items()}
    dictionary = dictionary_of(PUBLISHED, fill)
    state = join(network, None, dictionary)
    assert set(state) == set(published_keys()) == set(shapes_of(PUBLISHED)) | set(dictionary)
    assert all(UNUSED.fullmatch(key) for key in network.keys() - state.keys())
    assert len(network.keys() - state.keys()) > 50
    assert {key: tuple(state[key].shape) for key in shapes_of(PUBLISHED)} == shapes_of(PUBLISHED)
    vgg = {key[len("VggExtract.model.") :]: value for key, value in network.items() if ".model." in key}
    bare = {key: value for key, value in network.items() if not key.startswith("VggExtract.")}
    separate = join(bare, vgg, dictionary)
    assert set(separate) == set(state)
    assert separate["VggExtract.features.2.19.weight"] is vgg["features.19.weight"]
    assert separate["VggExtract.RGB_mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


# --- the verb --------------------------------------------------------------------------------------------------------


def test_a_batch_equals_its_faces_one_by_one(network, faces_B3HW):
    together_B3HW = network.restore(faces_B3HW, SMALL_PARTS)
    singles_B3HW = torch.cat([network.restore(faces_B3HW[i : i + 1], SMALL_PARTS[i : i + 1]) for i in range(4)])
    assert together_B3HW.shape == (4, 3, 128, 128) and together_B3HW.isfinite().all()
    assert rms(together_B3HW - singles_B3HW) < 1e-5 * rms(singles_B3HW)
    elsewhere_B3HW = network.restore(faces_B3HW, SMALL_PARTS.roll(1, dims=0))
    assert rms(elsewhere_B3HW - together_B3HW) > 1e-3 * rms(together_B3HW)


def test_double_precision_agrees_with_single(network, faces_B3HW):
    exact_B3HW = copy.deepcopy(network).double().restore(faces_B3HW[:1].double(), SMALL_PARTS[:1])
    assert exact_B3HW.dtype == torch.float64
    assert rms(network.restore(faces_B3HW[:1], SMALL_PARTS[:1]) - exact_B3HW) < 1e-4 * rms(exact_B3HW)


@pytest.mark.parametrize("scale", range(4))
def test_the_papers_formula_part_by_part(network, pieces, scale):
    """AdaIN of all atoms, inner products, the best one, confidence; the later part where two overlap."""
    width = SMALL.widths[1 + scale]
    side = SMALL.image_size // STRIDES[scale]
    features_BCHW = torch.randn((1, width, side, side), generator=torch.Generator().manual_seed(scale)).abs()
    boxes = [tuple(map(int, box)) for box in SMALL_PARTS[3].tolist()]
    expected_BCHW = features_BCHW.clone()
    chosen = set()
    for part, box in zip(PARTS, boxes, strict=True):
        x0, y0, x1, y1 = (edge // STRIDES[scale] for edge in box)
        crop = features_BCHW[:, :, y0:y1, x0:x1]
        n = SMALL.atom_side(part, scale)
        atoms_KCnn = pieces[1][f"dictionary.{512 // STRIDES[scale]}.{part}"].view(-1, width, n, n)
        small = F.interpolate(crop, (n, n), mode="bilinear")
        (atoms_var, atoms_mean), (var, mean) = (torch.var_mean(x, (2, 3), keepdim=True) for x in (atoms_KCnn, small))
        styled_KCnn = (atoms_KCnn - atoms_mean) / (atoms_var + 1e-5).sqrt() * (var + 1e-5).sqrt() + mean
        best = int(F.conv2d(small, styled_KCnn).argmax())
        chosen.add(best)
        atom = F.interpolate(styled_KCnn[best : best + 1], crop.shape[2:])
        transfer: PartTransfer = network.transfers[part][scale]
        hidden = F.leaky_relu(transfer.confidence_in(atom - crop), 0.2)
        expected_BCHW[:, :, y0:y1, x0:x1] = crop + transfer.confidence_out(hidden) * atom
    renewed_BCHW = network.transfer(features_BCHW, [boxes], scale)
    assert rms(renewed_BCHW - expected_BCHW) < 1e-5 * rms(expected_BCHW)
    assert rms(renewed_BCHW - features_BCHW) > 0.05 * rms(features_BCHW)
    # Not always the first atom.
    assert chosen != {0}


def test_gradients_reach_features_transfers_and_decoder(network, faces_B3HW):
    trained = copy.deepcopy(network).requires_grad_(True)
    trained.restore(faces_B3HW[:2], SMALL_PARTS[:2]).square().mean().backward()
    for parameter in (
        trained.features.normalize.weight,
        trained.transfers["nose"][2].confidence_in.weight,
        trained.context.merge.weight,
        trained.decoder[0].scale_shift_in.weight,
    ):
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0


@pytest.mark.parametrize("box", [(-1, 30, 60, 70), (20, 30, 60, 129), (30, 30, 31, 70), (60, 30, 20, 70)])
def test_impossible_boxes_are_named_with_the_cure(network, faces_B3HW, box):
    parts_B44 = SMALL_PARTS.clone()
    parts_B44[2, 3] = torch.tensor(box)
    with pytest.raises(ValueError, match=r"the mouth box .* of face 2 must lie within 0..128 and be 31 .* Clamp"):
        network.restore(faces_B3HW, parts_B44)


def test_wrong_inputs_are_refused_with_the_cure(network, faces_B3HW):
    with pytest.raises(ValueError, match=r"must be 128x128 pixels in 3 channels.*resize them first"):
        network.restore(torch.zeros(1, 3, 64, 64), SMALL_PARTS[:1])
    with pytest.raises(ValueError, match=r"parts must have the shape \(4, 4, 4\).*got \(1, 4, 4\)"):
        network.restore(faces_B3HW, SMALL_PARTS[:1])
    with pytest.raises(ValueError, match="not finite"):
        network.restore(faces_B3HW, torch.full((4, 4, 4), torch.nan))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": (8, 16)}, "widths needs 5 numbers, got 2"),
        ({"part_sizes": (40, 40, 32)}, "part_sizes needs 4 numbers, got 3"),
        ({"image_size": 100}, "image_size 100 must be a multiple of 16"),
        ({"part_sizes": (40, 40, 30, 50)}, "part_sizes must be 32 or more"),
        ({"atoms": 0}, "atoms must be 1 or more, got 0"),
    ],
)
def test_impossible_sizes_are_refused(changed, message):
    sizes = {"image_size": 128, "widths": SMALL.widths, "atoms": 4, "part_sizes": SMALL.part_sizes}
    with pytest.raises(ValueError, match=message):
        DFDNetConfig(**(sizes | changed))


def test_a_hosts_layers_hold_every_parameter_and_cast_at_each_call(network, faces_B3HW):
    """Weights kept in bfloat16, faces in float32: the result is that of the rounded weights in float32."""
    called: set[nn.Module] = set()

    class Conv2d(nn.Conv2d):
        def forward(self, input):
            called.add(self)
            return self._conv_forward(input, self.weight.to(input), None if self.bias is None else self.bias.to(input))

    hosted = DFDNet(SMALL, dtype=torch.bfloat16, operations=SimpleNamespace(Conv2d=Conv2d))
    hosted.load_state_dict(network.state_dict())
    rounded = copy.deepcopy(network).to(torch.bfloat16).float()
    restored_B3HW = hosted.restore(faces_B3HW[:1], SMALL_PARTS[:1])
    assert {module for module in hosted.modules() if list(module.parameters(recurse=False))} == called
    assert list(hosted.buffers()) == [] and len(called) > 80
    assert rms(restored_B3HW - rounded.restore(faces_B3HW[:1], SMALL_PARTS[:1])) < 1e-5 * rms(restored_B3HW)


# --- files -----------------------------------------------------------------------------------------------------------


def test_sizes_are_read_from_both_layouts(pieces, network):
    joined = join(pieces[0], None, pieces[1])
    wanted = DFDNetConfig(512, SMALL.widths, SMALL.atoms, SMALL.part_sizes)
    assert read_config(joined) == read_config(network.state_dict()) == wanted
    assert all(map(DFDNET.detect, (joined, pieces[0], network.state_dict()))) and not DFDNET.detect({"encoder.x": 0})
    assert is_published(joined) and not is_published(network.state_dict())


NOSE = "dictionary.128.nose"


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (NOSE, lambda atoms: atoms[:7], r"has 40 atoms and dictionary\.128\.nose has 7; all dictionaries need as many"),
        (NOSE, lambda atoms: atoms[:, :-1], r"dictionary\.128\.nose has the shape .* squares in 16 channels"),
        (NOSE, lambda atoms: atoms[:, : 16 * 49], r"dictionary\.128\.nose has atoms of 7x7 pixels instead of 8x8"),
        (NOSE, lambda atoms: atoms.view(40, 8, 2, 8, 8), r"dictionary\.128\.nose has the shape"),
        (NOSE, lambda atoms: torch.full_like(atoms, torch.nan), r"dictionary\.128\.nose holds numbers that are NaN"),
        (
            NOSE,
            lambda atoms: atoms.to(torch.int32),
            r"1 tensors of another kind of number, the first: dictionary\.128\.nose torch\.int32\. Join",
        ),
        (NOSE, None, r"can't be used: 1 missing keys, the first: dictionary\.128\.nose\. Join"),
        (
            "dictionary.128.ear",
            lambda _: torch.zeros(4, 4),
            r"no DFDNet has these 1 keys, the first: dictionary\.128\.ear",
        ),
        ("MSDilate.convi.weight_orig", None, r"1 missing keys, the first: MSDilate\.convi\.weight_orig"),
        (
            "MSDilate.convi.bias",
            lambda bias: bias[:5],
            r"1 tensors of another shape, the first: MSDilate\.convi\.bias \(5,\) instead of \(24,\)",
        ),
        (
            "up1.convup.1.weight_u",
            lambda u: u[:2],
            r"of another shape, the first: up1\.convup\.1\.weight_u \(2,\) instead of \(16,\)",
        ),
        ("VggExtract.features.0.0.weight", lambda weight: weight[0], r"features\.0\.0\.weight .* not 4 axes"),
        ("params", lambda _: torch.zeros(1), "no DFDNet has these 1 keys, the first: params"),
    ],
)
def test_broken_pieces_are_named(pieces, key, change, message):
    network, dictionary = (dict(piece) for piece in pieces)
    piece = dictionary if key.startswith("dictionary.") else network
    value = piece.pop(key, torch.empty(0))
    if change is not None:
        piece[key] = change(value)
    with pytest.raises(WeightsError, match=message):
        join(network, None, dictionary)


def test_half_a_file_is_named(pieces, network):
    with pytest.raises(WeightsError, match=r"16 missing keys, the first: dictionary\..*Join the published network"):
        read_config(pieces[0])
    ours = network.state_dict()
    half = {key: ours[key] for key in sorted(ours)[::2]}
    with pytest.raises(WeightsError, match=rf"{len(ours) - len(half)} missing keys, the first: "):
        read_config(half)


def test_a_norm_of_zero_is_named(pieces):
    joined = join(pieces[0], None, pieces[1])
    joined["up4.0.weight_u"] = torch.zeros_like(joined["up4.0.weight_u"])
    with pytest.raises(WeightsError, match=r"up4\.0\.weight_u and up4\.0\.weight_v give the norm 0\.0"):
        from_published(joined, read_config(joined))


def test_dictionaries_are_read_from_their_folder(pieces, tmp_path):
    for piece in DICTIONARIES:
        np.save(tmp_path / piece.filename, pieces[1][piece.published].numpy())
    assert (tmp_path / "left_eye_256_center.npy").exists() and (tmp_path / "mouth_32_center.npy").exists()
    found = read_dictionary(tmp_path)
    assert found.keys() == pieces[1].keys()
    assert all(torch.equal(found[key], atoms) for key, atoms in pieces[1].items())
    (tmp_path / "nose_64_center.npy").unlink()
    with pytest.raises(WeightsError, match=r"lacks 1 of the 16 dictionaries, the first: nose_64_center\.npy"):
        read_dictionary(tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickled_arrays_are_read(tmp_path, protocol):
    atoms = np.empty(3, dtype=object)
    atoms[:] = [np.full(8, i, dtype=np.float32) for i in range(3)]
    path = tmp_path / "nose_64_center.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        pickle.dump(atoms, file, protocol=protocol)
    assert torch.equal(read_atoms(path), torch.arange(3.0)[:, None].expand(3, 8))


def test_code_in_a_dictionary_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    atoms = np.empty(1, dtype=object)
    atoms[0] = Trap()
    np.save(tmp_path / "trap.npy", atoms, allow_pickle=True)
    with pytest.raises(WeightsError, match=r"trap\.npy is refused: it wants to run code .*; nothing was run"):
        read_atoms(tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()


class Pickled:
    """Pickled as an array of objects that claims `shape` and holds `atoms`."""

    def __init__(self, shape: tuple[int, ...], atoms: list) -> None:
        self.shape, self.atoms = shape, atoms

    def __reduce__(self):
        make, given, (version, _, kind, is_fortran, _) = np.empty(0, object).__reduce__()
        return make, given, (version, self.shape, kind, is_fortran, self.atoms)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        # numpy itself reads behind the list's end.
        (Pickled((4000,), [1.0]), r"refused: it holds a float among its arrays"),
        (Pickled((2,), [np.ones(3), np.ones(4)]), "not a readable array .*same shape"),
        (Pickled((1,), [np.ones(3, np.int64)]), "refused: it holds an array of i8, not of floats"),
        (Pickled((9000,), [np.ones(3)] * 9000), "refused: its arrays are larger than the file"),
        (Pickled((0,), []), "not a readable array"),
        ([1.0], "refused: it holds a list, no array"),
    ],
)
def test_pickles_of_wrong_sizes_are_refused(tmp_path, pickled, message):
    path = tmp_path / "nose_64_center.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        file.write(pickle.dumps(pickled, protocol=2))
    with pytest.raises(WeightsError, match=rf"nose_64_center\.npy is .*{message}"):
        read_atoms(path)


def test_a_pickle_that_ends_too_soon_is_refused(tmp_path):
    path = tmp_path / "nose_64_center.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        file.write(b"\x80\x02J\x00")
    with pytest.raises(WeightsError, match="is not a readable array"):
        read_atoms(path)


def test_what_a_pickle_says_of_its_list_is_not_believed(tmp_path):
    path = tmp_path / "nose_64_center.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        file.write(pickle.dumps(Pickled((4000,), [np.ones(3, np.float32), np.zeros(3, np.float32)]), protocol=2))
    assert read_atoms(path).tolist() == [[1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("header", ["{'descr': (", '"""abc', "  a\n b\n", f"{{'descr': '<f4', 'shape': ({10**30},)}}"])
def test_headers_that_are_no_header_are_refused(tmp_path, header):
    path = tmp_path / "nose_64_center.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(24))
    with pytest.raises(WeightsError, match="is not a readable array"):
        read_atoms(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable array"),
        (b"<html>not found</html>", "not a readable array"),
        (np.arange(6), "array of int64"),
        (np.zeros(5, np.float32), r"array of float32 of the shape \(5,\)"),
        (np.zeros((0, 5), np.float32), r"array of float32 of the shape \(0, 5\)"),
        (np.zeros((64, 64), np.float32), "not a readable array"),
    ],
)
def test_other_files_are_no_dictionaries(tmp_path, content, message):
    path = tmp_path / "nose_64_center.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
        if content.size > 100:
            path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=message):
        read_atoms(path)
