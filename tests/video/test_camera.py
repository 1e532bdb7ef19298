"""Live sources. There is no camera here: FFmpeg's generator of test pictures stands in for one, as
a device that is opened by the same way."""

import errno
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from stream_unmask.errors import InputError
from stream_unmask.video import camera as module
from stream_unmask.video.camera import Camera, Device, Wanted, find, moved, open_device
from stream_unmask.video.frame import Frame
from stream_unmask.video.source import Limits
from tests.video.serving import Server

PICTURES = "testsrc=size=64x48:rate=25"


def device(pictures: str) -> Device:
    return Device("lavfi", pictures, "the test camera")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that says which cameras there are, in the order in which they will be opened."""

    def plug(*pictures: str | InputError) -> None:
        coming = list(pictures)

        def open_next(_: Device, wanted: Wanted, __: None) -> Any:
            one = coming.pop(0) if coming else InputError("The camera is gone.")
            if isinstance(one, InputError):
                raise one
            return open_device(device(one), wanted)

        monkeypatch.setattr(module, "find", lambda _: device("-"))
        monkeypatch.setattr(module, "open_device", open_next)
        monkeypatch.setattr(module, "_PAUSE", 0.01)

    return plug


def test_a_file_is_played_at_its_own_pace(make_clip: Callable[..., Path]) -> None:
    # Of a variable rate: what counts is each frame's time.
    times = (0, 512, 2048, 2560, 5120)
    with Camera(str(make_clip(frames=5, pts=times))) as camera:
        for frame, time_due in zip(camera, times, strict=True):
            assert frame.seconds == Fraction(time_due, 12800)
            late = time.monotonic() - camera.came(frame)
            assert 0 <= late < 0.3  # never early


def test_a_device_is_a_reader_of_what_it_shows(plugged: Callable[..., None]) -> None:
    plugged(PICTURES)
    with Camera("0") as camera:
        assert (camera.width, camera.height) == (64, 48)
        assert camera.duration is None
        frames = [frame for frame, _ in zip(camera, range(10), strict=False)]
    times = [float(frame.seconds or 0) for frame in frames]
    # The generator is faster than its rate, and its clock counts from when it was opened.
    assert times[0] < 1
    assert [round(b - a, 3) for a, b in pairwise(times)] == [0.04] * 9


def test_what_came_before_it_was_opened_counts_from_then(
    plugged: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cameras stamp with the time since the machine was started."""
    plugged(PICTURES + ",setpts=PTS+100000/TB")
    with Camera("0") as camera:
        first = next(iter(camera))
        assert 0 <= float(first.seconds or 0) < 1
        assert abs(camera.came(first) - time.monotonic()) < 1


def test_a_camera_that_is_lost_is_opened_again_and_time_goes_on(
    plugged: Callable[..., None],
) -> None:
    short = PICTURES + ":duration=0.2"
    gone = InputError("The camera is gone.")
    plugged(short, gone, gone, short)
    got = []
    with Camera("0") as camera, pytest.raises(InputError, match="was lost") as error:
        got.extend(frame.seconds or Fraction(0) for frame in camera)
    assert len(got) == 10
    assert got == sorted(got)
    assert str(error.value) == "0 was lost, and could not be opened again."


def test_a_camera_that_comes_back_with_another_size_is_refused(
    plugged: Callable[..., None],
) -> None:
    plugged(PICTURES + ":duration=0.2", "testsrc=size=128x48")
    with Camera("0") as camera, pytest.raises(InputError, match="another size"):
        list(camera)


def test_a_stream_is_shown_as_it_comes(make_clip: Callable[..., Path], server: Server) -> None:
    make_clip("clip.ts", audio=True)
    with Camera(server.url("drips/clip.ts")) as camera:
        frames = list(camera)
        late = time.monotonic() - camera.came(frames[-1])
    assert len(frames) == 20
    assert frames[0].seconds is not None
    assert 0 <= frames[0].seconds < 3
    assert late > -0.9  # its clock runs from when it was opened, whatever the stream's says
    assert any(frame.passengers for frame in frames)


def test_a_stream_that_breaks_is_tried_again(
    make_clip: Callable[..., Path], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    make_clip("long.ts", frames=100, size=(320, 240), options={"crf": "0"})
    with Camera(server.url("stalls/long.ts"), limits=Limits(timeout=0.5)) as camera:
        frames = zip(camera, range(60), strict=False)
        times = [frame.seconds or Fraction(0) for frame, _ in frames]
    assert times == sorted(times)
    assert len(server.asked) > 1


def test_there_must_be_such_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Device("v4l2", f"/dev/video{i}", name) for i, name in ((0, "HD Cam"), (2, "Old cam"))]
    monkeypatch.setattr(module, "devices", lambda: known)
    assert find("0") is known[0]
    assert find("1") is known[1]  # as they are listed, whatever their paths
    assert find("hd") is known[0]
    with pytest.raises(InputError, match="no camera"):
        find("2")
    with pytest.raises(InputError, match="no camera"):
        find("film.mp4")
    with pytest.raises(InputError, match=r"HD Cam, Old cam"):
        find("cam")


@pytest.mark.skipif(sys.platform != "linux", reason="opens Linux's devices")
def test_a_camera_that_is_not_there_is_one_sentence() -> None:
    path = "/dev/video987"
    assert find(path).name == path
    with pytest.raises(
        InputError, match=r"^/dev/video987 can't be opened: there is no such camera"
    ):
        open_device(find(path), Wanted())


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EBUSY, "another program"), (errno.EACCES, "may not use cameras")]
)
def test_why_a_camera_can_t_be_opened_is_said(
    monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "FFmpeg's words")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(InputError, match=said):
        open_device(device(PICTURES), Wanted())


def test_what_is_wanted_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a camera on Linux compressed pictures first, which alone are many a second."""
    asked: list[dict[str, str]] = []

    def opened(*_: object, container_options: dict[str, str], **__: object) -> str:
        asked.append(container_options)
        if "input_format" in container_options:
            raise OSError(errno.EINVAL, "no such format")
        return "a container"

    monkeypatch.setattr(av, "open", opened)
    usual = Device("v4l2", "/dev/video0", "a camera")
    assert open_device(usual, Wanted((640, 480), 29.97)) == "a container"
    size = {"video_size": "640x480", "framerate": "29.97"}
    assert asked == [{**size, "input_format": "mjpeg"}, size]


def test_a_frame_moves_with_all_that_rides_with_it(make_clip: Callable[..., Path]) -> None:
    with av.open(str(make_clip(audio=True))) as container:
        sound = next(p for p in container.demux(audio=0) if p.pts is not None)
        container.seek(0)
        picture = next(container.decode(video=0))
        before = picture.pts * picture.time_base, sound.pts * sound.time_base
        frame = moved(Frame(picture, (sound,)), Fraction(-3, 2))
        assert frame.seconds == before[0] - Fraction(3, 2)
        assert sound.pts * sound.time_base == before[1] - Fraction(3, 2)
