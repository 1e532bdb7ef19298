"""A real server on a free port, and visitors to it."""

import asyncio
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from stream_unmask.video.reader import Reader
from stream_unmask.video.writer import Writer

PATIENCE = 240.0  # seconds; jobs share the processor with whatever else runs
ENDS = ("done", "failed", "cancelled")


class Served:
    """A running server: its url, port and app, and the folder that all its files are in."""

    def __init__(self, app: Any, port: int, folder: Path) -> None:
        self.app, self.port, self.folder = app, port, folder
        self.url = f"http://127.0.0.1:{port}"
        self._stack = ExitStack()

    def visitor(self, **options: Any) -> Any:
        """An HTTP client with a memory for cookies of its own."""
        import httpx

        options = {"base_url": self.url, "timeout": PATIENCE, "trust_env": False} | options
        return self._stack.enter_context(httpx.Client(**options))

    def files(self) -> list[str]:
        """The names of all that lies below the folder, but for the server's own one."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*"))
        return sorted(str(Path(*path.parts[1:])) for path in found if len(path.parts) > 1)

    def close(self) -> None:
        self._stack.close()


@contextmanager
def running(settings: Any, folder: Path) -> Iterator[Served]:
    """The server, in a thread, until the `with` block ends."""
    import uvicorn

    from stream_unmask.web.app import create_app

    app = create_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, ws="none", lifespan="on",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    served = Served(app, listener.getsockname()[1], folder)
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield served
    finally:
        served.close()
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """Starts a server with settings; at the end it is stopped, and must have left nothing."""
    pytest.importorskip("fastapi", reason="the `web` extra is not installed")
    pytest.importorskip("uvicorn", reason="the `web` extra is not installed")
    pytest.importorskip("httpx")
    from stream_unmask.web.settings import Settings

    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(Settings(**settings), folder))
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="session")
def short_clip(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's first ten frames, with sound."""
    return trimmed(example, tmp_path_factory.mktemp("web") / "short.mp4", 0.4)


@pytest.fixture(scope="session")
def longer_clip(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's first thirty frames, with sound: enough to see how far it is."""
    return trimmed(example, tmp_path_factory.mktemp("web") / "longer.mp4", 1.2)


def trimmed(source: Path, path: Path, end: float) -> Path:
    with Reader(source, 0, end) as reader, Writer(path, reader) as writer:
        for frame in reader:
            writer.write(frame)
    return path


@pytest.fixture(scope="session")
def ended() -> Callable[[Any, str], dict[str, Any]]:
    """Waits until a visitor's job has come to its end, which comes back."""

    def wait(visitor: Any, name: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = visitor.get(f"/jobs/{name}")
            assert answer.status_code == 200, answer.text
            if answer.json()["state"] in ENDS:
                job: dict[str, Any] = answer.json()
                return job
            time.sleep(0.1)
        raise AssertionError(f"{name} is still {answer.json()}")

    return wait


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts headless Chromium: browser(*arguments, width=..., height=...) -> a driver."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver")
    from selenium.webdriver.chrome.service import Service

    downloads = tmp_path / "downloads"
    downloads.mkdir()

    def start(*arguments: str, width: int = 1100, height: int = 1400) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
            "--autoplay-policy=no-user-gesture-required", f"--window-size={width},{height}",
            *arguments,
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        started = webdriver.Chrome(options=options, service=Service(driver))
        stack.callback(started.quit)
        started.set_script_timeout(PATIENCE)
        return started

    with ExitStack() as stack:
        yield start
