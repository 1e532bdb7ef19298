"""`stream-unmask serve`."""

import webbrowser
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console

from stream_unmask.errors import OptionError
from stream_unmask.options import PRECISIONS

command = typer.Typer(add_completion=False)
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "aiortc")
_LIMITS = "Limits"


@command.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="STREAM_UNMASK_TOKEN", help="What visitors must know; needed beyond 127.0.0.1."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="One more name by which the server is reached.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
    max_upload: Annotated[int, typer.Option(help="MiB of a file.", rich_help_panel=_LIMITS)] = 1024,
    max_minutes: Annotated[float, typer.Option(help="Of a video.", rich_help_panel=_LIMITS)] = 60.0,
    max_jobs: Annotated[
        int, typer.Option(help="Files that are kept for one visitor.", rich_help_panel=_LIMITS)
    ] = 20,
    max_all_jobs: Annotated[
        int, typer.Option(help="Files that are kept for all.", rich_help_panel=_LIMITS)
    ] = 60,
    at_once: Annotated[
        int, typer.Option(help="Files that are worked on at a time.", rich_help_panel=_LIMITS)
    ] = 1,
    max_live: Annotated[int, typer.Option(help="Cameras at a time.", rich_help_panel=_LIMITS)] = 4,
    precision: Annotated[
        str, typer.Option(help=f"{', '.join(PRECISIONS)}: what the networks compute in.")
    ] = "auto",
) -> None:
    """Serves a page where visitors bring a file or their camera; Ctrl-C ends it and deletes all."""
    if not all(map(find_spec, _NEEDED)):
        raise OptionError("The page needs more: pip install 'stream-unmask[web]' brings it.")
    from stream_unmask.web.server import serving
    from stream_unmask.web.settings import Settings

    settings = Settings(
        host=host, port=port, token=token, names=tuple(allow_host or ()), upload=max_upload << 20,
        minutes=max_minutes, jobs=max_jobs, all_jobs=max_all_jobs, at_once=at_once, live=max_live,
        precision=precision,
    )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True, markup=False)

    def tell(address: str) -> None:
        console.print(f"Serving {address} (Ctrl-C ends it).")
        if open_browser:
            webbrowser.open(address)

    serving(settings, tell)
    console.print("Stopped; all files are deleted.")
