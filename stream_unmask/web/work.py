"""One job in a process of its own: `python -m stream_unmask.web.work`.

What FFmpeg makes of a stranger's file can't take the server along, and the memory is given back.
The task comes as JSON on the standard input; each step is told as a line of JSON on the standard
output, the last being {"found"}, {"report"} or {"error"}. Once nobody listens any more the next
step ends the process.
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from stream_unmask.api import open_reader, unmask_picture, unmask_video
from stream_unmask.errors import InputError, UnmaskError
from stream_unmask.options import Options
from stream_unmask.report import to_json
from stream_unmask.video.encoder import Encoding
from stream_unmask.video.image import open_picture
from stream_unmask.video.metadata import kind_of
from stream_unmask.video.source import Limits

_PICTURES = {
    "jpeg": ("image/jpeg", ".jpg"),
    "png": ("image/png", ".png"),
    "webp": ("image/webp", ".webp"),
}
_HEAD = 64  # bytes that tell a container
_OFTEN = 0.2  # seconds from one word of progress to the next
_NICE = 5  # so that the server answers while it works

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with a file.

    source: where it lies. name: what its owner calls it. target: where the result goes, "" if the
    file is only looked at. pixels, minutes: more is refused. precision, profile, label,
    quality: as in `Options`.
    """

    source: str
    name: str
    target: str = ""
    pixels: int = Limits().pixels
    minutes: float = 60.0
    precision: str = Options().precision
    profile: str = Options().profile
    label: bool = False
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a file is. still: a picture. media: its type. suffix: that of a result which browsers
    show. codec: an encoder for it."""

    still: bool = False
    media: str = "application/octet-stream"
    suffix: str = ".mp4"
    codec: str = field(default="h264")


def look(task: Task) -> Found:
    """What the file is; InputError if it is neither a video nor a picture, or too large."""
    with Path(task.source).open("rb") as file:
        head = file.read(_HEAD)
    kind = kind_of(head)
    if kind is not None:
        open_picture(task.source, task.pixels)
        media, suffix = _PICTURES[kind]
        return Found(True, media, suffix)
    with open_reader(task.source, _options(task)) as reader:
        # H.264 of an odd size would need a chroma format that few browsers know.
        odd = reader.width % 2 or reader.height % 2
        return Found(media=_media(head), codec="vp9" if odd else "h264")


def unmask(task: Task, found: Found, say: Say) -> dict[str, Any]:
    """The report; the result is under the target's name."""
    encoding = Encoding(found.codec, task.quality, pixel_format="yuv420p")
    options = replace(_options(task), label=task.label, encoding=encoding)
    if found.still:
        report = unmask_picture(task.source, task.target, replace(options, encoding=Encoding()))
    else:
        report = unmask_video(task.source, task.target, options, progress=_progress(task, say))
    target = f"{Path(task.name).stem}{found.suffix}"
    text = to_json([replace(report, source=task.name, target=target)])
    facts: dict[str, Any] = json.loads(_unpathed(text, json.dumps(task.source), task.name))
    return facts


def _options(task: Task) -> Options:
    limits = Limits(task.pixels, hours=task.minutes / 60)
    return Options(profile=task.profile, precision=task.precision, limits=limits)


def _progress(task: Task, say: Say) -> Callable[[float, float | None], None]:
    last = 0.0

    def progress(done: float, total: float | None) -> None:
        nonlocal last
        if done > task.minutes * 60:  # which a file need not say of itself
            raise InputError(f"{task.name} lasts more than {task.minutes:g} minutes.")
        if time.monotonic() - last > _OFTEN:
            last = time.monotonic()
            say({"done": done, "total": total})

    return progress


def _media(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm"
    return "video/ogg" if head.startswith(b"OggS") else "application/octet-stream"


def _unpathed(text: str, path: str, name: str) -> str:
    """A text without the server's paths."""
    return text.replace(path.strip('"'), name)


def run(task: Task, say: Say) -> None:
    """Nothing comes back; all is said, errors too."""
    try:
        found = look(task)
        say({"found": asdict(found)} if not task.target else {"done": 0.0, "total": None})
        if task.target:
            say({"report": unmask(task, found, say)})
    except UnmaskError as error:
        sentence = re.sub(r" \(--[a-z-]+\)", "", str(error))  # options that a visitor has not
        for path in (task.source, task.target):
            sentence = _unpathed(sentence, path, task.name) if path else sentence
        say({"error": sentence, "input": isinstance(error, InputError)})


def main() -> None:
    """Reads the task and works on it; nothing but steps gets to the standard output."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # from now on there is what to tidy
    if hasattr(os, "register_at_fork"):  # libraries start helpers, which have nothing to tidy
        usual = partial(signal.signal, signal.SIGTERM, signal.SIG_DFL)
        os.register_at_fork(after_in_child=usual)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    task = Task(**json.load(sys.stdin))
    steps = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print there

    def say(step: dict[str, Any]) -> None:
        steps.write(json.dumps(step) + "\n")
        steps.flush()

    try:
        run(task, say)
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(1)  # nobody wants to hear more
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    steps.close()


if __name__ == "__main__":
    main()
