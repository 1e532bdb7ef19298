"""What must be the same behind the writer as before the reader: samples, codec, light, tags."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask.errors import OutputError
from stream_unmask.label import mark
from stream_unmask.video.encoder import ENCODERS, Encoding
from stream_unmask.video.hdr import Mastering, light_level, mastering
from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer

ROOT = Path(__file__).parents[2]
Make = Callable[..., Path]


def copy(source: Path, target: Path, encoding: Encoding | None = None, **wishes: Any) -> Writer:
    """Every frame as it is, from file to file."""
    with (
        Reader(source) as reader,
        Writer(target, reader, encoding=encoding or Encoding(), **wishes) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return writer


def pictures(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path), metadata_errors="replace") as container:
        yield from container.decode(video=0)


def first(path: Path) -> av.VideoFrame:
    return next(pictures(path))


def stream_of(path: Path) -> tuple[str, str]:
    """The picture's codec and the container's tag for it."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.codec.canonical_name, context.codec_tag


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


def apart(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip


# Formats in which a plane holds several components, and the planar one with the same samples.
PLAIN = {"nv12": "yuv420p", "rgb24": "gbrp", "bgr0": "gbrp", "rgba": "gbrap", "bgra": "gbrap"}


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    """A plane of samples for each component."""
    if frame.format.name in PLAIN:
        frame = frame.reformat(format=PLAIN[frame.format.name])
    kind = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else "<u2")
    return [
        np.frombuffer(plane, kind)
        .reshape(-1, plane.line_size // kind.itemsize)[: plane.height, : plane.width]
        .copy()
        for plane in frame.planes
    ]


ODD = (97, 63)
EVEN = (96, 64)


@pytest.mark.parametrize(
    ("source", "codec", "pixel_format", "size", "target", "kept_by"),
    [
        ("in.mp4", "libx264", "yuv420p", EVEN, "out.mp4", "h264"),
        ("in.mp4", "libx264", "yuv420p10le", EVEN, "out.mov", "h264"),
        ("in.mp4", "libx264", "yuv422p", (96, 63), "out.mkv", "h264"),
        ("in.mp4", "libx264", "yuv444p", ODD, "out.mp4", "h264"),
        ("in.mp4", "libx264", "yuvj420p", EVEN, "out.mp4", "h264"),
        ("in.mkv", "ffv1", "gray", ODD, "out.mp4", "h264"),
        ("in.mkv", "ffv1", "gray10le", ODD, "out.mkv", "ffv1"),
        ("in.mp4", "libx265", "yuv420p10le", EVEN, "out.mp4", "hevc"),
        ("in.mp4", "libx265", "yuv422p12le", EVEN, "out.mov", "hevc"),
        ("in.mkv", "libx265", "gbrp", ODD, "out.mkv", "hevc"),
        ("in.webm", "libvpx-vp9", "yuv420p", ODD, "out.webm", "vp9"),
        ("in.webm", "libvpx-vp9", "yuv420p", ODD, "out.mp4", "vp9"),
        ("in.mp4", "libsvtav1", "yuv420p10le", EVEN, "out.mp4", "h264"),
        ("in.mkv", "ffv1", "yuv420p", ODD, "out.mkv", "ffv1"),
        ("in.mkv", "ffv1", "yuv420p", ODD, "out.mp4", "vp9"),
        ("in.mkv", "ffv1", "yuv420p16le", EVEN, "out.mkv", "ffv1"),
        ("in.mkv", "ffv1", "yuva420p", ODD, "out.mkv", "ffv1"),
        ("in.mkv", "ffv1", "bgr0", ODD, "out.mkv", "ffv1"),
        ("in.mkv", "rawvideo", "nv12", EVEN, "out.mp4", "h264"),
        ("in.mov", "png", "rgb24", ODD, "out.mp4", "hevc"),
        ("in.mov", "png", "rgba", ODD, "out.mkv", "ffv1"),
        ("in.mkv", "mpeg4", "yuv420p", EVEN, "out.webm", "vp9"),
    ],
)
def test_lossless_gives_the_same_samples(
    make_clip: Make, tmp_path: Path, source: str, codec: str, pixel_format: str,
    size: tuple[int, int], target: str, kept_by: str,
) -> None:  # fmt: skip
    path = make_clip(source, codec=codec, pixel_format=pixel_format, size=size, frames=4)
    copy(path, tmp_path / target, Encoding(lossless=True))
    assert stream_of(tmp_path / target)[0] == kept_by
    before, after = list(pictures(path)), list(pictures(tmp_path / target))
    assert before[0].format.name == pixel_format
    assert len(after) == len(before) == 4
    for old, new in zip(map(samples, before), map(samples, after), strict=True):
        grey = pixel_format == "gray" and len(new) == 3  # decoded with chroma that says nothing
        assert not grey or all((plane == 128).all() for plane in new[1:])
        assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=not grey))


