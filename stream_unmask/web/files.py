"""The REST API of the file half: `/jobs` and what lies below."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream_unmask.models.profile import PORTRAIT, PROFILES
from stream_unmask.web.child import TaskError
from stream_unmask.web.jobs import FullError, Job, Jobs, State
from stream_unmask.web.settings import Settings
from stream_unmask.web.upload import received
from stream_unmask.web.work import Task

_STILL_THERE = 15.0  # seconds after which a silent stream of events says so
_OFTEN = 0.2  # seconds from one event to the next
_MEDIA = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}

router = APIRouter(tags=["files"])


class Problem(BaseModel):
    """Why not, in one sentence."""

    detail: str


class Choices(BaseModel):
    """The fields of the form beside the file, all of which may be left out."""

    model_config = ConfigDict(extra="forbid")
    profile: Literal[*PROFILES] = PORTRAIT.name  # type: ignore[valid-type]
    label: bool = Field(False, description="Draw a visible label.")
    quality: int | None = Field(None, ge=1, le=51, description="crf of a video; lower is better.")


class JobView(BaseModel):
    """What a visitor is told of a job.

    before: jobs to be done first. progress: 0..1, null while unknown. seconds_left: a guess.
    created, expires: seconds since 1970; at `expires` it is removed.
    """

    id: str
    name: str
    kind: Literal["video", "picture"]
    state: State
    before: int
    progress: float | None
    seconds_left: float | None
    error: str | None
    created: float
    expires: float | None


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in codes}


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _job(job_id: str, request: Request) -> Job:
    """The visitor's job; 404 for another's as for none."""
    job = _jobs(request).find(request.state.visitor, job_id)
    if job is None:
        raise HTTPException(404, "There is no such file, or no more.")
    return job


def _done(job: Annotated[Job, Depends(_job)]) -> Job:
    if job.state is not State.DONE:
        raise HTTPException(409, job.error or f"{job.name} is not done yet.")
    return job


Server = Annotated[Jobs, Depends(_jobs)]
Chosen = Annotated[Settings, Depends(_settings)]
Mine = Annotated[Job, Depends(_job)]
Done = Annotated[Job, Depends(_done)]


def view(job: Job, jobs: Jobs, settings: Settings) -> JobView:
    """What its owner is told."""
    progress = min(job.done / job.total, 1.0) if job.total else None
    return JobView(
        id=job.id, name=job.name, kind="picture" if job.found.still else "video",
        state=job.state, before=jobs.before(job),
        progress=1.0 if job.state is State.DONE else progress, seconds_left=job.left,
        error=job.error, created=job.created,
        expires=None if job.ended is None else job.ended + settings.keep,
    )  # fmt: skip


def _form() -> dict[str, Any]:
    """The form, for the description of the API: it is read piece by piece, not by FastAPI."""
    schema = Choices.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "A video or a picture."}
    schema["properties"] = {"file": file, **schema["properties"]}
    schema["required"] = ["file"]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


@router.post(
    "/jobs",
    status_code=201,
    openapi_extra=_form(),
    responses=_problems(400, 408, 413, 415, 422, 429, 503, 507),
)
async def create_job(
    request: Request, response: Response, jobs: Server, settings: Chosen
) -> JobView:
    """Takes a video or a picture, to paint invented faces where people in it wear masks."""
    try:
        with jobs.arriving(request.state.visitor) as job:
            name, fields = await received(request, job.source, settings.upload)
            task = Task(
                str(job.source), name, pixels=settings.pixels, minutes=settings.minutes,
                precision=settings.precision, **_choices(fields).model_dump(),
            )  # fmt: skip
            await jobs.queue(job, task)
    except FullError as error:
        wait = {"Retry-After": str(round(error.wait))}
        raise HTTPException(429 if error.mine else 503, str(error), wait) from error
    except TaskError as error:
        raise HTTPException(415 if error.input else 503, str(error)) from error
    response.headers["Location"] = f"/jobs/{job.id}"
    return view(job, jobs, settings)


def _choices(fields: dict[str, str]) -> Choices:
    try:
        return Choices.model_validate({k: v for k, v in fields.items() if v != ""})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HTTPException(422, f"The field {where} has no such value.") from error


@router.get("/jobs")
async def list_jobs(request: Request, jobs: Server, settings: Chosen) -> list[JobView]:
    """The visitor's files, in the order in which they came."""
    return [view(job, jobs, settings) for job in jobs.of(request.state.visitor)]


@router.get("/jobs/{job_id}", responses=_problems(404))
async def show_job(job: Mine, jobs: Server, settings: Chosen) -> JobView:
    """How far a file is."""
    return view(job, jobs, settings)


@router.delete("/jobs/{job_id}", status_code=204, responses=_problems(404))
async def remove_job(job: Mine, jobs: Server) -> None:
    """Stops the work on a file if need be, and deletes it with all that was made of it."""
    jobs.remove(job)


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **_problems(404)},
)
async def follow_job(job: Mine, jobs: Server, settings: Chosen) -> StreamingResponse:
    """The file as in `GET /jobs/{job_id}`, again at each change, as server-sent events; the last
    one is done, failed or cancelled."""

    async def events() -> AsyncIterator[str]:
        while True:
            changed = job.changed
            yield f"data: {view(job, jobs, settings).model_dump_json()}\n\n"
            if job.ended is not None:
                return
            await asyncio.sleep(_OFTEN)
            while not changed.is_set():
                try:
                    async with asyncio.timeout(_STILL_THERE):
                        await changed.wait()
                except TimeoutError:
                    yield ": still there\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {}}},
    206: {"description": "The range that was asked for.", "content": {"*/*": {}}},
    400: {"description": "The range can't be read.", "content": {"text/plain": {}}},
    416: {"description": "There is no such range.", "content": {"text/plain": {}}},
}


@router.get(
    "/jobs/{job_id}/result",
    response_class=FileResponse,
    responses={**_FILE, **_problems(404, 409)},
)
async def fetch_result(job: Done) -> FileResponse:
    """The file with invented faces; videos are MP4, to be played while they load."""
    name = f"{Path(job.name).stem}-unmasked{job.found.suffix}"
    return FileResponse(job.target, media_type=_MEDIA[job.found.suffix], filename=name)


@router.get(
    "/jobs/{job_id}/source",
    response_class=FileResponse,
    responses={**_FILE, **_problems(404, 409)},
)
async def fetch_source(job: Mine) -> FileResponse:
    """The file as it came."""
    if job.state in (State.UPLOADING, State.FAILED):
        raise HTTPException(409, job.error or "The file is not there yet.")
    return FileResponse(job.source, media_type=job.found.media, filename=job.name)


@router.get("/jobs/{job_id}/report", responses=_problems(404, 409))
async def fetch_report(job: Done) -> dict[str, Any]:
    """What was done, as `--report` writes it (docs/report.schema.json)."""
    assert job.report is not None
    return job.report
