"""Disturbed runs: nothing is lost, nothing half written has an output's name, nothing is left.

Each kind of disturbance a few times here, a hundred times by hand, which prints a table:

    python -m tests.test_faults --runs 100
    python -m tests.test_faults --runs 5 --kind sigkill --seed 7

The command runs in a process of its own: the real one ("real ..."), or, being faster, the same
code with a detector that finds no face, so that no engine has to be opened. What becomes of it is
always held against the same: the exit code, at most one sentence of error, no traceback, no thread,
the input and all other files as they were, outputs whole if the run says so, and otherwise absent
or as they were before.
"""

import argparse
import ctypes
import errno
import io
import itertools
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import av
import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FRAMES, FRAME_RATE = 100, 10  # ten seconds, against which the second that may be missing is little
RUNS = 2  # of each kind, unless more are asked for
_PATIENCE = 60.0  # seconds after which a run has come to a standstill
_PACE = 0.004  # seconds that a frame takes at least, so that there are moments to disturb
_LAST_SECOND = FRAME_RATE + 1  # frames that may be missing: files that end a little early are usual


# --- the process that is disturbed -----------------------------------------------------------


class _BadFile(io.FileIO):
    """A file on a bad disk: what is read beyond `at` fails, or it comes in little pieces."""

    def __init__(self, path: str, at: int | None, pieces: int | None) -> None:
        super().__init__(path)
        self._at, self._pieces = at, Random(pieces) if pieces is not None else None

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        size = size if size is not None and size > 0 else 1 << 16
        if self._at is not None:
            size = min(size, self._at - self.tell())
        if size <= 0:
            raise av.error.FFmpegError(errno.EIO, os.strerror(errno.EIO))
        return super().read(self._pieces.randint(1, size) if self._pieces else size) or b""


class _NoFace:
    """A landmarker, and a detector, of a world without people."""

    def __call__(self, image: Any, faces: Any = ()) -> tuple[()]:
        return ()

    def place(self, image: Any, faces: Any) -> tuple[()]:
        return ()


class _Lines:
    """Counts the lines that the main thread comes by where it matters; Ctrl-C comes at one.

    Each is counted once, however often it is come by. within: only those of a function.
    """

    def __init__(self, fatal: int | None, within: str | None) -> None:
        self.count, self._fatal, self._within = 0, fatal, within
        self._seen: set[tuple[str, int]] = set()

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        name = Path(file).name
        ours = "stream_unmask" in file and "/cli/" not in file
        if not ours and name not in ("contextlib.py", "threading.py", "queue.py"):
            return None
        if self._within not in (None, frame.f_code.co_name):
            return None
        if event == "line" and (file, frame.f_lineno) not in self._seen:
            self._seen.add((file, frame.f_lineno))
            self.count += 1
            if self.count == self._fatal:
                signal.raise_signal(signal.SIGINT)
        return self


