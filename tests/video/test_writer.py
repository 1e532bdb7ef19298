import io
import resource
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream_unmask.errors import OutputError
from stream_unmask.video.encoder import Encoding
from stream_unmask.video.frame import Frame, from_rgb, to_rgb
from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer

Make = Callable[..., Path]
DATA = Path(__file__).parents[2].parent / "shared" / "data"
MARK = "Faces in this video are synthesised."


def copy(source: Path, target: Path, **options: object) -> Writer:
    with Reader(source) as reader, Writer(target, reader, **options) as writer:  # type: ignore[arg-type]
        for frame in reader:
            writer.write(frame)
    return writer


def sounds(seen: object) -> list[list[bytes]]:
    return [[data for data, _ in packets] for packets in seen.packets.values()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_untouched_copy_keeps_times_sound_and_mark(
    make_clip: Make, tmp_path: Path, facts: type, suffix: str
) -> None:
    source = make_clip(audio=True, metadata={"title": "A walk", "comment": "mine"})
    target = tmp_path / f"out.{suffix}"
    writer = copy(source, target, metadata={"comment": MARK})
    before, after = facts(source), facts(target)
    assert writer.frames == len(after.times) == 20
    assert writer.dropped == []
    tolerance = Fraction(1, 1000) if suffix == "mkv" else 0
    shift = after.times[0] - before.times[0]  # Matroska has no negative times: the sound's run-up
    assert shift == 0 or suffix == "mkv"
    for old, new in zip(before.times, after.times, strict=True):
        assert abs(new - old - shift) <= tolerance
    assert sounds(after) == sounds(before)
    for (_, old), (_, new) in zip(before.packets[1], after.packets[1], strict=True):
        assert abs(new - old - shift) <= Fraction(1, 1000)
    assert after.metadata["title"] == "A walk"
    assert after.metadata["comment"] == f"{MARK} | mine"
    assert not list(tmp_path.glob("*.part.*"))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("late", [100, 10**9])  # seconds; FFmpeg's muxer aborts at the latter
def test_a_sound_that_goes_astray_takes_none_along(
    make_clip: Make, tmp_path: Path, facts: type, suffix: str, late: int
) -> None:
    source, target, count = make_clip(frames=50, audio=True), tmp_path / f"out.{suffix}", 0
    with Reader(source) as reader, Writer(target, reader) as writer:
        for frame in reader:
            for packet in frame.passengers:
                count += 1
                if count % 20 == 0:
                    packet.dts = packet.pts = packet.pts + round(late / packet.time_base)
            writer.write(frame)
    assert count > 40
    before, after = facts(source), facts(target)
    assert sounds(after) == sounds(before)
    shift = after.times[0] - before.times[0]
    for (_, old), (_, new) in zip(before.packets[1], after.packets[1], strict=True):
        assert abs(new - old - shift) <= Fraction(1, 500)


def test_webm_holds_vp9_and_the_mark_and_names_what_it_drops(
    make_clip: Make, tmp_path: Path, facts: type
) -> None:
    writer = copy(make_clip(audio=True), tmp_path / "out.webm", metadata={"comment": MARK})
    seen = facts(tmp_path / "out.webm")
    assert writer.dropped == ["stream 1 (aac audio): not possible in .webm"]
    assert seen.codecs == ["vp9"]
    assert seen.metadata["comment"] == MARK
    assert len(seen.times) == 20


@pytest.mark.parametrize(
    "pts",
    [
        [0, 100, 517, 3001, 3002, 9999, 20000],
        range(5000, 12000, 512),
        range(0, 51200, 1024),
    ],
    ids=["variable", "late start", "plain"],
)
def test_times_are_exact(make_clip: Make, tmp_path: Path, facts: type, pts: list[int]) -> None:
    copy(make_clip(pts=pts, audio=True), tmp_path / "out.mp4")
    assert facts(tmp_path / "out.mp4").times == [Fraction(stamp, 12800) for stamp in pts]


def test_negative_start_moves_all_streams_alike(
    make_clip: Make, tmp_path: Path, facts: type
) -> None:
    source = make_clip("in.mp4", audio=True)
    with Reader(source) as reader, Writer(tmp_path / "out.mp4", reader) as writer:
        for frame in reader:
            frame.picture.pts -= 2560
            for packet in frame.passengers:
                packet.pts -= 9600
                packet.dts -= 9600
            writer.write(frame)
        for packet in reader.trailing:
            packet.pts -= 9600
            packet.dts -= 9600
    before, after = facts(source), facts(tmp_path / "out.mp4")
    assert after.times == before.times
    assert sounds(after) == sounds(before)
    assert after.packets[1][5][1] == before.packets[1][5][1]


def test_times_that_run_backwards_are_straightened(
    make_clip: Make, tmp_path: Path, facts: type
) -> None:
    with Reader(make_clip()) as reader, Writer(tmp_path / "out.mp4", reader) as writer:
        for index, frame in enumerate(reader):
            frame.picture.pts = [0, 512, 512, 300][index] if index < 4 else index * 512
            writer.write(frame)
    times = facts(tmp_path / "out.mp4").times
    assert len(times) == 20
    assert [time * 12800 for time in times[:5]] == [0, 512, 513, 514, 2048]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("rotation", [(90, False), (-90, True), (180, True)])
def test_orientation_is_written_back(
    make_clip: Make, tmp_path: Path, facts: type, rotation: tuple[int, bool], suffix: str
) -> None:
    source = make_clip(rotation=rotation)
    copy(source, tmp_path / f"out.{suffix}")
    before, after = facts(source), facts(tmp_path / f"out.{suffix}")
    assert (after.size, after.rotation) == (before.size, before.rotation)
    with Reader(source) as old, Reader(tmp_path / f"out.{suffix}") as new:
        assert np.abs(to_rgb(old.first).astype(int) - to_rgb(new.first)).mean() < 4


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_aspect_and_colours_are_written_back(
    make_clip: Make, tmp_path: Path, facts: type, suffix: str
) -> None:
    source = make_clip(aspect=Fraction(4, 3), colours=(1, 1, 1, 1))
    copy(source, tmp_path / f"out.{suffix}")
    after = facts(tmp_path / f"out.{suffix}")
    assert after.aspect == Fraction(4, 3)
    assert after.colours == facts(source).colours == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("pixel_format", "colours"),
    [
        ("yuv420p10le", (1, 9, 9, 16)),
        ("yuv444p", (1, 1, 1, 1)),
        ("yuv422p", (1, 1, 1, 1)),
        ("yuvj420p", (2, 1, 1, 1)),
    ],
)
def test_depth_chroma_and_range_stay(
    make_clip: Make, tmp_path: Path, facts: type, pixel_format: str, colours: tuple[int, ...]
) -> None:
    source = make_clip(pixel_format=pixel_format, colours=colours)
    copy(source, tmp_path / "out.mp4")
    after = facts(tmp_path / "out.mp4")
    assert after.format == pixel_format
    assert after.colours == colours


