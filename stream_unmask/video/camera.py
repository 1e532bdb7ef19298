"""Live pictures: a webcam, a stream from the network, or a file played at its own pace."""

from __future__ import annotations  # PyAV's packets are generic for the type checker only

import errno
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError

from stream_unmask.errors import InputError
from stream_unmask.video.frame import Frame
from stream_unmask.video.reader import Reader, move
from stream_unmask.video.source import Limits, is_url, open_source

# What FFmpeg calls the cameras of each system, and how a camera's name is given to it.
_SYSTEMS = {"linux": ("v4l2", ""), "darwin": ("avfoundation", ""), "win32": ("dshow", "video=")}
_TRIES = 5  # in a row to get a camera back that was there
_PAUSE = 1.0  # seconds before each
_PROMPT = {"analyzeduration": "1000000"}  # microseconds of a stream to look at before it begins
# What a camera that can't be opened says, by errno, and what to do.
_REASONS = {
    errno.ENOENT: "there is no such camera (--list-devices)",
    errno.ENODEV: "there is no such camera (--list-devices)",
    errno.EBUSY: "another program is using the camera",
    errno.EACCES: "this user may not use cameras; on Linux, join the group video",
    errno.EINVAL: "the camera has no such size or rate",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A camera. kind: FFmpeg's name for such devices. name: what opens it. title: for people."""

    kind: str
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to ask a camera for; None leaves it to the camera. size: (width, height)."""

    size: tuple[int, int] | None = None
    rate: float | None = None


class Camera(Reader):
    """A `Reader` of what is seen now. Iterating it yields frames as they come, until the source
    ends; a camera or stream that is lost is tried again, and InputError says so if that fails.

    source: the number, name or path of a camera, a URL, or a file, which is played at its own pace.
    `came` says when a frame was there to be seen.
    """

    def __init__(
        self,
        source: str,
        wanted: Wanted | None = None,
        limits: Limits | None = None,
        hwaccel: str | None = None,
    ) -> None:
        self._device = None if is_url(source) or Path(source).is_file() else find(source)
        self._wanted = wanted or Wanted()
        self._played = self._device is None and not is_url(source)
        super().__init__(source, limits=limits, hwaccel=hwaccel)
        self._began = time.monotonic()

    def __iter__(self) -> Iterator[Frame]:
        return self._paced() if self._played else self._watched()

    def came(self, frame: Frame) -> float:
        """The instant, of `time.monotonic`, at which a frame could be seen at the earliest."""
        return self._began + float(frame.seconds or 0)

    def _opened(self, rate: Fraction) -> InputContainer:
        if self._device is not None:
            return open_device(self._device, self._wanted, self._accel)
        prompt = None if self._played else _PROMPT
        return open_source(self.source, self._limits, rate, prompt, self._accel)

    def _paced(self) -> Iterator[Frame]:
        """The frames of a file, each when it is due."""
        for frame in super().__iter__():
            time.sleep(max(self.came(frame) - time.monotonic(), 0))
            yield frame

    def _watched(self) -> Iterator[Frame]:
        """The frames of a camera or stream, whose clock begins when it was first opened."""
        next_due = Fraction(0)
        while True:
            lost: InputError | None = None
            shift: Fraction | None = None
            try:
                for frame in super().__iter__():
                    if shift is None:
                        passed = Fraction(time.monotonic() - self._began).limit_denominator(10**6)
                        shift = max(passed, next_due) - (frame.seconds or 0)
                    next_due = (frame.seconds or 0) + shift + 1 / self.frame_rate
                    yield moved(frame, shift)
            except InputError as error:
                lost = error
            if lost is None and self._device is None:
                return  # a stream that ends
            self._regain(lost)

    def _regain(self, lost: InputError | None) -> None:
        """Opens the source again, or raises InputError after a few tries."""
        size = self.width, self.height
        for _ in range(_TRIES):
            time.sleep(_PAUSE)
            try:
                self.close()
                self._start(None, None, self.frame_rate)
            except InputError as error:
                lost = error
                continue
            if (self.width, self.height) != size:
                raise InputError(f"{self.source} came back with pictures of another size.")
            return
        raise InputError(f"{self.source} was lost, and could not be opened again.") from lost


def moved(frame: Frame, shift: Fraction) -> Frame:
    """The frame, whose picture and passengers are moved by so many seconds."""
    picture = frame.picture
    if picture.pts is not None and picture.time_base is not None:
        picture.pts += round(shift / picture.time_base)
    for packet in frame.passengers:
        move(packet, shift)
    return frame


def open_device(device: Device, wanted: Wanted, accel: HWAccel | None = None) -> InputContainer:
    """The opened camera, to be decoded with `accel`; InputError says why if that can't be."""
    options = {}
    if wanted.size is not None:
        options["video_size"] = "{}x{}".format(*wanted.size)
    if wanted.rate is not None or device.kind == "avfoundation":  # which insists on one
        options["framerate"] = f"{wanted.rate or 30:g}"
    tries = [options]
    if device.kind == "v4l2":  # raw pictures of this size come a few a second over USB
        tries.insert(0, {**options, "input_format": "mjpeg"})
    for index, choice in enumerate(tries):
        try:
            return av.open(device.name, format=device.kind, container_options=choice, hwaccel=accel)
        except (FFmpegError, OSError) as error:
            if index + 1 == len(tries):
                reason = _REASONS.get(error.errno or 0, error.strerror)
                raise InputError(f"{device.title} can't be opened: {reason}.") from error
    raise AssertionError


def devices() -> list[Device]:
    """The cameras of this machine, in the order of their numbers."""
    kind, prefix = _system()
    if kind == "v4l2":  # FFmpeg lists nodes of cameras that give no pictures, too
        nodes = sorted(Path("/sys/class/video4linux").glob("video*"), key=lambda p: int(p.name[5:]))
        return [
            Device(kind, f"/dev/{node.name}", (node / "name").read_text().strip())
            for node in nodes
            if (node / "index").read_text().strip() == "0"
        ]
    try:
        found = av.enumerate_input_devices(kind)
    except (FFmpegError, OSError, ValueError):
        return []
    return [
        Device(kind, prefix + one.name, one.description or one.name)
        for one in found
        if not one.media_types or "video" in one.media_types
    ]


def find(source: str) -> Device:
    """The camera of a number, a path or a name (a part of it will do); InputError if there is
    none."""
    kind, _ = _system()
    if kind == "v4l2" and source.startswith("/dev/"):
        return Device(kind, source, source)
    known = devices()
    if source.isdecimal() and int(source) < len(known):
        return known[int(source)]
    named = [device for device in known if source.lower() in device.title.lower()]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(
            f"Several cameras are called {source}: {', '.join(d.title for d in named)}."
        )
    raise InputError(f"There is no camera, and no file, {source} (--list-devices).")


def _system() -> tuple[str, str]:
    """FFmpeg's kind of camera on this system, and what goes before a camera's name."""
    if sys.platform not in _SYSTEMS:
        raise InputError(f"Cameras of {sys.platform} are not supported.")
    return _SYSTEMS[sys.platform]
