"""A picture track in finished pieces, kept in a folder until they are joined."""

from __future__ import annotations  # PyAV's packets are generic for the type checker only

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from stream_unmask.errors import OutputError

_FACTS = "segments.json"


class Segments:
    """The segments in a folder; use it in a `with` block once all are there.

    what: of what they are (input, options): segments of anything else are thrown away. facts: of
    each finished one, what was given to `add`; "zero" is the instant that became 0, as a fraction.
    Raises OutputError.

    stream, encoder: within the block, the track to copy from, and what encoded it.
    """

    def __init__(self, folder: Path, suffix: str, what: Mapping[str, Any]) -> None:
        self.folder = folder
        self._suffix, self._what = suffix, json.loads(json.dumps(what))
        self.facts: list[dict[str, Any]] = []
        self._opened: InputContainer | None = None
        try:
            if folder.exists():
                self._load()
            folder.mkdir(exist_ok=True)
            self._save()
        except OSError as error:
            raise OutputError(f"{folder} can't be used ({error.strerror}).") from error

    def __enter__(self) -> Self:
        first = next((i for i, facts in enumerate(self.facts) if facts["frames"]), None)
        if first is None:
            raise OutputError(f"{self.folder} holds no picture.")
        self._opened = self._open(first)
        self.stream: VideoStream = self._opened.streams.video[0]
        self.encoder: str = self.facts[first]["encoder"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    def path(self, index: int) -> Path:
        """Where a segment is to be written, or was."""
        return self.folder / f"{index:05d}{self._suffix}"

    def add(self, facts: Mapping[str, Any]) -> None:
        """Nothing comes back; the next segment, which lies at its path, counts as finished."""
        self.facts.append(dict(facts))
        try:
            self._save()
        except OSError as error:
            raise OutputError(f"{self.folder} can't be written ({error.strerror}).") from error

    def packets(self) -> Iterator[tuple[av.Packet[Any], Fraction]]:
        """The picture's packets in order, each with the instant that is 0 in its segment."""
        for index, facts in enumerate(self.facts):
            if not facts["frames"]:
                continue
            with self._open(index) as container:
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:
                        yield packet, Fraction(facts["zero"])

    def discard(self) -> None:
        """Nothing comes back; the folder is gone."""
        with suppress(OSError):
            shutil.rmtree(self.folder)

    def _save(self) -> None:
        part = self.folder / f"{_FACTS}.part"
        part.write_text(json.dumps({"what": self._what, "facts": self.facts}), encoding="utf-8")
        part.replace(self.folder / _FACTS)

    def _open(self, index: int) -> InputContainer:
        try:
            return av.open(f"file:{self.path(index)}")
        except (FFmpegError, OSError) as error:
            raise OutputError(f"{self.path(index)} can't be read ({error.strerror}).") from error

    def _load(self) -> None:
        """Take up what an earlier run has left, if it was of the same."""
        facts = self.folder / _FACTS
        if not facts.is_file():
            if any(self.folder.iterdir()):
                raise OutputError(f"{self.folder} is in the way, and none of this tool's.")
            return
        try:
            state = json.loads(facts.read_text(encoding="utf-8"))
            same = state["what"] == self._what
        except (ValueError, KeyError, TypeError):
            same = False
        if same:
            self.facts = state["facts"]
        else:
            for path in self.folder.iterdir():
                path.unlink()
