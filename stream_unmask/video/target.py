"""Where an output goes: under NAME.part.EXT while it is written, under its own name when whole."""

from pathlib import Path

from stream_unmask.errors import OutputError


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
    try:  # the one reliable question whether a folder can be written to
        part.touch()
        part.unlink()
    except OSError as error:
        raise OutputError(f"{target} can't be written ({error.strerror}).") from error
    return part


def publish(part: Path, target: Path) -> None:
    """Nothing comes back; the whole output takes its name, in one step."""
    try:
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{target} can't be written ({error.strerror}).") from error


def _same(path: Path, source: Path) -> bool:
    return path.exists() and source.exists() and path.samefile(source)
