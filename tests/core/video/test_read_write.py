"""Reading, encoding and putting together: frames, times, sound and tags come out as they went in."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from codeformer_core.pipeline.video.encoding import choose_encoding
from codeformer_core.pipeline.video.read import Reader
from codeformer_core.pipeline.video.source import probe
from codeformer_core.pipeline.video.write import Part, PartWriter, can_tag_rotation, copy_streams, put_together

from .clips import Disk, chapters_of, clip, decoded, draw, packets, same_samples, scene_clip, times

UNEVEN = [index * 512 + 160 * (index % 3) for index in range(30)]


def rewritten(source: Path, target: Path, splits=(), start=0.0, end=None, **encoding) -> Path:
    """The video read and written again in parts, without any change."""
    info = probe(source, start, end)
    how = choose_encoding(info, target, **encoding)
    frames = list(Reader(info).frames())
    parts = []
    for number, (first, last) in enumerate(itertools.pairwise((0, *splits, len(frames)))):
        path = target.with_name(f"part{number}.mkv")
        writer = PartWriter(path, info, how, info.width, info.height)
        for frame in frames[first:last]:
            writer.add(frame.pts, frame.picture)
        writer.close()
        parts.append(Part(path, tuple(frame.pts for frame in frames[first:last])))
    put_together(target, parts, info, how, info.ticks)
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("splits", [(), (11, 12, 20)])
def test_uneven_times_and_sound_are_kept(tmp_path, suffix, splits):
    source = scene_clip(tmp_path / "in.mp4", 30, ticks=UNEVEN)
    result = rewritten(source, tmp_path / f"out{suffix}", splits)
    came, went = times(source), times(result)
    assert len(went) == 30
    # Matroska counts milliseconds, and begins where its first packet does.
    shift = went[0] - came[0] if suffix == ".mkv" else 0
    allowed = Fraction(1, 1000) if suffix == ".mkv" else 0
    assert all(abs(b - a - shift) <= allowed for a, b in zip(came, went, strict=True))
    assert packets(result) == packets(source)


def test_without_loss_all_samples_are_kept(tmp_path):
    source = scene_clip(tmp_path / "in.mkv", 12, codec="ffv1", pixel_format="yuv422p10le", rate=Fraction(24000, 1001))
    result = rewritten(source, tmp_path / "out.mkv", (5,))
    assert all(same_samples(a, b) for a, b in zip(decoded(source), decoded(result), strict=True))


CODECS = {
    "hevc 10 bit": (".mp4", "libx265", "yuv420p10le", Fraction(50), {"x265-params": "log-level=none"}),
    "vp9 with alpha": (".webm", "libvpx-vp9", "yuva420p", Fraction(25), {"cpu-used": "8", "deadline": "realtime"}),
    "prores": (".mov", "prores_ks", "yuv422p10le", Fraction(24000, 1001), {}),
    "full range": (".mp4", "libx264", "yuvj420p", Fraction(30000, 1001), {}),
    "mjpeg": (".avi", "mjpeg", "yuvj422p", Fraction(15), {}),
}


@pytest.mark.parametrize("name", CODECS)
def test_the_source_s_own_kind_is_written(tmp_path, name):
    suffix, codec, pixel_format, rate, options = CODECS[name]
    time_base = 1 / rate
    sound = suffix != ".avi"
    source = scene_clip(
        tmp_path / f"in{suffix}",
        9,
        codec=codec,
        pixel_format=pixel_format,
        rate=rate,
        time_base=time_base,
        options=options,
        sound=sound,
    )
    result = rewritten(source, tmp_path / f"out{suffix}")
    with av.open(str(source)) as came, av.open(str(result)) as went:
        before, after = came.streams.video[0].codec_context, went.streams.video[0].codec_context
        assert after.name == before.name
    assert [frame.format.name for frame in decoded(result)] == [frame.format.name for frame in decoded(source)]
    came, went = times(source), times(result)
    assert max(abs(b - a - (went[0] - came[0])) for a, b in zip(came, went, strict=True)) <= Fraction(1, 999)
    if sound:
        assert packets(result) == packets(source)


@pytest.mark.skipif(not can_tag_rotation(), reason="this PyAV can't write how a file is turned")
def test_colour_tags_and_rotation_are_kept(tmp_path):
    tags = (1, 9, 9, 16)
    options = {"x265-params": "log-level=none"}
    source = scene_clip(
        tmp_path / "in.mp4",
        6,
        codec="libx265",
        pixel_format="yuv420p10le",
        colours=tags,
        rotation=90,
        options=options,
    )
    info = probe(source)
    assert info.colours == tags and info.rotation in (90, 270) and info.size_hw == (160, 120)
    result = probe(rewritten(source, tmp_path / "out.mp4"))
    assert result.colours == tags and result.rotation == info.rotation


@pytest.mark.skipif(not hasattr(av.container.OutputContainer, "set_chapters"), reason="this PyAV can't write chapters")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_chapters_are_kept(tmp_path, suffix):
    chapters = [("one", 0.0, 0.4), ("two", 0.4, 0.8), ("three", 0.8, 1.2)]
    source = scene_clip(tmp_path / f"in{suffix}", 30, chapters=chapters)
    assert chapters_of(source) == chapters
    assert chapters_of(rewritten(source, tmp_path / f"out{suffix}")) == chapters
    info = probe(source)
    assert copy_streams(tmp_path / f"copy{suffix}", info, choose_encoding(info, tmp_path / f"copy{suffix}"))
    assert chapters_of(tmp_path / f"copy{suffix}") == chapters
    part = rewritten(source, tmp_path / f"part{suffix}", start=0.6, end=1.0)
    assert chapters_of(part) == [("two", 0.0, 0.2), ("three", 0.2, 0.4)]


def test_a_part_in_the_middle_begins_at_zero(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 50)
    info = probe(source, 0.4, 1.2)
    frames = list(Reader(info).frames())
    assert [frame.number for frame in frames] == list(range(20))
    assert frames[0].pts * info.time_base == Fraction(2, 5)
    assert same_samples(frames[0].picture, decoded(source)[10])
    how = choose_encoding(info, tmp_path / "out.mp4")
    writer = PartWriter(tmp_path / "part.mkv", info, how, info.width, info.height)
    for frame in frames:
        writer.add(frame.pts, frame.picture)
    writer.close()
    part = Part(tmp_path / "part.mkv", tuple(frame.pts for frame in frames))
    put_together(tmp_path / "out.mp4", [part], info, how, info.ticks)
    assert times(tmp_path / "out.mp4") == [Fraction(index, 25) for index in range(20)]
    assert set(packets(tmp_path / "out.mp4")) < set(packets(source))


def test_reading_goes_on_from_a_known_frame(tmp_path):
    source = scene_clip(
        tmp_path / "in.mp4", 40, options={"g": "12"}, ticks=[t * 512 + 100 * (t % 2) for t in range(40)]
    )
    info = probe(source)
    whole = list(Reader(info).frames())
    rest = list(Reader(info).frames(21, whole[21].pts))
    assert [frame.number for frame in rest] == list(range(21, 40))
    assert all(same_samples(a.picture, b.picture) for a, b in zip(rest, whole[21:], strict=True))


def test_what_a_decoder_gave_is_never_written_to(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 5)
    rewritten(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(source)


def test_broken_packets_are_bridged(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 40, options={"g": "10", "bf": "0"}, sound=False)
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    position, size = places[13]
    data[position : position + size] = b"\xff" * size
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    reader = Reader(probe(broken))
    frames = list(reader.frames())
    assert [frame.pts for frame in frames] == [index * 512 for index in range(40)]
    assert reader.repairs.repeated and reader.repairs.repeated[0] == 13 * 512


def test_a_file_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path):
    source = scene_clip(tmp_path / "in.mkv", 60, sound=False)
    short = tmp_path / "short.mkv"
    short.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    frames = list(Reader(probe(short)).frames())
    assert 20 < len(frames) < 60


def test_times_that_do_not_rise_are_mended(tmp_path):
    class Stamps(Reader):
        def _decoded(self, container, stream):
            for number, (_, picture) in enumerate(super()._decoded(container, stream)):
                yield (None, 100, 5000, 300)[number], picture

    reader = Stamps(probe(scene_clip(tmp_path / "in.mp4", 4)))
    assert [frame.pts for frame in reader.frames()] == [0, 100, 5000, 5512]
    assert reader.repairs.restamped == 2


def test_frames_of_another_size_are_named(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 4)
    reader = Reader(probe(source))
    reader.info = probe(scene_clip(tmp_path / "other.mp4", 4, width=96, height=80))
    with pytest.raises(ValueError, match=r"change from 96x80 to 160x120 pixels at 0:00\.000"):
        list(Reader(reader.info.__class__(**{**reader.info.__dict__, "path": source})).frames())


def test_packets_are_copied(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 20, ticks=UNEVEN[:20])
    info = probe(source)
    assert copy_streams(tmp_path / "out.mp4", info, choose_encoding(info, tmp_path / "out.mp4"))
    assert packets(tmp_path / "out.mp4", "video") == packets(source, "video")
    assert packets(tmp_path / "out.mp4") == packets(source) and times(tmp_path / "out.mp4") == times(source)


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def interlaced(path: Path) -> Path:
    frames = [draw([Disk(50, 50)], t) for t in range(6)]
    return clip(path, frames, options={"flags": "+ilme+ildct", "x264-params": "tff=1"}, sound=False)


def test_what_is_no_video_is_refused(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video" * 200)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    for path, words in (
        (text, "no video that FFmpeg can read"),
        (empty, "no video that FFmpeg can read"),
        (tmp_path, "is a folder"),
        (sound_only(tmp_path / "sound.mp4"), "no moving pictures, only audio"),
        (interlaced(tmp_path / "fields.mp4"), "interlaced"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            probe(path)
        assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match=r"begins at 9 s, and the video ends at 0\.16 s"):
        probe(scene_clip(tmp_path / "a.mp4", 4, sound=False), 9)


def test_what_a_container_or_an_encoder_does_not_take_is_refused(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 4)
    info = probe(source)
    for target, how, words in (
        ("out.txt", {}, r"can't be written as \.txt"),
        ("out.webm", {}, r"can't hold the audio aac of in\.mp4\. Write an \.mkv"),
        ("out.mp4", {"encoder": "no_such"}, "no encoder no_such"),
        ("out.mp4", {"encoder": "prores_ks"}, "can't write yuv420p"),
    ):
        with pytest.raises(ValueError, match=words):
            choose_encoding(info, tmp_path / target, **how)
    odd = probe(scene_clip(tmp_path / "odd.mkv", 3, codec="ffv1", width=161, height=121, sound=False))
    assert choose_encoding(odd, tmp_path / "out.mkv").encoder == "ffv1"
    with pytest.raises(ValueError, match=r"161x121 is odd.*libvpx-vp9"):
        choose_encoding(odd, tmp_path / "out.mp4", "libx264")
