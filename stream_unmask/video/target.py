"""Where an output goes: under NAME.part.EXT while it is written, under its own name when whole."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from stream_unmask.errors import OutputError
from stream_unmask.video.metadata import is_cut, kind_of

_OURS = b"synthesised by stream-unmask"  # a phrase of the mark that every output has
_SEARCHED = 1 << 20  # bytes from the beginning in which it is looked for


def claim(target: Path, source: Path | None, overwrite: bool) -> Path:
    """The name to write under; OutputError at once if the target can't or must not be written."""
    part = target.with_name(f"{target.stem}.part{target.suffix}")
    try:
        _check(target, part, source, overwrite)
    except OSError as error:
        raise OutputError(f"{target} can't be written ({error.strerror}).") from error
    return part


def _check(target: Path, part: Path, source: Path | None, overwrite: bool) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist.")
    if target.is_dir():
        raise OutputError(f"{target} is a folder.")
    if source is not None and any(_same(path, source) for path in (target, part)):
        raise OutputError(f"{target} is, or would be written over, the input {source}.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already.")
    if part.exists() and not _leftover(part):
        raise OutputError(f"{part} is in the way, and none of this tool's leftovers.")
    part.touch()  # the one reliable question whether a folder can be written to
    part.unlink()


def is_part(path: Path) -> bool:
    """True for a name under which an output is written until it is whole."""
    return re.search(r"\.part\.[^.]+$", path.name) is not None


def publish(part: Path, target: Path) -> None:
    """Nothing comes back; the whole output takes its name, in one step."""
    try:
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{target} can't be written ({error.strerror}).") from error


def _same(path: Path, source: Path) -> bool:
    return path.exists() and source.exists() and path.samefile(source)


def _leftover(part: Path) -> bool:
    """True for what a run that was killed has left, which is ours to replace.

    It has our mark, or is of a kind that is written, but has not got as far as that.
    """
    if not part.is_file():
        return False
    with part.open("rb") as file:
        head = file.read(_SEARCHED)
        if head[4:8] == b"ftyp":
            unfinished = b"moov" not in _boxes(file)
        else:
            unfinished = kind_of(head) is not None and is_cut(head + file.read())
    return not head or _OURS in head or unfinished


def _boxes(file: IO[bytes]) -> Iterator[bytes]:
    """The names of the boxes that an MP4 consists of."""
    at, end = 0, file.seek(0, 2)
    while at + 8 <= end:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack(">Q", file.read(8))
        yield name
        at += max(size, 8) if size else end
