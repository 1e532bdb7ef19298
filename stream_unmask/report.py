"""What a run did: counts, times and what could not be carried."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Clock:
    """Seconds spent per stage. Each stage is timed by one thread only."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the time that its `with` block takes to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time to get each is added to a stage."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


@dataclass(frozen=True, slots=True)
class Report:
    """What `unmask_video` did.

    frames: written. edited_frames: with at least one invented face. faces, masked_faces: summed
    over frames. people: tracks. seconds: wall time, stages: seconds in each (stages overlap).
    backend: what the networks really ran on. dropped: streams that the output can't hold.
    """

    source: str
    target: str
    frames: int
    edited_frames: int
    faces: int
    masked_faces: int
    people: int
    seconds: float
    stages: dict[str, float]
    backend: str
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), indent=2)
