"""Every awkward file beside the repository, through reader and writer, with nothing painted.

What another reader sees in the file and in its copy is compared; `Reader` has no say in that.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask.errors import InputError
from stream_unmask.video.encoder import FORMATS, Encoding
from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "containers"
FILES = sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []
HOPELESS = {
    "ax_mp4_sample_audio_only.mp4": "has no video stream.",
    "ax_mp4_sample_malformed_free_box.mp4": "is not a video that can be read "
    "(Invalid data found when processing input).",
    "ax_mp4_sample_opus.mp4": "has no video stream.",
    "ax_vp9_invalid-bitstream.webm": "has no picture that can be decoded.",
    "mz_invalid_userdata.mp4": "is cut short: 14330419 bytes are missing at its end.",
    "mz_short-cenc.mp4": "is encrypted.",
}
DAMAGED = "ax_mp4_sample_with_invalid_nalu.mp4"
# What no stream of the kind can be copied into; all others must be.
LEFT_OUT = {
    "ax_mkv_sample_with_vtt_subtitles.mkv": ["stream 2 (unknown subtitle): not possible in .mkv"],
    "ax_mp4_sample_missing_stsd.mp4": ["stream 1 (unknown audio): not possible in .mp4"],
    "ax_mp4_dolbyVision-hdr.MOV": ["Dolby Vision's metadata: not possible with libx265"],
    "ax_mp4_sample_edit_list_no_sync_frame_before_edit.mp4": [
        "Dolby Vision's metadata: not possible with libx265"
    ],
    "ax_mp4_water_180_mvhevc_5frames.mov": [
        "the view for the other eye: not possible with libx265"
    ],
    "ax_ts_sample_h262_mpeg_audio.ps": ["stream 0 (unknown data): not possible in .mkv"],
}
# There is no encoder for these, or what players expect in the container is another.
INSTEAD = {"vvc": "h264", "mpeg2video": "h264", "mpeg4": "h264", "vp8": "vp9"}
# H.264 is cropped by whole chroma samples: odd sizes are kept with one for every pixel.
FULL_CHROMA = {
    "tc_testsrc2_odd_height_and_width_mpeg2.mp4",
    "tc_testsrc2_odd_width_mpeg2.mp4",
}
QUICKEST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}


class Seen:
    """What a plain player sees.

    times, planes: of each picture, the latter thinned out. others: what streams there are beside
    the picture. packets: by number among those, (bytes, time). chapters: (start, end, title).
    """

    def __init__(self, path: Path, threads: str = "AUTO") -> None:
        self.times: list[Fraction] = []
        self.planes: list[list[np.ndarray]] = []
        with av.open(str(path), metadata_errors="replace") as container:
            streams = [stream for stream in container.streams if int(stream.discard) < 48]
            video: Any = next(s for s in streams if s.codec_context and s.type == "video")
            video.thread_type = threads
            streams.remove(video)
            self.others = Counter(map(what, streams))
            packets: dict[Any, list[tuple[bytes, Fraction | None]]] = {s: [] for s in streams}
            for packet in container.demux():
                if packet.stream is video:
                    for frame in decoded(packet):
                        self._add(frame)
                elif packet.size and packet.stream in packets:
                    stamp = packet.dts if packet.pts is None else packet.pts
                    time = None if stamp is None else stamp * packet.time_base
                    packets[packet.stream].append((bytes(packet), time))
            self.packets = list(packets.values())
            self.chapters: list[tuple[Fraction, Fraction, str]] = [
                (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"])
                for c in container.chapters()
            ]
            self.aspect, self.codec = video.sample_aspect_ratio, what(video)[1]

    def _add(self, frame: av.VideoFrame) -> None:
        if not self.times:
            self.format, self.size = frame.format.name, (frame.width, frame.height)
            self.matrix = matrix(frame)
            self.colours = [
                int(frame.color_range), int(frame.colorspace),
                int(frame.color_primaries), int(frame.color_trc),
            ]  # fmt: skip
        assert frame.pts is not None
        self.times.append(frame.pts * frame.time_base)
        self.planes.append(thinned(frame))


def decoded(packet: av.Packet) -> Iterator[av.VideoFrame]:
    try:
        yield from packet.decode()  # type: ignore[misc]
    except av.error.InvalidDataError:
        return


def what(stream: Any) -> tuple[str, str | None, str, int]:
    """A stream's kind, codec, language and disposition."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else None
    return stream.type, codec, stream.metadata.get("language", "und"), int(stream.disposition)


def matrix(frame: av.VideoFrame) -> bytes:
    """The display matrix; none counts as the one that leaves the picture alone."""
    identity = np.array([65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30], "<i4").tobytes()
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV knows not every kind of side data, and then hands out none
        assert frame.rotation == 0
        found = None
    return bytes(found) if found else identity  # type: ignore[arg-type]


def thinned(frame: av.VideoFrame) -> list[np.ndarray]:
    """Every eighth sample of every eighth row of each plane, in steps of 8 bits."""
    bits = frame.format.components[0].bits
    kind = np.dtype("<u2" if bits > 8 else np.uint8)
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
        planes.append(rows[: plane.height : 8, : plane.width : 8] / np.float32(1 << (bits - 8)))
    return planes


def copy(source: Path, target: Path) -> Writer:
    with Reader(source) as reader:
        codec = INSTEAD.get(reader.codec, reader.codec)
        encoding = Encoding(preset=QUICKEST[codec])
        with Writer(target, reader, encoding=encoding) as writer:
            for frame in reader:
                writer.write(frame)
    return writer


