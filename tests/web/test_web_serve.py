"""`stream-unmask serve` as a command: how it begins, refuses and ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stream_unmask.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds


@contextmanager
def command(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and the address that it says; its files are in the folder."""
    running = subprocess.Popen(
        [sys.executable, "-m", "stream_unmask", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder), "STREAM_UNMASK_TOKEN": ""},
    )  # fmt: skip
    try:
        assert running.stdout is not None
        said = running.stdout.readline()
        found = re.fullmatch(r"Serving (\S+) \(Ctrl-C ends it\)\.\n", said)
        assert found is not None, said
        yield running, found[1]
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_and_leaves_nothing(example: Path, tmp_path: Path, how: signal.Signals) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn", reason="the `web` extra is not installed")
    with command(tmp_path) as (running, address), ExitStack() as stack:
        visitor = stack.enter_context(httpx.Client(base_url=address, timeout=PATIENCE))
        with example.open("rb") as file:
            job = visitor.post("/jobs", files={"file": file}).json()
        assert job["state"] == "running"
        assert [*tmp_path.rglob("source")] != []
        events = stack.enter_context(visitor.stream("GET", f"/jobs/{job['id']}/events"))
        next(events.iter_lines())
        begin = time.monotonic()
        running.send_signal(how)
        out, err = running.communicate(timeout=PATIENCE)
        assert time.monotonic() - begin < 30
    assert err == ""
    assert [*tmp_path.iterdir()] == []
    if how == signal.SIGINT:
        assert (running.returncode, out) == (0, "Stopped; all files are deleted.\n")
    else:
        assert running.returncode in (0, -how)


def test_a_token_is_part_of_the_address(tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn", reason="the `web` extra is not installed")
    token = "a token & more: 16"
    with command(tmp_path, "--host", "0.0.0.0", "--token", token) as (_, address):
        address = address.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as visitor:
            assert visitor.get(address.split("?")[0]).status_code == 401
            assert "stream-unmask" in visitor.get(address).text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), "give them a --token"),
        (("--host", "0.0.0.0", "--token", "short"), "at least 16 characters"),
        (("--host", "no.such.host.invalid", "--token", "x" * 16), "can't be listened on"),
        (("--max-jobs", "0"), "at least 1"),
        (("--port", "{taken}"), "can't be listened on"),
    ],
)
def test_what_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    pytest.importorskip("uvicorn", reason="the `web` extra is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [argument.replace("{taken}", port) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["stream-unmask", "serve", *given])
        with pytest.raises(SystemExit) as end:
            main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(sys, "argv", ["stream-unmask", "serve"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "pip install 'stream-unmask[web]'" in capsys.readouterr().err
