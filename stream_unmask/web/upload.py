"""A form as it comes in: the file straight to the disk, never more than is allowed."""

from __future__ import annotations  # what the parser calls is named for the type checker only

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_PATIENCE = 30.0  # seconds without a byte
_FIELDS, _FIELD = 10, 1024  # fields beside the file, and bytes of one
_FORM = 65_536  # bytes that all but the file may take
_LONGEST = 100  # characters of a name


async def received(request: Request, path: Path, most: int) -> tuple[str, dict[str, str]]:
    """(the name that the visitor gives the file, the other fields); the file is at `path`.

    most: bytes of the file. HTTPException 400, 408, 413 or 415 if there is no such form.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(415, "A file comes as multipart/form-data.")
    with path.open("wb") as file:
        form = _Form(file, most)
        try:
            parser = MultipartParser(options[b"boundary"], form.callbacks())
            async for chunk in chunks(request, most + _FORM):
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise HTTPException(400, "The form can't be read.") from error
        except OSError as error:
            raise HTTPException(507, f"The file can't be stored ({error.strerror}).") from error
    if not form.whole:
        raise HTTPException(400, "The form ends too early.")
    if form.name is None:
        raise HTTPException(400, "The form has no field `file` with a file.")
    return form.name, form.fields


async def chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body; HTTPException 413 beyond `most` bytes, 408 if it stops coming."""
    length, total = request.headers.get("content-length", ""), 0
    if length.isdecimal() and int(length) > most:
        raise too_large(most)
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(_PATIENCE):
                chunk = await anext(stream)
            total += len(chunk)
            if total > most:
                raise too_large(most)
            yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError as error:
        raise HTTPException(408, "Nothing came any more.") from error


def too_large(most: int) -> HTTPException:
    """What to raise for a body of more bytes."""
    return HTTPException(413, f"At most {most / (1 << 20):.4g} MiB are taken at a time.")


def display_name(name: str) -> str:
    """A file's name to show and to save under: no path, nothing unprintable, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if unicodedata.category(c)[0] not in "CZ" or c == " ")
    kept = re.sub(r'[<>:"|?*]', "_", kept).strip(" .")
    return kept[-_LONGEST:].strip(" .") or "unnamed"


class _Form:
    """What a parser finds, part by part."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.name: str | None = None
        self.fields: dict[str, str] = {}
        self.whole = False
        self._file, self._most, self._size = file, most, 0
        self._header, self._value = b"", b""
        self._field: bytes | None = None  # the name of the part, None for the file
        self._text = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._field, self._text = b"", b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._field = options.get(b"name", b"")
            if b"filename" in options:
                if self._field != b"file" or self.name is not None:
                    raise HTTPException(400, "One file is taken, in the field `file`.")
                self.name = display_name(options[b"filename"].decode("utf-8", "replace"))
                self._field = None
        self._header = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None:
            self._text += data[start:end]
            if len(self._text) > _FIELD:
                raise HTTPException(413, "A field of the form is too long.")
            return
        self._size += end - start
        if self._size > self._most:
            raise too_large(self._most)
        self._file.write(data[start:end])

    def _on_end(self) -> None:
        self.whole = True

    def _end(self) -> None:
        if self._field is None:
            return
        name, text = (part.decode("utf-8", "replace") for part in (self._field, self._text))
        if len(self.fields) >= _FIELDS or name in self.fields:
            raise HTTPException(400, "The form has too many fields.")
        self.fields[name] = text