def test_aspect_that_a_container_cannot_hold_is_named(make_clip: Make, tmp_path: Path) -> None:
    writer = copy(make_clip(aspect=Fraction(4, 3)), tmp_path / "out.webm")
    assert writer.dropped == ["the pixels' aspect ratio: not possible in .webm"]


def test_odd_size_is_kept(make_clip: Make, tmp_path: Path, facts: type) -> None:
    source = make_clip("in.webm", codec="libvpx-vp9", size=(97, 63), frames=5)
    copy(source, tmp_path / "out.mp4")
    copy(source, tmp_path / "out.mov")  # which takes no VP9
    seen = [facts(tmp_path / name) for name in ("out.mp4", "out.mov")]
    assert [each.size for each in seen] == [(97, 63)] * 2
    assert [each.codecs for each in seen] == [["vp9"], ["h264"]]
    assert [each.format for each in seen] == ["yuv420p", "yuv444p"]


def test_transport_stream_with_its_aac_fits_into_mp4(
    make_clip: Make, tmp_path: Path, facts: type
) -> None:
    copy(make_clip("in.ts", audio=True, options={"x264-params": "keyint=8"}), tmp_path / "out.mp4")
    seen = facts(tmp_path / "out.mp4")
    assert len(seen.times) == 20
    assert len(seen.packets[1]) > 30


