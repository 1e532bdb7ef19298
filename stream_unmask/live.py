"""What is in front of a camera, with the masks gone, at once."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from stream_unmask.errors import OptionError
from stream_unmask.label import mark
from stream_unmask.options import Options, undelayed
from stream_unmask.pipeline import Composed, open_parts, unmask_frames
from stream_unmask.prefetch import background, newest
from stream_unmask.preview import KEYS, View, Window, open_window
from stream_unmask.report import quantile
from stream_unmask.types import Image
from stream_unmask.video.camera import Camera, Wanted
from stream_unmask.video.encoder import Encoding
from stream_unmask.video.frame import Frame, to_rgb
from stream_unmask.video.image import write_image
from stream_unmask.video.target import claim
from stream_unmask.video.virtual import virtual_camera
from stream_unmask.video.writer import Writer

_log = logging.getLogger("stream_unmask")
_BEHIND = 8  # frames that encoding may be behind
_RECENT = 30  # frames over which the rate is taken
_HINT = 5.0  # seconds for which the window says how to see its keys


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where live pictures go; OptionError if nowhere.

    window, full: a window, and whether it fills the screen. record: a file from the beginning on.
    sound: whether recordings have the source's sound. virtual: a camera for other programs.
    """

    window: bool = True
    full: bool = False
    record: Path | None = None
    sound: bool = False
    virtual: bool = False

    def __post_init__(self) -> None:
        if not (self.window or self.record or self.virtual):
            raise OptionError("Without a window, --record or --virtual-camera must be given.")


@dataclass(slots=True)
class Figures:
    """How a live run went. frames: shown; missed: of the source's, as newer ones were there.
    first: seconds until the first frame was shown unmasked. seconds: in all. late: by milliseconds,
    how many frames were shown so long after they could be seen; last: that of the last."""

    frames: int = 0
    missed: int = 0
    first: float | None = None
    seconds: float = 0.0
    late: Counter[int] = field(default_factory=Counter)
    last: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def shown(self, came: float, begin: float) -> None:
        """Counts a frame that came at an instant, of a run that began at one."""
        now = time.monotonic()
        self.frames += 1
        self.first = now - begin if self.first is None else self.first
        self.last = round(1000 * max(now - came, 0))
        self.late[self.last] += 1
        self._recent.append(now)

    def passed_over(self, old: Frame, new: Frame) -> Frame:
        """The newer frame, with what rode with the older one, which nobody will see."""
        self.missed += 1
        return Frame(new.picture, old.passengers + new.passengers)

    @property
    def rate(self) -> float:
        """Frames a second, of late."""
        recent = self._recent
        passed = recent[-1] - recent[0] if recent else 0
        return (len(recent) - 1) / passed if passed else 0.0

    def latency(self, share: float) -> int:
        """Milliseconds that a share of the frames, 0..1, came within."""
        return quantile(self.late, share)


