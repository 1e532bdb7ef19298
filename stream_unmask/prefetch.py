"""The only threads: one that fetches ahead of its consumer, one that stores behind its producer.

Both belong to a `with` block and are gone when it ends, however it ends. Close them before the
files they work on, that is, name them last in the `with` statement.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread, current_thread, main_thread
from types import FrameType
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in a queue; error is why, None after a regular end."""

    error: BaseException | None = None


@contextmanager
def prefetch(source: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """An iterator over `source`, which runs in a thread of its own, up to `size` items ahead.

    An exception in the source is raised where the item would have come. Leaving the block stops
    the source after the item it is at, closes it if it is a generator, and joins the thread.
    """
    queue: Queue[_Item[T] | _End] = Queue(size)
    stop = Event()

    def work() -> None:
        error = None
        try:
            iterator = iter(source)
            try:
                for value in iterator:
                    queue.put(_Item(value))
                    if stop.is_set():
                        break
            finally:
                getattr(iterator, "close", lambda: None)()
        except BaseException as caught:
            error = caught
        queue.put(_End(error))

    thread = Thread(target=work, name="prefetch")
    try:
        _start(thread)
        yield _received(queue)
    finally:
        stop.set()
        _join(thread, lambda: _empty(queue))


@contextmanager
def background(sink: Callable[[T], object], size: int) -> Iterator[Callable[[T], None]]:
    """A function that hands its argument to `sink`, which runs in a thread, up to `size` behind.

    A clean end of the block waits until the sink has had everything; any exception drops what is
    queued. An exception in the sink is raised by the next call, or at the end of the block.
    """
    queue: Queue[_Item[T] | _End] = Queue(size)
    stop = Event()
    failures: list[BaseException] = []

    def work() -> None:
        for value in _received(queue):  # to the very end, so that no one waits for a full queue
            if failures or stop.is_set():
                continue
            try:
                sink(value)
            except BaseException as caught:
                failures.append(caught)

    def put(value: T) -> None:
        if failures:
            raise failures[0]
        queue.put(_Item(value))

    thread = Thread(target=work, name="background")
    try:
        _start(thread)
        yield put
        queue.put(_End())
        thread.join()
    finally:
        stop.set()
        _join(thread, lambda: _replace(queue, _End()))
    if failures:
        raise failures[0]


def _received(queue: Queue[_Item[T] | _End]) -> Iterator[T]:
    """The values out of the queue, until its end."""
    while isinstance(item := queue.get(), _Item):
        yield item.value
    if item.error is not None:
        raise item.error


def _start(thread: Thread) -> None:
    """Nothing comes back; the thread runs, whatever happens.

    A Ctrl-C waits until then: Python's own start leaves a thread that nobody knows to be running.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is None or current_thread() is not main_thread():  # it is not ours to change
        thread.start()
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        thread.start()
    finally:
        signal.signal(signal.SIGINT, usual)
    if came and callable(usual):
        usual(*came[0])


def _join(thread: Thread, unblock: Callable[[], None]) -> None:
    """Nothing comes back until the thread is gone; a Ctrl-C meanwhile is raised afterwards."""
    interrupt = None
    while thread.is_alive():
        try:
            unblock()
            thread.join(0.02)
        except KeyboardInterrupt as caught:
            interrupt = caught
    if interrupt is not None:
        raise interrupt


def _empty(queue: Queue[_Item[T] | _End]) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return


def _replace(queue: Queue[_Item[T] | _End], end: _End) -> None:
    """Make the end the next thing in the queue."""
    _empty(queue)
    queue.put(end)