def test_what_can_not_be_kept_without_loss_is_refused(make_clip: Make, tmp_path: Path) -> None:
    deep = make_clip("deep.mkv", codec="ffv1", pixel_format="yuv420p16le", frames=2)
    cases = [
        ("out.mp4", Encoding(lossless=True), r"16le .* 96 x 64 .* in this container; \.mkv can"),
        ("out.mkv", Encoding("h264", lossless=True), "h264 can't keep this picture without loss"),
        ("out.mkv", Encoding("av1", lossless=True), "av1 can't keep this picture without loss"),
    ]
    with Reader(deep) as reader:
        for name, encoding, message in cases:
            with pytest.raises(OutputError, match=message):
                Writer(tmp_path / name, reader, encoding=encoding)
    assert [path.name for path in tmp_path.iterdir()] == ["deep.mkv"]


# -------------------------------------------------------------------------------------- codecs


@pytest.mark.parametrize(
    ("source", "codec", "target", "kept_by", "tag"),
    [
        ("in.mp4", "libx264", "out.mkv", "h264", None),
        ("in.mkv", "libx264", "out.mov", "h264", "avc1"),
        ("in.mp4", "libx264", "out.webm", "vp9", None),
        ("in.mp4", "libx265", "out.mp4", "hevc", "hvc1"),
        ("in.mkv", "libx265", "out.mov", "hevc", "hvc1"),
        ("in.mkv", "libx265", "out.m4v", "hevc", "hvc1"),
        ("in.mp4", "libx265", "out.mkv", "hevc", None),
        ("in.webm", "libvpx-vp9", "out.webm", "vp9", None),
        ("in.webm", "libvpx-vp9", "out.mp4", "vp9", "vp09"),
        ("in.webm", "libvpx-vp9", "out.mov", "h264", "avc1"),
        ("in.mp4", "libsvtav1", "out.mp4", "av1", "av01"),
        ("in.mkv", "libsvtav1", "out.webm", "av1", None),
        ("in.mkv", "libsvtav1", "out.mov", "h264", "avc1"),
        ("in.mkv", "ffv1", "out.mkv", "ffv1", None),
        ("in.mkv", "ffv1", "out.mp4", "h264", "avc1"),
        ("in.mkv", "mpeg4", "out.mkv", "h264", None),
    ],
)
def test_the_sources_codec_is_kept_where_the_container_takes_it(
    make_clip: Make, tmp_path: Path, source: str, codec: str, target: str, kept_by: str,
    tag: str | None,
) -> None:  # fmt: skip
    writer = copy(make_clip(source, codec=codec, frames=4), tmp_path / target)
    found, how = stream_of(tmp_path / target)
    assert found == kept_by
    assert tag in (None, how)
    assert writer.encoder == ENCODERS[kept_by]


