"""What can be learnt of an input before its first frame: that it opens, and what it claims.

Video from strangers is parsed by FFmpeg within this process. So: a file may not make FFmpeg open
other files or hosts (no playlists, no protocols but the one that was asked for), and what it claims
of itself is held against limits before anything is allocated.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import ExitError, FFmpegError, TimeoutError
from av.format import ContainerFormat
from av.stream import Stream
from av.video.stream import VideoStream

from stream_unmask.errors import InputError, OptionError

STDIN = "-"
USUAL_RATE = Fraction(25)  # of pictures that nothing is known of
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "udp")
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_NUMBERED = re.compile(r"%0?(\d*)d")
_PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,data,rtsp,rtp,srtp,udp,rtmp,rtmps"
# A connection that breaks is tried again, a bounded number of times.
_NETWORK = {
    "reconnect": "1", "reconnect_delay_max": "4",
    "reconnect_max_retries": "5", "rtsp_transport": "tcp",
}  # fmt: skip
_OPENING = 12  # times the patience with a silent network that opening may take in all
_PLAYLISTS = {"hls", "concat", "imf", "sdp", "rtp", "sap", "webm_dash_manifest"}
_NO_VIDEO = {"tty", "lavfi", "image2"}  # FFmpeg plays any .txt as terminal output
_PLAYLIST_HEADS = (b"#EXTM3U", b"ffconcat", b"v=0")
_ATTACHED_PICTURE = 0x400 | 0x800  # cover art and thumbnails are video streams to FFmpeg


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an input may ask for; beyond, it is refused with an InputError.

    pixels: in one picture. streams: in one file. hours: that it says to last. errors: packets that
    can't be decoded. timeout: seconds without a byte from the network. playlists: whether an input
    may name other files or hosts to be opened.
    """

    pixels: int = 67_108_864
    streams: int = 100
    hours: float = 24.0
    errors: int = 100
    timeout: float = 10.0
    playlists: bool = False

    def __post_init__(self) -> None:
        for name, least in (("pixels", 1), ("streams", 1), ("errors", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"The limit of {name} must be at least {least}.")
        for name in ("hours", "timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"The limit {name} must be a number above 0.")


def is_url(source: str) -> bool:
    """True for what is to be fetched from a network."""
    return _URL.match(source) is not None


def numbered(source: str) -> bool:
    """True for the name of a sequence of pictures, as frame_%04d.png."""
    return len(_NUMBERED.findall(Path(source).name)) == 1


def open_source(
    source: str | Path,
    limits: Limits | None = None,
    rate: Fraction = USUAL_RATE,
    more: Mapping[str, str] | None = None,
    accel: HWAccel | None = None,
) -> InputContainer:
    """The opened container of a file, a URL, a sequence or `-`; InputError if that can't be.

    rate: pictures a second, of a sequence. more: FFmpeg's options for containers. accel: what its
    streams are to be decoded with.
    """
    source, limits = str(source), limits or Limits()
    try:
        name, kind, options = _address(source, rate, limits)
        if kind != "image2":
            options["format_whitelist"] = _formats(limits.playlists)
        options |= {"max_streams": str(limits.streams), **(more or {})}
        # Broken text in the metadata is no reason to refuse the picture.
        container = av.open(
            name, format=kind, metadata_errors="replace", container_options=options,
            timeout=(_OPENING * limits.timeout, None) if is_url(source) else None, hwaccel=accel,
        )  # fmt: skip
    except FFmpegError as error:
        if isinstance(error, (ExitError, TimeoutError)):
            raise InputError(f"{source} did not answer in time (--timeout).") from error
        if not limits.playlists and _is_playlist(source):
            raise InputError(
                f"{source} is a playlist, which names other files (--allow-playlists)."
            ) from error
        raise InputError(f"{source} is not a video that can be read ({error.strerror}).") from error
    except OSError as error:
        raise InputError(f"{source} can't be read ({error.strerror}).") from error
    try:
        _hold_against(limits, source, container)
    except InputError:
        container.close()
        raise
    return container


def _address(source: str, rate: Fraction, limits: Limits) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg is to open, as which format (None: it finds out), with which options."""
    if source == STDIN:
        return "pipe:0", None, {"protocol_whitelist": "pipe"}
    if (match := _URL.match(source)) is not None:
        scheme = match[1].lower()
        if scheme not in SCHEMES:
            raise InputError(f"{source}: only {', '.join(SCHEMES)} can be opened.")
        silence = str(round(limits.timeout * 1e6))
        options = {"protocol_whitelist": _PROTOCOLS, "rw_timeout": silence, **_NETWORK}
        if not scheme.startswith("rtmp"):  # to which it would mean to be a server
            options["timeout"] = silence
        return scheme + source[len(scheme) :], None, options
    path = Path(source)
    # The prefix keeps names like "a:b.mp4" from being taken for a protocol.
    options = {"protocol_whitelist": "file,crypto,data"}
    if numbered(source) and not path.exists():
        options |= {"framerate": str(rate), "start_number": str(_first_number(path))}
        return f"file:{path}", "image2", options
    _check(path)
    return f"file:{path}", None, options


def _first_number(pattern: Path) -> int:
    """The lowest number that a picture of a sequence has."""
    field = _NUMBERED.search(pattern.name)
    assert field is not None
    digits = rf"\d{{{int(field[1])}}}" if field[1] else r"\d+"
    start, end = map(re.escape, (pattern.name[: field.start()], pattern.name[field.end() :]))
    try:
        found = [
            re.fullmatch(f"{start}({digits}){end}", path.name) for path in pattern.parent.iterdir()
        ]
    except OSError as error:
        raise InputError(f"{pattern.parent} can't be read ({error.strerror}).") from error
    numbers = [int(match[1]) for match in found if match is not None]
    if not numbers:
        raise InputError(f"There is no picture {pattern}.")
    return min(numbers)


@cache
def _formats(playlists: bool) -> str:
    """The names of all that FFmpeg may take an input for."""
    refused = _NO_VIDEO if playlists else _NO_VIDEO | _PLAYLISTS
    return ",".join(
        sorted(n for n in av.formats_available - refused if ContainerFormat(n).is_input)
    )


def _is_playlist(source: str) -> bool:
    path = Path(source)
    if not path.is_file():
        return is_url(source) and source.split("?")[0].endswith((".m3u8", ".m3u"))
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLIST_HEADS)


def _hold_against(limits: Limits, source: str, container: InputContainer) -> None:
    """InputError if the container claims more than it may."""
    if len(container.streams) > limits.streams:
        raise InputError(
            f"{source} has {len(container.streams)} streams, more than {limits.streams}."
        )
    if (container.duration or 0) > limits.hours * 3600 * av.time_base:
        raise InputError(f"{source} says to last more than {limits.hours:g} hours (--max-hours).")
    for stream in container.streams:
        if isinstance(stream, VideoStream) and stream.codec_context is not None:
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > limits.pixels:
                raise InputError(
                    f"{source} has pictures of {width} x {height} pixels, more than "
                    f"{limits.pixels} in all (--max-pixels)."
                )


def _check(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a video.")
    if not path.is_file():
        return
    with path.open("rb"):  # FFmpeg would give the same error, less clearly
        pass
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")


def video_stream(source: str, streams: Sequence[Stream]) -> VideoStream:
    """The first stream with moving pictures; InputError if there is none, or no decoder for it."""
    pictures = [
        cast(VideoStream, stream)
        for stream in streams
        if stream.type == "video" and not is_cover(stream)
    ]
    if not pictures:
        raise InputError(f"{source} has no video stream.")
    for stream in pictures:
        if stream.codec_context is not None:
            return stream
    raise InputError(f"{source} has a video stream that no decoder is known for.")


def described(stream: Stream) -> str:
    """A stream in words: its number, what it holds, its language."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
    language = stream.metadata.get("language", "und")
    spoken = "" if language == "und" else f", {language}"
    return f"stream {stream.index} ({codec} {stream.type}{spoken})"


def is_cover(stream: Stream) -> bool:
    """True if the stream is one attached picture, as cover art, rather than a moving one."""
    return stream.type == "video" and bool(int(stream.disposition) & _ATTACHED_PICTURE)


def stated_end(container: InputContainer, video: VideoStream) -> tuple[Fraction | None, bool]:
    """When the picture ends, in seconds on the file's clock, and whether that is its very own end.

    Otherwise it is that of the longest stream; None if the file does not say.
    """
    # What Matroska's writers state counts from 0, whenever the first picture comes.
    late = not container.format.name.startswith("matroska")
    if video.duration is not None and video.time_base is not None:
        start = video.start_time or 0 if late else 0
        return (video.duration + start) * video.time_base, True
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", video.metadata.get("DURATION", ""))
    if clock is not None:  # Matroska keeps no duration per stream, but most of its writers note it
        hours, minutes, seconds = map(Fraction, clock.groups())
        if hours or minutes or seconds:
            return hours * 3600 + minutes * 60 + seconds, True
    if container.duration is not None:
        start = container.start_time or 0 if late else 0
        return Fraction(container.duration + start, av.time_base), False
    return None, False


def indexed(container: InputContainer, video: VideoStream) -> bool:
    """True if the container lists every sample of the picture up front (a plain MP4 or MOV)."""
    return container.format.name.startswith("mov") and 0 < video.frames <= len(video.index_entries)


def missing_bytes(source: str, container: InputContainer) -> int:
    """How many bytes the samples of a plain MP4 or MOV reach beyond the end of the file."""
    path = Path(source)
    if not path.is_file():
        return 0
    ends = [
        stream.index_entries[-1].pos + stream.index_entries[-1].size
        for stream in container.streams
        if len(stream.index_entries)
    ]
    return max(0, max(ends, default=0) - path.stat().st_size)