@pytest.mark.skipif(not FILES, reason=f"there is no {FOLDER}")
def test_all_files_are_there() -> None:
    assert set(HOPELESS) | set(LEFT_OUT) | FULL_CHROMA | {DAMAGED} <= set(FILES)
    assert len(FILES) >= 56


@pytest.mark.parametrize("name", sorted(set(FILES) & set(HOPELESS)))
def test_what_can_not_be_read_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError) as caught:
        Reader(FOLDER / name)
    assert str(caught.value) == f"{FOLDER / name} {HOPELESS[name]}"


@pytest.mark.parametrize(
    "name",
    [name for name in FILES if name not in HOPELESS],
)
def test_a_copy_is_the_same_video(name: str, tmp_path: Path) -> None:
    source = FOLDER / name
    suffix = source.suffix.lower() if source.suffix.lower() in FORMATS else ".mkv"
    target = tmp_path / f"out{suffix}"
    writer = copy(source, target)
    before = Seen(source, threads="SLICE" if name == DAMAGED else "AUTO")
    after = Seen(target)

    assert writer.frames == len(after.times) == len(before.times)
    compare_pictures(name, before, after)
    shift = compare_times(name, before, after, coarse=suffix in (".mkv", ".webm"))
    assert writer.dropped == LEFT_OUT.get(name, [])
    compare_others(source, before, after, shift, coarse=suffix in (".mkv", ".webm"))


@pytest.mark.parametrize(
    "name", ["ax_mp4_dolbyVision-hdr.MOV", "ax_mp4_water_180_mvhevc_5frames.mov"]
)
def test_what_the_new_encoding_can_not_hold_is_named(name: str, tmp_path: Path) -> None:
    """Dolby Vision's light, scene by scene, and the view for the other eye."""
    if name not in FILES:
        pytest.skip(f"there is no {FOLDER / name}")
    with Reader(FOLDER / name) as reader, Writer(tmp_path / "out.mov", reader) as writer:
        writer.write(reader.first)
    assert writer.dropped


def compare_pictures(name: str, before: Seen, after: Seen) -> None:
    assert after.codec == INSTEAD.get(str(before.codec), before.codec)
    assert (after.size, after.matrix) == (before.size, before.matrix)
    assert (after.aspect or 1) == (before.aspect or 1)
    wanted = before.format.replace("420", "444") if name in FULL_CHROMA else before.format
    assert after.format == wanted
    if before.colours == [1, 2, 2, 2]:  # to say nothing is to say "limited"
        before.colours[0] = after.colours[0] = 1
    assert after.colours == before.colours
    assert max(map(apart, before.planes, after.planes)) < 4


def compare_times(name: str, before: Seen, after: Seen, *, coarse: bool) -> Fraction:
    """By how much all was moved, which must be for a reason."""
    shift = after.times[0] - before.times[0]
    if name.endswith(".avi"):  # which knows only the order of decoding: one picture every 1/30 s
        assert after.times[0] <= Fraction(1, 10)
        shift, before.times = Fraction(0), [after.times[0] + Fraction(n, 30) for n in range(58)]
    elif before.times[0] < 0:
        assert after.times[0] == 0
    else:
        assert abs(shift) <= (Fraction(1, 2000) if coarse else 0)
    differences = [b - a - shift for a, b in zip(before.times, after.times, strict=True)]
    assert max(map(abs, differences)) <= (Fraction(1, 1000) if coarse else 0)
    return shift


def compare_others(
    source: Path, before: Seen, after: Seen, shift: Fraction, *, coarse: bool
) -> None:
    """Streams that were copied, byte for byte and with the picture, and chapters."""
    phrases = LEFT_OUT.get(source.name, [])
    lost = [int(phrase.split()[1]) for phrase in phrases if phrase.startswith("stream")]
    with av.open(str(source), metadata_errors="replace") as container:
        kept = before.others - Counter(what(container.streams[index]) for index in lost)
        video = next(s.index for s in container.streams if s.codec_context and s.type == "video")
    assert after.others == kept
    numbered = enumerate(before.packets)
    streams = [packets for i, packets in numbered if i + (i >= video) not in lost]
    near = Fraction(1, 1000 if coarse else 8000)  # edit lists count in ticks of the movie
    for old, new in zip(streams, after.packets, strict=True):
        if len(new) > len(old) and new[-1][0] == b"\0\0":  # how MP4 says that a subtitle ends
            new.pop()
        assert [data for data, _ in new] == [data for data, _ in old]
        if source.suffix == ".avi":  # by whose clock all the sound takes 20 ms
            continue
        for (_, early), (_, late) in zip(old, new, strict=True):
            assert early is late is None or abs(late - early - shift) <= near
    assert len(after.chapters) == len(before.chapters)
    for old, new in zip(before.chapters, after.chapters, strict=True):
        assert new[2] == old[2]
        assert max(abs(new[0] - old[0] - shift), abs(new[1] - old[1] - shift)) <= near


def apart(old: list[np.ndarray], new: list[np.ndarray]) -> float:
    """The mean difference of the planes that differ most; where chroma is finer now, of luma."""
    same = [pair for pair in zip(old, new, strict=True) if pair[0].shape == pair[1].shape]
    assert same
    return max(float(np.abs(a - b).mean()) for a, b in same)
