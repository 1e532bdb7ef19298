"""What can be learnt of a file before its first frame: that it opens, and what it claims."""

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.stream import VideoStream

from stream_unmask.errors import InputError

_ATTACHED_PICTURE = 0x400 | 0x800  # cover art and thumbnails are video streams to FFmpeg
_NO_VIDEO = {"tty"}  # FFmpeg plays any .txt as terminal output


def open_source(path: Path) -> InputContainer:
    """The opened container; InputError with the reason if that can't be."""
    try:
        _check(path)
        # The prefix keeps names like "a:b.mp4" from being taken for a protocol; broken text in
        # the metadata is no reason to refuse the picture.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except FFmpegError as error:
        raise InputError(f"{path} is not a video that can be read ({error.strerror}).") from error
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}).") from error
    if container.format.name in _NO_VIDEO:
        container.close()
        raise InputError(f"{path} is not a video.")
    return container


def _check(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a video.")
    with path.open("rb"):  # FFmpeg would give the same error, less clearly
        pass
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")


def video_stream(path: Path, streams: Sequence[Stream]) -> VideoStream:
    """The first stream with moving pictures; InputError if there is none, or no decoder for it."""
    pictures = [
        cast(VideoStream, stream)
        for stream in streams
        if stream.type == "video" and not int(stream.disposition) & _ATTACHED_PICTURE
    ]
    if not pictures:
        raise InputError(f"{path} has no video stream.")
    for stream in pictures:
        if stream.codec_context is not None:
            return stream
    raise InputError(f"{path} has a video stream that no decoder is known for.")


def stated_end(container: InputContainer, video: VideoStream) -> tuple[Fraction | None, bool]:
    """When the picture ends, in seconds on the file's clock, and whether that is its very own end.

    Otherwise it is that of the longest stream; None if the file does not say.
    """
    if video.duration is not None and video.time_base is not None:
        return (video.duration + (video.start_time or 0)) * video.time_base, True
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", video.metadata.get("DURATION", ""))
    if clock is not None:  # Matroska keeps no duration per stream, but most of its writers note it
        hours, minutes, seconds = map(Fraction, clock.groups())
        if hours or minutes or seconds:
            return hours * 3600 + minutes * 60 + seconds, True
    if container.duration is not None:
        return Fraction(container.duration + (container.start_time or 0), av.time_base), False
    return None, False


def indexed(container: InputContainer, video: VideoStream) -> bool:
    """True if the container lists every sample of the picture up front (a plain MP4 or MOV)."""
    return container.format.name.startswith("mov") and 0 < video.frames <= len(video.index_entries)


def missing_bytes(path: Path, container: InputContainer) -> int:
    """How many bytes the samples of a plain MP4 or MOV reach beyond the end of the file."""
    ends = [
        stream.index_entries[-1].pos + stream.index_entries[-1].size
        for stream in container.streams
        if len(stream.index_entries)
    ]
    return max(0, max(ends, default=0) - path.stat().st_size)