class Recorder:
    """Writes frames into files while it is told to. Leaving its `with` block finishes the last."""

    def __init__(self, camera: Camera, sound: bool, overwrite: bool) -> None:
        self._camera, self._sound, self._overwrite = camera, sound, overwrite
        self._stack = ExitStack()
        self._write: Callable[[Frame], None] | None = None
        self._target: Path | None = None
        self._began = self._last = Fraction(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def target(self) -> Path | None:
        """The file that frames go into, None while they don't."""
        return self._target

    @property
    def seconds(self) -> float:
        """How long the recording is."""
        return float(self._last - self._began)

    def start(self, target: Path) -> None:
        """Nothing comes back; from now on frames go into a file. OutputError if they can't."""
        claim(target, None, self._overwrite)
        self._target = target

    def stop(self) -> None:
        """Nothing comes back; the file, if it got a frame, is whole."""
        self._target = self._write = None
        self._stack.close()

    def __call__(self, frame: Frame) -> None:
        if self._target is None:
            return
        time = frame.seconds or Fraction(0)
        if self._write is None:
            self._write, self._began = self._opened(self._target), time
            # What rides with it from before would have all begin earlier.
            heard = (p for p in frame.passengers if (p.pts or 0) * p.time_base >= time)
            frame = Frame(frame.picture, tuple(heard))
        self._last = time
        self._write(frame)

    def _opened(self, target: Path) -> Callable[[Frame], None]:
        codec = None if target.suffix.lower() == ".webm" else "h264"
        writer = Writer(
            target, self._camera, encoding=Encoding(codec, pixel_format="yuv420p"),
            overwrite=self._overwrite, metadata={"comment": mark()}, carry=self._sound,
            from_zero=True,
        )  # fmt: skip
        self._stack.enter_context(writer)
        return self._stack.enter_context(background(writer.write, _BEHIND))


class Preview:
    """A window, and what its keys do."""

    def __init__(self, window: Window, recorder: Recorder, figures: Figures) -> None:
        self._window, self._recorder, self._figures = window, recorder, figures
        self._view = View()
        self._frozen: Composed | None = None
        self._hint = time.monotonic() + _HINT

    def __call__(self, composed: Composed) -> bool:
        """Shows a frame; True until the window is to be closed."""
        view = self._view
        for key in self._window.pressed(view):
            if key == "q":
                return False
            view.press(key)
            if key == "r":
                self._record()
            elif key == "p":
                write_image(_named(".png"), view(self._frozen or composed), mark=mark())
        self._frozen = (self._frozen or composed) if view.frozen else None
        shown = self._frozen or composed
        self._window.show(view(shown), list(self._lines(bool(shown.patches))))
        return True

    def _record(self) -> None:
        """Begins a recording, or ends the one that is on."""
        if self._recorder.target is None:
            self._recorder.start(_named(".mp4"))
        else:
            self._recorder.stop()

    def _lines(self, invented: bool) -> Iterator[str]:
        yield f"{self._figures.rate:.0f} frames/s, {self._figures.last} ms behind"
        if invented:  # the label in the picture may be covered
            yield "faces are invented"
        if self._recorder.target is not None:
            yield f"recording, {self._recorder.seconds:.0f} s"
        if self._view.frozen:
            yield "frozen"
        if self._view.help:
            yield from (f"{key}: {what}" for key, what in KEYS.items())
        elif time.monotonic() < self._hint:
            yield "h: keys"


def _named(suffix: str) -> Path:
    """A name that says when."""
    return Path(f"stream-unmask-{datetime.now():%Y%m%d-%H%M%S-%f}{suffix}")


def live(source: str, options: Options, outputs: Outputs, wanted: Wanted | None = None) -> Figures:
    """How it went, once the source has ended, the window was closed or Ctrl-C was pressed.

    source: as for `Camera`. options: those for files, but no frame waits for others. InputError,
    OutputError, OptionError if something can't be opened, or is lost on the way.
    """
    options = undelayed(options)
    begin, figures = time.monotonic(), Figures()
    with ExitStack() as stack:
        camera = Camera(source, wanted, options.limits, options.hwaccel)
        stack.enter_context(camera)
        told = _tell(camera.warnings, ())
        size, sinks = (camera.width, camera.height), list[Callable[[Composed], bool]]()
        recorder = stack.enter_context(Recorder(camera, outputs.sound, options.overwrite))
        if outputs.record is not None:
            recorder.start(outputs.record)
        if outputs.virtual:
            sinks.append(
                _shown_by(stack.enter_context(virtual_camera(size, float(camera.frame_rate))))
            )
        if outputs.window:
            window = stack.enter_context(open_window(size, camera.source, outputs.full))
            window.show(to_rgb(camera.first), ["opening the engines"])
            sinks.append(Preview(window, recorder, figures))
        parts = stack.enter_context(open_parts(options))
        frames = stack.enter_context(newest(camera, figures.passed_over))
        with suppress(KeyboardInterrupt):
            for composed in unmask_frames(frames, parts, options):
                came = camera.came(composed.frame)
                if not all([sink(composed) for sink in sinks]):
                    break
                figures.shown(came, begin)
                recorder(composed.frame)  # last: the encoder's thread stamps it with its own time
        figures.seconds = time.monotonic() - begin
        _tell(camera.warnings, told)
    return figures


def _tell(warnings: Sequence[str], told: Sequence[str]) -> Sequence[str]:
    """All of them, of which the user now knows."""
    for sentence in warnings:
        if sentence not in told:
            _log.warning(sentence)
    return tuple(warnings)


def _shown_by(send: Callable[[Image], None]) -> Callable[[Composed], bool]:
    """A sink that hands each picture to a function, and never has enough."""

    def show(composed: Composed) -> bool:
        send(to_rgb(composed.frame.picture))
        return True

    return show
