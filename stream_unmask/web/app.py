"""The server: the page, the API, and what both stand on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files as package_files

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from stream_unmask.web import files, live
from stream_unmask.web.jobs import Jobs
from stream_unmask.web.security import Guard
from stream_unmask.web.settings import Settings

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"
_ABOUT = (
    "Paints plausible, invented faces where people in a video or a picture wear face masks. The "
    "faces are invented, not recovered: never use them to identify anyone. Files belong to the "
    "visitor whose cookie came with the first answer, and are deleted after a while."
)


class LimitsView(BaseModel):
    """What the server takes: bytes of a file, minutes of a video, seconds for which a result is
    kept, and cameras at a time."""

    upload: int
    minutes: float
    keep: float
    live: int


def create_app(settings: Settings) -> FastAPI:
    """The server as an ASGI application; its lifespan removes all files at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Jobs(settings) as jobs, live.Live(settings.live, settings.precision) as cameras:
            app.state.jobs, app.state.live = jobs, cameras
            yield

    app = FastAPI(
        title="stream-unmask", version=version("stream-unmask"), description=_ABOUT,
        lifespan=lifespan, docs_url=None, redoc_url=None,  # which load scripts from elsewhere
    )  # fmt: skip
    app.state.settings = settings
    app.add_middleware(Guard, settings=settings)
    app.include_router(files.router)
    app.include_router(live.router)
    _add_page(app)

    @app.get("/limits")
    async def limits(request: Request) -> LimitsView:
        """What the server takes."""
        return LimitsView.model_validate(settings, from_attributes=True)

    return app


def _add_page(app: FastAPI) -> None:
    """Nothing comes back; the page's few files, read once, are all that can be asked for."""
    folder = package_files("stream_unmask.web") / "static"
    pages = {path.name: path.read_bytes() for path in folder.iterdir()}

    def answer(name: str) -> Response:
        if name not in pages:
            raise HTTPException(404, "There is no such file.")
        return Response(pages[name], media_type=_TYPES[f".{name.rpartition('.')[2]}"])

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return answer(_INDEX)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return answer(name)