@pytest.mark.parametrize(("codec", "encoder"), ENCODERS.items())
def test_a_format_names_its_encoder(
    make_clip: Make, tmp_path: Path, codec: str, encoder: str
) -> None:
    source = make_clip(frames=4, codec="mpeg4")
    written = []
    for name in (codec, encoder):
        target = tmp_path / f"{name}.mkv"
        assert copy(source, target, Encoding(name), overwrite=True).encoder == encoder
        assert stream_of(target)[0] == codec
        written.append([samples(frame)[0].tobytes() for frame in pictures(target)])
    assert written[0] == written[1]


def test_one_or_two_pictures_are_a_video_in_hevc(make_clip: Make, tmp_path: Path) -> None:
    """Over and over in a new process: what stands in memory that nobody has set is luck."""
    script = """
import sys
from tests.video.test_fidelity import Encoding, Path, copy, pictures
source, target = map(Path, sys.argv[1:])
for _ in range(30):
    copy(source, target, Encoding("hevc", pixel_format="gbrp"), overwrite=True)
    print([frame.time for frame in pictures(target)])
"""
    for frames in (1, 2):
        source = make_clip("in.mkv", codec="ffv1", pixel_format="bgr0", frames=frames)
        done = apart(script, source, tmp_path / "out.mp4")
        assert (done.returncode, done.stderr) == (0, "")
        assert set(done.stdout.splitlines()) == {str([0.0, 0.04][:frames])}


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [("yuv420p12le", "hevc"), ("yuv444p12le", "hevc"), ("yuv420p10le", "av1"),
     ("yuv422p10le", "hevc"), ("yuv422p10le", "h264")],
)  # fmt: skip
def test_the_depth_stays(make_clip: Make, tmp_path: Path, pixel_format: str, codec: str) -> None:
    source = make_clip(codec=ENCODERS[codec], pixel_format=pixel_format, frames=4)
    copy(source, tmp_path / "out.mp4")
    assert stream_of(tmp_path / "out.mp4")[0] == codec
    frame = first(tmp_path / "out.mp4")
    assert frame.format.name == pixel_format
    luma, old = samples(frame)[0].astype(int), samples(first(source))[0].astype(int)
    assert np.abs(luma - old).mean() < 0.01 * old.max()


def test_wishes_reach_the_encoder(make_clip: Make, tmp_path: Path) -> None:
    """x264 notes its settings in the stream."""
    source, target = make_clip(frames=4), tmp_path / "out.mp4"
    copy(source, target)
    assert b" crf=18.0 " in target.read_bytes()
    usual = target.read_bytes()
    wish = Encoding("h264", quality=31, preset="slower", pixel_format="yuv444p10le")
    copy(source, target, wish, overwrite=True)
    assert b" crf=31.0 " in target.read_bytes()
    assert b" subme=9 " in target.read_bytes()
    assert b" subme=9 " not in usual
    assert first(target).format.name == "yuv444p10le"


@pytest.mark.parametrize("codec", ["hevc", "vp9", "av1"])
def test_quality_and_speed_are_known_to_other_encoders(
    make_clip: Make, tmp_path: Path, codec: str
) -> None:
    source = make_clip(frames=4, size=(320, 240), codec="mpeg4")
    speed = "medium" if codec == "hevc" else "8"
    sizes = []
    for quality in (10, 50):
        target = tmp_path / f"{quality}.mkv"
        copy(source, target, Encoding(codec, quality, speed))
        sizes.append(target.stat().st_size)
    assert sizes[0] > 1.1 * sizes[1]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (Encoding("ffv1", quality=3), "ffv1 has no setting for quality"),
        (Encoding("ffv1", preset="fast"), "ffv1 has no setting for speed"),
        (Encoding(preset="warp"), "libx264 can't be used here"),
        (Encoding("hevc", pixel_format="nv12"), "libx265 takes no nv12: yuv420p, "),
        (Encoding("av1", pixel_format="yuv444p"), "libsvtav1 takes no yuv444p: yuv420p, "),
    ],
)
def test_wishes_that_can_not_be_met_are_refused(
    make_clip: Make, tmp_path: Path, encoding: Encoding, message: str
) -> None:
    with Reader(make_clip(frames=2)) as reader, pytest.raises(OutputError, match=message):
        Writer(tmp_path / "out.mkv", reader, encoding=encoding)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_encoders_keep_their_mouths_shut(make_clip: Make, tmp_path: Path) -> None:
    """In a process of their own, as SVT-AV1 asks only once how much it may say."""
    source = make_clip(frames=4)
    script = """
import sys
from tests.video.test_fidelity import Encoding, Path, copy
for codec in ("h264", "hevc", "vp9", "av1"):
    copy(Path(sys.argv[1]), Path(sys.argv[2], f"{codec}.mkv"), Encoding(codec))
"""
    done = apart(script, source, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(tmp_path.glob("*.mkv"))) == 4


