"""What the server allows, checked as it is chosen."""

import ipaddress
import math
from dataclasses import dataclass, field

from stream_unmask.errors import OptionError
from stream_unmask.options import Options

_SHORTEST = 16  # characters of a token that nobody guesses


def is_loopback(host: str) -> bool:
    """True for a name or an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices for a server; OptionError if one makes no sense.

    host, port: where it listens. token: what visitors must know, None for everybody, which only a
    loopback address may be. names: by which it is reached besides its addresses. upload: bytes of a
    file. minutes: of a video. pixels: of a picture. jobs: that are kept for one visitor, all_jobs:
    for all of them. at_once: jobs that run at a time. live: cameras at a time. keep: seconds for
    which a finished job is kept. precision: as in `Options`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()
    upload: int = 1 << 30
    minutes: float = 60.0
    pixels: int = 67_108_864
    jobs: int = 20
    all_jobs: int = 60
    at_once: int = 1
    live: int = 4
    keep: float = 3600.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        Options(precision=self.precision)  # which checks it
        for name in ("upload", "pixels", "jobs", "all_jobs", "at_once"):
            if getattr(self, name) < 1:
                raise OptionError(
                    f"The limit {name} must be at least 1, not {getattr(self, name)}."
                )
        if self.live < 0:
            raise OptionError(f"The limit live must be 0 or more, not {self.live}.")
        for name in ("minutes", "keep"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"The limit {name} must be a number above 0.")
        if self.token is None and not is_loopback(self.host):
            raise OptionError(
                f"{self.host} can be reached by others: give them a --token, or stay on 127.0.0.1."
            )
        if self.token is not None and len(self.token) < _SHORTEST:
            raise OptionError(f"A token must have at least {_SHORTEST} characters.")
