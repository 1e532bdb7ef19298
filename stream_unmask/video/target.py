"""Where an output goes: under NAME.part.EXT while it is written, under its own name when whole."""

import re
from pathlib import Path

from stream_unmask.errors import OutputError

_OURS = b"synthesised by stream-unmask"  # a phrase of the mark that every output has
_SEARCHED = 1 << 20  # bytes from the beginning in which it is looked for


def claim(target: Path, source: Path | None, overwrite: bool) -> Path:
    """The name to write under; OutputError at once if the target can't or must not be written."""
    part = target.with_name(f"{target.stem}.part{target.suffix}")
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
    try:  # the one reliable question whether a folder can be written to
        part.touch()
        part.unlink()
    except OSError as error:
        raise OutputError(f"{target} can't be written ({error.strerror}).") from error
    return part


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
    """True for what a run that was killed has left, which is ours to replace."""
    try:
        with part.open("rb") as file:
            head = file.read(_SEARCHED)
    except OSError:
        return False
    return not head or _OURS in head
