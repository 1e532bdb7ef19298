"""The live command, from a file that is played at its own pace, to windows, files and a camera."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from stream_unmask import Options, OutputError
from stream_unmask.errors import OptionError
from stream_unmask.label import mark
from stream_unmask.live import Figures, Outputs, Recorder, live
from stream_unmask.pipeline import Composed, open_parts, unmask_frames
from stream_unmask.preview import View, open_window
from stream_unmask.video.camera import Camera
from stream_unmask.video.frame import to_rgb
from stream_unmask.video.reader import Reader

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "stream_unmask", "live"]


@pytest.fixture(scope="module")
def composed(example: Path) -> Composed:
    """The example's first frame, unmasked."""
    options = Options(look_ahead=0, window=1, batch=1)
    with Reader(example) as reader, open_parts(options) as parts:
        return next(unmask_frames(reader, parts, options))


@pytest.fixture
def silent_screen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pygame, with a screen that nobody sees."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return pytest.importorskip("pygame", reason="needs the extra `live`")


def test_what_is_recorded_is_what_was_shown(
    example: Path, tmp_path: Path, played: Callable[[Path], Any]
) -> None:
    target, whole = tmp_path / "out.mp4", played(example)
    figures = live(str(example), Options(), Outputs(window=False, record=target, sound=True))
    out = played(target)
    assert figures.frames + figures.missed == len(whole.times)
    assert 1 < figures.frames == len(out.times)
    # What is missed takes its time with it: all others are as far from the first as they were.
    began = [t for t in whole.times if {t + time for time in out.times} <= {*whole.times}]
    assert out.times[0] == 0
    assert began
    source = whole.pictures[whole.times.index(began[0])]
    assert np.abs(out.pictures[0].astype(int) - source).max() > 60
    assert out.packets == whole.packets[-len(out.packets) :] != []
    assert mark() in out.metadata["comment"]
    assert figures.first is not None
    assert 0 < figures.latency(0.5) <= figures.latency(0.95)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_sound_that_goes_on_after_the_picture_has_no_gap(example: Path, tmp_path: Path) -> None:
    """In a recording that was begun on the way."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    with av.open(str(example)) as whole, av.open(str(source), "w") as short:
        sound = short.add_stream_from_template(whole.streams.audio[0])
        video: Any = short.add_stream("mjpeg", rate=25, width=64, height=48)  # comes undelayed
        video.pix_fmt = "yuvj420p"
        for _ in range(40):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8))
            short.mux(video.encode(picture))
        for packet in whole.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                short.mux(packet)
    with Camera(str(source)) as camera, Recorder(camera, sound=True, overwrite=False) as recorder:
        for number, frame in enumerate(camera):
            if number == 20:
                recorder.start(target)
            recorder(frame)
        assert camera.trailing
    assert np.diff(sound_times(target)).max() < 0.05  # seconds


def sound_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        times = ((packet.pts, packet.time_base) for packet in container.demux(audio=0))
        return [float(pts * base) for pts, base in times if pts is not None]


def test_live_pictures_must_go_somewhere() -> None:
    with pytest.raises(OptionError, match="--record"):
        Outputs(window=False)


def test_latency_is_that_of_a_share_of_the_frames() -> None:
    figures = Figures(frames=10)
    figures.late.update({40: 9, 90: 1})
    assert [figures.latency(share) for share in (0.5, 0.9, 0.95, 1)] == [40, 40, 90, 90]
    assert Figures().latency(0.5) == 0
    assert Figures().rate == 0


def test_the_view_shows_the_result(composed: Composed) -> None:
    assert composed.patches
    assert np.array_equal(View()(composed), to_rgb(composed.frame.picture))


def test_the_split_shows_both(composed: Composed) -> None:
    before, after = to_rgb(composed.scene.frame.picture), to_rgb(composed.frame.picture)
    width = before.shape[1]
    for at in (0.0, 0.5, 1.0):
        picture = View(split=True, at=at)(composed)
        column = round(at * width)
        assert np.array_equal(picture[:, : max(column - 1, 0)], before[:, : max(column - 1, 0)])
        assert np.array_equal(picture[:, column + 1 :], after[:, column + 1 :])


def test_the_map_is_tinted_where_it_is(composed: Composed) -> None:
    after, mask = to_rgb(composed.frame.picture), composed.mask()
    picture = View(map=True)(composed)
    assert np.array_equal(picture[mask == 0], after[mask == 0])
    tinted = picture[mask == 1].astype(int) - after[mask == 1]
    assert tinted[:, 0].mean() > 20  # redder
    assert tinted[:, 1].mean() < -20


def test_boxes_are_drawn_round_faces(composed: Composed) -> None:
    after = to_rgb(composed.frame.picture)
    drawn = (View(boxes=True)(composed) != after).any(2)
    assert 200 < drawn.sum() < after.shape[0] * after.shape[1] / 10
    assert not drawn[composed.mask() > 0.9].all()


def test_keys_switch_what_they_stand_for() -> None:
    view = View()
    for key, name in {
        "s": "split",
        "m": "map",
        "b": "boxes",
        "h": "help",
        "space": "frozen",
    }.items():
        view.press(key)
        assert getattr(view, name)
        view.press(key)
        assert not getattr(view, name)
    view.press("x")
    assert view == View()


def press(pygame: Any, *keys: str) -> None:
    for key in keys:
        code = pygame.key.key_code(key)
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=code, unicode=key))


def test_the_window_hears_keys_and_the_mouse(silent_screen: Any) -> None:
    pygame, view = silent_screen, View()
    with open_window((200, 100), "title") as window:
        window.show(np.full((100, 200, 3), 90, np.uint8), ["a line", "another"])
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert (shown[50:, 100:] == 90).all()
        assert (shown[:50, :100] != 90).any()  # the lines
        press(pygame, "m", "escape")
        pygame.event.post(
            pygame.event.Event(pygame.MOUSEMOTION, pos=(50, 10), rel=(0, 0), buttons=(0, 0, 0))
        )
        assert list(window.pressed(view)) == ["m", "q"]
        assert view.at == 0.25
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        assert list(window.pressed(view)) == ["q"]


@pytest.fixture
def long_example(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example ten times over: a busy machine shows few frames of it."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    with av.open(str(path), "w") as container:
        for count in range(10):
            with av.open(str(example)) as source:
                video = source.streams.video[0]
                stream = container.streams.video or [container.add_stream_from_template(video)]
                for packet in source.demux(video):
                    if packet.pts is not None and packet.dts is not None:
                        shift = round(4 * count / video.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream[0]
                        container.mux(packet)
    return path


def test_the_keys_record_save_and_quit(
    long_example: Path,
    tmp_path: Path,
    silent_screen: Any,
    monkeypatch: pytest.MonkeyPatch,
    played: Callable[[Path], Any],
) -> None:
    """Pressed one after the other, as frames are shown."""
    from stream_unmask import preview

    monkeypatch.chdir(tmp_path)
    coming = iter([(), ("r",), ("s", "p"), (), ("r",), (), ("q",)])
    show = preview.Window.show

    def and_press(*arguments: Any) -> None:
        show(*arguments)
        press(silent_screen, *next(coming))

    monkeypatch.setattr(preview.Window, "show", and_press)
    figures = live(str(long_example), Options(), Outputs())
    assert figures.frames == 6
    names = sorted(path.suffix for path in tmp_path.iterdir())
    assert names == [".mp4", ".png"]
    (recorded,) = tmp_path.glob("*.mp4")
    out = played(recorded)
    assert len(out.times) == 3  # from the frame at which r was heard to the one before the next
    assert out.times[0] == 0
    assert mark() in out.metadata["comment"]


def test_without_pygame_or_a_screen_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(OptionError, match=r"stream-unmask\[live\]"), open_window((64, 48), ""):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_a_missing_screen_is_one_sentence(example: Path) -> None:
    pytest.importorskip("pygame", reason="needs the extra `live`")
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"}
    done = subprocess.run(
        [*COMMAND, str(example)], capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in hidden}
        | {"SDL_VIDEODRIVER": "x11"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("Error: No window can be opened")
    assert done.stderr.count("\n") == 1


class Loopback(ModuleType):
    """Stands in for pyvirtualcam, whose driver is hardly ever there."""

    def __init__(self, driver: bool) -> None:
        super().__init__("pyvirtualcam")
        self.seen: list[np.ndarray] = []
        self.promised: tuple[object, ...] = ()
        self._driver = driver

    def Camera(self, *promised: object) -> Any:
        if not self._driver:
            raise RuntimeError("'v4l2loopback' backend: No device found.")
        self.promised = promised
        return self

    def __enter__(self) -> Any:
        return SimpleNamespace(send=lambda picture: self.seen.append(picture.copy()))

    def __exit__(self, *_: object) -> None:
        pass


def test_other_programs_see_the_labelled_result(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback = Loopback(driver=True)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", loopback)
    figures = live(str(example), Options(label=True), Outputs(window=False, virtual=True))
    with Reader(example) as reader:
        first = to_rgb(reader.first)
        assert loopback.promised == (reader.width, reader.height, float(reader.frame_rate))
    assert len(loopback.seen) == figures.frames
    assert {picture.shape for picture in loopback.seen} == {first.shape}
    assert np.abs(loopback.seen[0].astype(int) - first).max() > 60


def test_a_missing_driver_is_one_sentence_that_names_it(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", Loopback(driver=False))
    with pytest.raises(OutputError, match="no driver for a virtual camera: it needs"):
        live(str(example), Options(), Outputs(window=False, virtual=True))


def test_ctrl_c_ends_it_and_keeps_the_recording(
    example: Path, tmp_path: Path, played: Callable[[Path], Any]
) -> None:
    target = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [*COMMAND, str(example), "--no-window", "--record", str(target)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    part, deadline = target.with_name("out.part.mp4"), time.monotonic() + 60
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert re.match(r"\d+ frames in ", out)
    assert len(played(target).times) == int(out.split()[0])
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A virtual X screen: its name, and a file that always holds what it shows."""
    if shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        pytest.skip("needs Xvfb and xdotool")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-fbdir", str(tmp_path)],
        pass_fds=[write], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    try:
        with os.fdopen(read) as told:
            number = told.readline().strip()
        yield f":{number}", tmp_path / "Xvfb_screen0"
    finally:
        server.terminate()
        server.wait(10)


