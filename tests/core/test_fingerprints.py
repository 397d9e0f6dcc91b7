"""Files and weights are told from others of the same name."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from codeformer_core.pipeline.fingerprints import digest_of_ends, digest_of_weights

from .video.clips import Brighter


def test_weights_are_told_apart(tiny_restorer):
    digest = digest_of_weights(tiny_restorer)
    module = copy.deepcopy(tiny_restorer.module)
    same = replace(tiny_restorer, module=module)
    assert digest is not None and digest_of_weights(same) == digest
    with torch.no_grad():
        next(module.parameters()).add_(1e-3)
    assert digest_of_weights(same) != digest
    assert digest_of_weights(Brighter()) is None


def test_files_are_told_apart_by_their_ends(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(3 << 20))
    digest = digest_of_ends(path)
    for place in (0, (3 << 20) - 1):
        changed = bytearray(3 << 20)
        changed[place] = 1
        path.write_bytes(changed)
        assert digest_of_ends(path) != digest
    path.write_bytes(b"short")
    assert len(digest_of_ends(path)) == 64
