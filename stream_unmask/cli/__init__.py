"""The command line: `stream-unmask INPUT -o OUTPUT`, and a command for each other file here."""

import signal
import sys
import time
from types import FrameType

from rich.console import Console

from stream_unmask.cli import info, live, serve, unmask, verify
from stream_unmask.cli.console import say_error
from stream_unmask.errors import UnmaskError

_COMMANDS = {
    "info": info.command,
    "live": live.command,
    "serve": serve.command,
    "verify": verify.command,
}
_TIDYING = 10.0  # seconds
_INTERRUPTED = 130  # what typer makes of Ctrl-C, without a word


def main() -> None:
    """Runs the command that the arguments name; `INPUT` alone means unmasking."""
    arguments = sys.argv[1:]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupt())
    try:
        if arguments and (named := _COMMANDS.get(arguments[0])) is not None:
            named(arguments[1:], prog_name=f"stream-unmask {arguments[0]}")
        unmask.command(arguments or ["--help"], prog_name="stream-unmask")
    except UnmaskError as error:
        say_error(str(error))
        sys.exit(2)
    except SystemExit as end:
        # All is tidied up: one more Ctrl-C would only make Python's own end noisy.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if end.code == _INTERRUPTED:
            kept = "what was done" if "--keep-partial" in arguments else "nothing unfinished"
            Console(stderr=True).print(f"Interrupted; {kept} was kept.")
        raise


class _Interrupt:
    """What a Ctrl-C does. One more, while the first is being tidied up after, does nothing, lest
    it leave half of that; unless that takes longer than `_TIDYING` seconds."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None or now > self._first + _TIDYING:
            self._first = self._first or now
            raise KeyboardInterrupt
