"""Decoding in hardware. There is none here: what is real is that software steps in. A software
decoder whose pictures come out as hardware would give them, and which fails at will, stands in for
the rest."""

import os
from collections.abc import Callable, Container
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available
from av.error import ExternalError

from stream_unmask.errors import InputError, OptionError
from stream_unmask.video import decoder as module
from stream_unmask.video import reader as reader_module
from stream_unmask.video.decoder import Hardware, find_hardware
from stream_unmask.video.encoder import Encoding
from stream_unmask.video.frame import SEPARATE, Frame, separated
from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer
from tests.video.test_reader import spoil

Make = Callable[..., Path]
Plug = Callable[..., None]


def samples(picture: av.VideoFrame) -> list[np.ndarray]:
    """What lies in each plane, without what pads its rows."""
    planes = []
    for index, plane in enumerate(picture.planes):
        depth = max(part.bits for part in picture.format.components)
        dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
        rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
        count = sum(part.plane == index for part in picture.format.components)
        planes.append(rows[: plane.height, : plane.width * count])
    return planes


def looks(frame: Frame) -> tuple[Any, ...]:
    """All that the rest of the program takes from a frame."""
    picture = frame.picture
    return (
        picture.format.name, picture.width, picture.height, picture.pts, picture.time_base,
        picture.pict_type, picture.interlaced_frame, picture.rotation, int(picture.colorspace),
        int(picture.color_range), int(picture.color_primaries), int(picture.color_trc),
        [plane.tobytes() for plane in samples(picture)],
        [(packet.pts, bytes(packet)) for packet in frame.passengers],
    )  # fmt: skip


def read(path: Path, **options: Any) -> tuple[Reader, list[tuple[Any, ...]]]:
    with Reader(path, **options) as reader:
        return reader, [looks(frame) for frame in reader]


class Card:
    """A decoder that is taken for hardware.

    pixel_format: how its pictures come out. fails: the packets, by number, that it can't take, None
    for the end. grown: by how many columns its pictures are too wide. given_up: the number of
    pictures after which FFmpeg itself goes on in software.
    """

    def __init__(
        self, real: Any, pixel_format: str, fails: Container[int | None], grown: int, given_up: int
    ) -> None:
        self._real, self._pixel_format, self._fails = real, pixel_format, fails
        self._grown, self._given_up = grown, given_up
        self._packets = self._pictures = 0
        self.is_hwaccel = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        real = name in ("thread_type", "options")
        object.__setattr__(self._real if real else self, name, value)

    @property
    def _software(self) -> bool:
        return self._packets > 0 and self._pictures >= self._given_up

    @property
    def pix_fmt(self) -> str:
        return self._real.pix_fmt if self._software else "cuda"

    def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        number, self._packets = self._packets, self._packets + 1
        pictures = self._real.decode(packet)
        if (number if packet is not None else None) in self._fails:
            raise ExternalError(1, "no more memory on the card")
        self._pictures += len(pictures)
        return pictures if self._software else [self._downloaded(one) for one in pictures]

    def _downloaded(self, picture: av.VideoFrame) -> av.VideoFrame:
        keep = {"dst_colorspace": picture.colorspace, "dst_color_range": picture.color_range}
        if self._pixel_format != picture.format.name:
            keep["src_color_range"] = picture.color_range
        width = picture.width + self._grown
        out = picture.reformat(width=width, format=self._pixel_format, **keep)
        out.colorspace, out.color_range = picture.colorspace, picture.color_range
        return out


class Stream:
    def __init__(self, real: Any, card: Card) -> None:
        self.real, self.codec_context = real, card


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """A function that puts a card in, which is asked where there is an `hwaccel`."""
    real_twin, real_decoder = module._twin, module.Decoder

    def plugged(
        pixel_format: str = "nv12",
        fails: Container[int | None] = (),
        grown: int = 0,
        given_up: int = 10**6,
    ) -> None:
        def decoder(source: str, stream: Any, options: Any, hardware: Any, damaged: Any) -> Any:
            if hardware is not None:
                card = Card(stream.codec_context, pixel_format, fails, grown, given_up)
                stream = Stream(stream, card)
            return real_decoder(source, stream, options, hardware, damaged)

        monkeypatch.setattr(module, "_twin", lambda stream: real_twin(stream.real))
        monkeypatch.setattr(reader_module, "Decoder", decoder)
        monkeypatch.setattr(
            reader_module, "find_hardware", lambda wanted: wanted and Hardware(wanted, None)
        )

    return plugged


