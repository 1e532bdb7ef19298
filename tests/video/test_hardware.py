"""Encoders that are hardware. There is none here: what is real is that software steps in, and what
FFmpeg says of each encoder's options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from av.error import FFmpegError

from stream_unmask.errors import OutputError
from stream_unmask.video import encoder as encoder_module
from stream_unmask.video import hardware as module
from stream_unmask.video.encoder import ENCODERS, Encoding, _pixel_format
from stream_unmask.video.hardware import hardware_format, hardware_options, translated
from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer, refused
from tests.video.test_decoder import read

Make = Callable[..., Path]
HARDWARE = [
    f"{coded}_{maker}"
    for maker in ("nvenc", "qsv", "amf", "videotoolbox")
    for coded in ("h264", "hevc", "vp9", "av1")
]


def known(name: str) -> bool:
    """True if FFmpeg was built with that encoder; whether it can be used is another matter."""
    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True


KNOWN = [name for name in HARDWARE if known(name)]


def copy(source: Path, target: Path, encoding: Encoding) -> Writer:
    with Reader(source) as reader, Writer(target, reader, encoding=encoding) as writer:
        for frame in reader:
            writer.write(frame)
    return writer


def packets(path: Path) -> list[tuple[int, int | None, bytes]]:
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux() if packet.size]
        return [(packet.stream_index, packet.pts, bytes(packet)) for packet in found]


def opens(name: str) -> bool:
    try:
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt, context.framerate = 320, 240, "nv12", 25
        context.open()
    except (FFmpegError, ValueError):
        return False
    return True


@pytest.fixture
def absent(request: pytest.FixtureRequest) -> str:
    if opens(request.param):
        pytest.skip(f"{request.param} is here")
    return str(request.param)


# ------------------------------------------------------------------------------------- stepping in


@pytest.mark.parametrize("absent", HARDWARE, indirect=True)
def test_software_steps_in_with_the_same_packets(
    make_clip: Make, tmp_path: Path, absent: str
) -> None:
    source, coded = make_clip(audio=True), absent.partition("_")[0]
    wish = {"quality": 31, "repeatable": True}
    plain = copy(source, tmp_path / "plain.mkv", Encoding(coded, **wish))
    writer = copy(source, tmp_path / "out.mkv", Encoding(absent, **wish))
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "plain.mkv")
    assert writer.encoder == plain.encoder == ENCODERS[coded]
    (warning,) = writer.warnings
    assert warning.startswith(f"The encoder {absent} can't be used here (")
    assert warning.endswith(f"), so {ENCODERS[coded]} steps in.")
    assert plain.warnings == []
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "plain.mkv", "out.mkv"}


@pytest.mark.parametrize("absent", ["h264_nvenc", "hevc_nvenc"], indirect=True)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p"])
def test_nothing_is_lost_by_stepping_in(
    make_clip: Make, tmp_path: Path, absent: str, pixel_format: str
) -> None:
    source, target = make_clip(pixel_format=pixel_format), tmp_path / "out.mkv"
    writer = copy(source, target, Encoding(absent, lossless=True))
    assert len(writer.warnings) == 1
    before, after = (read(path)[1] for path in (source, target))
    assert [frame[0] for frame in after] == [frame[0] for frame in before]
    assert [frame[-2] for frame in after] == [frame[-2] for frame in before]


@pytest.mark.parametrize(
    ("absent", "wish", "setting"),
    [
        ("h264_nvenc", {"preset": "p6"}, b" subme=9 "),
        ("h264_nvenc", {"preset": "slower"}, b" subme=9 "),
        ("h264_qsv", {"preset": "slow"}, b" subme=8 "),
        ("h264_nvenc", {"quality": 30}, b" crf=30.0 "),
    ],
    indirect=["absent"],
)
def test_wishes_go_along(
    make_clip: Make, tmp_path: Path, absent: str, wish: dict[str, Any], setting: bytes
) -> None:
    """x264 notes its settings in the stream; p6 is the sixth of seven speeds, as its slower is."""
    copy(make_clip(frames=4), tmp_path / "out.mp4", Encoding(absent, **wish))
    assert setting in (tmp_path / "out.mp4").read_bytes()


@pytest.mark.parametrize("absent", ["hevc_nvenc"], indirect=True)
@pytest.mark.parametrize(
    ("wanted", "made"), [("p010le", "yuv420p10le"), ("nv12", "yuv420p"), ("yuv444p", "yuv444p")]
)
def test_a_pixel_format_of_hardware_becomes_that_of_software(
    make_clip: Make, tmp_path: Path, absent: str, wanted: str, made: str
) -> None:
    copy(make_clip(frames=3), tmp_path / "out.mp4", Encoding(absent, pixel_format=wanted))
    assert read(tmp_path / "out.mp4")[1][0][0] == made


@pytest.mark.parametrize("absent", ["h264_nvenc"], indirect=True)
def test_a_dry_run_says_it_too(make_clip: Make, absent: str) -> None:
    with Reader(make_clip()) as reader:
        said = refused(reader, Path("out.mp4"), Encoding(absent))
    assert len(said) == 1
    assert said[0].endswith("so libx264 steps in.")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (Encoding("h264_nvnec"), "There is no encoder h264_nvnec"),
        (Encoding("h264_qsv", lossless=True), "h264_qsv can't keep this picture without loss"),
        (Encoding("av1_nvenc", lossless=True), "av1_nvenc can't keep this picture without loss"),
        (Encoding("h264_nvenc", preset="warp"), "h264_nvenc has no speed warp: p1, p2, p3"),
        (Encoding("h264_amf", preset="warp"), "no speed warp: speed, balanced, quality"),
        (Encoding("h264_qsv", pixel_format="yuv422p"), "h264_qsv takes no yuv422p: nv12"),
        (Encoding("h264_nvenc", pixel_format="cuda"), "h264_nvenc takes no cuda: yuv420p, "),
        (Encoding("h264_nvenc", pixel_format="warp"), "h264_nvenc takes no warp: yuv420p, "),
        (Encoding("h264_nvenc", pixel_format="bgra"), "h264_nvenc takes no bgra: yuv420p, "),
    ],
)
def test_wishes_that_no_hardware_could_meet_are_refused(
    make_clip: Make, tmp_path: Path, encoding: Encoding, message: str
) -> None:
    """As by any encoder, whether it is there or not."""
    if encoding.codec not in (*KNOWN, "h264_nvnec"):
        pytest.skip(f"FFmpeg has no {encoding.codec} here")
    with Reader(make_clip(frames=2)) as reader, pytest.raises(OutputError, match=message):
        Writer(tmp_path / "out.mkv", reader, encoding=encoding)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("pixel_format", ["bgr0", "yuv420p12le", "yuva420p"])
def test_what_hardware_would_convert_is_not_kept_by_it(
    make_clip: Make, tmp_path: Path, pixel_format: str
) -> None:
    """RGB and 12 bits are taken by NVENC, but not as they are."""
    source = make_clip("clip.mkv", codec="ffv1", pixel_format=pixel_format)
    with Reader(source) as reader, pytest.raises(OutputError, match="without loss"):
        Writer(tmp_path / "out.mkv", reader, encoding=Encoding("hevc_nvenc", lossless=True))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_what_can_be_opened_is_used(
    make_clip: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that is there, taken for hardware; nobody steps in, nothing is said."""
    monkeypatch.setattr(module, "_MAKERS", ("ks",))
    monkeypatch.setattr(module, "_QUALITIES", {"prores": 20})
    source, target = make_clip(pixel_format="yuv422p10le"), tmp_path / "out.mov"
    writer = copy(source, target, Encoding("prores_ks"))
    assert (writer.encoder, writer.warnings) == ("prores_ks", [])
    assert len(read(target)[1]) == 20