# --------------------------------------------------------------------------------------- light

# A display of P3 primaries and a D65 white, from 0.005 to 1000 cd/m2, in each encoder's way.
FINE = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
COARSE = "G(0.265,0.690)B(0.150,0.060)R(0.680,0.320)WP(0.3127,0.3290)L(1000.0,0.005)"
LIT = {
    "libx264": {"x264-params": f"mastering-display={FINE}:cll=1000,400"},
    "libx265": {"x265-params": f"log-level=error:master-display={FINE}:max-cll=1000,400"},
    "libsvtav1": {"svtav1-params": f"mastering-display={COARSE}:content-light=1000,400"},
}
HDR = (1, 9, 9, 16)  # limited range, BT.2020, PQ


def numbers(found: Mastering | None) -> list[float]:
    assert found is not None
    points = (found.red, found.green, found.blue, found.white)
    return [float(value) for point in points for value in point] + [
        float(found.darkest),
        float(found.brightest),
    ]


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize("encoder", LIT)
@pytest.mark.parametrize("source", LIT)
def test_what_the_master_says_of_its_light_stays(
    make_clip: Make, tmp_path: Path, source: str, encoder: str, target: str
) -> None:
    clip = make_clip(
        codec=source, pixel_format="yuv420p10le", frames=4, colours=HDR, options=LIT[source]
    )
    assert light_level(first(clip)) == (1000, 400)
    copy(clip, tmp_path / target, Encoding(encoder))
    frame = first(tmp_path / target)
    wanted = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000]
    # AV1 counts colours in steps of 1 / 65536, light in 1 / 16384 and 1 / 256.
    assert numbers(mastering(first(clip))) == pytest.approx(wanted, abs=3e-5)
    assert numbers(mastering(frame)) == pytest.approx(wanted, abs=4e-5)
    assert light_level(frame) == (1000, 400)
    assert frame.format.name == "yuv420p10le"
    assert (int(frame.color_primaries), int(frame.color_trc)) == HDR[2:]