def _give_up_privileges() -> None:
    """Nothing comes back; from now on even root may only read what the permissions say."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(header, none) != 0:
        raise OSError("capset")


def _child(plan: dict[str, Any], arguments: list[str]) -> None:
    """Runs the command with those arguments, says when it begins, and which threads it left."""
    from stream_unmask import cli, pipeline, prefetch, resume
    from stream_unmask.models.profile import PORTRAIT
    from stream_unmask.unmask import Networks

    @contextmanager
    def open_parts(options: Any) -> Iterator[pipeline.Parts]:
        networks = Networks(PORTRAIT, None, None, None)  # type: ignore[arg-type]
        yield pipeline.Parts(_NoFace(), _NoFace(), networks, "none")  # type: ignore[arg-type]

    @contextmanager
    def slow(source: Any, size: int) -> Iterator[Iterator[Any]]:
        with usual_prefetch(source, size) as items:
            yield map(take_time, items, itertools.count(1))

    def take_time(item: Any, number: int) -> Any:
        time.sleep(_PACE)
        if number == plan.get("interrupt"):
            signal.raise_signal(signal.SIGINT)
        if number == plan.get("shorten"):
            path = Path(arguments[0])
            os.truncate(path, path.stat().st_size * 2 // 3)
        return item

    usual_prefetch = prefetch.prefetch
    for module in [m for n, m in sys.modules.items() if n.startswith("stream_unmask.")]:
        if hasattr(module, "open_parts"):
            module.open_parts = open_parts  # type: ignore[attr-defined]
        if getattr(module, "prefetch", None) is usual_prefetch:
            module.prefetch = slow  # type: ignore[attr-defined]
    if "segments" in plan:
        resume.unmask_resumably.__kwdefaults__["seconds"] = plan["segments"]
    usual = av.open

    def bad_disk(file: Any, mode: str = "r", **options: Any) -> Any:
        if mode == "r" and file == f"file:{plan['source']}":
            file = _BadFile(plan["source"], plan.get("at"), plan.get("pieces"))
        return usual(file, mode, **options)

    if "source" in plan:
        av.open = bad_disk
        traceback.print_exception = lambda *_, **__: None  # PyAV's, of a second error on the way
    if "humble" in plan:
        _give_up_privileges()
    sys.argv = ["stream-unmask", *arguments]
    lines = _Lines(plan.get("line"), plan.get("within"))
    with os.fdopen(plan["tell"], "w") as tell:
        print("ready", file=tell, flush=True)
        try:
            if "line" in plan:
                sys.settrace(lines)
            cli.main()
        finally:
            sys.settrace(None)
            others = set(threading.enumerate()) - {threading.main_thread()}
            facts = {"threads": [thread.name for thread in others], "lines": lines.count}
            print(json.dumps(facts), file=tell, flush=True)


# --- what it works on, and what must become of it --------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a run.

    threads: the names of those it left, None if it did not get to say. lines: that it came by.
    """

    code: int
    err: str
    threads: list[str] | None = None
    lines: int = 0


