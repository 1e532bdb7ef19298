"""A long video in segments, with the engines that are shipped, on a second of the example clip."""

import hashlib
from dataclasses import replace
from pathlib import Path

import av
import pytest

from stream_unmask import Options, OutputError
from stream_unmask import resume as module
from stream_unmask.api import unmask_video
from stream_unmask.resume import unmask_resumably
from stream_unmask.video.segments import Segments

OPTIONS = Options(resume=True, end=1.0)
SECONDS = 0.4


def content(path: Path) -> list[tuple[int, float, str]]:
    """Every packet: its stream, its time, its bytes."""
    with av.open(str(path)) as container:
        return [
            (packet.stream_index, float(packet.pts * packet.time_base), digest(packet))
            for packet in container.demux()
            if packet.size
        ]


def digest(packet: av.Packet) -> str:
    return hashlib.sha256(bytes(packet)).hexdigest()


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_interrupted_run_ends_like_one_that_was_not(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    whole, broken, plain = (tmp_path / f"{name}{suffix}" for name in ("whole", "broken", "plain"))
    report = unmask_resumably(example, whole, OPTIONS, seconds=SECONDS)
    made, real = [], module._segment

    def twice(*arguments: object) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_segment", twice)
    with pytest.raises(KeyboardInterrupt):
        unmask_resumably(example, broken, OPTIONS, seconds=SECONDS)
    kept = sorted(path.name for path in (tmp_path / "broken.part").iterdir())
    assert kept == [f"00000{suffix}", f"00001{suffix}", "segments.json"]
    assert not broken.exists()
    made.clear()  # two more would be too many
    again = unmask_resumably(example, broken, OPTIONS, seconds=SECONDS)
    assert len(made) == 1
    assert content(broken) == content(whole)
    unmask_video(example, plain, replace(OPTIONS, resume=False))
    assert times(whole) == times(plain)
    assert [p for p in content(whole) if p[0]] == [p for p in content(plain) if p[0]]
    assert (report.frames, report.edited_frames) == (again.frames, again.edited_frames) == (25, 25)
    assert sum(track.frames for track in report.tracks.values()) == report.faces
    assert not (tmp_path / "broken.part").exists()


def test_segments_of_something_else_are_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "out.part"
    first = Segments(folder, ".mp4", {"source": "a", "options": (1, 2)})
    first.path(0).write_bytes(b"a segment")
    first.add({"frames": 3})
    assert Segments(folder, ".mp4", {"source": "a", "options": [1, 2]}).facts == [{"frames": 3}]
    other = Segments(folder, ".mp4", {"source": "b", "options": (1, 2)})
    assert other.facts == []
    assert not other.path(0).exists()


def test_a_folder_of_the_users_is_left_alone(example: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "diary.txt").write_text("mine")
    with pytest.raises(OutputError, match="in the way"):
        unmask_resumably(example, tmp_path / "out.mp4", OPTIONS, seconds=SECONDS)
    assert [path.name for path in tmp_path.rglob("*")] == ["out.part", "diary.txt"]


def test_what_is_finished_is_not_begun_anew(example: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        unmask_resumably(example, tmp_path / "out.mp4", OPTIONS, seconds=SECONDS)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
