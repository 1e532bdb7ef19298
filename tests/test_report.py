"""The clock: what stages take, in all and of each frame."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from stream_unmask.report import Clock, quantile

Pass = Callable[[float], None]


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """A function that lets seconds pass, which do not pass otherwise."""
    now = 0.0

    def let(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    return let


def test_a_batch_counts_for_each_of_its_frames_in_equal_shares(passing: Pass) -> None:
    clock, frames = Clock(), [object(), object(), object()]
    with clock("segment", *frames):
        passing(0.03)
    assert clock.milliseconds == {}  # there may be more to come
    for frame in frames:
        clock.done(frame)
    assert clock.seconds == {"segment": pytest.approx(0.03)}
    assert clock.milliseconds == {"segment": {10.0: 3}}


def test_the_steps_for_a_frame_are_one_sample(passing: Pass) -> None:
    clock, early, late = Clock(), object(), object()
    for seconds, frames in ((0.001, [early]), (0.002, [late]), (0.004, [early, late])):
        with clock("steady", *frames):
            passing(seconds)
    clock.done(early)
    assert clock.milliseconds["steady"] == {3.0: 1}
    clock.done(late)
    assert clock.milliseconds["steady"] == {3.0: 1, 4.0: 1}
    clock.done(late)
    assert clock.milliseconds["steady"].total() == 2


def test_each_item_is_a_sample_and_the_end_is_none(passing: Pass) -> None:
    def items() -> Iterator[int]:
        for number in range(3):
            passing(0.01)
            yield number
        passing(0.5)

    clock = Clock()
    assert list(clock.each("decode", items())) == [0, 1, 2]
    assert clock.milliseconds["decode"] == {10.0: 3}
    assert clock.seconds["decode"] == pytest.approx(0.53)


def test_what_fails_takes_time_and_is_no_sample(passing: Pass) -> None:
    clock = Clock()

    def fail() -> None:
        with clock("encode"):
            passing(0.2)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    assert clock.seconds == {"encode": pytest.approx(0.2)}
    assert clock.quantiles() == {}


def test_memory_is_bounded_and_quantiles_are_true(passing: Pass) -> None:
    chance, clock = random.Random(0), Clock()
    spent = [chance.lognormvariate(-5, 1.5) for _ in range(50_000)]
    for seconds in spent:
        with clock("find"):
            passing(seconds)
    assert len(clock.milliseconds["find"]) < 4000
    found, wanted = clock.quantiles()["find"], np.percentile(spent, (50, 95)) * 1000
    assert [found["p50"], found["p95"]] == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("values", [[], [3], [3, 1, 1, 2], [5.0] * 7 + [0.5] * 3])
def test_a_quantile_is_the_least_that_so_many_do_not_exceed(values: list[float]) -> None:
    for share in (0.01, 0.5, 0.95, 1.0):
        found = quantile(Counter(values), share)
        assert sum(value <= found for value in values) >= share * len(values)
        assert sum(value < found for value in values) < share * len(values) or not values
        assert found in values or found == 0
