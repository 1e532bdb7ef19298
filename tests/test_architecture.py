"""Who may import whom: read off the source, so that it holds for imports inside functions too."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stream_unmask"
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> what it may import. "backends.engine" is that file alone, "backends" the whole room.
# Rooms stand in the order in which they build on each other: each may use only those above it.
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "report": set(),
    "prefetch": {"errors"},
    "backends": {"errors"},
    "models": {"backends.engine", "types"},
    "faces": {"backends.engine", "types"},
    "video": {"types", "errors"},
    "options": {"models", "video", "errors"},  # which profiles there are, how to encode, limits
    "unmask": {"models", "types"},
    "steady": {"unmask", "faces", "models", "types"},  # the maps of one person over time
    "label": {"video"},  # the visible mark, and the one in the metadata
    "sheet": {"types"},  # the preview sheet
    # frames to frames; it touches no file and no thread
    "pipeline": {
        *("backends", "faces", "models", "video", "unmask", "steady", "label"),
        *("options", "report", "types"),
    },
    # file to file and picture to picture
    "api": {
        *("pipeline", "steady", "prefetch", "faces", "video", "label", "sheet"),
        *("options", "report", "types", "errors"),
    },
    "preview": {"pipeline", "video", "types", "errors"},  # the live window
    # from a camera to a window, at once
    "live": {
        *("preview", "pipeline", "prefetch", "label", "video"),
        *("options", "report", "types", "errors"),
    },
    "provenance": {"label", "video", "errors"},  # what a file says of itself, signed or not
    "resume": {"api", "pipeline", "video", "options", "report", "errors"},  # long ones, in segments
    # many inputs
    "batch": {
        *("api", "pipeline", "provenance", "resume", "video"),
        *("options", "report", "errors"),
    },
    # the page: files in processes of their own, cameras in this one
    "web": {
        *("api", "pipeline", "prefetch", "models", "video"),
        *("options", "report", "errors"),
    },
    "__init__": {"api", "errors", "options", "report", "types", "video"},
    "cli": {
        *("api", "batch", "live", "web", "backends", "models", "provenance", "video"),
        *("options", "report", "errors"),
    },
    "__main__": {"cli"},
}
# Foreign library -> the only files that may import it.
ONLY_IN = {
    "av": "video/",
    "openvino": "backends/openvino",  # and _int8.py, _quiet.py beside it
    "onnxruntime": "backends/onnxruntime.py",
    "tensorrt": "backends/tensorrt",  # and _plan.py beside it
    "cuda": "backends/cuda.py",
    "onnx": "backends/half.py",
    "platformdirs": "backends/artefacts.py",
    "c2pa": "provenance.py",
    "cryptography": "provenance.py",
    "fastapi": "web/",
    "starlette": "web/",
    "pydantic": "web/",
    "uvicorn": "web/",
    "python_multipart": "web/",
    "aiortc": "web/",
    "typer": "cli/",
    "rich": "cli/",
    "pygame": "preview.py",
    "pyvirtualcam": "video/virtual.py",
}
LAZY_IN = {"onnxruntime": "cli/info.py"}  # `info` lists their devices
NOWHERE = {"torch", "mediapipe", "engines", "training", "benchmarks", "tests"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module, in full, and whether the import is at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            modules = [node.module or ""]
            if modules == ["stream_unmask"]:  # `from stream_unmask import api` is a room as well
                modules = [f"stream_unmask.{name.name}" for name in node.names]
            yield from ((module, id(node) in top) for module in modules)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_table_points_down_only() -> None:
    seen: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        assert {name.split(".")[0] for name in allowed} <= seen, room
        seen.add(room)


def test_every_room_is_in_the_table() -> None:
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path: Path) -> None:
    room, name = room_of(path), str(path.relative_to(PACKAGE))
    for module, at_top in imports(path):
        first, *rest = module.split(".")
        if first == "stream_unmask":
            allowed = MAY_IMPORT[room]
            assert rest, f"{name} imports the package as a whole"
            inside = rest[0] == room or rest[0] in allowed or ".".join(rest[:2]) in allowed
            assert inside, f"{name} must not import {module}"
            continue
        assert first not in NOWHERE, f"{name} imports {module}"
        if first in ONLY_IN and not (name == LAZY_IN.get(first) and not at_top):
            assert name.startswith(ONLY_IN[first]), f"{name} imports {module}"


@pytest.mark.parametrize(
    "code",
    [
        "import stream_unmask",
        "import sys; sys.argv[1:] = ['--help']; import stream_unmask.__main__ as m; m.main()",
    ],
    ids=["import", "help"],
)
def test_no_runtime_is_loaded(code: str) -> None:
    report = "import atexit, json, sys; atexit.register(lambda: print(json.dumps([*sys.modules])))"
    done = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}"],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=True,
    )  # fmt: skip
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "stream_unmask.api" in loaded
    runtimes = {"openvino", "onnxruntime", "torch", "onnx", "tensorrt"}
    assert not (runtimes | {"fastapi", "uvicorn", "aiortc"}) & {*loaded}


def test_opening_engines_reports_to_nobody() -> None:
    """Imported as usual, OpenVINO starts a process that tells Google Analytics so."""
    code = (
        "import subprocess, multiprocessing.process as m, sys\n"
        "def refuse(*_, **__): raise AssertionError('a process was started')\n"
        "m.BaseProcess.start = subprocess.Popen.__init__ = refuse\n"
        "from stream_unmask import Options\n"
        "from stream_unmask.pipeline import open_parts\n"
        "with open_parts(Options(backend='openvino')) as parts: print(parts.backend)\n"
        "print('openvino_telemetry' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    backend, reporter = done.stdout.splitlines()
    assert backend.startswith("openvino")
    assert reporter == "False"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stream_unmask", "--help"],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0
    assert "INPUT" in done.stdout
