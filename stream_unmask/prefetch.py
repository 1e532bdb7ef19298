"""The only threads: one that fetches ahead of its consumer, one that stores behind its producer.

Both belong to a `with` block and are gone when it ends, however it ends. Close them before the
files they work on, that is, name them last in the `with` statement.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
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
    thread.start()
    try:
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
    thread.start()
    try:
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