def test_a_picture_that_says_nothing_of_light_gets_nothing(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(frames=4, pixel_format="yuv420p10le")
    assert mastering(first(clip)) is light_level(first(clip)) is None
    for encoder in LIT:
        copy(clip, tmp_path / "out.mp4", Encoding(encoder), overwrite=True)
        frame = first(tmp_path / "out.mp4")
        assert mastering(frame) is light_level(frame) is None


def test_one_of_the_two_alone_stays_alone(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(codec="libx265", frames=4, options={"x265-params": "max-cll=600,90"})
    for encoder in LIT:
        copy(clip, tmp_path / "out.mp4", Encoding(encoder), overwrite=True)
        frame = first(tmp_path / "out.mp4")
        assert (light_level(frame), mastering(frame)) == ((600, 90), None)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_light_stays_where_nothing_is_lost(make_clip: Make, tmp_path: Path, codec: str) -> None:
    """Both are settings of the encoder, under the same name."""
    clip = make_clip(
        codec=codec, pixel_format="yuv420p10le", frames=4, colours=HDR, options=LIT[codec]
    )
    copy(clip, tmp_path / "out.mp4", Encoding(lossless=True))
    old, new = first(clip), first(tmp_path / "out.mp4")
    assert mastering(new) == mastering(old) is not None
    assert all(np.array_equal(a, b) for a, b in zip(samples(old), samples(new), strict=True))


# ------------------------------------------------------------------------- what is lost is named


@pytest.fixture
def interlaced(make_clip: Make) -> Path:
    path = make_clip("interlaced.mp4", frames=4, options={"flags": "+ildct+ilme"})
    assert first(path).interlaced_frame
    return path


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_interlaced_stays_interlaced_in_h264(interlaced: Path, tmp_path: Path, target: str) -> None:
    assert copy(interlaced, tmp_path / target).dropped == []
    assert all(frame.interlaced_frame for frame in pictures(tmp_path / target))


@pytest.mark.parametrize("encoder", ["libx265", "libvpx-vp9", "libsvtav1"])
def test_other_encoders_lose_that_it_was_interlaced(
    interlaced: Path, tmp_path: Path, encoder: str
) -> None:
    writer = copy(interlaced, tmp_path / "out.mkv", Encoding(encoder))
    assert not first(tmp_path / "out.mkv").interlaced_frame
    assert writer.dropped == [f"that the picture is interlaced: not possible with {encoder}"]


def test_nothing_is_said_to_be_lost_that_is_kept(interlaced: Path, tmp_path: Path) -> None:
    writer = copy(interlaced, tmp_path / "out.mkv", Encoding("ffv1"))
    assert first(tmp_path / "out.mkv").interlaced_frame
    assert writer.dropped == []


def test_progressive_is_not_called_interlaced(make_clip: Make, tmp_path: Path) -> None:
    for encoder in ENCODERS.values():
        target = tmp_path / f"{encoder}.mkv"
        assert copy(make_clip(frames=4), target, Encoding(encoder)).dropped == []
        assert not first(target).interlaced_frame


def test_a_lost_aspect_is_named(make_clip: Make, tmp_path: Path) -> None:
    source = make_clip(aspect=Fraction(4, 3), frames=3)
    for target, encoder in (
        ("a.mkv", "vp9"),
        ("b.webm", None),
        ("c.mkv", "h264"),
        ("d.mp4", "av1"),
    ):
        writer = copy(source, tmp_path / target, Encoding(encoder))
        with av.open(str(tmp_path / target)) as container:
            kept = container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        suffix = Path(target).suffix
        lost = [f"the pixels' aspect ratio: not possible in {suffix}"]
        assert writer.dropped == ([] if kept else lost)


def test_lost_transparency_is_named(make_clip: Make, tmp_path: Path) -> None:
    clear = make_clip("clear.mkv", codec="ffv1", pixel_format="yuva420p", frames=2)
    writer = copy(clear, tmp_path / "out.mp4")
    assert first(tmp_path / "out.mp4").format.name == "yuv420p"
    assert any("transparency" in phrase for phrase in writer.dropped)


# ------------------------------------------------------------------------- covers, tags, files


def with_cover(source: Path, target: Path, codec: str = "mjpeg") -> bytes:
    """Makes a copy with cover art, and returns the art."""
    frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), (200, 40, 90), np.uint8))
    with av.open(str(source)) as video, av.open(str(target), "w") as container:
        copy = container.add_stream_from_template(video.streams.video[0], opaque=True)
        cover: Any = container.add_stream(codec, rate=1)
        cover.width, cover.height = 32, 32
        cover.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        cover.disposition = 0x400
        (packet,) = [
            *cover.encode(frame.reformat(format=cover.pix_fmt)), *cover.encode(None)
        ]  # fmt: skip
        art = bytes(packet)
        container.mux(packet)
        for packet in video.demux():
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    return art


