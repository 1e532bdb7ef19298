"""Hardware for decoding and encoding, asked for where there is none, through the whole program."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stream_unmask import Encoding, OptionError, Options, OutputError, unmask_video
from stream_unmask import resume as module
from stream_unmask.cli import main
from stream_unmask.resume import unmask_resumably
from stream_unmask.video.decoder import find_hardware
from tests.video.test_hardware import opens, packets

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _nothing_is_here() -> None:
    found = find_hardware("auto")
    if (found is not None and found.accel is not None) or opens("h264_nvenc"):
        pytest.skip("there is hardware")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["stream-unmask", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_a_run_says_once_what_is_missing_and_gives_the_same_file(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    example: Path,
    tmp_path: Path,
) -> None:
    """With masks to paint over, and a map, which is encoded by the same encoder."""
    names = {n: tmp_path / n for n in ("out.mp4", "map.mp4", "report.json")}
    code = run(
        monkeypatch, example, "-o", names["out.mp4"], "--mask-output", names["map.mp4"],
        "--report", names["report.json"], "--end", "0.4", "--hwaccel", "auto",
        "--encoder", "hevc_nvenc", "--preset", "p2", "--quality", "22",
    )  # fmt: skip
    assert code == 0
    text = json.loads(names["report.json"].read_text())
    jsonschema.validate(text, json.loads((ROOT / "docs/report.schema.json").read_text()))
    (report,) = text["files"]
    assert (report["decoder"], report["encoder"]) == ("h264", "libx265")
    decoding, encoding = report["warnings"]
    assert decoding.startswith(f"{example} is decoded in software: cuda can't be opened (")
    assert encoding.startswith("The encoder hevc_nvenc can't be used here (")
    assert encoding.endswith("), so libx265 steps in.")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [decoding, encoding]
    plain = unmask_video(
        example, tmp_path / "plain.mp4",
        Options(end=0.4, encoding=Encoding("hevc", quality=22, preset="faster")),
    )  # fmt: skip
    assert packets(names["out.mp4"]) == packets(tmp_path / "plain.mp4")
    assert (plain.edited_frames, plain.warnings) == (report["edited_frames"], ())
    assert plain.edited_frames > 0


def test_an_unknown_device_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bare_clip: Path,
    tmp_path: Path,
) -> None:
    for command in ((bare_clip, "-o", tmp_path / "out.mp4"), ("live", bare_clip, "--no-window")):
        assert run(monkeypatch, *command, "--hwaccel", "warp") == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert "no hardware 'warp' to decode with; choose auto, " in said.err
    with pytest.raises(OptionError, match="choose auto, "):
        Options(hwaccel="warp")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bare_clip: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "out.mp4"
    code = run(
        monkeypatch, bare_clip, "-o", target, "--dry-run", "--hwaccel", "auto",
        "--codec", "h264_nvenc",
    )  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert said.count("is decoded in software: ") == said.count("so libx264 steps in.") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_live_run_says_it(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bare_clip: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "out.mp4"
    code = run(
        monkeypatch, "live", bare_clip, "--no-window", "--record", target, "--hwaccel", "auto"
    )
    assert code in (None, 0)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert said[0].startswith(f"{bare_clip} is decoded in software: ")
    assert target.exists()


def test_segments_say_it_once_together(example: Path, tmp_path: Path) -> None:
    wish = Options(
        resume=True, end=0.6, hwaccel="auto", encoding=Encoding("h264_nvenc", preset="p1")
    )
    plain = replace(wish, hwaccel=None, encoding=Encoding("h264", preset="veryfast"))
    report = unmask_resumably(example, tmp_path / "out.mp4", wish, seconds=0.3)
    unmask_resumably(example, tmp_path / "plain.mp4", plain, seconds=0.3)
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "plain.mp4")
    assert (report.decoder, report.encoder) == ("h264", "libx264")
    assert [warning.split(" ")[-1] for warning in report.warnings][1:] == ["in."]
    assert len(report.warnings) == 2
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize(("same", "first"), [(True, "00001.mp4"), (False, "00000.mp4")])
def test_segments_of_two_encoders_are_not_joined(
    bare_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool, first: str
) -> None:
    """An encoder goes within a run; the next takes it up where it has the first one's encoder."""
    wish, target = Options(resume=True, encoding=Encoding("h264")), tmp_path / "out.mp4"
    real, made, gone = module.open_writer, list[str](), ["00001.mp4"]

    def open_writer(path: Path, reader: Any, options: Options, **more: Any) -> Any:
        made.append(path.name)
        if path.name in gone:
            options = replace(options, encoding=replace(options.encoding, codec="hevc"))
        return real(path, reader, options, **more)

    monkeypatch.setattr(module, "open_writer", open_writer)
    with pytest.raises(OutputError, match="libx264 encoded it so far, and libx265 would now"):
        unmask_resumably(bare_clip, target, wish, seconds=0.1)
    assert not target.exists()
    made.clear()
    gone.clear()
    if not same:  # as when hardware was asked for, and software stepped in
        monkeypatch.setattr(module, "usable", lambda *_: (Encoding("hevc"), None))
    unmask_resumably(bare_clip, target, wish, seconds=0.1)
    assert made[0] == first
    assert len(packets(target)) == 6
