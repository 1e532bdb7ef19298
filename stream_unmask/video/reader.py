"""Frames out of a file, in one pass and with constant memory.

Everything that is not the picture (audio, subtitles, a second video) is not decoded; its packets
ride with the next frame as passengers, so that the writer can lay them down in the same order.
"""

from __future__ import annotations  # PyAV's packets are generic for the type checker only

from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from stream_unmask.errors import EmptyWindowError, InputError
from stream_unmask.video.decoder import Decoder, find_hardware
from stream_unmask.video.frame import Frame, display_matrix, orientation
from stream_unmask.video.source import (
    USUAL_RATE,
    Limits,
    indexed,
    is_cover,
    missing_bytes,
    open_source,
    stated_end,
    video_stream,
)

if TYPE_CHECKING:
    from av.container.core import Chapter

# How far a file may end before its stated duration. Edit lists, rounding and the habits of muxers
# account for less; a file that lost its end, for more.
_SLACK_SECONDS, _SLACK_SHARE = Fraction(1), Fraction(1, 20)
# Seconds by which a picture may be decoded before it is shown; if that wasn't enough, times more.
_REORDERED, _FARTHER = Fraction(2), 8
# Streams are interleaved to within about this many seconds.
_INTERLEAVE = Fraction(1)


class Reader:
    """An opened video; iterating it, once, yields its `Frame`s in order of time.

    source: a file, a URL, a sequence of pictures (frame_%04d.png, `rate` a second) or `-`.
    start, end: seconds from the beginning; what lies outside is left out, and with `start` the
    first frame kept begins at 0 and all streams move with it. hwaccel: hardware to decode with, by
    FFmpeg's name, or "auto"; where it fails, software steps in, and a warning says so. Raises
    InputError if it is no video, holds no picture, or turns out to be cut short (a plain MP4 at
    once, others after their last frame).

    video, streams: FFmpeg's description of the picture and of all streams, to copy from.
    codec: the format of the picture, as "h264". decoder: what makes it of packets. covers: by
    stream, files of attached pictures.
    first: the first picture, already decoded; format, colour and orientation are known only then.
    width, height: upright. display_matrix: what makes it so, None if nothing does.
    duration: seconds that will come, None if unknown. frame_rate: a guess, for progress only.
    clock: the instant from which start and end count, in seconds on the file's own clock; zero: the
    one that became 0; 0 without `start`.
    trailing: after the iteration, the packets that came after the last frame.
    damaged, warnings: after the iteration, how many packets could not be decoded, and sentences.
    """

    def __init__(
        self,
        source: str | Path,
        start: Fraction | float | None = None,
        end: Fraction | float | None = None,
        *,
        rate: Fraction = USUAL_RATE,
        limits: Limits | None = None,
        hwaccel: str | None = None,
    ) -> None:
        self.source = str(source)
        self._limits = limits or Limits()
        self._hardware = find_hardware(hwaccel)
        self._accel = self._hardware.accel if self._hardware else None
        self.trailing: tuple[av.Packet[Any], ...] = ()
        self._start(start, end, rate)

    def __iter__(self) -> Iterator[Frame]:
        return self._iterator

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing comes back; the file is closed, and what describes its streams is void."""
        self._frames.close()
        self._container.close()

    def _start(
        self, start: Fraction | float | None, end: Fraction | float | None, rate: Fraction
    ) -> None:
        """Open the source and decode its first picture."""
        self._frames = self._decoded()  # nothing of it runs yet
        self._container = self._opened(rate)
        try:
            self._describe()
            self._trim(start, end)
            self._start_decoding()
        except BaseException:
            self.close()
            raise

    def _opened(self, rate: Fraction) -> InputContainer:
        return open_source(self.source, self._limits, rate, accel=self._accel)

    def _describe(self) -> None:
        """Copy out of FFmpeg what outlives the file."""
        container = self._container
        self.streams: tuple[Stream, ...] = tuple(container.streams)
        self.video = video_stream(self.source, self.streams)
        # A stream may change its size on the way, beyond what the container said.
        # FFmpeg counts rows that are filled up, so the last word is had in `_stamp`.
        most = str(2 * self._limits.pixels + 65_536)
        self.decoder = Decoder(
            self.source, self.video, {"max_pixels": most}, self._hardware, self._count_damage
        )
        self.codec = self.video.codec_context.codec.canonical_name
        self.covers: dict[int, bytes] = {}
        self.time_base = self.video.time_base or Fraction(1, 90000)
        rate = self.video.average_rate or self.video.guessed_rate
        self.frame_rate = rate if rate and 1 <= rate <= 240 else USUAL_RATE
        self.sample_aspect_ratio = self.video.sample_aspect_ratio
        self.metadata = dict(container.metadata)
        self.chapters: list[Chapter] = container.chapters()

    def _trim(self, start: Fraction | float | None, end: Fraction | float | None) -> None:
        """Turn the wishes into the window [begin, end) on the file's own clock, and go there."""
        self.clock = Fraction(self._container.start_time or 0, av.time_base)
        self._begin = self.clock + _exact(start) if start else None
        self._end = None if end is None else self.clock + _exact(end)
        if self._end is None:
            self._refuse_missing_bytes()
        stated, _ = stated_end(self._container, self.video)
        ends = [end for end in (stated, self._end) if end is not None]
        first = (self.video.start_time or 0) * self.time_base if self._begin is None else 0
        self.duration = max(min(ends) - (self._begin or first), Fraction(0)) if ends else None

    def _start_decoding(self) -> None:
        """Decode the first picture, so that errors come now and the writer knows what to expect."""
        begin, margin = self._begin, _REORDERED
        frame = self._first_from(begin, margin)
        while begin is not None and self._late and begin - margin > self.clock:
            margin *= _FARTHER
            frame = self._first_from(begin, margin)
        if frame is None:
            raise self._why_no_frame()
        self._iterator = chain([frame], self._frames)
        self.first = frame.picture
        self.display_matrix = display_matrix(self.first)
        size = (self.first.width, self.first.height)
        self.width, self.height = size[::-1] if orientation(self.first).transposed else size

    def _first_from(self, begin: Fraction | None, margin: Fraction) -> Frame | None:
        """The first frame in the window; the file is read from `margin` seconds before it."""
        self._frames.close()
        self._begin, self.zero = begin, Fraction(0)
        if begin is not None:
            # Files are searched by the time of decoding, which is before that of display.
            target = max(begin - margin, self.clock)
            with suppress(FFmpegError):  # what can't be searched is read from its beginning
                self._container.seek(int(target * av.time_base))
                self.decoder.restart()
        self.damaged = 0
        self.warnings: list[str] = []
        self._reach: dict[int, Fraction] = {}  # by stream: where its last packet ends
        self._last: int | None = None
        self._encrypted, self._broken = False, ""
        self._late = True  # until a picture comes that is not after the beginning of the window
        self._frames = self._decoded()
        return next(self._frames, None)

    def _why_no_frame(self) -> InputError:
        if self._encrypted:
            return InputError(f"{self.source} is encrypted.")
        if self._last is not None:
            return EmptyWindowError(f"{self.source} has no frame between the given start and end.")
        return InputError(f"{self.source} has no picture that can be decoded.")

    def _decoded(self) -> Generator[Frame, None, None]:
        waiting: list[av.Packet[Any]] = []
        for packet in self._packets():
            if packet is not None and packet.stream_index != self.video.index:
                if self._inside(_time(packet)):
                    waiting.append(packet)
                continue
            for picture in self._pictures(packet):
                time = picture.pts * self.time_base if picture.pts is not None else None
                if self._inside(time):
                    yield self._moved(picture, waiting)
                    waiting = []
        self.trailing = self._board(waiting)

    def _packets(self) -> Iterator[av.Packet[Any] | None]:
        """The packets until a little after the window, then None, to flush the decoder."""
        limit = None if self._end is None else self._end + _INTERLEAVE
        try:
            for packet in self._demuxed():
                time, index = _time(packet), packet.stream_index
                if not packet.size and (time is None or index == self.video.index):
                    continue  # to PyAV and to decoders this is the end of the stream
                if is_cover(self.streams[index]):  # these come before all else
                    self.covers[index] = bytes(packet)
                if time is not None:
                    end = time + (packet.duration or 0) * packet.time_base
                    self._reach[index] = max(end, self._reach.get(index, end))
                    if limit is not None and index == self.video.index and time > limit:
                        break
                yield packet
        except FFmpegError as error:
            self._broken = f"{self.source} could not be read to its end: {error.strerror}."
            self.warnings.append(self._broken)
        yield None
        if self.damaged:
            packets = "1 packet" if self.damaged == 1 else f"{self.damaged} packets"
            self.warnings.append(f"{self.source} is damaged: {packets} could not be decoded.")
        if self._end is None:
            self._refuse_missing_bytes()  # it may have lost its end meanwhile
        if self._end is None or self._broken:
            self._refuse_early_end()

    def _demuxed(self) -> Iterator[av.Packet[Any]]:
        with suppress(IndexError):  # PyAV's at the end, if streams turned up on the way
            yield from self._container.demux()

    def _refuse_missing_bytes(self) -> None:
        missing = missing_bytes(self.source, self._container)
        if missing:
            raise InputError(f"{self.source} is cut short: {missing} bytes are missing at its end.")

    def _refuse_early_end(self) -> None:
        stated, own = stated_end(self._container, self.video)
        ends = [end for end in (stated, self._end) if end is not None]
        if self._broken and not ends:  # nobody knows how much more there was to be
            raise InputError(self._broken)
        whole = indexed(self._container, self.video) and not self._broken
        if whole or not ends or not self._reach:
            return
        reached = self._reach.get(self.video.index) if own else max(self._reach.values())
        missing = min(ends) - (reached or 0)
        if missing > max(_SLACK_SECONDS, _SLACK_SHARE * min(ends)):
            raise InputError(
                f"{self.source} is cut short: its last {float(missing):.1f} seconds are missing."
            )

    def _pictures(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """What comes out of the decoder once it has the packet, each picture with a time."""
        pictures = self.decoder.decode(packet)
        if self.decoder.warning and self.decoder.warning not in self.warnings:
            self.warnings.append(self.decoder.warning)
        for picture in pictures:
            self._stamp(picture)
        return pictures

    def _count_damage(self, packet: av.Packet[Any] | None) -> None:
        encrypted = packet is not None and packet.has_sidedata("encryption_info")
        self._encrypted = self._encrypted or encrypted
        self.damaged += 1
        if self.damaged > self._limits.errors and not self._encrypted:
            raise InputError(
                f"{self.source} is damaged: more than {self._limits.errors} packets could not be "
                "decoded (--max-errors)."
            )

    def _stamp(self, picture: av.VideoFrame) -> None:
        """Give the picture a time if it has none, or one that runs backwards."""
        if picture.width * picture.height > self._limits.pixels:
            raise InputError(
                f"{self.source} has pictures of {picture.width} x {picture.height} pixels, more "
                f"than {self._limits.pixels} in all (--max-pixels)."
            )
        times = [picture.pts, picture.dts]
        if self._container.format.name == "avi":  # it knows only the order of decoding
            times.reverse()
        last = self._last
        most = round(Fraction(self._limits.hours) * 3600 / self.time_base)  # beyond, it is damaged
        ahead = [t for t in times if t is not None and (last is None or last < t <= last + most)]
        step = picture.duration or round(1 / (self.frame_rate * self.time_base)) or 1
        picture.pts = ahead[0] if ahead else 0 if last is None else last + step
        picture.time_base = self.time_base
        if last is None and self._begin is not None:
            self._late = picture.pts * self.time_base > self._begin
        self._last = picture.pts

    def _inside(self, time: Fraction | None) -> bool:
        if time is None:
            return True
        after_begin = self._begin is None or time >= self._begin
        return after_begin and (self._end is None or time < self._end)

    def _moved(self, picture: av.VideoFrame, waiting: list[av.Packet[Any]]) -> Frame:
        """The frame with its passengers; the first one kept defines the new zero."""
        if self._begin is not None:
            time = (picture.pts or 0) * self.time_base
            if not self.zero:
                self.zero = self._begin = time
            picture.pts = round((time - self.zero) / self.time_base)
        return Frame(picture, self._board(waiting))

    def _board(self, waiting: list[av.Packet[Any]]) -> tuple[av.Packet[Any], ...]:
        """The packets, moved in time like the frames."""
        passengers = tuple(packet for packet in waiting if self._inside(_time(packet)))
        for packet in passengers:
            move(packet, -self.zero)
        return passengers


def move(packet: av.Packet[Any], shift: Fraction) -> None:
    """Nothing comes back; the packet's times are later by so many seconds."""
    ticks = round(shift / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


def _time(packet: av.Packet[Any]) -> Fraction | None:
    stamp = packet.dts if packet.pts is None else packet.pts
    return None if stamp is None else stamp * packet.time_base


def _exact(seconds: Fraction | float) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)