@pytest.mark.parametrize("pixel_format", ["bgr0", "yuyv422"])
def test_packed_pictures_become_ordinary_video(
    make_clip: Make, tmp_path: Path, facts: type, pixel_format: str
) -> None:
    codec = "ffv1" if pixel_format == "bgr0" else "rawvideo"
    source = make_clip("in.mkv", codec=codec, pixel_format=pixel_format, frames=3)
    copy(source, tmp_path / "out.mp4")
    with Reader(source) as old, Reader(tmp_path / "out.mp4") as new:
        assert np.abs(to_rgb(old.first).astype(int) - to_rgb(new.first)).mean() < 6


def test_chapters_are_kept_and_move_with_a_trim(
    make_clip: Make, tmp_path: Path, facts: type
) -> None:
    names = ("one", "two", "three")
    chapters = [
        {"id": i, "start": i * 1000, "end": i * 1000 + 1000, "time_base": Fraction(1, 1000)}
        | {"metadata": {"title": name}}
        for i, name in enumerate(names)
    ]
    source = make_clip(frames=75, chapters=chapters)
    copy(source, tmp_path / "out.mp4")
    kept = facts(tmp_path / "out.mp4").chapters
    assert [chapter["metadata"]["title"] for chapter in kept] == list(names)
    with Reader(source, start=1.5) as reader, Writer(tmp_path / "cut.mp4", reader) as writer:
        for frame in reader:
            writer.write(frame)
    cut = facts(tmp_path / "cut.mp4").chapters
    assert [chapter["metadata"]["title"] for chapter in cut] == ["two", "three"]
    assert cut[0]["start"] == 0


def test_map_video_has_the_same_times_and_no_sound(
    make_clip: Make, tmp_path: Path, facts: type
) -> None:
    source = make_clip(audio=True, rotation=(90, False), pts=[0, 700, 1500, 9000])
    with (
        Reader(source) as reader,
        Writer(tmp_path / "map.mp4", reader, carry=False) as writer,
    ):
        grey = np.full((reader.height, reader.width, 3), 180, np.uint8)
        for frame in reader:
            writer.write(from_rgb(grey, frame.picture))
    seen = facts(tmp_path / "map.mp4")
    assert seen.times == facts(source).times
    assert seen.packets == {}
    with Reader(tmp_path / "map.mp4") as reader:
        assert (reader.width, reader.height) == (64, 96)
        assert np.abs(to_rgb(reader.first).astype(int) - 180).max() <= 3


def test_refusals_come_before_any_work(make_clip: Make, tmp_path: Path) -> None:
    source = make_clip()
    (tmp_path / "there.mp4").write_text("mine")
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "folder.mp4").mkdir()
    cases: list[tuple[str, dict[str, object], str]] = [
        ("there.mp4", {}, "exists already"),
        ("clip.mp4", {"overwrite": True}, "over the input|the input"),
        ("link.mp4", {"overwrite": True}, "the input"),
        ("folder.mp4", {"overwrite": True}, "is a folder"),
        ("nowhere/out.mp4", {}, "does not exist"),
        ("out.xyz", {}, "must end in one of"),
        ("out.mp4", {"encoding": Encoding("nonsense")}, "There is no encoder nonsense"),
        ("out.mp4", {"encoding": Encoding("aac")}, "no encoder for video"),
        ("out.webm", {"encoding": Encoding("libx264")}, "can't be used here"),
        ("out.mp4", {"encoding": Encoding("mpeg4", 20)}, "no setting for quality"),
    ]
    files = sorted(tmp_path.iterdir())
    with Reader(source) as reader:
        for name, options, message in cases:
            with pytest.raises(OutputError, match=message) as caught:
                Writer(tmp_path / name, reader, **options)  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == files
    assert (tmp_path / "there.mp4").read_text() == "mine"