def test_odd_sizes_are_for_software(
    make_clip: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAKERS", ("ks",))
    monkeypatch.setattr(module, "_QUALITIES", {"prores": 20})
    monkeypatch.setitem(encoder_module.ENCODERS, "prores", "ffv1")
    source, target = make_clip(pixel_format="yuv444p", size=(97, 65)), tmp_path / "out.mkv"
    writer = copy(source, target, Encoding("prores_ks"))
    assert writer.encoder == "ffv1"
    assert writer.warnings == [
        "The encoder prores_ks can't be used here (it takes even sizes), so ffv1 steps in."
    ]


# ---------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("quality", [None, 0, 23, 51, 63])
@pytest.mark.parametrize("preset", [None, "veryfast", "medium", "veryslow", "p1", "p7"])
def test_an_encoder_knows_all_that_it_is_told(
    name: str, quality: int | None, preset: str | None
) -> None:
    codec = av.Codec(name, "w")
    found = codec.create("video").supported_options
    known = {option.name: option for option in (*found.generic, *found.private)}
    told = hardware_options(codec, quality, preset, lossless=False)
    assert len(told) >= 2
    for key, value in told.items():
        option, choices = known[key], [choice.name for choice in known[key].choices]
        if value.isdecimal():
            assert max(option.min, 0) <= int(value) <= option.max
        else:
            assert value in choices


@pytest.mark.parametrize("name", ["h264_nvenc", "hevc_nvenc"])
def test_a_tuning_without_loss_is_documented(name: str) -> None:
    if name not in KNOWN:
        pytest.skip(f"FFmpeg has no {name} here")
    codec = av.Codec(name, "w")
    told = hardware_options(codec, None, None, lossless=True)
    assert told == {"preset": "p4", "tune": "lossless"}
    options = codec.create("video").supported_options.private
    (tune,) = (option for option in options if option.name == "tune")
    assert "lossless" in [choice.name for choice in tune.choices]


@pytest.mark.parametrize(
    ("preset", "encoder", "wanted"),
    [
        ("medium", "nvenc", "p4"),
        ("veryslow", "nvenc", "p7"),
        ("p2", "nvenc", "p2"),
        ("p2", "qsv", "faster"),
        ("slow", "amf", "quality"),
        ("balanced", "amf", "balanced"),
        ("p7", "libx264", "veryslow"),
        ("ultrafast", "libx264", "ultrafast"),
        ("medium", "libsvtav1", "9"),
        ("6", "libsvtav1", "6"),
        ("p1", "libvpx-vp9", "8"),
        ("balanced", "libx264", "medium"),
    ],
)
def test_speeds_are_translated(preset: str, encoder: str, wanted: str) -> None:
    assert translated(preset, encoder) == wanted


@pytest.mark.parametrize(
    ("name", "coded"),
    [("h264_nvenc", "h264"), ("av1_amf", "av1"), ("libx264", None), ("h264", None), (None, None),
     ("mjpeg_qsv", None), ("h264_v4l2m2m", None)],
)  # fmt: skip
def test_hardware_is_known_by_its_name(name: str | None, coded: str | None) -> None:
    assert hardware_format(name) == coded


@pytest.mark.parametrize(
    ("name", "source", "wanted"),
    [
        ("h264_nvenc", "yuv420p", "yuv420p"),
        ("h264_nvenc", "yuvj420p", "nv12"),
        ("h264_nvenc", "yuv422p", "nv16"),
        ("hevc_nvenc", "yuv420p10le", "p010le"),
        ("hevc_nvenc", "yuv422p10le", "p210le"),
        ("hevc_nvenc", "rgb24", "yuv420p"),
        ("hevc_nvenc", "yuv420p12le", "p010le"),
        ("h264_qsv", "yuv420p", "nv12"),
        ("h264_qsv", "yuv422p10le", "nv12"),
        ("hevc_qsv", "yuv420p10le", "p010le"),
        ("hevc_amf", "yuv422p10le", "p010le"),
        ("h264_amf", "gray", "nv12"),
    ],
)
def test_pixel_formats_are_the_nearest_that_hardware_has(
    name: str, source: str, wanted: str
) -> None:
    if name not in KNOWN:
        pytest.skip(f"FFmpeg has no {name} here")
    picture = av.VideoFrame(64, 48, source)
    assert _pixel_format(av.Codec(name, "w"), Encoding(name), picture) == wanted


# ------------------------------------------------------------------------------------ real hardware


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_gpu_encodes(make_clip: Make, tmp_path: Path, name: str, lossless: bool) -> None:
    if not opens(name):
        pytest.skip(f"this GPU has no {name}")
    if lossless and name == "av1_nvenc":
        pytest.skip("it loses something")
    source, target = make_clip(size=(640, 480), audio=True), tmp_path / "out.mkv"
    writer = copy(source, target, Encoding(name, lossless=lossless))
    assert (writer.encoder, writer.warnings) == (name, [])
    before, after = (read(path)[1] for path in (source, target))
    assert len(after) == len(before)
    if lossless:
        assert [frame[-2] for frame in after] == [frame[-2] for frame in before]
