import signal
import threading
import time
from collections.abc import Iterator

import pytest

from stream_unmask.prefetch import background, newest, prefetch


@pytest.fixture(autouse=True)
def _no_thread_outlives_a_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def endless(closed: list[str]) -> Iterator[int]:
    try:
        yield from range(10**9)
    finally:
        closed.append(threading.current_thread().name)


def test_prefetch_keeps_the_order() -> None:
    with prefetch(iter(range(100)), 3) as items:
        assert list(items) == list(range(100))


def test_prefetch_runs_at_most_so_far_ahead() -> None:
    produced: list[int] = []
    source = (produced.append(i) or i for i in range(100))
    with prefetch(source, 2) as items:
        next(items)
        time.sleep(0.05)
        assert len(produced) <= 4


def test_prefetch_passes_errors_on_after_the_items_before() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    got: list[int] = []
    with prefetch(broken(), 4) as items, pytest.raises(OSError, match="gone"):
        got.extend(items)
    assert got == [1]


@pytest.mark.parametrize("size", [1, 4])
def test_leaving_early_closes_the_source_in_its_thread(size: int) -> None:
    closed: list[str] = []
    with prefetch(endless(closed), size) as items:
        assert next(items) == 0
    assert closed == ["prefetch"]


def test_leaving_by_an_error_closes_the_source() -> None:
    closed: list[str] = []
    with pytest.raises(ZeroDivisionError), prefetch(endless(closed), 2) as items:
        _ = next(items) / 0
    assert closed == ["prefetch"]


def test_nested_blocks_end_in_order() -> None:
    closed: list[str] = []
    with prefetch(endless(closed), 2) as inner, prefetch((i * 2 for i in inner), 2) as outer:
        assert [next(outer) for _ in range(3)] == [0, 2, 4]
    assert closed == ["prefetch"]


def test_ctrl_c_while_waiting_ends_the_thread() -> None:
    release = threading.Event()

    def slow() -> Iterator[int]:
        release.wait(5)
        yield 1

    main = threading.main_thread().ident
    assert main is not None
    interrupt = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))
    freed = threading.Timer(0.3, release.set)
    interrupt.start()
    freed.start()
    with pytest.raises(KeyboardInterrupt), prefetch(slow(), 1) as items:
        next(items)
    interrupt.join()
    freed.join()


def test_background_has_had_everything_at_the_end() -> None:
    got: list[int] = []

    def sink(item: int) -> None:
        time.sleep(0.001)
        got.append(item)

    with background(sink, 2) as put:
        for item in range(30):
            put(item)
    assert got == list(range(30))


def test_background_raises_at_the_next_call() -> None:
    def sink(item: int) -> None:
        raise OSError(f"disk full at {item}")

    calls: list[int] = []

    def body() -> None:
        with background(sink, 1) as put:
            for item in range(1000):
                put(item)
                calls.append(item)
                time.sleep(0.001)

    with pytest.raises(OSError, match="disk full at 0"):
        body()
    assert len(calls) < 1000


def test_background_raises_at_the_end_what_came_last() -> None:
    def sink(item: int) -> None:
        time.sleep(0.02)
        raise OSError("late")

    with pytest.raises(OSError, match="late"), background(sink, 4) as put:
        put(1)


def test_background_drops_the_queue_on_an_error() -> None:
    got: list[int] = []
    gate = threading.Event()
    opener = threading.Timer(0.05, gate.set)

    def sink(item: int) -> None:
        gate.wait(5)
        got.append(item)

    def body() -> None:
        with background(sink, 8) as put:
            for item in range(6):
                put(item)
            opener.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    opener.join()
    assert got in ([], [0])


def test_the_newest_is_fetched_and_nothing_is_lost() -> None:
    done = threading.Event()

    def source() -> Iterator[list[int]]:
        for number in range(20):
            yield [number]
        done.set()

    with newest(source(), lambda old, new: old + new) as items:
        got = [next(items)]
        assert done.wait(10)
        got.extend(items)
    assert len(got) <= 3  # the first, what may have waited behind it, and all the rest as one
    assert [number for item in got for number in item] == list(range(20))


def test_the_newest_of_a_slow_source_is_waited_for() -> None:
    def source() -> Iterator[int]:
        for number in range(5):
            time.sleep(0.01)
            yield number

    with newest(source(), lambda _, new: new) as items:
        assert list(items) == list(range(5))


def test_newest_passes_errors_on_and_closes_its_source() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    got: list[int] = []
    with newest(broken(), lambda _, new: new) as items, pytest.raises(OSError, match="gone"):
        got.extend(items)
    assert got == [1]
    closed: list[str] = []
    with newest(endless(closed), lambda _, new: new) as items:
        next(items)
    assert closed == ["prefetch"]
