"""Many inputs at once: what is planned for each, what becomes of it, and what is said of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask import Options, api, batch, resume
from stream_unmask.batch import Job, plan
from stream_unmask.cli import main
from stream_unmask.errors import OptionError
from stream_unmask.label import mark
from stream_unmask.pipeline import Parts, open_parts
from stream_unmask.video.image import write_image

ROOT = Path(__file__).parents[1]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    """The engines, which need not be opened for each of these tests anew."""
    with open_parts(Options()) as parts:
        yield parts


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], parts: Parts
) -> Command:
    """A function that runs the command and gives its exit code, output and errors."""
    for module in (api, batch, resume):
        monkeypatch.setattr(module, "open_parts", lambda _: nullcontext(parts))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stream-unmask", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        code = end.value.code
        return (code if isinstance(code, int) else 0), said.out, said.err

    return run


@pytest.fixture
def folder(tmp_path: Path, bare_clip: Path) -> Path:
    """A folder of a clip, a clip in a folder in it, a picture, a file that is no video, a text."""
    root = tmp_path / "in"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "one.mp4").write_bytes(bare_clip.read_bytes())
    (root / "deep" / "er" / "two.MP4").write_bytes(bare_clip.read_bytes())
    write_image(root / "deep" / "still.png", np.full((48, 64, 3), 90, np.uint8))
    (root / "bad.avi").write_text("no video\n" * 50)
    (root / "notes.txt").write_text("no input")
    return root


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def entries(report: Path) -> list[dict[str, Any]]:
    """The files of a report, which fits the schema."""
    said = json.loads(report.read_text())
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(said)
    assert said["stream_unmask"] in mark()
    found: list[dict[str, Any]] = said["files"]
    return found


def frames(path: Path | BytesIO) -> int:
    with av.open(path if isinstance(path, BytesIO) else str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


# -------------------------------------------------------------------------------------- plans


def test_one_input_goes_where_it_is_told() -> None:
    assert plan(["in.avi"], Path("out.mp4"), None) == [Job("in.avi", Path("out.mp4"))]
    assert plan(["-"], Path("-"), None) == [Job("-", Path("-"))]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a.mp4", "a.mp4"), ("sub/a.MOV", "a.MOV"), ("/some/where/a.m4v", "a.m4v"),
        ("a.webm", "a.webm"), ("a.avi", "a.mkv"), ("a.b.ts", "a.b.mkv"), ("a.gif", "a.mkv"),
        ("a", "a.mkv"), ("a.JPEG", "a.JPEG"), ("a.png", "a.png"), ("a.webp", "a.webp"),
        ("-", "stdin.mkv"), ("http://host/x/a.mp4?key=1", "a.mp4"), ("https://host/", "host.mkv"),
        ("rtsp://user:secret@cam:554/live", "live.mkv"), ("rtsp://user:secret@cam:554", "cam.mkv"),
        ("f_%04d.png", "f.mkv"), ("sub/shot-%d.jpg", "shot.mkv"), ("f%3d_x.png", "f_x.mkv"),
    ],
)  # fmt: skip
def test_a_result_has_its_inputs_name_and_a_container_that_can_be_written(
    source: str, name: str
) -> None:
    (job,) = plan([source], None, Path("out"))
    assert job == Job(source, Path("out") / name, mirrored=True)


def test_a_sequence_of_bare_numbers_has_a_name() -> None:
    (job,) = plan(["%04d.png"], None, Path("out"))
    assert job.target.stem.strip(".")
    assert not job.target.name.startswith(".")


@pytest.mark.parametrize(
    ("source", "still"),
    [
        ("a.png", True), ("a.JPG", True), ("a.mp4", False), ("a.gif", False), ("-", False),
        ("f_%04d.png", False), ("http://host/a.png", False),
    ],
)  # fmt: skip
def test_one_picture_is_no_video(source: str, still: bool) -> None:
    assert Job(source, Path("out")).still is still


def test_a_picture_may_be_called_like_a_sequence(tmp_path: Path) -> None:
    (tmp_path / "a%d.png").touch()
    assert Job(str(tmp_path / "a%d.png"), Path("out")).still


def test_a_folder_is_mirrored(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    jobs = plan([str(folder)], None, out)
    assert [(job.source, job.target) for job in jobs] == [
        (str(folder / "bad.avi"), out / "bad.mkv"),
        (str(folder / "deep" / "er" / "two.MP4"), out / "deep" / "er" / "two.MP4"),
        (str(folder / "deep" / "still.png"), out / "deep" / "still.png"),
        (str(folder / "one.mp4"), out / "one.mp4"),
    ]
    assert all(job.found and job.mirrored for job in jobs)
    assert not out.parent.exists()


def test_leftovers_and_the_output_folder_are_no_inputs(folder: Path) -> None:
    """The output folder may lie in the input, as itself or by another name."""
    wanted = {job.source for job in plan([str(folder)], None, Path("elsewhere"))}
    out = folder / "deep" / "out"
    out.mkdir()
    for path in (out / "one.mp4", folder / "one.part.mp4", folder / "deep" / "x.part.png"):
        path.write_bytes(b"not to be touched")
    link = folder.parent / "link"
    link.symlink_to(out)
    for same in (out, link, folder / "deep" / ".." / "deep" / "out"):
        assert {job.source for job in plan([str(folder)], None, same)} == wanted


def test_a_pattern_is_for_those_that_the_shell_leaves_alone(folder: Path) -> None:
    jobs = plan([f"{folder}/*.mp4"], None, Path("out"))
    assert jobs == [Job(str(folder / "one.mp4"), Path("out/one.mp4"), found=True, mirrored=True)]
    everywhere = plan([f"{folder}/**/*.[mM][pP]4"], None, Path("out"))
    assert [job.target.name for job in everywhere] == ["two.MP4", "one.mp4"]
    (folder / "three.part.mp4").touch()
    (folder / "folder.mp4").mkdir()
    assert plan([f"{folder}/*.mp4"], None, Path("out")) == jobs
    assert plan([f"{folder}/on?.mp4"], Path("out.mp4"), None) == [
        Job(str(folder / "one.mp4"), Path("out.mp4"))
    ]


def test_a_file_with_the_name_of_a_pattern_is_a_file(folder: Path) -> None:
    odd = folder / "o[n]e.mp4"
    odd.touch()
    assert plan([str(odd)], None, Path("out")) == [
        Job(str(odd), Path("out/o[n]e.mp4"), mirrored=True)
    ]


def test_an_empty_name_is_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell makes it of a variable that was never set."""
    monkeypatch.chdir(folder)
    with pytest.raises(OptionError):
        plan([""], None, Path("out"))


