"""`stream-unmask verify FILE`."""

from pathlib import Path
from typing import Annotated

import typer

from stream_unmask.provenance import verify

command = typer.Typer(add_completion=False)


@command.command()
def say_provenance(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video or a picture.")],
    trust: Annotated[
        Path | None, typer.Option(help="PEM file: the authorities whose signers are trusted.")
    ] = None,
) -> None:
    """Says whether FILE claims to hold invented faces, and whether its signature holds.

    Exit code 1 if it does not hold.
    """
    found = verify(file, trust)
    for sentence in found.sentences():
        print(sentence)
    raise typer.Exit(found.manifest == "invalid")
