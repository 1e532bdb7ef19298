"""The command line: what it writes, and what it says when it can't."""

import inspect
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask import Options, Report, unmask_image
from stream_unmask.cli import main
from stream_unmask.cli.unmask import unmask
from stream_unmask.label import mark
from stream_unmask.models.profile import PROFILES, Profile
from stream_unmask.video.image import read_image, write_image

ROOT = Path(__file__).parents[1]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs the command and gives its exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stream-unmask", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        code = end.value.code
        return (code if isinstance(code, int) else 0), said.out, said.err

    return run


@pytest.fixture
def picture(masked_picture: np.ndarray, tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", masked_picture)
    return tmp_path / "in.png"


def test_a_video_with_everything(
    command: Command, example: Path, tmp_path: Path, played: Callable[[Path], Any]
) -> None:
    names = {n: tmp_path / n for n in ("out.mp4", "map.mp4", "sheet.png", "report.json")}
    code, out, err = command(
        example, "-o", names["out.mp4"], "--mask-output", names["map.mp4"],
        "--preview-sheet", names["sheet.png"], "--report", names["report.json"],
        "--start", 1, "--end", 1.4, "--quality", 30, "--label", "--no-smooth",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "10 frames, 10 with invented faces, 1 person" in out
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    for name in ("out.mp4", "map.mp4"):
        seen = played(names[name])
        assert len(seen.times) == 10
        assert seen.metadata["comment"].startswith(mark())
    assert mark().encode() in names["sheet.png"].read_bytes()
    (report,) = json.loads(names["report.json"].read_text())["files"]
    assert report["frames"] == report["edited_frames"] == 10
    assert report["source"] == str(example)
    assert report["stages"]["find"] > 0


def test_a_picture_with_everything(command: Command, picture: Path, tmp_path: Path) -> None:
    names = {n: tmp_path / n for n in ("out.jpg", "map.png", "sheet.webp", "report.json")}
    code, out, err = command(
        picture, "-o", names["out.jpg"], "--mask-output", names["map.png"],
        "--preview-sheet", names["sheet.webp"], "--report", names["report.json"],
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "1 frame, 1 with invented faces" in out
    assert {path.name for path in tmp_path.iterdir()} == {picture.name, *names}
    before, after, shown = (read_image(path) for path in (picture, *[*names.values()][:2]))
    assert before.shape == after.shape == shown.shape
    assert 0.01 < (shown > 128).mean() < 0.25
    assert np.abs(after.astype(int) - before)[shown[..., 0] > 128].mean() > 20
    assert np.abs(after.astype(int) - before)[shown[..., 0] == 0].mean() < 3
    assert mark().encode() in names["out.jpg"].read_bytes()
    assert json.loads(names["report.json"].read_text())["files"][0]["masked_faces"] >= 1


def test_quiet_says_nothing(command: Command, bare_clip: Path, tmp_path: Path) -> None:
    assert command(bare_clip, "-o", tmp_path / "out.mp4", "-q") == (0, "", "")


def test_without_a_mask_it_says_so(command: Command, bare_clip: Path, tmp_path: Path) -> None:
    code, out, _ = command(bare_clip, "-o", tmp_path / "out.mp4")
    assert code == 0
    assert "no mask found; nothing was changed" in out


def test_overwrite(command: Command, bare_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    assert command(bare_clip, "-o", tmp_path / "out.mp4", "--overwrite")[0] == 0
    assert (tmp_path / "out.mp4").stat().st_size > 500


def test_a_profile_by_name(
    command: Command, profile: Profile, picture: Path, tmp_path: Path
) -> None:
    code, out, err = command(picture, "-o", tmp_path / "out.png", "--profile", profile.name)
    assert (code, err) == (0, "")
    assert "1 frame, 1 with invented faces" in out
    wanted = unmask_image(read_image(picture), Options(profile=profile.name))
    assert np.array_equal(read_image(tmp_path / "out.png"), wanted.image)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_backend_by_name(command: Command, picture: Path, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend)
    code, _, _ = command(
        picture, "-o", tmp_path / "out.png", "--report", tmp_path / "r.json",
        "--backend", backend, "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "r.json").read_text())["files"][0]["backend"].startswith(backend)


class Bad:
    """Files that are no videos, by name, in a folder of their own."""

    def __init__(self, folder: Path, clip: Path) -> None:
        self.folder, self.clip = folder, clip
        whole = clip.read_bytes()
        (folder / "empty.mp4").touch()
        (folder / "text.mp4").write_text("no video\n" * 50)
        (folder / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
        (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
        (folder / "head.mp4").write_bytes(whole[:64])
        (folder / "empty.png").touch()
        (folder / "text.jpg").write_text("no picture")
        (folder / "there.mp4").write_bytes(b"keep me")
        (folder / "folder.mp4").mkdir()
        self._sound(folder / "sound.mp4")

    def _sound(self, path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("aac", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()}


@pytest.fixture
def bad(tmp_path: Path, bare_clip: Path) -> Bad:
    return Bad(tmp_path, bare_clip)


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """One sentence, exit code 2, no traceback."""
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.mp4", "does not exist"),
        ("nothing.png", "does not exist"),
        ("empty.mp4", "is empty"),
        ("empty.png", "is empty"),
        ("text.mp4", "is not a video"),
        ("text.jpg", "is not a picture"),
        ("noise.mkv", "is not a video"),
        ("head.mp4", "no video stream"),
        ("cut.mp4", "is cut short"),
        ("sound.mp4", "has no video stream"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_a_bad_input(command: Command, bad: Bad, name: str, words: str) -> None:
    before = bad.files()
    target = bad.folder / f"out{Path(name).suffix}"
    answer = command(bad.folder / name, "-o", target, "--report", bad.folder / "r.json")
    refused(answer, name, words)
    after = bad.files()
    if name != "folder.mp4":  # that is refused before there is anything to report
        (said,) = json.loads(after.pop("r.json"))["files"]
        assert (said["status"], said["source"]) == ("failed", str(bad.folder / name))
        assert words in said["why"]
    assert after == before


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere/out.mp4", "nowhere does not exist"),
        ("there.mp4", "exists already"),
        ("folder.mp4", "is a folder"),
        ("out.xyz", "must end in"),
        ("out", "must end in"),
        ("out.png", "must end in"),
    ],
)
def test_a_bad_output(command: Command, bad: Bad, target: str, words: str) -> None:
    before = bad.files()
    refused(command(bad.clip, "-o", bad.folder / target), words)
    assert bad.files() == before


@pytest.mark.parametrize("option", ["--output", "--mask-output", "--preview-sheet", "--report"])
def test_the_input_is_never_written_over(command: Command, bad: Bad, option: str) -> None:
    clip = bad.folder / "mine.mp4"
    clip.write_bytes(bad.clip.read_bytes())
    before = bad.files()
    others = [] if option == "--output" else ["-o", bad.folder / "out.mp4"]
    answer = command(clip, *others, option, clip, "--overwrite")
    refused(answer, "the input" if option != "--preview-sheet" else "must end in")
    assert bad.files() == before


@pytest.mark.parametrize("option", ["--mask-output", "--preview-sheet", "--report"])
def test_extra_outputs_are_checked_before_the_work(command: Command, bad: Bad, option: str) -> None:
    before = bad.files()
    refused(command(bad.clip, "-o", bad.folder / "out.mp4", option, "nowhere/at.all"))
    refused(command(bad.clip, "-o", bad.folder / "x.mp4", option, bad.folder / "x.mp4"), "same")
    assert bad.files() == before


def test_extra_outputs_of_a_picture_are_checked_before_the_work(command: Command, bad: Bad) -> None:
    write_image(bad.folder / "in.png", np.zeros((40, 40, 3), np.uint8))
    before = bad.files()
    for option in ("--mask-output", "--preview-sheet"):
        answer = command(
            bad.folder / "in.png", "-o", bad.folder / "out.png", option, bad.folder / "m.mp4"
        )
        refused(answer, "must end in")
    assert bad.files() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "cartoon"], "no profile 'cartoon'; choose from portrait, paper"),
        (["--backend", "tensorflow"], "no backend 'tensorflow'"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--precision", "int4"], "no precision 'int4'; choose auto, fp32, bf16, int8."),
        (["--batch", "0"], "batch must be at least 1, not 0."),
        (["--latency=-1"], "latency must be 0 frames or more, not -1."),
        (["--look-ahead", "101"], "look_ahead must lie between 0 and 100, not 101"),
        (["--quality", "99"], "between 0 and 63"),
        (["--start=-1"], "'-1' is no time"),
        (["--start", "nan"], "'nan' is no time"),
        (["--end", "1:2:3:4"], "'1:2:3:4' is no time"),
        (["--start", "500"], "no frame between"),
        (["--end", "0"], "end must be later"),
        (["--start", "0:01", "--end", "1"], "end must be later"),
        (["--rate", "0"], "rate must lie between"),
        (["--lossless", "--quality", "20"], "nothing is lost"),
        (["--lossless", "--codec", "libsvtav1"], "without loss"),
        (["--pixel-format", "nonsense"], "takes no nonsense"),
        (["--preset", "snail"], "can't be used here"),
        (["--max-pixels", "100"], "more than 100 in all"),
        (["--encoder", "nonsense"], "no encoder nonsense"),
        (["--encoder", "aac"], "no encoder for video"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_a_bad_choice(command: Command, bad: Bad, options: list[str], words: str) -> None:
    before = bad.files()
    refused(command(bad.clip, "-o", bad.folder / "out.mp4", *options), words)
    assert bad.files() == before


@pytest.mark.parametrize(
    "arguments",
    [["in.mp4"], ["in.mp4", "-o"], ["in.mp4", "-o", "out.mp4", "--quality", "high"],
     ["in.mp4", "-o", "out.mp4", "--nonsense"], ["in.mp4", "in.mp4", "-o", "out.mp4"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_that_makes_no_sense(command: Command, arguments: list[str]) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert "Error" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help(command: Command, arguments: list[str]) -> None:
    code, out, _ = command(*arguments)
    assert code == 0
    for word in ("INPUT", "--output", "--mask-output", "--preview-sheet", "never use them to"):
        assert word in out


def test_version(command: Command) -> None:
    code, out, _ = command("--version")
    assert code == 0
    assert out.startswith("stream-unmask 0.")


def test_info(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("info")
    assert code == 0
    names = [f"{name}_segmenter" for name in PROFILES]
    for word in ("openvino", "CPU", "face_landmark", *names, "checksums fit"):
        assert word in out


def test_info_says_what_to_install(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    hint = "pip install 'stream-unmask[onnxruntime]'"
    for hidden in (False, True):
        if hidden:  # as if it weren't there
            monkeypatch.setitem(sys.modules, "onnxruntime", None)
        code, out, _ = command("info")
        assert code == 0
        assert (hint in out) == hidden


def test_batch_and_latency_are_passed_on(
    command: Command, bare_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[Options] = []

    def run(_: object, options: Options, **__: object) -> list[Report]:
        chosen.append(options)
        return []

    monkeypatch.setattr("stream_unmask.cli.unmask.run", run)
    command(bare_clip, "-o", tmp_path / "out.mp4", "--batch", 3, "--latency", 7)
    assert chosen == [Options(batch=3, latency=7)]


def test_what_is_not_chosen_is_as_in_python() -> None:
    given = inspect.signature(unmask).parameters
    shared = [field for field in fields(Options) if field.name in given]
    names = {field.name for field in shared}
    assert {"look_ahead", "batch", "latency", "smooth", "profile"} <= names
    assert all(given[field.name].default == field.default for field in shared)


def in_a_shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_unmask", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["nothing.mp4", "cut.mp4", "sound.mp4"])
def test_the_real_command_refuses_too(bad: Bad, name: str) -> None:
    before = bad.files()
    done = in_a_shell(bad.folder / name, "-o", bad.folder / "out.mp4")
    refused((done.returncode, done.stdout, done.stderr), name)
    assert bad.files() == before


def test_ctrl_c_keeps_no_output(example: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "stream_unmask", str(example), "-o", str(tmp_path / "out.mp4")],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_verify_reads_back_what_a_file_says(
    command: Command, picture: Path, tmp_path: Path
) -> None:
    pytest.importorskip("c2pa")
    code, _, err = command(picture, "-o", tmp_path / "out.png", "--sign")
    assert (code, err) == (0, "")
    code, out, _ = command("verify", tmp_path / "out.png")
    assert code == 0
    assert mark() in out
    assert "manifest is whole" in out
    data = bytearray((tmp_path / "out.png").read_bytes())
    data[-40] ^= 255  # in the picture's own data
    (tmp_path / "changed.png").write_bytes(data)
    code, out, _ = command("verify", tmp_path / "changed.png")
    assert code == 1
    assert "does not hold" in out
    code, out, _ = command("verify", picture)
    assert code == 0
    assert "no mark" in out
    refused(command("verify", tmp_path / "nothing.png"), "nothing.png")


def test_what_can_not_be_signed_is_refused_before_the_work(command: Command, bad: Bad) -> None:
    pytest.importorskip("c2pa")
    before = bad.files()
    refused(command(bad.clip, "-o", bad.folder / "out.mkv", "--sign"), "can't be signed")
    assert bad.files() == before