def test_several_go_into_a_folder_in_their_order(folder: Path) -> None:
    jobs = plan(["z.mp4", str(folder / "deep"), "a.png"], None, Path("out"))
    assert [str(job.target) for job in jobs] == [
        "out/z.mp4", "out/er/two.MP4", "out/still.png", "out/a.png",
    ]  # fmt: skip
    assert [job.found for job in jobs] == [False, True, True, False]


@pytest.mark.parametrize(
    "sources",
    [
        ["a.mp4", "sub/a.mp4"], ["a.mp4", "a.mp4"], ["a.avi", "a.ts"], ["a.mkv", "a.avi"],
        ["f_%04d.png", "f.mkv"], ["http://one/a.mp4", "http://two/a.mp4"], ["-", "stdin.mkv"],
    ],
)  # fmt: skip
def test_two_never_become_one(sources: list[str]) -> None:
    with pytest.raises(OptionError) as caught:
        plan(sources, None, Path("out"))
    for name in sources:
        assert name in str(caught.value)
    assert "would both become out/" in str(caught.value)


# ---------------------------------------------------------------------------- what makes no sense


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """One sentence, exit code 2."""
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in/one.mp4"], "Say where the result goes"),
        (["in/one.mp4", "-o", "x.mp4", "--output-dir", "x"], "Say where the result goes"),
        (["in", "-o", "x.mp4"], "in is a folder: give it an --output-dir"),
        (["in/one.mp4", "in/deep/er/two.MP4", "-o", "x.mp4"], "--output takes one input"),
        (["in/*", "-o", "x.mp4"], "--output takes one input"),
        (["in/none*", "--output-dir", "x"], "no video or picture in in/none*"),
        (["empty", "--output-dir", "x"], "no video or picture in empty"),
        (["in/one.mp4", "./in/one.mp4", "--output-dir", "x"], "would both become x/one.mp4"),
        (["in", "--output-dir", "x", "--mask-output", "m.mp4"], "take one input"),
        (["in", "--output-dir", "x", "--preview-sheet", "s.png"], "take one input"),
        (["in", "--output-dir", "x", "--report", "x/one.mp4"], "same name"),
        (["in", "--output-dir", "x", "--report", "in/notes.txt"], "exists already"),
        (["in", "--output-dir", "x", "--report", "nowhere/r.json"], "nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_said_before_any_work(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    before = files(folder.parent)
    refused(command(*arguments), words)
    assert files(folder.parent) == before
    assert not Path("x").exists()


def test_a_report_is_never_written_over_an_input(command: Command, folder: Path) -> None:
    before = files(folder)
    arguments = ("--output-dir", folder.parent / "out", "--overwrite")
    code, _, err = command(folder, *arguments, "--report", folder / "one.mp4")
    assert files(folder) == before
    assert code == 2
    assert "the input" in err


def test_a_name_that_is_too_long_is_one_sentence(command: Command, tmp_path: Path) -> None:
    refused(command("a" * 300 + ".mp4", "-o", tmp_path / "out.mp4"), "can't be read")


# ----------------------------------------------------------------------------------------- runs


def test_one_that_fails_does_not_keep_the_others_from_being_done(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    before = files(folder)
    out = tmp_path / "new" / "out"
    code, said, err = command(folder, "--output-dir", out, "--report", tmp_path / "r.json")
    assert code == 1
    assert err == f"Error: {folder / 'bad.avi'} is not a video that can be read " + (
        "(Invalid data found when processing input).\n"
    )
    assert said.count("no mask found; nothing was changed") == 3
    assert files(folder) == before
    assert set(files(out)) == {"one.mp4", "deep/er/two.MP4", "deep/still.png"}
    assert frames(out / "one.mp4") == frames(out / "deep" / "er" / "two.MP4") == 6
    assert (out / "deep" / "still.png").read_bytes() == before["deep/still.png"]
    told = entries(tmp_path / "r.json")
    assert [entry["status"] for entry in told] == ["failed", "done", "done", "done"]
    assert [entry["source"] for entry in told] == [str(folder / name) for name in sorted(
        ("bad.avi", "deep/er/two.MP4", "deep/still.png", "one.mp4")
    )]  # fmt: skip
    assert told[0]["why"] == err.removeprefix("Error: ").strip()
    assert [entry.get("frames") for entry in told] == [None, 6, 1, 6]
    assert [entry.get("encoder") for entry in told] == [None, "libx264", "png", "libx264"]


def test_several_share_the_engines(
    command: Command, folder: Path, tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def once(options: Options) -> nullcontext[Parts]:
        opened.append(options)
        return nullcontext(parts)

    monkeypatch.setattr(batch, "open_parts", once)
    monkeypatch.setattr(api, "open_parts", None)  # which can't be called
    assert command(folder, "--output-dir", tmp_path / "out", "--end", 1)[0] == 1
    assert [options.end for options in opened] == [1]


def test_where_all_fail_the_exit_code_is_two(command: Command, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.png"):
        (tmp_path / name).write_text("nothing of the kind")
    sources = [tmp_path / name for name in ("a.mp4", "b.png", "missing.mp4")]
    arguments = ("--output-dir", tmp_path / "out", "--report", tmp_path / "r.json")
    code, said, err = command(*sources, *arguments)
    assert (code, said) == (2, "")
    assert [line.split()[0] for line in err.splitlines()] == ["Error:"] * 3
    assert [entry["status"] for entry in entries(tmp_path / "r.json")] == ["failed"] * 3
    assert files(tmp_path / "out") == {}


def test_resume_leaves_alone_what_is_there(command: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.avi").unlink()
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.mp4").write_bytes(b"whatever it is")
    arguments = (folder, "--output-dir", out, "--report", tmp_path / "r.json", "--overwrite")
    code, said, err = command(*arguments, "--resume")
    assert (code, err) == (0, "")
    assert f"{folder / 'one.mp4'}: skipped, {out / 'one.mp4'} is there already." in said
    assert (out / "one.mp4").read_bytes() == b"whatever it is"
    first = {entry["source"]: entry["status"] for entry in entries(tmp_path / "r.json")}
    assert first.pop(str(folder / "one.mp4")) == "skipped"
    assert set(first.values()) == {"done"}
    before = files(out)
    assert len(before) == 3
    code, said, _ = command(*arguments, "--resume", "-q")
    assert (code, said) == (0, "")
    assert files(out) == before
    assert {entry["status"] for entry in entries(tmp_path / "r.json")} == {"skipped"}


def test_without_resume_what_is_there_is_an_error(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.mp4").write_bytes(b"mine")
    sources = [folder / "one.mp4", folder / "deep" / "still.png"]
    code, _, err = command(*sources, "--output-dir", tmp_path)
    assert code == 1
    assert err == f"Error: {tmp_path / 'one.mp4'} exists already.\n"
    assert (tmp_path / "one.mp4").read_bytes() == b"mine"
    assert (tmp_path / "still.png").is_file()


def test_outputs_are_no_inputs_unless_they_are_named(
    command: Command, folder: Path, tmp_path: Path, bare_clip: Path
) -> None:
    ours = folder / "ours.mp4"
    assert command(bare_clip, "-o", ours)[0] == 0
    (folder / "bad.avi").unlink()
    for number, source in enumerate((folder, f"{folder}/o*.mp4")):
        out, report = tmp_path / f"out{number}", tmp_path / f"{number}.json"
        code, said, err = command(source, "--output-dir", out, "--report", report)
        assert (code, err) == (0, "")
        assert f"{ours}: skipped, it is an output of this tool." in said
        status = {entry["source"]: entry["status"] for entry in entries(report)}
        assert status.pop(str(ours)) == "skipped"
        assert set(status.values()) == {"done"}
        assert "ours.mp4" not in files(out)
    assert command(ours, "--output-dir", tmp_path / "named")[0] == 0
    assert frames(tmp_path / "named" / "ours.mp4") == 6


def test_a_folder_that_can_not_be_made_is_one_sentence_for_each(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_text("in the way")
    code, _, err = command(
        folder / "one.mp4", folder, "--output-dir", tmp_path / "out" / "deep" / "x"
    )
    assert code == 2
    assert "would both become" in err
    code, _, err = command(folder, "--output-dir", tmp_path / "out")
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == 3
    assert sum("deep" in line and "can't be made" in line for line in lines) == 2
    assert set(files(tmp_path / "out")) == {"deep", "one.mp4"}


def test_a_sequence_becomes_a_video(command: Command, tmp_path: Path) -> None:
    for number in range(7, 12):
        write_image(tmp_path / f"f_{number:04d}.png", np.full((48, 64, 3), 20 * number, np.uint8))
    source = tmp_path / "f_%04d.png"
    code, said, err = command(source, "--output-dir", tmp_path / "out", "--rate", 10)
    assert (code, err) == (0, "")
    assert "5 frames" in said
    with av.open(str(tmp_path / "out" / "f.mkv")) as container:
        seen = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in
                container.decode(video=0)]  # fmt: skip
    assert [time for time, _ in seen] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [grey for _, grey in seen] == pytest.approx([140, 160, 180, 200, 220], abs=4)


def test_a_masked_video_in_a_report(command: Command, example: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    code, said, err = command(
        example, "-o", tmp_path / "out.webm", "--report", report, "--end", 0.24, "--no-smooth",
    )  # fmt: skip
    assert code == 0
    assert "6 frames, 6 with invented faces" in said
    assert err == ""
    (entry,) = entries(report)
    assert (entry["frames"], entry["edited_frames"], entry["encoder"]) == (6, 6, "libvpx-vp9")
    assert entry["dropped"] == ["stream 1 (aac audio): not possible in .webm"]
    assert entry["carried"] == []
    (person,) = entry["tracks"]
    assert (person["frames"], person["edited"], person["skipped"]) == (6, 6, {})
    assert 0 == person["first"] < person["last"] < 0.24
    assert entry["faces"] == entry["masked_faces"] == 6
    assert {"decode", "find", "segment", "repaint", "encode"} <= set(entry["stages"])


# --------------------------------------------------------------------------------------- dry runs


def test_a_dry_run_says_what_would_happen_and_does_nothing(
    command: Command, folder: Path, tmp_path: Path, example: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.mp4").write_bytes(b"there")
    (folder / "masked.mp4").write_bytes(example.read_bytes())
    before = files(tmp_path)
    arguments = ("--dry-run", "--report", tmp_path / "r.json", "--resume")
    code, said, err = command(folder, "--output-dir", out, *arguments)
    assert code == 1
    with av.open(str(example)) as container:
        size = f"{container.streams.video[0].width} x {container.streams.video[0].height}"
    deep = folder / "deep"
    assert said.splitlines() == [
        f"{deep / 'er' / 'two.MP4'} -> {out / 'deep' / 'er' / 'two.MP4'}: h264 96 x 64, 0.2 s, "
        "0 other streams.",
        f"{deep / 'still.png'} -> {out / 'deep' / 'still.png'}: a picture of 64 x 48.",
        f"{folder / 'masked.mp4'} -> {out / 'masked.mp4'}: h264 {size}, 4.0 s, 1 other stream.",
        f"{folder / 'one.mp4'}: skipped, {out / 'one.mp4'} is there already.",
    ]
    assert err.count("\n") == 1
    assert "bad.avi is not a video" in err
    assert files(tmp_path) == before
    code, said, _ = command(folder / "masked.mp4", "-o", tmp_path / "x.webm", "--dry-run")
    assert code == 0
    assert said.endswith("Left out: stream 1 (aac audio): not possible in .webm.\n")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["in/one.mp4", "-o", "out.mp4"],
        ["in/bad.avi", "-o", "out.mp4"],
        ["in/one.mp4", "-o", "in/one.mp4", "--overwrite"],
        ["in/one.mp4", "-o", "in/deep/er/two.MP4"],
        ["in/one.mp4", "in/bad.avi", "--output-dir", "out"],
        ["in/one.mp4", "-o", "out.mp4", "--max-pixels", "100"],
        ["in/one.mp4", "-o", "out.mp4", "--start", "9"],
        ["in/one.mp4", "-o", "nowhere/out.mp4"],
        ["in/one.mp4", "-o", "out.xyz"],
        ["in/one.mp4", "-o", "out.png"],
        ["in/deep/still.png", "-o", "out.mp4"],
        ["in/one.mp4", "-o", "out.mp4", "--codec", "nonsense"],
        ["in/one.mp4", "-o", "o.mp4", "--mask-output", "m.xyz"],
    ],
    ids=" ".join,
)
def test_a_dry_run_ends_as_the_run_would(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    before = files(folder.parent)
    foretold, _, said = command(*arguments, "--dry-run")
    assert files(folder.parent) == before
    code, _, err = command(*arguments)
    assert foretold == code
    assert said == err


# ------------------------------------------------------------------------------------------ pipes


def piped(*arguments: object, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "stream_unmask", *map(str, arguments)],
        input=data, capture_output=True, timeout=120, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip


def test_from_standard_input_to_standard_output(bare_clip: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    done = piped("-", "-o", "-", "--report", report, data=bare_clip.read_bytes())
    assert done.returncode == 0
    assert frames(BytesIO(done.stdout)) == 6
    with av.open(BytesIO(done.stdout)) as container:
        assert container.format.name.startswith("matroska")
        assert container.metadata["COMMENT"] == mark()
    assert b"6 frames" in done.stderr  # where the picture doesn't go
    (entry,) = entries(report)
    assert (entry["source"], entry["target"], entry["frames"]) == ("-", "-", 6)
    assert {path.name for path in tmp_path.iterdir()} == {"r.json"}


@pytest.mark.parametrize("data", [b"", b"no video\n" * 100], ids=["nothing", "text"])
def test_a_bad_standard_input_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    done = piped("-", "-o", tmp_path / "out.mkv", data=data)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Error: - ")
    assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []
