"""Serving until Ctrl-C, or until the process is told to end."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import uvicorn

from stream_unmask.errors import OptionError
from stream_unmask.web.app import create_app
from stream_unmask.web.settings import Settings

_CONNECTIONS = 256  # at a time; more get a 503
_PATIENCE = 1  # seconds for which answers that are under way may go on at the end


def serving(settings: Settings, started: Callable[[str], None]) -> None:
    """Nothing comes back before the end; `started` is called with the page's address."""
    with _listening(settings) as listener, suppress(KeyboardInterrupt):
        asyncio.run(_serve(settings, listener, started))


async def _serve(
    settings: Settings, listener: socket.socket, started: Callable[[str], None]
) -> None:
    config = uvicorn.Config(
        create_app(settings), log_level="critical", access_log=False, ws="none", lifespan="on",
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=_PATIENCE,
        limit_concurrency=_CONNECTIONS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listener.listen()  # so that whoever is told now gets an answer
    started(_address(settings, listener))
    await server.serve([listener])


def _listening(settings: Settings) -> socket.socket:
    """A socket at the address; OptionError if there is no such address, or it is taken."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, number)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise OptionError(f"{where} can't be listened on ({error.strerror}).") from error
    return listener


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    token = f"/?token={quote(settings.token)}" if settings.token else "/"
    return f"http://{host}:{listener.getsockname()[1]}{token}"