# ----------------------------------------------------------------------------------- no hardware


@pytest.fixture(params=["auto", *hwdevices_available()])
def missing(request: pytest.FixtureRequest) -> str:
    """A device that FFmpeg knows and that is not here."""
    found = find_hardware(request.param)
    if found is not None and found.accel is not None:
        pytest.skip(f"{found.device} is here")
    return str(request.param)


@pytest.mark.parametrize(
    "clip",
    [
        {"options": {"bf": "2"}, "audio": True},
        {"pixel_format": "yuv422p10le", "rotation": (90, False)},
        {"codec": "mpeg4"},
        {"name": "clip.mkv", "codec": "libsvtav1"},
    ],
    ids=["h264", "10 bit", "mpeg4", "av1"],
)
def test_software_steps_in_for_a_missing_device(
    make_clip: Make, missing: str, clip: dict[str, Any]
) -> None:
    path = make_clip(**clip)
    plain, wanted = read(path)
    reader, frames = read(path, hwaccel=missing)
    assert frames == wanted
    (warning,) = reader.warnings
    assert warning.startswith(f"{path} is decoded in software: ")
    assert warning.endswith(".")
    assert "\n" not in warning
    assert reader.decoder.name == plain.decoder.name != ""
    assert plain.warnings == []


def test_a_trimmed_one_begins_at_the_same_frame(make_clip: Make, missing: str) -> None:
    path = make_clip(frames=60, options={"bf": "2"}, audio=True)
    reader, frames = read(path, start=1.1, end=2, hwaccel=missing)
    assert frames == read(path, start=1.1, end=2)[1]
    assert len(reader.warnings) == 1


def test_a_codec_that_no_hardware_knows_is_named(make_clip: Make) -> None:
    """The decoder's own context says so, once the device is there."""
    path = make_clip("clip.mkv", codec="ffv1")
    with av.open(str(path)) as container:
        made = module.Decoder("it", container.streams.video[0], {}, Hardware("cuda", None), print)
    assert made.warning == "it is decoded in software: its decoder ffv1 knows no cuda."


def test_a_device_that_nobody_knows_is_refused(make_clip: Make) -> None:
    known = ", ".join(["auto", *hwdevices_available()])
    with pytest.raises(OptionError) as caught:
        Reader(make_clip(), hwaccel="warp")
    assert str(caught.value) == f"There is no hardware 'warp' to decode with; choose {known}."


# --------------------------------------------------------------------------------- its pictures


@pytest.mark.parametrize(
    ("pixel_format", "downloaded"),
    [
        ("yuv420p", "nv12"),
        ("yuvj420p", "nv12"),
        ("yuv420p10le", "p010le"),
        ("yuv422p", "nv16"),
        ("yuv422p10le", "p210le"),
        ("yuv444p", "yuv444p"),
    ],
)
@pytest.mark.parametrize("interlaced", [False, True], ids=["frames", "fields"])
def test_its_pictures_are_those_of_software(
    make_clip: Make, plug: Plug, pixel_format: str, downloaded: str, interlaced: bool
) -> None:
    path = make_clip(
        pixel_format=pixel_format, rotation=(90, False), audio=True,
        colours=(2 if "j" in pixel_format else 1, 1, 1, 1),
        options={"bf": "2", "x264-params": "interlaced=1"} if interlaced else {"bf": "2"},
    )  # fmt: skip
    _, wanted = read(path)
    plug(downloaded)
    reader, frames = read(path, hwaccel="cuda")
    assert wanted[0][0] == pixel_format
    assert frames == wanted
    assert reader.warnings == []
    assert reader.decoder.name == "h264 (cuda)"