def covers_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        covers = [s.index for s in container.streams.video if int(s.disposition) & 0x400]
        return [bytes(p) for p in container.demux() if p.size and p.stream.index in covers]


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
def test_cover_art_goes_from_container_to_container(
    make_clip: Make, tmp_path: Path, codec: str
) -> None:
    source = tmp_path / "cover.mp4"
    art = with_cover(make_clip(frames=5), source, codec)
    for target in ("a.mp4", "b.mkv", "c.mkv", "d.m4v"):
        writer = copy(source, tmp_path / target)
        assert covers_of(tmp_path / target) == [art]
        assert f"({codec} video)" in writer.carried[-1]
        assert len(list(pictures(tmp_path / target))) == 5
        source = tmp_path / target
    with av.open(str(tmp_path / "c.mkv")) as container:
        cover = container.streams.video[1]
        assert cover.metadata["filename"] == ("cover.jpg" if codec == "mjpeg" else "cover.png")
        assert cover.metadata["mimetype"] == ("image/jpeg" if codec == "mjpeg" else "image/png")


def test_cover_art_is_carried_to_quicktime_or_named(make_clip: Make, tmp_path: Path) -> None:
    art = with_cover(make_clip(frames=5), tmp_path / "cover.mp4")
    writer = copy(tmp_path / "cover.mp4", tmp_path / "out.mov")
    kept = covers_of(tmp_path / "out.mov") == [art]
    assert (len(writer.carried), len(writer.dropped)) == ((1, 0) if kept else (0, 1))


def test_cover_art_is_one_stream(make_clip: Make, tmp_path: Path) -> None:
    with_cover(make_clip(frames=5), tmp_path / "cover.mp4")
    writer = copy(tmp_path / "cover.mp4", tmp_path / "out.mp4")
    assert writer.dropped == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams) == 2


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_tags_that_no_box_is_for_stay(make_clip: Make, tmp_path: Path, suffix: str) -> None:
    tags = {"title": "A walk", "comment": "mine", "shot_by": "Anna", "com.maker.model": "X 1"}
    options = {"movflags": "use_metadata_tags"}
    source = make_clip(frames=3, metadata=tags, container_options=options)
    copy(source, tmp_path / f"out.{suffix}", metadata={"comment": mark()})
    assert tags_of(source).items() >= tags.items()
    kept = tags_of(tmp_path / f"out.{suffix}")
    assert kept.items() >= (tags | {"comment": f"{mark()} | mine"}).items()


def test_ordinary_tags_stay_in_boxes(make_clip: Make, tmp_path: Path) -> None:
    """Where there are only tags that MP4 has boxes for, players must find them there."""
    copy(make_clip(frames=3, metadata={"title": "A walk"}), tmp_path / "out.mp4")
    assert tags_of(tmp_path / "out.mp4")["title"] == "A walk"
    data = (tmp_path / "out.mp4").read_bytes()
    assert b"\xa9nam" in data
    assert b"mdta" not in data


def with_attachment(source: Path, target: Path) -> None:
    with av.open(str(source)) as video, av.open(str(target), "w") as container:
        copy = container.add_stream_from_template(video.streams.video[0], opaque=True)
        container.add_attachment("font.ttf", "font/ttf", b"letters" * 100)
        for packet in video.demux():
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)


def attachments_of(path: Path) -> list[tuple[str, str, bytes]]:
    with av.open(str(path)) as container:
        found: list[Any] = [s for s in container.streams if s.type == "attachment"]
        return [(s.metadata["filename"], s.metadata["mimetype"], bytes(s.data)) for s in found]


@pytest.mark.parametrize(
    "target",
    [
        "out.mkv",
        "out.mp4",
        "out.webm",
    ],
)
def test_attached_files_are_carried_or_named(make_clip: Make, tmp_path: Path, target: str) -> None:
    source = tmp_path / "in.mkv"
    with_attachment(make_clip("clip.mkv", frames=3), source)
    assert len(attachments_of(source)) == 1
    writer = copy(source, tmp_path / target)
    if writer.carried:
        assert attachments_of(tmp_path / target) == attachments_of(source)
    else:
        suffix = Path(target).suffix
        assert writer.dropped == [f"stream 1 (unknown attachment): not possible in {suffix}"]


