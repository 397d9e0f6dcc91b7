"""Tracking and smoothing for batches of frames, and averaging over time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import codeformer_core as cf
from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.geometry import estimate_alignment, invert
from codeformer_core.pipeline.align import AlignedFace
from codeformer_core.pipeline.video.average import Averager
from codeformer_core.pipeline.video.restored import RestoredTrackFace, small_view_of
from codeformer_core.pipeline.video.window import TrackedFace

from .clips import CYAN, Disk, DiskDetector, draw


def frames_of(scene, count, cuts=()):
    frames = [draw(scene(t), t, look=sum(t >= cut for cut in cuts)) for t in range(count)]
    return torch.from_numpy(np.stack(frames)).float() / 255


def found_in(images, jitter=0.5):
    return cf.find_faces(images, detector=DiskDetector(jitter=jitter)).faces


def test_faces_of_a_batch_are_tracked_and_steady():
    images = frames_of(lambda t: [Disk(45 + t, 60), Disk(118, 60 + 0.2 * t, 20, CYAN)], 20, cuts=(12,))
    faces = found_in(images)
    tracked = cf.track_faces(faces, images)
    assert [len(found) for found in tracked.faces.per_image] == [2] * 20
    assert {one.track for one in tracked.aligned if one.image < 12} == {1, 2}
    assert {one.track for one in tracked.aligned if one.image >= 12} == {3, 4}
    kinds = [event.kind for event in tracked.events]
    assert kinds.count("faces") == 20 and "video_tracks" in kinds

    def shaking(batch, person):
        matrices = [estimate_alignment(found[person]) for found in batch.per_image[:12]]
        places = np.stack([invert(matrix) @ (255.5, 255.5, 1) for matrix in matrices])
        return np.sqrt(np.square(np.diff(places, 2, axis=0)).mean())

    order = [0 if found[0].center_xy[0] < found[1].center_xy[0] else 1 for found in faces.per_image]
    sorted_faces = faces.with_faces(
        [found[::-1] if first else found for found, first in zip(faces.per_image, order, strict=True)]
    )
    for person in (0, 1):
        assert shaking(tracked.faces, person) < shaking(sorted_faces, person) / 3
    # The batch goes on as any other does.
    assert cf.crop_faces(images, tracked.faces).crops_NHW3.shape[0] == 40


def test_other_images_are_refused():
    images = frames_of(lambda t: [Disk(50, 60)], 6)
    with pytest.raises(ValueError, match="belong to 6 images"):
        cf.track_faces(found_in(images), images[:4])
    with pytest.raises(ValueError, match="look-ahead must be from 4"):
        cf.track_faces(found_in(images), images, look_ahead=2)


def textured(shift=0.0, seed=0):
    """A crop with texture that can be followed, RGB [0, 1], (512, 512, 3)."""
    rows, columns = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    columns = columns - shift
    waves = 0.5 + 0.2 * torch.sin(columns / 17) * torch.cos(rows / 23) + 0.15 * torch.sin((columns + rows) / 9)
    return waves[..., None].expand(-1, -1, 3).contiguous()


def entry(before_SS3, restored_SS3):
    face = DiskDetector()._found(torch.from_numpy(draw([Disk(50, 60)], 0)).float() / 255)[0]
    tracked = TrackedFace(AlignedFace(0, face, np.eye(2, 3), 1), 1.0, 0)
    restored = np.ascontiguousarray(restored_SS3.numpy(), np.float32)
    return RestoredTrackFace(tracked, restored, None, small_view_of(before_SS3.permute(2, 0, 1)))


def test_neighbours_are_moved_to_where_the_face_is():
    """The texture moves by three pixels a frame; noise is the restorer's own."""
    generator = torch.Generator().manual_seed(0)
    clean = [textured(3.0 * t) for t in range(-2, 3)]
    noisy = [one + 0.1 * torch.randn(one.shape, generator=generator) for one in clean]
    entries = [entry(before, restored) for before, restored in zip(clean, noisy, strict=True)]
    made = Averager().average(entries[2], [entries[index] for index in (0, 1, 3, 4)]).face_SS3
    inside = (slice(64, -64), slice(64, -64))
    left = np.abs(made - clean[2].numpy())[inside].mean()
    was = (noisy[2] - clean[2]).abs().numpy()[inside].mean()
    assert left < was * 0.6


def test_what_looked_different_is_not_averaged():
    now, other = textured(), 1 - textured()
    made = Averager().average(entry(now, now), [entry(other, other)]).face_SS3
    assert np.abs(made - now.numpy()).mean() < 0.02


def test_crops_are_smoothed_along_their_tracks_and_never_over_a_cut():
    images = frames_of(lambda t: [Disk(50, 60)], 10, cuts=(5,))
    faces = found_in(images, jitter=0.0)
    before = torch.stack([textured()] * 10)
    levels = torch.tensor([0.3, 0.5] * 5).view(10, 1, 1, 1)
    restored = (before * 0 + levels).expand(-1, -1, -1, 3).contiguous()
    made = cf.smooth_crops(before, restored, faces)
    means = made.mean((1, 2, 3))
    assert made.shape == restored.shape and float(means[2]) == pytest.approx(0.38, abs=0.005)
    # Of the scene's first three frames, without the two before the cut.
    assert float(means[5]) == pytest.approx((0.5 + 0.3 + 0.5) / 3, abs=0.005)
    with pytest.raises(ValueError, match="there are 10 faces, 9 crops before"):
        cf.smooth_crops(before[:9], restored, faces)
    none = FaceBatch.of(images, [[]] * 10)
    assert len(cf.smooth_crops(before[:0], restored[:0], none)) == 0


def test_noise_is_not_taken_for_motion():
    """A still face in coarse noise, as codecs leave it: what is averaged is as steady as five frames make it."""
    generator = torch.Generator().manual_seed(0)
    clean = textured()

    def noisy():
        noise = torch.randn(1, 3, 40, 40, generator=generator)
        return clean + 0.06 * torch.nn.functional.interpolate(noise, (512, 512), mode="bicubic")[0].permute(1, 2, 0)

    frames = [noisy() for _ in range(5)]
    entries = [entry(frame, frame) for frame in frames]
    made = Averager().average(entries[2], [entries[index] for index in (0, 1, 3, 4)]).face_SS3
    inside = (slice(64, -64), slice(64, -64))
    left = np.square(made - clean.numpy())[inside].mean() ** 0.5
    was = np.square(frames[2].numpy() - clean.numpy())[inside].mean() ** 0.5
    assert left < was * 0.6
