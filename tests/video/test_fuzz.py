"""Spoiled files: the reader and the writer refuse them in a sentence, or make the best of them.

Some are spoiled here, always the same. More by hand, others with another seed:

    python -m tests.video.test_fuzz --cases 2000 --seed 7

which also prints what becomes of each kind of trouble; `--case 123` does one alone, `--keep FOLDER`
keeps the files that made trouble. A case goes through the reader (all frames, seen as RGB) and
through the reader and the writer (some with labels on); pictures are read and saved. It fails if
anything but an UnmaskError comes out, or one that is no sentence, if the process dies, comes to a
standstill or takes more than 2 GiB, if a file is left under the output's name after an error, or a
`.part` at all, if the output does not hold as many pictures as were written, if a thread or an open
file is left.
"""

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.video.faults import FOUND, Finding, Order, case, make_seeds

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT.parent / "shared" / "data" / "containers"
CASES, SEED = 300, 1
_BATCH = 50  # cases that share a process
_PATIENCE = 20.0  # seconds of work for a case
_WAIT = 90.0  # seconds in all, on a machine that is busy with other things
_LARGEST = 120_000  # bytes of a file that is borrowed: the others are long clips


def hunt(
    order: Order, patience: float = _PATIENCE, wait: float = _WAIT, batch: int = _BATCH
) -> Iterator[Finding | int | str]:
    """The number of each case as it begins, what became of it, and all that goes wrong.

    patience: seconds of work that a case may take; wait: seconds in all, on a busy machine. A
    process that dies or stands still is replaced, and goes on with the next case.
    """
    begin = order.begin
    while begin < order.end:
        part = replace(order, begin=begin, end=min(begin + batch, order.end))
        begin = part.end
        for event in _process(part, patience, wait):
            yield event
            if isinstance(event, Finding) and event.kind in ("crash", "hang"):
                begin = event.case + 1


def _process(order: Order, patience: float, wait: float) -> Iterator[Finding | int | str]:
    """One process's share; its last event is a crash or a hang if it did not come to its end."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.video.faults"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SVT_LOG": "1"}
    current = order.begin
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [*command, json.dumps(asdict(order))],
            stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL, cwd=ROOT,
            env=environment,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        pipe, rest = process.stdout.fileno(), b""
        since, spent = time.monotonic(), 0.0
        while True:
            ready, _, _ = select.select([pipe], [], [], 0.5)
            if not ready:
                work = _seconds_of_work(process.pid) - spent
                if work > patience or time.monotonic() - since > wait:
                    process.kill()
                    yield Finding(current, "hang", f"{work:.0f} seconds of work")
                    return
                continue
            piece = os.read(pipe, 1 << 16)
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            for event in map(json.loads, lines):
                if "kind" in event:
                    yield Finding(**event)
                elif "came" in event:
                    yield event["came"]
                else:
                    current = event["case"]
                    since, spent = time.monotonic(), _seconds_of_work(process.pid)
                    yield current
        if process.wait() != 0:
            said.seek(0)
            last = said.read().decode(errors="replace")[-2000:]
            yield Finding(current, "crash", f"exit code {process.returncode}\n{last}")


def _seconds_of_work(process: int) -> float:
    """What it has taken of the processors."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def borrow(folder: Path) -> None:
    """Nothing comes back; the small files of the shared folder are among the seeds."""
    for path in sorted(CONTAINERS.glob("*")):
        if path.stat().st_size <= _LARGEST:
            (folder / path.name).write_bytes(path.read_bytes())


def prepared(folder: Path, seed: int, begin: int, end: int, *, shared: bool = True) -> Order:
    """The order for these cases, its folders made and filled."""
    seeds, work = folder / "seeds", folder / "work"
    for path in (seeds, work):
        path.mkdir()
    make_seeds(seeds)
    if shared:
        borrow(seeds)
    return Order(str(seeds), str(work), seed, begin, end)


def test_spoiled_files_make_no_trouble(tmp_path: Path) -> None:
    order = prepared(tmp_path, SEED, 0, CASES, shared=False)
    events = list(hunt(order))
    assert [event for event in events if isinstance(event, Finding)] == []
    came = Counter(event for event in events if isinstance(event, str))
    for subject in ("read", "copy"):  # what is spoiled beyond recognition would prove little
        assert came[f"{subject} done"] > 0.3 * CASES
        assert came[f"{subject} refused"] > 0.1 * CASES
    assert [event for event in events if isinstance(event, int)] == list(range(CASES))


def test_what_was_found_once_is_not_found_again(tmp_path: Path) -> None:
    order = prepared(tmp_path, SEED, -len(FOUND), 0, shared=False)
    assert [event for event in hunt(order) if isinstance(event, Finding)] == []


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    order = prepared(tmp_path, SEED, 0, 40, shared=False)
    first, again = ([case(order, number)[1] for number in range(40)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 40
    originals = [path.read_bytes() for path in Path(order.seeds).iterdir()]
    assert not set(first) & set(originals)
    other = replace(order, seed=SEED + 1)
    assert case(other, 0)[1] != first[0]


@pytest.mark.parametrize(
    ("subject", "kind", "word"),
    [
        ("crash", "crash", "exit code -6"),
        ("hang", "hang", "seconds of work"),
        ("raise_", "error", "IndexError: list index out of range"),
        ("litter", "file", "left out.mp4"),
        ("bloat", "memory", "MiB"),
    ],
)
def test_the_fuzzer_notices(tmp_path: Path, subject: str, kind: str, word: str) -> None:
    """Cases that go wrong are named each, and the next ones are tried all the same."""
    order = replace(prepared(tmp_path, SEED, 3, 5, shared=False), subject=subject)
    order = replace(order, memory=order.memory if kind != "memory" else 400 << 20)
    events = list(hunt(order, wait=2.0 if kind == "hang" else _WAIT))
    found = [event for event in events if isinstance(event, Finding)]
    assert [(finding.case, finding.kind) for finding in found] == [(3, kind), (4, kind)]
    assert all(word in finding.what for finding in found)


def main() -> int:
    """The exit code: 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--own", action="store_true", help="without the files of ../shared")
    parser.add_argument("--keep", type=Path, help="where files that make trouble go")
    chosen = parser.parse_args()
    begin, end = chosen.first, chosen.first + chosen.cases
    if chosen.case is not None:
        begin, end = chosen.case, chosen.case + 1
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    order = prepared(folder, chosen.seed, begin, end, shared=not chosen.own)
    kinds: Counter[str] = Counter()
    came: Counter[str] = Counter()
    for event in hunt(order):
        if isinstance(event, int):
            if event % 100 == 0:
                print(f"case {event}", file=sys.stderr, flush=True)
            continue
        if isinstance(event, str):
            came[event] += 1
            continue
        kinds[event.kind] += 1
        suffix, data, _ = case(order, event.case)
        print(f"seed {order.seed}, case {event.case} ({suffix}): {event.kind}\n{event.what}\n")
        if chosen.keep is not None:
            chosen.keep.mkdir(parents=True, exist_ok=True)
            (chosen.keep / f"{order.seed}-{event.case}{suffix}").write_bytes(data)
    shutil.rmtree(folder)
    print(f"{end - begin} cases: {dict(kinds) or 'no trouble'}; {dict(sorted(came.items()))}")
    return bool(kinds)


if __name__ == "__main__":
    sys.exit(main())