# --------------------------------------------------------------------------- ends, good and bad


class Losing:
    """A container for output that loses what the test wants it to lose."""

    def __init__(self, container: Any, part: Path, keep: int, share: float) -> None:
        self._container, self._part, self._keep, self._share = container, part, keep, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def mux(self, packets: Any) -> None:
        packets = [packets] if isinstance(packets, av.Packet) else packets
        for packet in packets:
            if self._keep > 0:
                self._container.mux(packet)
            self._keep -= 1

    def close(self) -> None:
        self._container.close()
        if self._share < 1:
            data = self._part.read_bytes()
            self._part.write_bytes(data[: int(len(data) * self._share)])


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("keep", "share"), [(19, 1), (10, 1), (100, 0.9), (100, 0.5)])
def test_a_file_that_lost_its_end_gets_no_name(
    make_clip: Make, tmp_path: Path, suffix: str, keep: int, share: float
) -> None:
    source, target = make_clip(size=(320, 240)), tmp_path / f"out.{suffix}"
    in_order = Encoding(preset="ultrafast")  # so that what comes last is shown last

    def write() -> None:
        with Reader(source) as reader, Writer(target, reader, encoding=in_order) as writer:
            part = tmp_path / f"out.part.{suffix}"
            lossy: Any = Losing(writer._container, part, keep, share)
            writer._container = lossy
            for frame in reader:
                writer.write(frame)

    with pytest.raises(OutputError) as caught:
        write()
    assert str(caught.value).startswith(str(target))
    if share == 1:
        assert str(caught.value).endswith("was not written whole: its end can't be read back.")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_file_that_lost_nothing_passes_the_same_way(make_clip: Make, tmp_path: Path) -> None:
    with Reader(make_clip()) as reader, Writer(tmp_path / "out.mp4", reader) as writer:
        whole: Any = Losing(writer._container, tmp_path / "out.part.mp4", 100, 1)
        writer._container = whole
        for frame in reader:
            writer.write(frame)
    assert len(list(pictures(tmp_path / "out.mp4"))) == 20


def break_off(source: Path, target: Path, frames: int, **wishes: Any) -> None:
    """Writes so many frames, then raises an error."""
    with Reader(source) as reader, Writer(target, reader, **wishes) as writer:
        for index, frame in enumerate(reader):
            if index == frames:
                raise RuntimeError
            writer.write(frame)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_what_was_done_before_an_error_can_be_kept(
    make_clip: Make, tmp_path: Path, suffix: str
) -> None:
    source, target = make_clip(audio=True), tmp_path / f"out.{suffix}"
    with pytest.raises(RuntimeError):
        break_off(source, target, 12, keep_partial=True, metadata={"comment": mark()})
    part = tmp_path / f"out.part.{suffix}"
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", part.name}
    assert len(list(pictures(part))) == 12
    copy(source, target, metadata={"comment": mark()})  # which takes the place of its leftover
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", target.name}
    assert len(list(pictures(target))) == 20


def test_nothing_is_kept_where_nothing_was_done_or_wished(make_clip: Make, tmp_path: Path) -> None:
    source = make_clip()
    with pytest.raises(RuntimeError):
        break_off(source, tmp_path / "out.mp4", 0, keep_partial=True)
    with pytest.raises(RuntimeError):
        break_off(source, tmp_path / "out.mp4", 12)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_part_of_somebody_else_is_in_the_way(make_clip: Make, tmp_path: Path) -> None:
    other = tmp_path / "out.part.mp4"
    other.write_bytes(make_clip("other.mp4").read_bytes())
    before = other.read_bytes()
    with Reader(make_clip()) as reader, pytest.raises(OutputError, match="is in the way"):
        Writer(tmp_path / "out.mp4", reader, overwrite=True)
    assert other.read_bytes() == before