@pytest.mark.parametrize(("own", "wanted"), [(o, w) for o, all_ in SEPARATE.items() for w in all_])
@pytest.mark.parametrize("size", [(96, 64), (97, 65), (1282, 722)])
def test_every_sample_is_taken_apart_exactly(own: str, wanted: str, size: tuple[int, int]) -> None:
    """P0xx and P2xx hold their bits at the top of 16."""
    random = np.random.default_rng(0)
    picture, depth = av.VideoFrame(*size, own), av.VideoFormat(wanted).components[0].bits
    picture.color_range = 2 if wanted.startswith("yuvj") else 1
    luma, chroma = samples(picture)
    for plane in (luma, chroma):
        values = random.integers(0, 1 << depth, plane.shape)
        plane[:] = values << (8 * plane.itemsize - depth)
    result = separated(picture, wanted)
    assert result is not None
    assert result.format.name == wanted
    shift = 8 * luma.itemsize - depth
    expected = [luma >> shift, chroma[:, ::2] >> shift, chroma[:, 1::2] >> shift]
    for found, right in zip(samples(result), expected, strict=True):
        assert np.array_equal(found, right)


@pytest.mark.parametrize("wanted", ["gray", "yuv422p", "yuv420p10le", "yuvj420p"])
def test_other_samples_are_not_made_up(wanted: str) -> None:
    """yuvj420p has the full range, which this picture has not."""
    assert separated(av.VideoFrame(32, 32, "nv12"), wanted) is None


def test_the_output_is_the_same_file(make_clip: Make, plug: Plug, tmp_path: Path) -> None:
    source, written = make_clip(audio=True, options={"bf": "2"}), []
    plug("nv12")
    for hwaccel in (None, "cuda"):
        target = tmp_path / f"{hwaccel}.mp4"
        with Reader(source, hwaccel=hwaccel) as reader:
            encoding = Encoding(repeatable=True)
            with Writer(target, reader, encoding=encoding) as writer:
                for frame in reader:
                    writer.write(frame)
        written.append(target.read_bytes())
    assert written[0] == written[1]


# ----------------------------------------------------------------------------------- its failures

LONG = {"frames": 40, "options": {"bf": "3", "g": "8", "x264-params": "open-gop=1:b-pyramid=2"}}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts", "clip.h264"])
@pytest.mark.parametrize("fails", [0, 1, 3, 8, 9, 21, 39, None])
def test_no_picture_is_lost_when_it_fails(
    make_clip: Make, plug: Plug, name: str, fails: int | None
) -> None:
    path = make_clip(name, audio=name != "clip.h264", **LONG)
    plain, wanted = read(path)
    plug("nv12", fails=[fails])
    reader, frames = read(path, hwaccel="cuda")
    assert len(frames) == 40
    assert frames == wanted
    before = reader.decoder.name.startswith("h264 (cuda)")
    assert reader.decoder.name in ("h264", "h264 (cuda), h264")
    rest = "The rest of " if before else ""
    assert reader.warnings == [
        f"{rest}{path} is decoded in software: cuda failed (no more memory on the card).",
        *plain.warnings,
    ]
    assert reader.damaged == plain.damaged == 0


@pytest.mark.parametrize(
    ("codec", "pixel_format", "downloaded"),
    [
        ("libx265", "yuv420p10le", "p010le"),
        ("libvpx-vp9", "yuv420p", "nv12"),
        ("mpeg4", "yuv420p", "nv12"),
        ("mjpeg", "yuvj420p", "nv12"),
    ],
)
@pytest.mark.parametrize("fails", [0, 7, 23, None])
def test_other_codecs_lose_none_either(
    make_clip: Make, plug: Plug, codec: str, pixel_format: str, downloaded: str, fails: int | None
) -> None:
    options = {"x265-params": "log-level=error:keyint=10:open-gop=1"} if codec == "libx265" else {}
    path = make_clip(
        "clip.mkv", frames=30, codec=codec, pixel_format=pixel_format, options=options,
        size=(320, 240),
    )  # fmt: skip
    _, wanted = read(path)
    plug(downloaded, fails=[fails])
    reader, frames = read(path, hwaccel="cuda")
    assert frames == wanted
    assert len(reader.warnings) == 1


@pytest.mark.parametrize("fails", [0, 17, None])
def test_nor_where_nothing_can_be_read_twice(
    make_clip: Make, plug: Plug, fails: int | None
) -> None:
    path = make_clip("clip.mkv", audio=True, **LONG)
    _, wanted = read(path)
    plug("nv12", fails=[fails])
    usual = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        reader, frames = read(Path("-"), hwaccel="cuda")
    finally:
        os.dup2(usual, 0)
        os.close(usual)
    assert frames == wanted
    assert len(reader.warnings) == 1


