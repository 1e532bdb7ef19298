"""The files of all visitors and what becomes of them: one after the other, kept for a while."""

import asyncio
import logging
import secrets
import shutil
import time
from asyncio import Event, Task, TimerHandle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from stream_unmask.errors import UnmaskError
from stream_unmask.web import child, work
from stream_unmask.web.settings import Settings

_log = logging.getLogger("stream_unmask")
_LOOKS = 2  # files that are looked at at a time


class State(StrEnum):
    """What is done with a job; the last three are for good."""

    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FullError(UnmaskError):
    """There is no room for one more job. mine: because of the visitor's own. wait: seconds."""

    def __init__(self, text: str, mine: bool, wait: float) -> None:
        super().__init__(text)
        self.mine = mine
        self.wait = wait


@dataclass(slots=True, eq=False)
class Job:
    """A file of a visitor, in a folder of its own.

    owner: whose it is. name: what they call it. task, found: how it is worked on, and what it is,
    known once it is queued. done, total: seconds of video, None if unknown. left: seconds to wait,
    a guess. error: why it failed. report: what was done. created, ended: by the clock.
    """

    id: str
    owner: str
    folder: Path
    state: State = State.UPLOADING
    name: str = ""
    task: work.Task | None = None
    found: work.Found = field(default_factory=work.Found)
    done: float = 0.0
    total: float | None = None
    left: float | None = None
    error: str | None = None
    report: dict[str, Any] | None = None
    created: float = field(default_factory=time.time)
    ended: float | None = None
    began: float = 0.0
    changed: Event = field(default_factory=Event)
    running: Task[None] | None = None
    expiry: TimerHandle | None = None

    @property
    def source(self) -> Path:
        """Where the upload lies."""
        return self.folder / "source"

    @property
    def target(self) -> Path:
        """Where the result lies, once it is done."""
        return self.folder / f"result{self.found.suffix}"

    def tell(self) -> None:
        """Nothing comes back; who waits for a change goes on."""
        self.changed.set()
        self.changed = Event()

    def note(self, step: child.Step) -> None:
        """Nothing comes back; a step of the work is part of what is known."""
        self.report = step.get("report", self.report)
        if "done" in step:
            self.done, self.total = step["done"], step["total"]
            if self.total and self.done:
                spent = time.monotonic() - self.began
                self.left = max(0.0, spent * (self.total - self.done) / self.done)
        self.tell()


class Jobs:
    """All jobs, in a temporary folder; use it in an `async with` block, whose end removes all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[str, Job] = {}  # in the order in which they came
        self._queue: list[Job] = []  # in the order in which they wait
        self._running: set[Task[None]] = set()
        self._looks = asyncio.Semaphore(_LOOKS)

    async def __aenter__(self) -> Self:
        self._home = TemporaryDirectory(prefix="stream-unmask-", ignore_cleanup_errors=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            for job in [*self._jobs.values()]:
                self.remove(job)
            await asyncio.gather(*self._running, return_exceptions=True)
        finally:
            self._home.cleanup()

    def of(self, owner: str) -> list[Job]:
        """A visitor's jobs, in the order in which they came."""
        return [job for job in self._jobs.values() if job.owner == owner]

    def find(self, owner: str, name: str) -> Job | None:
        """A visitor's job by its id."""
        job = self._jobs.get(name)
        return job if job is not None and job.owner == owner else None

    def before(self, job: Job) -> int:
        """How many jobs are to be done first."""
        return len(self._running) + self._queue.index(job) if job in self._queue else 0

    @contextmanager
    def arriving(self, owner: str) -> Iterator[Job]:
        """A new job, to put a file into; any exception removes it. FullError if none has room."""
        self._hold_against_limits(owner)
        name = secrets.token_urlsafe(16)
        job = Job(name, owner, Path(self._home.name) / name)
        job.folder.mkdir()
        self._jobs[name] = job
        try:
            yield job
        except BaseException:
            self.remove(job)
            raise

    async def queue(self, job: Job, task: work.Task) -> None:
        """Nothing comes back; the job waits for its turn. TaskError if its file is of no use."""
        async with self._looks:
            job.found = await child.looked_at(task)
        job.name, job.task = task.name, replace(task, target=str(job.target))
        if job.id in self._jobs:  # nobody has removed it meanwhile
            job.state = State.QUEUED
            self._queue.append(job)
            self._start()

    def remove(self, job: Job) -> None:
        """Nothing comes back; the job is stopped, forgotten, and its files are gone or soon will
        be."""
        if self._jobs.pop(job.id, None) is None:
            return
        if job.expiry is not None:
            job.expiry.cancel()
        if job.ended is None:
            job.state, job.ended = State.CANCELLED, time.time()
        if job in self._queue:
            self._queue.remove(job)
        if job.running is not None:
            job.running.cancel()  # at whose end the files go
        else:
            shutil.rmtree(job.folder, ignore_errors=True)
        job.tell()
        self._tell_waiting()

    def _hold_against_limits(self, owner: str) -> None:
        limits = self._settings
        if len(self.of(owner)) >= limits.jobs:
            text = f"You have as many files here as are kept ({limits.jobs}): remove one first."
            raise FullError(text, True, self._wait(self.of(owner)))
        if len(self._jobs) >= limits.all_jobs:
            text = "The server has as many files as it can keep: try again later."
            raise FullError(text, False, self._wait([*self._jobs.values()]))

    def _wait(self, jobs: list[Job]) -> float:
        """Seconds until the first of them goes, if nobody removes one."""
        ends = [job.ended + self._settings.keep for job in jobs if job.ended is not None]
        return max(1.0, min(ends, default=time.time() + 60) - time.time())

    def _start(self) -> None:
        """Nothing comes back; as many jobs run as may."""
        while self._queue and len(self._running) < self._settings.at_once:
            job = self._queue.pop(0)
            job.state, job.began = State.RUNNING, time.monotonic()
            job.running = asyncio.create_task(self._run(job))
            self._running.add(job.running)
            job.running.add_done_callback(partial(self._over, job))
            job.tell()
        self._tell_waiting()

    async def _run(self, job: Job) -> None:
        assert job.task is not None
        try:
            async with child.steps(job.task) as steps:
                async for step in steps:
                    job.note(step)
            self._end(job, State.DONE)
        except child.TaskError as error:
            self._end(job, State.FAILED, str(error))
        except Exception:
            _log.exception("A job could not be run.")
            self._end(job, State.FAILED, f"{job.name} can't be worked on: the server has a fault.")

    def _over(self, job: Job, running: Task[None]) -> None:
        """Nothing comes back; the next job runs, and files that are no use any more are gone."""
        if job.state is not State.DONE:
            shutil.rmtree(job.folder, ignore_errors=True)
        self._running.discard(running)
        job.running = None
        self._start()

    def _end(self, job: Job, state: State, error: str | None = None) -> None:
        if job.ended is not None:  # removed in its last moment
            return
        job.state, job.error, job.ended, job.left = state, error, time.time(), None
        loop = asyncio.get_running_loop()
        job.expiry = loop.call_later(self._settings.keep, self.remove, job)
        job.tell()

    def _tell_waiting(self) -> None:
        for job in self._queue:
            job.tell()
