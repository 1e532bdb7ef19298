"""The only threads: one that fetches ahead of its consumer, one that stores behind its producer.

All belong to a `with` block and are gone when it ends, however it ends. Close them before the
files they work on, that is, name them last in the `with` statement.

Ctrl-C is raised in the main thread between any two steps of Python, also amid those of `Queue`,
`Event` and `Thread`, whose locks it would leave in disorder (a thread whose `join` is interrupted
counts as dead). So nothing here is shared but what a single step changes, and starting and joining
are not disturbed.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Generic, TypeVar

T = TypeVar("T")
_MOMENT = 0.02  # seconds after which a thread is urged again


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in a queue; error is why, None after a regular end."""

    error: BaseException | None = None


class _Queue(Generic[T]):
    """Holds up to `size` items and then an end."""

    def __init__(self, size: int) -> None:
        self._things: SimpleQueue[_Item[T] | _End] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._room.put(None)

    def put(self, value: T) -> None:
        """Nothing comes back; waits for room."""
        self._room.get()
        self._things.put(_Item(value))

    def take_back(self) -> T | None:
        """What was put last, if nobody has got it yet, and there is room again."""
        try:
            thing = self._things.get_nowait()
        except Empty:
            return None
        assert isinstance(thing, _Item)  # who takes back has not put an end yet
        self._room.put(None)
        return thing.value

    def end(self, error: BaseException | None = None) -> None:
        """Nothing comes back; what was put before is still received."""
        self._things.put(_End(error))

    def drop(self) -> None:
        """Nothing comes back; nothing is left in the queue, and nobody waits for room."""
        try:
            while True:
                self._things.get_nowait()
                self._room.put(None)
        except Empty:
            self._room.put(None)

    def __iter__(self) -> Iterator[T]:
        """The items, until the end, whose error is raised."""
        while isinstance(thing := self._things.get(), _Item):
            self._room.put(None)
            yield thing.value
        if thing.error is not None:
            raise thing.error


@contextmanager
def prefetch(source: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """An iterator over `source`, which runs in a thread of its own, up to `size` items ahead.

    An exception in the source is raised where the item would have come. Leaving the block stops
    the source after the item it is at, closes it if it is a generator, and joins the thread.
    """
    with _running(source, _Queue(size)) as items:
        yield items


@contextmanager
def _running(source: Iterable[T], queue: _Queue[T]) -> Iterator[Iterator[T]]:
    """What a source, run in a thread of its own, puts into a queue."""
    stopped = False

    def work() -> None:
        error = None
        try:
            with _closed(source) as iterator:
                for value in iterator:
                    queue.put(value)
                    if stopped:
                        break
        except BaseException as caught:
            error = caught
        queue.end(error)

    thread = Thread(target=work, name="prefetch")
    try:
        with _undisturbed():
            thread.start()
        yield iter(queue)
    finally:
        stopped = True
        _join(thread, queue.drop)


@contextmanager
def _closed(source: Iterable[T]) -> Iterator[Iterator[T]]:
    """An iterator over a source; a generator is closed when the block ends."""
    iterator = iter(source)
    try:
        yield iterator
    finally:
        getattr(iterator, "close", lambda: None)()


@contextmanager
def newest(source: Iterable[T], join: Callable[[T, T], T]) -> Iterator[Iterator[T]]:
    """As `prefetch`, but an item that nobody has fetched makes room for the next: what is fetched
    is the newest there is, and nothing queues up.

    join(old, new): what takes the place of both; it runs in the thread of the source.
    """
    queue: _Queue[T] = _Queue(1)

    def joined() -> Iterator[T]:
        with _closed(source) as iterator:
            for value in iterator:
                late = queue.take_back()
                yield value if late is None else join(late, value)

    with _running(joined(), queue) as items:
        yield items


@contextmanager
def background(sink: Callable[[T], object], size: int) -> Iterator[Callable[[T], None]]:
    """A function that hands its argument to `sink`, which runs in a thread, up to `size` behind.

    A clean end of the block waits until the sink has had everything; any exception drops what is
    queued. An exception in the sink is raised by the next call, or at the end of the block.
    """
    queue: _Queue[T] = _Queue(size)
    stopped = False
    failures: list[BaseException] = []
    done: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        for value in queue:  # to the very end, so that no one waits for a full queue
            if failures or stopped:
                continue
            try:
                sink(value)
            except BaseException as caught:
                failures.append(caught)
        done.put(None)

    def put(value: T) -> None:
        if failures:
            raise failures[0]
        queue.put(value)

    thread = Thread(target=work, name="background")
    try:
        with _undisturbed():
            thread.start()
        yield put
        queue.end()
        done.get()
    finally:
        stopped = True
        _join(thread, queue.end)
    if failures:
        raise failures[0]


def _join(thread: Thread, urge: Callable[[], None]) -> None:
    """Nothing comes back until the thread is gone."""
    with _undisturbed():
        while thread.is_alive():
            urge()
            thread.join(_MOMENT)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A Ctrl-C within the block is raised at its end."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or current_thread() is not main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        usual(*came[0])
