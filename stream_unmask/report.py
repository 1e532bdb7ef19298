"""What a run did: counts, times, and what could not be carried."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, TypeVar

T = TypeVar("T")
Number = TypeVar("Number", int, float)


@dataclass(slots=True)
class Clock:
    """Seconds spent per stage, in all and on each frame. Each stage is timed by one thread only.

    What is done for several frames at once, as a batch is, counts for each of them in equal shares;
    what is done for a frame in several steps is added up until it is `done`.

    seconds: of each stage, in all. milliseconds: by stage, how many frames took so many, which are
    kept to three digits: however long a run is, there are only so many different ones.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    milliseconds: dict[str, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    _shares: dict[int, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str, *frames: object) -> Iterator[None]:
        """Adds the time that its `with` block takes to a stage.

        frames: for which it is a step; without any, it is all that the stage does for one frame.
        """
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        for frame in frames:
            shares = self._shares.setdefault(id(frame), {})
            shares[stage] = shares.get(stage, 0.0) + spent / len(frames)
        if not frames:
            self._count(stage, spent)

    def done(self, frame: object) -> None:
        """Nothing comes back; there are no more steps for the frame."""
        for stage, spent in self._shares.pop(id(frame), {}).items():
            self._count(stage, spent)

    def _count(self, stage: str, spent: float) -> None:
        self.milliseconds[stage][float(f"{1000 * spent:.3g}")] += 1

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time to get each is added to a stage."""
        iterator = iter(items)
        while True:
            try:
                with self(stage):
                    item = next(iterator)
            except StopIteration:
                return
            yield item

    def quantiles(self) -> dict[str, dict[str, float]]:
        """By stage, "p50" and "p95": the milliseconds that so many of 100 frames don't exceed."""
        return {
            stage: {f"p{share}": quantile(counts, share / 100) for share in (50, 95)}
            for stage, counts in self.milliseconds.items()
        }


def quantile(counts: Mapping[Number, int], share: float) -> Number:
    """The least value that a share of all, 0..1, does not exceed; 0 without any.

    counts: how often there is each value.
    """
    total, wanted = 0, share * sum(counts.values())
    for value in sorted(counts):
        total += counts[value]
        if total >= wanted:
            return value
    return 0


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
    stage_ms: by stage, milliseconds a frame, as `Clock.quantiles` says them; empty where segments
    were joined, of which only sums are known. backend: what the networks really ran on. decoder:
    what the picture was decoded with, as "h264", or "h264 (cuda)" in hardware, or both. encoder:
    what it was encoded with. carried: streams that were copied, dropped: what the output can't
    hold. damaged: packets that could not be decoded.
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
    stage_ms: dict[str, dict[str, float]] = field(default_factory=dict)
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
