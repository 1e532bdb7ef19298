"""Pictures of several cameras through one set of engines, in turns, newest first.

One thread does it all: two networks at once would only take each other's processor. So with each
camera more all get fewer pictures a second, none of them late.
"""

import asyncio
import logging
import time
from asyncio import AbstractEventLoop, Queue
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any, Self

from stream_unmask.errors import UnmaskError
from stream_unmask.options import Options, undelayed
from stream_unmask.pipeline import Composed, Parts, open_parts, unmask_frames
from stream_unmask.prefetch import background
from stream_unmask.video.frame import Frame

_log = logging.getLogger("stream_unmask")
_AT_ONCE = undelayed(Options(label=True))
_RECENT = 30  # pictures over which is counted

Picture = Any  # PyAV's frame, which only passes through here


class Sitting:
    """What one camera sees, with the masks gone.

    results: the newest picture, if it was not fetched yet; an UnmaskError in its place is the last.
    """

    def __init__(self, studio: "Studio") -> None:
        self.results: Queue[Picture | UnmaskError] = Queue(1)
        self._studio = studio
        self._newest: tuple[Picture, float] | None = None
        self._at_work = False
        self._closed = False
        self._waiting: deque[Frame] = deque()
        self._composed: Iterator[Composed] | None = None
        self._done: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # (when, after how long)

    def show(self, picture: Picture) -> None:
        """Nothing comes back; the picture takes the place of one that nobody has looked at yet."""
        self._newest = (picture, time.monotonic())
        self._go_on()

    def close(self) -> None:
        """Nothing comes back; no more pictures are worked on."""
        self._closed, self._newest = True, None

    def figures(self) -> dict[str, float]:
        """rate: pictures a second, latency: milliseconds in the middle; empty without any."""
        if len(self._done) < 2:
            return {}
        spent = max(time.monotonic() - self._done[0][0], 1e-3)
        late = median(late for _, late in self._done)
        return {"rate": (len(self._done) - 1) / spent, "latency": 1000 * late}

    def _go_on(self) -> None:
        if not self._at_work and self._newest is not None:
            self._at_work = True
            self._studio.do(self)

    def step(self, parts: Parts, loop: AbstractEventLoop) -> None:
        """Nothing comes back; the newest picture is worked on, in the studio's thread."""
        newest, self._newest = self._newest, None
        if newest is None:
            loop.call_soon_threadsafe(self._put, None, 0.0)
            return
        picture, came = newest
        result: Picture | UnmaskError
        try:
            if self._composed is None:
                self._composed = unmask_frames(self._frames(), parts, _AT_ONCE)
            self._waiting.append(Frame(picture))
            result = next(self._composed).frame.picture
        except Exception as error:
            _log.exception("A camera's picture could not be worked on.")
            result = UnmaskError(f"The picture can't be worked on ({type(error).__name__}).")
        loop.call_soon_threadsafe(self._put, result, came)

    def fail(self, error: UnmaskError, loop: AbstractEventLoop) -> None:
        """Nothing comes back; the error is what is fetched next, from the studio's thread."""
        loop.call_soon_threadsafe(self._put, error, 0.0)

    def _frames(self) -> Iterator[Frame]:
        """One frame for each that is asked for: nothing here looks ahead."""
        while True:
            yield self._waiting.popleft()

    def _put(self, result: Picture | UnmaskError | None, came: float) -> None:
        self._at_work = False
        if self._closed:
            return
        if result is None:
            self._go_on()
            return
        if self.results.full():
            self.results.get_nowait()
        self.results.put_nowait(result)
        if isinstance(result, UnmaskError):
            self._closed = True
            return
        now = time.monotonic()
        self._done.append((now, now - came))
        self._go_on()


class Studio:
    """The engines, opened when the first camera comes, and the thread that runs them.

    Use it in a `with` block, from one event loop. most: cameras at a time. precision: as in
    `Options`.
    """

    def __init__(self, most: int, precision: str) -> None:
        self._options = replace(_AT_ONCE, precision=precision)
        # A camera that is gone may have one picture left in the queue.
        self._stack, self._size = ExitStack(), 4 * most + 4
        self._parts: Parts | None = None
        self._queued = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._engines = self._stack.enter_context(ExitStack())
        self._put = self._stack.enter_context(background(self._work, self._size))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def crowded(self) -> bool:
        """True while there is more to do than cameras can ask for."""
        return self._queued > self._size // 2

    def open(self) -> Sitting:
        """A place for one camera."""
        sitting = Sitting(self)
        sitting._at_work = True  # with opening the engines
        self.do(sitting)
        return sitting

    def do(self, sitting: Sitting) -> None:
        """Nothing comes back; it is the camera's turn after those that asked before."""
        self._queued += 1
        self._put(sitting)

    def _work(self, sitting: Sitting) -> None:
        try:
            if self._parts is None:
                self._parts = self._engines.enter_context(open_parts(self._options))
            sitting.step(self._parts, self._loop)
        except UnmaskError as error:
            sitting.fail(error, self._loop)
        except Exception as error:
            _log.exception("The engines could not be opened.")
            sitting.fail(UnmaskError(f"No engine could be opened ({error})."), self._loop)
        finally:
            self._loop.call_soon_threadsafe(self._did)

    def _did(self) -> None:
        self._queued -= 1
