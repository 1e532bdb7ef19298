"""What a run did: counts, times, and what could not be carried."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, TypeVar

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


@dataclass(slots=True)
class Track:
    """One person. first, last: seconds at which they were seen. frames: in which they were seen;
    edited: in which they have an invented face. skipped: the others, by reason."""

    first: float
    last: float
    frames: int = 0
    edited: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to one input.

    frames: written. edited_frames: with at least one invented face. faces, masked_faces: summed
    over frames. tracks: people, by id. seconds: wall time, stages: seconds in each (they overlap).
    backend: what the networks really ran on. decoder: what the picture was decoded with, as
    "h264", or "h264 (cuda)" in hardware, or both. encoder: what it was encoded with. carried:
    streams that were copied, dropped: what the output can't hold. damaged: packets that could not
    be decoded.
    """

    source: str
    target: str
    profile: str
    backend: str
    decoder: str
    encoder: str
    frames: int
    edited_frames: int
    faces: int
    masked_faces: int
    seconds: float
    stages: dict[str, float]
    tracks: dict[int, Track] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    damaged: int = 0

    @property
    def people(self) -> int:
        """How many people were seen."""
        return len(self.tracks)


@dataclass(frozen=True, slots=True)
class Failure:
    """An input of which there is no output. status: "failed" or "skipped"; why: one sentence."""

    source: str
    target: str
    why: str
    status: str = "failed"


def to_json(outcomes: Sequence[Report | Failure]) -> str:
    """All that happened to a batch of inputs, as JSON that fits docs/report.schema.json."""
    files: list[dict[str, Any]] = []
    for outcome in outcomes:
        facts = asdict(outcome)
        if isinstance(outcome, Report):
            facts["status"] = "done"
            facts["tracks"] = [{"id": key, **track} for key, track in facts["tracks"].items()]
        files.append(facts)
    return json.dumps({"stream_unmask": version("stream-unmask"), "files": files}, indent=2)
