from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream_unmask.errors import InputError
from stream_unmask.video.frame import Frame
from stream_unmask.video.reader import Reader

Make = Callable[..., Path]


def test_frames_come_in_order_with_exact_times(make_clip: Make) -> None:
    pts = [0, 100, 517, 3001, 3002, 9999]
    path = make_clip(pts=pts, options={"bf": "2"})
    with Reader(path) as reader:
        assert (reader.width, reader.height) == (96, 64)
        times = [frame.seconds for frame in reader]
        assert times == [Fraction(stamp, 12800) for stamp in pts]
        assert reader.warnings == []
        assert reader.damaged == 0


def test_passengers_and_trailing_are_all_audio_packets(make_clip: Make, facts: type) -> None:
    path = make_clip(audio=True)
    with Reader(path) as reader:
        riding = [bytes(packet) for frame in reader for packet in frame.passengers]
        riding += [bytes(packet) for packet in reader.trailing]
    assert riding == [data for data, _ in facts(path).packets[1]]


@pytest.mark.parametrize(
    ("rotation", "size"),
    [((90, False), (64, 96)), ((180, True), (96, 64)), ((-90, True), (64, 96))],
)
def test_size_is_upright(
    make_clip: Make, rotation: tuple[int, bool], size: tuple[int, int]
) -> None:
    with Reader(make_clip(rotation=rotation)) as reader:
        assert (reader.width, reader.height) == size


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
def test_duration_is_that_of_the_picture(make_clip: Make, name: str) -> None:
    with Reader(make_clip(name, frames=25, audio=True)) as reader:
        assert reader.duration is not None
        assert abs(reader.duration - 1) < Fraction(1, 20)
        assert reader.frame_rate == 25


def test_trim_begins_at_zero_and_keeps_sound_and_picture_together(
    make_clip: Make, facts: type
) -> None:
    path = make_clip(frames=50, audio=True)
    with Reader(path, start=0.5, end=1.5) as reader:
        assert reader.duration == 1
        frames = list(reader)
        passengers = [packet for frame in frames for packet in frame.passengers]
        passengers += reader.trailing
    times = [frame.seconds for frame in frames]
    assert times == [Fraction(index, 25) for index in range(25)]
    original = dict(facts(path).packets[1])
    moved = {bytes(p): p.pts * p.time_base + reader.zero for p in passengers}
    assert reader.zero == Fraction(13, 25)
    assert len(passengers) >= 45
    assert all(abs(original[data] - time) < Fraction(1, 10000) for data, time in moved.items())
    assert all(0 <= p.pts * p.time_base < 1 for p in passengers)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
def test_trim_finds_the_frame_across_gaps(make_clip: Make, name: str) -> None:
    """Pictures that wait for one nine seconds later are decoded that much after their own time."""
    pts = [0, 512, 6912, 122112, 237312, 352512, *range(353024, 358000, 512)]
    path = make_clip(name, pts=pts, options={"g": "5", "bf": "2"})
    with Reader(path) as reader:
        times = [frame.seconds for frame in reader]
    for index, time in enumerate(times[1:], 1):
        with Reader(path, start=time) as reader:
            assert reader.zero == time
            assert len(list(reader)) == len(times) - index


def test_trim_to_a_duration_only_leaves_times_alone(make_clip: Make) -> None:
    with Reader(make_clip(pts=range(1000, 20000, 500)), end=0.5) as reader:
        times = [frame.seconds for frame in reader]
    assert times[0] == Fraction(1000, 12800)
    assert len(times) == 13


def test_trim_beyond_the_end_is_an_error(make_clip: Make) -> None:
    with pytest.raises(InputError, match=r"no frame between|no picture"):
        Reader(make_clip(), start=60)


def test_cover_art_is_not_the_picture(make_clip: Make, tmp_path: Path) -> None:
    source, path = make_clip(), tmp_path / "cover.mp4"
    with av.open(str(source)) as video, av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = 0x400
        copy = container.add_stream_from_template(video.streams.video[0], opaque=True)
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        container.mux(cover.encode(frame.reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        for packet in video.demux():
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    with Reader(path) as reader:
        assert (reader.width, reader.height) == (96, 64)
        assert len(list(reader)) == 20


def bad_files(tmp_path: Path, make_clip: Make) -> dict[str, tuple[Path, str]]:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("This is no video. " * 200)
    (tmp_path / "notes.txt").write_text("This is no video. " * 200)
    whole = make_clip("whole.mp4").read_bytes()
    (tmp_path / "no_index.mp4").write_bytes(whole[: whole.rfind(b"moov") - 4])
    return {
        "missing": (tmp_path / "nothing.mp4", "does not exist"),
        "folder": (tmp_path, "is a folder"),
        "empty": (tmp_path / "empty.mp4", "is empty"),
        "text": (tmp_path / "text.mp4", "is not a video"),
        "terminal": (tmp_path / "notes.txt", "is not a video"),
        "no index": (tmp_path / "no_index.mp4", "is not a video"),
        "sound only": (make_clip("sound.mp4", audio=True, bare=True), "no video stream"),
    }


def test_bad_files_give_one_clear_sentence(tmp_path: Path, make_clip: Make) -> None:
    for path, message in bad_files(tmp_path, make_clip).values():
        with pytest.raises(InputError, match=message) as caught:
            Reader(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")


def test_names_that_look_like_protocols_are_files(make_clip: Make, tmp_path: Path) -> None:
    odd = tmp_path / "a:b %d é.mp4"
    make_clip().rename(odd)
    with Reader(odd) as reader:
        assert len(list(reader)) == 20


def test_mp4_cut_short_is_noticed_at_once(make_clip: Make) -> None:
    path = make_clip(frames=100, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(InputError, match="is cut short"):
        Reader(path)


@pytest.mark.parametrize("audio", [False, True])
def test_matroska_cut_short_is_noticed_at_its_end(make_clip: Make, audio: bool) -> None:
    path = make_clip("clip.mkv", frames=150, audio=audio)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames: list[Frame] = []
    with Reader(path) as reader, pytest.raises(InputError, match=r"cut short: its last \d"):
        frames.extend(reader)
    assert 40 < len(frames) < 110


def spoil(path: Path, which: slice) -> None:
    """Overwrite those packets of the picture."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for entry in list(container.streams.video[0].index_entries)[which]:
            data[entry.pos : entry.pos + entry.size] = b"\xff" * entry.size
    path.write_bytes(data)


def test_damage_in_the_middle_is_skipped_and_told(make_clip: Make) -> None:
    path = make_clip(frames=60, options={"g": "5", "bf": "0"})
    spoil(path, slice(30, 33))
    with Reader(path) as reader:
        frames = list(reader)
        assert 50 <= len(frames) < 60
        assert reader.damaged >= 1
        assert any("damaged" in warning for warning in reader.warnings)


def test_no_frame_at_all_is_an_error(make_clip: Make) -> None:
    path = make_clip(frames=5)
    spoil(path, slice(None))
    with pytest.raises(InputError, match="no picture that can be decoded"):
        Reader(path)


def test_leaving_early_is_fine(make_clip: Make) -> None:
    with Reader(make_clip(audio=True)) as reader:
        next(iter(reader))


def test_shared_clips_are_whole(shared_clips: list[Path]) -> None:
    for path in shared_clips:
        if "1080p" in path.name or "720p" in path.name:
            continue
        with Reader(path) as reader:
            last = None
            for frame in reader:
                assert last is None or frame.seconds > last
                last = frame.seconds
            assert reader.warnings == []
            assert reader.duration is not None
            assert abs(reader.duration - last) < 1