class Run:
    """A run on its way."""

    def __init__(
        self, arguments: list[object], plan: dict[str, Any], real: bool, stdout: Any = None
    ) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._heard, tell = os.pipe()
        child = ["tests.test_faults", "--child", json.dumps(plan | {"tell": tell})]
        module = ["stream_unmask"] if real else child
        self.process = subprocess.Popen(
            [sys.executable, "-m", *module, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=subprocess.PIPE, pass_fds=[tell], cwd=ROOT, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        os.close(tell)
        if not real:
            self._read_line()
        self.began = time.monotonic()

    def _read_line(self) -> str:
        """What the process says next, empty if it has ended."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._heard], [], [], _PATIENCE)
            assert ready, "it came to a standstill"
            piece = os.read(self._heard, 1)
            if not piece:
                break
            line += piece
        return line.decode()

    def limit(self, size: int) -> None:
        """Nothing comes back; from now on no file may grow beyond so many bytes."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, size))

    def send(self, what: signal.Signals) -> None:
        """Nothing comes back; it has the signal, if it still runs."""
        self.process.send_signal(what)

    def end(self) -> Done:
        """How it ended."""
        try:
            _, said = self.process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("it came to a standstill") from None
        last = self._read_line()
        os.close(self._heard)
        return Done(self.process.returncode, said, **(json.loads(last) if last.strip() else {}))


@cache
def clips() -> Path:
    """A folder with the inputs: noise, of which an encoder makes a lot of bytes, with sound."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    for name in ("in.mp4", "in.mkv", "in.ts"):
        _make_clip(folder / name)
    noise = np.random.default_rng(2).integers(0, 255, (120, 160, 3), np.uint8)
    cv2.imwrite(str(folder / "in.png"), noise)
    return folder


def _make_clip(path: Path) -> None:
    rng = np.random.default_rng(1)
    # With the index up front, as on the web: what is read late is found to be missing late.
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", container_options=options) as container:
        stream: Any = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "24", "g": "10"}
        sound: Any = container.add_stream("aac", rate=48000, layout="mono")
        for index in range(FRAMES):
            image = np.full((96, 128, 3), 60, np.uint8)
            image[16:80, index % 64 :][:, :64] = rng.integers(0, 255, (64, 64, 3))
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
            tone = (8000 * np.sin(np.arange(4800) / 9)).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
            heard.sample_rate, heard.pts = 48000, index * 4800
            heard.time_base = Fraction(1, 48000)
            container.mux(sound.encode(heard))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))


@dataclass
class Bench:
    """A folder with an input and other files, and what a run on it is to make.

    outputs: all that it makes, the video first. old: what stood there before, by path.
    """

    folder: Path
    rng: Random
    real: bool = False
    source: Path = Path()
    outputs: list[Path] = field(default_factory=list)
    options: list[object] = field(default_factory=list)
    old: dict[Path, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "notes.txt").write_text("mine")
        (self.folder / "another.part.mp4").write_bytes(b"synthesised by nobody")
        (self.folder / "results").mkdir()

    def put(self, name: str) -> Path:
        """The input of that name, which is now in the folder."""
        self.source = self.folder / name
        shutil.copyfile(clips() / name, self.source)
        return self.source

    def prepare(self, *, extras: bool | None = None, folder: Path | None = None) -> None:
        """Nothing comes back; input and outputs are chosen."""
        rng = self.rng
        self.put(rng.choice(("in.mp4", "in.mkv", "in.ts")))
        folder = folder or self.folder / "results"
        suffix = rng.choice((".mp4", ".mp4", ".mov", ".mkv", ".webm"))
        self.outputs = [folder / f"out{suffix}"]
        if rng.random() < 0.4 if extras is None else extras:
            self.outputs += [folder / "map.mp4", folder / "sheet.png", folder / "report.json"]
            names = ("--mask-output", "--preview-sheet", "--report")
            for name, path in zip(names, self.outputs[1:], strict=True):
                self.options += [name, path]
        self.old = self.snapshot()

    def snapshot(self) -> dict[Path, bytes]:
        """All files and their bytes."""
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def start(self, *options: object, stdout: Any = None, **plan: Any) -> Run:
        """A run of the command on it."""
        target = "-" if stdout is not None else self.outputs[0]
        return Run([self.source, "-o", target, *self.options, *options], plan, self.real, stdout)

    def judge(self, done: Done, *codes: int, frames: int = FRAMES, parts: bool = False) -> None:
        """AssertionError unless all is as it must be after such an end.

        frames: how many a whole output has at the least. parts: whether they may be left.
        """
        assert done.code in codes, done
        assert "Traceback" not in done.err, done.err
        assert "Exception ignored" not in done.err, done.err
        errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
        allowed = 1 + ("--report" in self.options)  # which may be what can't be written, too
        assert (done.code == 2) <= len(errors) <= (done.code == 2) * allowed, done
        interrupted = "Interrupted" in done.err
        if done.code == -signal.SIGINT:  # Python's own end: Ctrl-C while it looked at a string
            done = replace(done, code=130 if interrupted else 0)
        assert interrupted == (done.code == 130), done
        if done.code != -signal.SIGKILL and not self.real:
            assert done.threads == []
        now = self.snapshot()
        for path, data in self.old.items():
            if path not in self.outputs:
                assert path in now, f"{path.name} is gone"
                assert now[path] == data, f"{path.name} was changed"
        for path in self.outputs:
            if path.suffix == ".json":
                whole_report(path)
            elif done.code == 0:
                whole(path, frames, f"of {self.source.name}: {done}")
            elif now.get(path) != self.old.get(path):  # Ctrl-C came after it had its name
                assert done.code == 130, f"{path.name} was touched: {done}"
                whole(path, frames, f"of {self.source.name}: {done}")
        stray = set(now) - set(self.old) - set(self.outputs)
        allowed = {part_of(path) for path in self.outputs} if parts else set()
        assert stray <= allowed, f"{sorted(path.name for path in stray - allowed)} was left: {done}"


def part_of(path: Path) -> Path:
    """The name under which an output is written."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def played(path: Path) -> int:
    """How many pictures can be decoded."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def whole(path: Path, frames: int = FRAMES, why: str = "") -> None:
    """AssertionError unless the output has all it must have."""
    assert path.is_file(), f"there is no {path.name}"
    if path.suffix in (".png", ".jpg", ".webp"):
        assert cv2.imread(str(path)) is not None, f"{path.name} can't be read"
    else:
        assert frames <= played(path) <= FRAMES, f"{path.name} has {played(path)} pictures {why}"


def whole_report(path: Path) -> None:
    """AssertionError if there is a report that is none; one that is not there is none, too."""
    if path.exists():
        json.loads(path.read_text())


@cache
def usual_seconds(real: bool) -> float:
    """How long an undisturbed run takes."""
    with workbench(Random(0), real) as bench:
        bench.prepare(extras=False)
        begun = bench.start()
        done = begun.end()
        assert done.code == 0, done
        return time.monotonic() - begun.began


@contextmanager
def workbench(rng: Random, real: bool = False) -> Iterator[Bench]:
    """A bench that is cleared away."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Bench(Path(folder), rng, real)


def pause(bench: Bench, begin: float = 0.0, end: float = 1.05) -> None:
    """Nothing comes back until some moment of the run."""
    time.sleep(bench.rng.uniform(begin, end) * usual_seconds(bench.real))


# --- the kinds of disturbance ----------------------------------------------------------------


def read_error(bench: Bench) -> None:
    """The disk fails somewhere in the input: a sentence, or but a second is lost and that told."""
    bench.prepare()
    size = bench.source.stat().st_size
    at = bench.rng.randint(0, size)
    done = bench.start(source=str(bench.source), at=at).end()
    bench.judge(done, 0, 2, frames=FRAMES - _LAST_SECOND)
    if done.code == 0 and played(bench.outputs[0]) < FRAMES:
        assert "could not be read to its end" in done.err, f"{done}, at {at} of {size}"


def short_reads(bench: Bench) -> None:
    """The input comes in pieces of any size: the output is as if it had not."""
    bench.prepare()
    bench.judge(bench.start(source=str(bench.source), pieces=bench.rng.randint(0, 9999)).end(), 0)


def shrinking_input(bench: Bench) -> None:
    """The input loses its end while it is read: a sentence, or all of it but for a second."""
    bench.prepare()
    run = bench.start()
    # Before it is opened, a stream without a header is a shorter one.
    while run.process.poll() is None and not part_of(bench.outputs[0]).exists():
        time.sleep(0.001)
    pause(bench, 0, 0.75)
    share = bench.rng.uniform(0, 0.9)
    os.truncate(bench.source, int(bench.source.stat().st_size * share))
    bench.old[bench.source] = bench.source.read_bytes()
    bench.judge(run.end(), 0, 2, frames=FRAMES - _LAST_SECOND)


def forbidden(bench: Bench) -> None:
    """The user may not read the input, or what is in its folder, or write where the output goes."""
    bench.prepare(extras=False)
    what = bench.rng.choice(("input", "its folder", "results"))
    if what == "its folder":
        (bench.folder / "hidden").mkdir()
        bench.source = bench.source.rename(bench.folder / "hidden" / bench.source.name)
        bench.old = bench.snapshot()
    paths = {"input": bench.source, "results": bench.outputs[0].parent}
    hidden = paths.get(what, bench.source.parent)
    hidden.chmod(0)
    done = bench.start(humble=True).end()
    hidden.chmod(0o700)
    bench.judge(done, 2)


def file_too_large(bench: Bench) -> None:
    """No file may grow beyond a limit: as on a full disk, but on any."""
    bench.prepare()
    run = bench.start()
    run.limit(int(2 ** bench.rng.uniform(6, 19)))
    bench.judge(run.end(), 0, 2)


def disk_full(bench: Bench) -> None:
    """The outputs' disk is too small."""
    with small_disk(bench.folder / "disk", int(2 ** bench.rng.uniform(13, 20))) as disk:
        bench.prepare(folder=disk)
        bench.judge(bench.start().end(), 0, 2)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system in memory that holds so many bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_pipe(bench: Bench) -> None:
    """What is written to the standard output has nowhere to go."""
    bench.prepare(extras=False)
    bench.outputs = []
    with Path("/dev/full").open("wb") as stdout:
        done = bench.start(stdout=stdout).end()
    bench.judge(done, 2)
    assert "No space left" in done.err


def closed_pipe(bench: Bench) -> None:
    """Who reads the standard output goes away."""
    bench.prepare(extras=False)
    bench.outputs = []
    run = bench.start(stdout=subprocess.PIPE)
    assert run.process.stdout is not None
    with run.process.stdout as pipe:
        os.read(pipe.fileno(), bench.rng.randint(1, 60_000))
    run.process.stdout = None
    bench.judge(run.end(), 0, 2)


def folder_gone(bench: Bench) -> None:
    """The outputs' folder is deleted during the run: a sentence; it is not made anew."""
    bench.prepare()
    folder = bench.outputs[0].parent
    run = bench.start()
    pause(bench)
    gone = not any(path.exists() for path in bench.outputs[:1])
    while folder.exists():  # a file may appear in it on the way
        shutil.rmtree(folder, ignore_errors=True)
    done = run.end()
    bench.outputs = []
    bench.judge(done, *((0, 2) if not gone or done.code == 0 else (2,)))
    assert not folder.exists()


def sigint(bench: Bench) -> None:
    """Ctrl-C."""
    bench.prepare()
    run = bench.start()
    pause(bench)
    run.send(signal.SIGINT)
    bench.judge(run.end(), 0, 130, -signal.SIGINT)


def sigint_again(bench: Bench) -> None:
    """Ctrl-C by an impatient hand."""
    bench.prepare()
    run = bench.start()
    pause(bench)
    for _ in range(3):
        run.send(signal.SIGINT)
        time.sleep(bench.rng.uniform(0, 0.05))
    bench.judge(run.end(), 0, 130, -signal.SIGINT)


def sigint_at_a_line(bench: Bench) -> None:
    """Ctrl-C where it hurts: between two lines of the code that holds threads and files."""
    bench.prepare()
    done = bench.start(line=bench.rng.randint(1, lines_to_go())).end()
    bench.judge(done, 0, 130)


@cache
def lines_to_go() -> int:
    """How many such lines an undisturbed run comes by."""
    with workbench(Random(0)) as bench:
        bench.prepare(extras=True)
        return bench.start(line=0).end().lines


def sigkill(bench: Bench) -> None:
    """The process dies: a part may be left, which the next run replaces."""
    bench.prepare()
    run = bench.start()
    pause(bench)
    run.send(signal.SIGKILL)
    done = run.end()
    if done.code == 0:
        bench.judge(done, 0)
        return
    for path in bench.outputs:  # of several, some may have been finished; none half
        if path.exists():
            whole_report(path) if path.suffix == ".json" else whole(path)
    finished = [path for path in bench.outputs if path.exists()]
    unfinished, bench.outputs = bench.outputs, [p for p in bench.outputs if p not in finished]
    stray = set(bench.snapshot()) - set(bench.old) - set(finished)
    assert stray <= {part_of(path) for path in unfinished}, stray
    bench.outputs = unfinished
    bench.judge(bench.start(*(["--overwrite"] if finished else [])).end(), 0)


def sigkill_of_a_batch(bench: Bench) -> None:
    """A batch dies, and is taken up again: in the end all is there, and nothing else."""
    inputs = [bench.put(name) for name in ("in.mp4", "in.mkv", "in.png")]
    bench.old = bench.snapshot()
    results = bench.folder / "results"
    bench.outputs = [results / path.name for path in inputs]
    arguments = [*inputs, "--output-dir", results, "--resume"]
    run = Run(arguments, {}, bench.real)
    pause(bench, end=2.1)
    run.send(signal.SIGKILL)
    run.end()
    for path in bench.outputs:
        if path.exists():
            whole(path)
    bench.judge(Run(arguments, {}, bench.real).end(), 0)


def resumed(bench: Bench) -> None:
    """A run in segments is killed, now and then, and taken up until it is done."""
    bench.put(bench.rng.choice(("in.mp4", "in.mkv")))
    bench.outputs = [bench.folder / "results" / bench.rng.choice(("out.mp4", "out.mkv"))]
    bench.old = bench.snapshot()
    for _ in range(2):
        run = bench.start("--resume", segments=3.0)
        pause(bench, end=2.0)
        run.send(bench.rng.choice((signal.SIGKILL, signal.SIGINT)))
        done = run.end()
        if done.code == 0:
            break
        if done.code in (130, -signal.SIGINT):
            assert "Traceback" not in done.err, done.err
        if bench.outputs[0].exists():  # the signal came when all but the tidying was done
            assert pictures(bench.outputs[0]) == undisturbed(
                bench.source.name, bench.outputs[0].name
            )
            return
    else:
        done = bench.start("--resume", segments=3.0).end()
    bench.judge(done, 0)
    assert {path.name for path in bench.outputs[0].parent.iterdir()} == {bench.outputs[0].name}
    assert pictures(bench.outputs[0]) == undisturbed(bench.source.name, bench.outputs[0].name)


def pictures(path: Path) -> list[bytes]:
    """The packets of the picture."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@cache
def undisturbed(source: str, target: str) -> list[bytes]:
    """The same of a run in segments that nothing has disturbed."""
    with workbench(Random(0)) as bench:
        bench.put(source)
        bench.outputs = [bench.folder / "results" / target]
        done = bench.start("--resume", segments=3.0).end()
        assert done.code == 0, done
        return pictures(bench.outputs[0])


def keep_partial(bench: Bench) -> None:
    """Ctrl-C with --keep-partial: what was done plays, and is gone after the next whole run."""
    bench.prepare(extras=False)
    done = bench.start("--keep-partial", interrupt=bench.rng.randint(90, FRAMES)).end()
    bench.judge(done, 130, parts=True)
    assert 0 < played(part_of(bench.outputs[0])) <= FRAMES
    bench.judge(bench.start("--keep-partial").end(), 0)


def overwrite(bench: Bench) -> None:
    """Whatever disturbs it: what is to be replaced is whole, the old or the new."""
    bench.prepare()
    for path in bench.outputs:
        path.write_bytes(b"{}")
    bench.old = bench.snapshot()
    how = bench.rng.choice(("limit", signal.SIGINT, signal.SIGKILL))
    run = bench.start("--overwrite")
    if isinstance(how, signal.Signals):
        pause(bench)
        run.send(how)
    else:
        run.limit(int(2 ** bench.rng.uniform(6, 19)))
    done = run.end()
    if done.code == -signal.SIGKILL:
        for path in bench.outputs:
            if path.suffix == ".json":
                whole_report(path)
            elif path.read_bytes() != b"{}":
                whole(path)
    else:
        bench.judge(done, 0, 2, 130, -signal.SIGINT)


def picture_too_large(bench: Bench) -> None:
    """A picture meets the limit."""
    bench.put("in.png")
    suffix = bench.rng.choice((".png", ".jpg", ".webp"))
    bench.outputs = [bench.folder / "results" / f"out{suffix}"]
    bench.old = bench.snapshot()
    run = bench.start()
    run.limit(int(2 ** bench.rng.uniform(6, 16)))
    bench.judge(run.end(), 0, 2)


KINDS: dict[str, Callable[[Bench], None]] = {
    kind.__name__: kind
    for kind in (
        *(read_error, short_reads, shrinking_input, forbidden, file_too_large, disk_full),
        *(full_pipe, closed_pipe, folder_gone, sigint, sigint_again, sigint_at_a_line),
        *(sigkill, sigkill_of_a_batch),
        *(resumed, keep_partial, overwrite, picture_too_large),
    )
}
REAL = ("file_too_large", "sigint", "sigkill")  # with the engines, too


@pytest.mark.parametrize("number", range(RUNS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_disturbed_run(kind: str, number: int) -> None:
    with workbench(Random(f"{kind}/1/{number}")) as bench:
        KINDS[kind](bench)


# --- what was found, each alone --------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Random(0))


def set_up(bench: Bench, name: str, *outputs: str) -> None:
    """Nothing comes back; the bench has that input, and is to make these outputs."""
    bench.put(name)
    bench.outputs = [bench.folder / "results" / output for output in outputs]
    for option, path in zip(("--mask-output", "--preview-sheet"), bench.outputs[1:], strict=False):
        bench.options += [option, path]
    bench.old = bench.snapshot()


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts"])
def test_the_standard_output_is_a_whole_video(bench: Bench, name: str) -> None:
    set_up(bench, name)
    copy = bench.folder / "copy.mkv"
    with (  # through a pipe, in which nobody can go back
        copy.open("wb") as stdout,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stdout) as cat,
    ):
        done = bench.start(stdout=cat.stdin).end()
    bench.outputs = [copy]
    bench.judge(done, 0)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_an_indexed_video_that_breaks_off_is_refused(bench: Bench, share: float) -> None:
    set_up(bench, "in.mp4", "out.mp4")
    at = int(bench.source.stat().st_size * share)
    bench.judge(bench.start(source=str(bench.source), at=at).end(), 2)


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts"])
def test_an_input_that_loses_its_end_on_the_way_is_refused(bench: Bench, name: str) -> None:
    set_up(bench, name, "out.mp4")
    done = bench.start(shorten=3).end()
    bench.old[bench.source] = bench.source.read_bytes()
    bench.judge(done, 2)


@pytest.mark.parametrize("line", [1, 5, 9, 11])
def test_ctrl_c_while_a_thread_starts(bench: Bench, line: int) -> None:
    """Its starter waits for it: a moment long enough to be met, in which nobody holds it yet."""
    set_up(bench, "in.mp4", "out.mp4")
    bench.judge(bench.start(line=line, within="wait").end(), 130)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_several_outputs_all_are_made_or_none(bench: Bench, suffix: str) -> None:
    """The disk is full when the map is finished, not the video; when only the sheet is not."""
    set_up(bench, "in.mp4", f"out{suffix}", "map.mp4", "sheet.png")
    bench.judge(bench.start().end(), 0)
    video, shown, sheet = (path.stat().st_size for path in bench.outputs)
    assert shown < video < sheet
    for limit in ((shown + video) // 2, (video + sheet) // 2):
        for path in bench.outputs:
            path.unlink(missing_ok=True)
        run = bench.start()
        run.limit(limit)
        bench.judge(run.end(), 2)


@pytest.mark.parametrize(
    ("name", "output"), [("in.mp4", "out.mp4"), ("in.mkv", "out.mov"), ("in.ts", "out.mov")]
)
def test_a_part_without_its_index_is_replaced(bench: Bench, name: str, output: str) -> None:
    """A run is killed when its file has a beginning, and not yet the mark."""
    set_up(bench, name, output)
    run, part = bench.start(), part_of(bench.outputs[0])
    while run.process.poll() is None:
        with suppress(FileNotFoundError):  # whether there can be one is tried out before
            if part.stat().st_size:
                run.send(signal.SIGKILL)
                break
    assert run.end().code == -signal.SIGKILL
    assert part.stat().st_size > 0
    bench.judge(bench.start().end(), 0)


def test_half_a_picture_is_replaced(bench: Bench) -> None:
    """A copied picture holds no mark by which a part of it could be known."""
    set_up(bench, "in.png", "out.png")
    data = bench.source.read_bytes()
    part_of(bench.outputs[0]).write_bytes(data[: len(data) // 2])
    bench.judge(bench.start().end(), 0)


@pytest.mark.parametrize("before", [None, '{"old": true}'])
def test_a_report_is_whole_or_as_it_was(bench: Bench, before: str | None) -> None:
    bench.put("in.png")
    cv2.imwrite(str(bench.source), np.zeros((8, 8, 3), np.uint8))
    report = bench.folder / "report.json"
    if before is not None:
        report.write_text(before)
    bench.outputs = [bench.folder / "results" / "out.png"]
    bench.old = bench.snapshot()
    run = bench.start("--report", report, "--overwrite")
    run.limit(500)  # the picture is smaller, what is said of it is not
    done = run.end()
    assert done.code == 2, done
    assert "report.json can't be written" in done.err
    assert (report.read_text() if report.exists() else None) == before


@pytest.mark.parametrize("where", ["input", "output", "picture", "report", "batch"])
def test_a_name_that_is_too_long_is_one_sentence(bench: Bench, where: str) -> None:
    long = "a" * 300
    set_up(bench, "in.mp4", "out.mp4")
    if where in ("input", "batch"):
        bench.source = bench.folder / f"{long}.mp4"
    elif where == "picture":
        bench.source = bench.folder / f"{long}.png"
    elif where == "output":
        bench.outputs = [bench.folder / f"{long}.mp4"]
    else:
        bench.options += ["--report", bench.folder / f"{long}.json"]
    arguments = [bench.source, "-o", bench.outputs[0], *bench.options]
    if where == "batch":
        arguments[1:3] = ["--output-dir", bench.folder / "results"]
    done = Run(arguments, {}, False).end()
    bench.outputs = []
    bench.judge(done, 2)


def test_a_file_that_can_not_be_read_does_not_stop_the_others(bench: Bench) -> None:
    paths = [bench.put("in.mp4"), bench.put("in.mkv")]
    results = bench.folder / "results"
    bench.old = bench.snapshot()
    paths[0].chmod(0)
    done = Run([*paths, "--output-dir", results], {"humble": True}, False).end()
    paths[0].chmod(0o600)
    assert done.code == 1, done
    assert done.err.count("Error: ") == 1
    whole(results / "in.mkv")
    assert {path.name for path in results.iterdir()} == {"in.mkv"}


def test_with_keep_partial_nobody_says_that_nothing_was_kept(bench: Bench) -> None:
    set_up(bench, "in.mp4", "out.mp4")
    done = bench.start("--keep-partial", interrupt=FRAMES).end()
    assert part_of(bench.outputs[0]).exists()
    assert "no output was kept" not in done.err


def main() -> int:
    """The exit code: 0 if all went well. Prints a table of how often each kind did."""
    if sys.argv[1:2] == ["--child"]:
        _child(json.loads(sys.argv[2]), sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--real", action="store_true", help="with the engines; slower")
    chosen = parser.parse_args()
    failures = 0
    for kind in chosen.kind or KINDS:
        begin, failed = time.monotonic(), 0
        for number in range(chosen.runs):
            seed = f"{kind}/{chosen.seed}/{number}"
            try:
                with workbench(Random(seed), chosen.real) as bench:
                    KINDS[kind](bench)
            except Exception:
                failed += 1
                print(f"{seed}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        seconds = time.monotonic() - begin
        print(f"{kind:20} {chosen.runs} runs, {failed} failed, {seconds:.0f} s", flush=True)
        failures += failed
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
