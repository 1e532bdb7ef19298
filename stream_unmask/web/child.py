"""The process in which a task is worked on, as the server sees it."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from stream_unmask.errors import UnmaskError
from stream_unmask.web.work import Found, Task

_GRACE = 5.0  # seconds in which it may tidy up, as the engines' cache
_SILENCE = 300.0  # seconds without a word after which it is given up
_LINE = 1 << 24  # bytes of a report at the most

Step = dict[str, Any]


class TaskError(UnmaskError):
    """A task came to nothing; the text is one sentence for its owner. input: it is the file's
    fault."""

    def __init__(self, text: str, *, input: bool = False) -> None:
        super().__init__(text)
        self.input = input


async def looked_at(task: Task) -> Found:
    """What a file is; TaskError if it can't be used."""
    async with steps(task) as said:
        async for step in said:
            if "found" in step:
                return Found(**step["found"])
    raise TaskError(f"{task.name} could not be opened.")


@asynccontextmanager
async def steps(task: Task) -> AsyncIterator[AsyncIterator[Step]]:
    """The steps of a task as they are made; leaving the block ends the process.

    TaskError is raised where an error is said, or nothing.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stream_unmask.web.work",
        stdin=PIPE, stdout=PIPE, limit=_LINE, start_new_session=True,  # Ctrl-C is for the server
    )  # fmt: skip
    try:
        assert process.stdin is not None
        with suppress(ConnectionError):  # then it says nothing, either
            process.stdin.write(json.dumps(asdict(task)).encode())
            process.stdin.close()
        yield _said(process, task)
    finally:
        await asyncio.shield(asyncio.ensure_future(_end(process)))


async def _said(process: Process, task: Task) -> AsyncIterator[Step]:
    assert process.stdout is not None
    last: Step = {}
    while True:
        try:
            async with asyncio.timeout(_SILENCE):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise TaskError(f"{task.name} was given up, as it got no further.") from error
        if not line:
            break
        last = json.loads(line)
        if "error" in last:
            raise TaskError(last["error"], input=last["input"])
        yield last
    if not {"found", "report"} & {*last}:
        raise TaskError(f"{task.name} can't be worked on: the process for it broke down.")


async def _end(process: Process) -> None:
    """Nothing comes back; the process is gone."""
    with suppress(ProcessLookupError):
        if process.returncode is None and sys.platform != "win32":
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await process.wait()
        if process.returncode is None:
            process.kill()
    await process.wait()