def seen_on(file: Path) -> np.ndarray:
    """The picture (600, 800, 3) in an XWD file: a header, a table of colours, then BGRX."""
    data = file.read_bytes()
    pixels = np.frombuffer(data[len(data) - 800 * 600 * 4 :], np.uint8)
    return pixels.reshape(600, 800, 4)[..., 2::-1]


def test_a_real_window_shows_the_result_and_its_keys(
    example: Path, screen: tuple[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("pygame", reason="needs the extra `live`")
    display, file = screen
    environment = {**os.environ, "DISPLAY": display}
    environment.pop("SDL_VIDEODRIVER", None)
    process = subprocess.Popen(
        [*COMMAND, str(example)], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def press(*keys: str) -> None:
        subprocess.run(["xdotool", *keys], env=environment, check=True, timeout=20)

    try:
        deadline = time.monotonic() + 60
        while not seen_on(file).any() and time.monotonic() < deadline:
            time.sleep(0.05)
        press("mousemove", "400", "300", "key", "space")
        differ, deadline = 0.0, time.monotonic() + 60
        while differ < 0.01 and time.monotonic() < deadline:  # until the engines are open
            before = seen_on(file)
            press("key", "m")
            time.sleep(0.5)
            redder = seen_on(file).astype(int)[..., 0] - before[..., 0]
            differ = float((abs(redder) > 20).mean())
        press("key", "q")
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert (before > 0).mean() > 0.2  # a picture
    assert 0.01 < differ < 0.2  # the map, which comes and goes
