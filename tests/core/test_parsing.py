"""ParseNet behind our wrapper, with random weights: sizes, batches, numbers, and what does not fit."""

import pytest
import torch
import torch.nn.functional as F

from codeformer_core.faces import parsing
from codeformer_core.faces.parsing import ParseNetParser, build_parsenet
from codeformer_core.runtime.packages import import_for_faces


@pytest.fixture(scope="module")
def weights():
    parsenet = import_for_faces("facexlib.parsing.parsenet")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return parsenet.ParseNet(in_size=512, out_size=512, parsing_ch=19).state_dict()


@pytest.fixture
def small_parser(weights, monkeypatch):
    """The network is convolutional throughout: at 64 instead of 512 pixels it does the same, 64 times as
    fast."""
    monkeypatch.setattr(parsing, "PARSED_SIZE", 64)
    return ParseNetParser(build_at_512(weights, monkeypatch).module)


def build_at_512(weights, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(parsing, "PARSED_SIZE", 512)
        return build_parsenet(weights)


class Stripes(torch.nn.Module):
    """Calls each column by its number modulo 19, and notes the sizes of its batches."""

    def __init__(self, value=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(value))
        self.batches = []

    def forward(self, inputs_B3HW):
        self.batches.append(tuple(inputs_B3HW.shape))
        columns_W = torch.arange(inputs_B3HW.shape[-1]) % 19
        logits_CW = F.one_hot(columns_W, 19).T * self.weight
        batch, _, height, width = inputs_B3HW.shape
        return logits_CW[None, :, None].expand(batch, 19, height, width), None


def test_labels_are_the_networks_own_choice(small_parser):
    faces = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = small_parser.module(faces)[0].argmax(dim=1)
    labels = small_parser.parse(faces)
    assert labels.dtype == torch.uint8
    assert labels.shape == (1, 64, 64)
    assert torch.equal(labels.long(), expected)
    assert labels.unique().numel() > 1


def test_other_sizes_are_resized_there_and_back(small_parser):
    faces = torch.rand(1, 3, 100, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1
    at_64 = F.interpolate(faces, (64, 64), mode="bilinear", align_corners=False)
    expected = F.interpolate(small_parser.parse(at_64)[None].float(), (100, 40), mode="nearest-exact")[0]
    assert torch.equal(small_parser.parse(faces).float(), expected)


@pytest.mark.parametrize("size", [(512, 512), (64, 256), (700, 1024), (1, 1)], ids=str)
def test_labels_have_the_faces_size(size):
    labels = ParseNetParser(Stripes()).parse(torch.zeros(2, 3, *size))
    assert labels.shape == (2, *size)
    centers = ((torch.arange(size[1]) + 0.5) * 512 / size[1]).long()
    assert torch.equal(labels[1, 0].long(), centers % 19)


def test_batches_equal_single_faces(small_parser):
    faces = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    together = small_parser.parse(faces, batch_size=2)
    alone = torch.cat([small_parser.parse(one[None]) for one in faces])
    assert (together == alone).float().mean() > 0.999  # two nearly equal classes may change places
    assert small_parser.parse(faces[:0]).shape == (0, 64, 64)


def test_batch_size_is_kept():
    module = Stripes()
    ParseNetParser(module).parse(torch.zeros(5, 3, 8, 8), batch_size=2)
    assert module.batches == [(2, 3, 512, 512), (2, 3, 512, 512), (1, 3, 512, 512)]
    module.batches.clear()
    ParseNetParser(module).parse(torch.zeros(9, 3, 8, 8))
    assert sum(shape[0] for shape in module.batches) == 9
    assert max(shape[0] for shape in module.batches) <= 4


def test_the_input_is_left_alone(small_parser):
    faces = torch.zeros(1, 3, 64, 64)
    small_parser.parse(faces)
    assert torch.equal(faces, torch.zeros(1, 3, 64, 64))


def test_the_owner_may_cast_the_module():
    module = Stripes().to(torch.bfloat16)
    assert ParseNetParser(module).parse(torch.zeros(1, 3, 16, 16)).dtype == torch.uint8


def test_wrong_shapes_and_numbers():
    parser = ParseNetParser(Stripes())
    for wrong in (torch.zeros(3, 64, 64), torch.zeros(1, 64, 64, 3), torch.zeros(1, 3, 0, 64)):
        with pytest.raises(ValueError, match="a face parser takes"):
            parser.parse(wrong)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        parser.parse(torch.zeros(1, 3, 8, 8), batch_size=0)
    with pytest.raises(RuntimeError, match=r"non-finite.*float32"):
        ParseNetParser(Stripes(float("nan"))).parse(torch.zeros(1, 3, 8, 8))


def test_weights_are_checked_and_loaded(weights):
    saved_in_parallel = {f"module.{key}": value for key, value in weights.items()}
    parser = build_parsenet(saved_in_parallel)
    assert parser.name == "parsenet"
    assert not parser.module.training
    for key, value in parser.module.state_dict().items():
        assert torch.equal(value, weights[key]), key
    with pytest.raises(ValueError, match=r"parsenet .*missing: .*unexpected: conv1.weight.*Give the published file"):
        build_parsenet({"conv1.weight": torch.zeros(1)})
