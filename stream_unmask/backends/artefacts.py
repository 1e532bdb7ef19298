"""Finds engine files and their facts, and checks each file before it is loaded."""

import hashlib
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from stream_unmask.errors import BackendError

# In a wheel the engines lie inside the package; in a checkout they lie beside it.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "engines", _PACKAGE.parent / "engines")


@cache
def manifest() -> dict[str, dict[str, Any]]:
    """Facts on every shipped engine by name, as `engines/manifest.toml` has them."""
    return tomllib.loads((engines_folder() / "manifest.toml").read_text(encoding="utf-8"))


def engines_folder() -> Path:
    """The folder with the shipped engines; BackendError if the installation lacks it."""
    for folder in _FOLDERS:
        if (folder / "manifest.toml").is_file():
            return folder
    raise BackendError("The engine files are missing from this installation; install it again.")


def engine_path(name: str) -> Path:
    """The file of a shipped engine, after its SHA-256 was compared with the manifest's."""
    facts = manifest().get(name)
    if facts is None:
        raise BackendError(
            f"There is no engine called {name!r}; known are {', '.join(manifest())}."
        )
    path = engines_folder() / str(facts["file"])
    if not path.is_file():
        raise BackendError(f"The engine file {path.name} is missing; install stream-unmask again.")
    if sha256(path) != facts["sha256"]:
        raise BackendError(
            f"The engine file {path.name} is not the one that was shipped (its SHA-256 differs); "
            "install stream-unmask again."
        )
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(*names: str) -> Path | None:
    """A folder in the user's cache folder, made if need be; None where that can't be written."""
    folder = user_cache_path("stream-unmask").joinpath(*names)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
