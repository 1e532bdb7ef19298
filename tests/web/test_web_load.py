"""Many at once: `benchmarks.page`, of which this is a small run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_files_at_once_while_a_camera_is_on(example: Path, bare_clip: Path) -> None:
    pytest.importorskip("aiortc", reason="the `web` extra is not installed")
    pytest.importorskip("httpx")
    command = [sys.executable, "-m", "benchmarks.page", bare_clip, example]
    done = subprocess.run(
        [*command, "--files", "3", "--cameras", "1"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["done"] == 3
    assert figures["in_order"]
    assert figures["server_mib"]["peak"] < 1500
    assert figures["children_mib"]["after"] == 0