@pytest.mark.parametrize("start", [0.3, 0.9, 1.3])
@pytest.mark.parametrize("fails", [0, 5, 12])
def test_nor_when_it_fails_behind_a_seek(
    make_clip: Make, plug: Plug, start: float, fails: int
) -> None:
    path = make_clip(audio=True, **LONG)
    _, wanted = read(path, start=start)
    plug("nv12", fails=[fails])
    reader, frames = read(path, start=start, hwaccel="cuda")
    assert frames == wanted
    assert len(reader.warnings) == 1


def test_nor_when_a_search_begins_anew(make_clip: Make, plug: Plug) -> None:
    """After a failure, as a picture is searched for in several goes."""
    pts = [0, 512, 6912, 122112, 237312, 352512, *range(353024, 358000, 512)]
    path = make_clip(pts=pts, options={"g": "5", "bf": "2"})
    for fails in range(len(pts)):
        plug("nv12", fails=[fails])
        for stamp in pts[1::3]:
            _, wanted = read(path, start=Fraction(stamp, 12800))
            assert read(path, start=Fraction(stamp, 12800), hwaccel="cuda")[1] == wanted


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ({"pixel_format": "yuv444p"}, "cuda gives other samples than software"),
        ({"pixel_format": "p010le"}, "cuda gives other samples than software"),
        ({"grown": 2}, "cuda gives other samples than software"),  # as where it does not crop
        ({"given_up": 0}, "cuda can't decode such pictures"),
        ({"given_up": 17}, "cuda can't decode such pictures"),
    ],
)
def test_what_software_would_not_give_is_not_taken(
    make_clip: Make, plug: Plug, card: dict[str, Any], why: str
) -> None:
    path = make_clip(audio=True, **LONG)
    _, wanted = read(path)
    plug(**card)
    reader, frames = read(path, hwaccel="cuda")
    assert frames == wanted
    (warning,) = reader.warnings
    assert warning.endswith(f"{path} is decoded in software: {why}.")
    assert warning.startswith("The rest of ") == (card.get("given_up") == 17)


def test_key_frames_that_never_come_cost_no_memory(
    make_clip: Make, plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 30)
    path = make_clip(frames=100, options={"g": "1000", "bf": "2"})
    plug("nv12")
    most = 0
    with Reader(path, hwaccel="cuda") as reader:
        for _ in reader:
            most = max(most, len(reader.decoder._past))
    assert most == 31


def test_damage_is_told_as_by_software(make_clip: Make, plug: Plug) -> None:
    """The card fails where the file is damaged, and what is counted is what software misses."""
    path = make_clip(frames=60, options={"g": "5", "bf": "0"})
    spoil(path, slice(30, 33))
    plain, wanted = read(path)
    plug("nv12")
    reader, frames = read(path, hwaccel="cuda")
    assert plain.damaged == reader.damaged > 0
    assert frames == wanted
    assert [w for w in reader.warnings if "damaged" in w] == plain.warnings
    assert len(reader.warnings) == len(plain.warnings) + 1


def test_nothing_decodable_is_an_error_all_the_same(make_clip: Make, plug: Plug) -> None:
    path = make_clip(frames=5)
    spoil(path, slice(None))
    plug("nv12")
    with pytest.raises(InputError, match="no picture that can be decoded"):
        Reader(path, hwaccel="cuda")


# ------------------------------------------------------------------------------- real hardware


@pytest.mark.needs_cuda
@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [("libx264", "yuv420p"), ("libx265", "yuv420p10le"), ("libvpx-vp9", "yuv420p")],
)
def test_a_gpu_decodes_to_the_same_samples(make_clip: Make, codec: str, pixel_format: str) -> None:
    path = make_clip(
        "clip.mkv", frames=50, codec=codec, pixel_format=pixel_format, size=(640, 480), audio=True
    )
    _, wanted = read(path)
    reader, frames = read(path, hwaccel="cuda")
    assert reader.warnings == []
    assert reader.decoder.name.endswith(" (cuda)")
    assert frames == wanted