def test_overwrite_replaces_only_at_the_end(make_clip: Make, tmp_path: Path, facts: type) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("old")
    with Reader(make_clip()) as reader, Writer(target, reader, overwrite=True) as writer:
        for frame in reader:
            writer.write(frame)
        assert target.read_text() == "old"
    assert len(facts(target).times) == 20


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_nothing_is_left_after_an_exception(
    make_clip: Make, tmp_path: Path, error: type[BaseException]
) -> None:
    source = make_clip(audio=True)

    def stop_after(frames: int) -> None:
        with Reader(source) as reader, Writer(tmp_path / "out.mp4", reader) as writer:
            for index, frame in enumerate(reader):
                writer.write(frame)
                if index == frames:
                    raise error

    for frames in (0, 10):
        with pytest.raises(error):
            stop_after(frames)
        assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_no_frame_is_an_error(make_clip: Make, tmp_path: Path) -> None:
    with (
        Reader(make_clip()) as reader,
        pytest.raises(OutputError, match="got no frame"),
        Writer(tmp_path / "out.mp4", reader),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("limit", [3_000, 60_000])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_full_disk_is_one_sentence(
    make_clip: Make, tmp_path: Path, suffix: str, limit: int
) -> None:
    source = make_clip(frames=120, size=(320, 240))
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (240, 320, 3), np.uint8)

    def write_noise() -> None:
        with Reader(source) as reader, Writer(tmp_path / f"out.{suffix}", reader) as writer:
            for frame in reader:
                writer.write(Frame(from_rgb(noise, frame.picture)))

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match="can't be written"):
            write_noise()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_shared_clips_pass_through(shared_clips: list[Path], tmp_path: Path, facts: type) -> None:
    for source in shared_clips:
        if "1080p" in source.name or "720p" in source.name:
            continue  # nothing new in them, and a third of the time
        target = tmp_path / source.name
        copy(source, target, encoding=Encoding("libx264", 30))
        before, after = facts(source), facts(target)
        assert after.times == before.times, source.name
        assert sounds(after) == sounds(before), source.name
        assert (after.size, after.colours) == (before.size, before.colours), source.name
        target.unlink()


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1", "ffv1"])
def test_undelayed_pictures_leave_one_by_one(
    make_clip: Make, capfdbinary: pytest.CaptureFixture[bytes], codec: str
) -> None:
    """At most two are in the encoder and the container while the next comes; else nearly all."""
    source = make_clip(frames=30, audio=True)
    assert most_inside(source, Encoding(codec, undelayed=True), capfdbinary) <= 2
    assert most_inside(source, Encoding(codec), capfdbinary) > 10


def test_undelayed_pictures_wait_for_no_subtitle(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    source = DATA / "containers" / "ax_mkv_sample_with_srt.mkv"
    if not source.is_file():
        pytest.skip(f"there is no {source}")
    assert most_inside(source, Encoding(undelayed=True), capfdbinary) <= 2


def most_inside(source: Path, encoding: Encoding, out: pytest.CaptureFixture[bytes]) -> int:
    """How many pictures of a video have come at the most and not left on the standard output."""
    written, inside = b"", []
    with Reader(source) as reader, Writer("-", reader, encoding=encoding) as writer:
        for count, frame in enumerate(reader, 1):
            writer.write(frame)
            written += out.readouterr().out
            inside.append(count - pictures(written))
    assert pictures(written + out.readouterr().out) == len(inside)
    return max(inside)


def pictures(video: bytes) -> int:
    """How many pictures there are in the beginning of a file."""
    try:
        with av.open(io.BytesIO(video)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (EOFError, av.error.InvalidDataError):  # no more than a header, or nothing yet
        return 0
