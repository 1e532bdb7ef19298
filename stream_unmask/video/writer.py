"""Frames into a file: pictures encoded, all other packets laid down byte for byte."""

from __future__ import annotations  # PyAV's packets are generic for the type checker only

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.stream import Discard, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stream_unmask.errors import OutputError
from stream_unmask.video.encoder import FORMATS, Encoding, add_encoder, has_alpha, usable
from stream_unmask.video.frame import Frame, converted
from stream_unmask.video.hdr import unwritten
from stream_unmask.video.reader import Reader
from stream_unmask.video.segments import Segments
from stream_unmask.video.source import described, is_cover, is_url
from stream_unmask.video.target import claim, publish

if TYPE_CHECKING:
    from av.container.core import Chapter

# A killed run leaves a playable part, and a finished one is an ordinary MP4. Against it stands
# faststart, which moves the index to the front: a second pass over the file, and no use before it.
# A cover would get a second, empty track by it.
# Without delay_moov the first times are not known when the edit list is written, and all shift.
_MOVFLAGS = "hybrid_fragmented+frag_keyframe+delay_moov"
# The tags that MP4 has boxes for; with any other in the input all are written as keys and values.
_BOXED = {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"}
_BOXED |= {"copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"}
_BOXED |= {"network", "keywords", "track", "disc", "creation_time", "language", "timecode"}
# Tags that describe the input's bytes and would lie about the output's.
_STALE = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
_STALE |= {"bps", "number_of_frames", "number_of_bytes", "rotate"}
# An encoded sound begins with a run-up of up to this long before 0, which players drop.
_RUN_UP = Fraction(3, 20)
_ODD = 3600  # seconds before its display at which no picture is decoded
_REORDERED = 16  # ticks; more than packets that come before the picture that is shown first
# Seconds by which the sound is never ahead of the picture, and other streams neither.
_ASTRAY, _FAR_ASTRAY = 60, 86_400
_COARSE = Fraction(1, 500)  # Matroska counts in milliseconds
STDOUT = "-"


class Writer:
    """An opened output for the frames of `reader`; use it in a `with` block.

    A clean end of the block finishes the file, reads its end back and gives it its name; any
    exception, Ctrl-C too, removes it, or with `keep_partial` leaves it playable as NAME.part.EXT.
    target: a file, or `-` for Matroska on the standard output. encoding: how the picture is.
    metadata: tags to add, before a tag of the same name that the input has. carry: False leaves out
    all but the picture. from_zero: the first frame, whenever it comes, is at 0. segments: the
    picture, encoded already: a packet of it is written for each frame. Raises OutputError.

    dropped: one phrase for each stream that the container can't take. carried: for each that is
    copied. encoder: the name of the one that is used. warnings: sentences. frames: how many were
    written. shift: by how many seconds all was moved, so that nothing begins before 0, or the
    picture there.
    """

    def __init__(
        self,
        target: str | Path,
        reader: Reader,
        *,
        encoding: Encoding | None = None,
        overwrite: bool = False,
        keep_partial: bool = False,
        metadata: Mapping[str, str] | None = None,
        carry: bool = True,
        from_zero: bool = False,
        segments: Segments | None = None,
    ) -> None:
        self.target = Path(target)
        self._live = str(target) == STDOUT
        name = "matroska" if self._live else container_of(self.target)
        self.dropped: list[str] = []
        self.carried: list[str] = []
        self.warnings: list[str] = []
        self._keep_partial = keep_partial
        self._segments = segments
        self._whole = False
        self.frames = 0
        self._reader = reader
        self._carry = carry
        self._from_zero = from_zero
        self.shift = Fraction(0)
        self._last: dict[int, int] = {}  # by output stream: its last time stamp
        self._frontier: int | None = None  # up to where the picture is decoded
        source = None if is_url(reader.source) else Path(reader.source)
        self._part = None if self._live else claim(self.target, source, overwrite)
        try:
            with self._errors():
                self._open(name, encoding or Encoding(), metadata or {})
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            if self._keep_partial and self.frames:
                self._leave()
            else:
                self._discard()
            return
        try:
            self.finish()
            if self._part is not None:
                publish(self._part, self.target)
        except BaseException:
            self._discard()
            raise

    def write(self, frame: Frame | av.VideoFrame) -> None:
        """Nothing comes back; the frame's passengers and then its picture are in the file."""
        if isinstance(frame, av.VideoFrame):
            frame = Frame(frame)
        with self._errors():
            if not self.frames:
                first = frame.seconds or Fraction(0)
                self.shift = -first if self._from_zero else _headroom(frame)
                self._container.set_chapters(self._chapters() if self._carry else [])
            self._load(frame.passengers)
            if self._segments is None:
                self._encode(frame.picture)
            else:
                self._copy()
        self.frames += 1

    def _open(self, name: str, encoding: Encoding, metadata: Mapping[str, str]) -> None:
        reader = self._reader
        tags = _merged(reader.metadata if self._carry else {}, metadata)
        options = {}
        if self._live and encoding.undelayed:
            # Else a second's worth goes out at once, and ten would wait for a subtitle to come.
            options = {"cluster_time_limit": "0", "max_interleave_delta": "1"}
        elif name in ("mp4", "mov"):
            # The edit list that delays a stream counts in ticks of the movie, by default coarse.
            ticks = reader.time_base.denominator
            ticks *= -(-10_000 // ticks)
            late = any(map(_lacks_header, reader.streams)) or (reader.covers and self._carry)
            movflags = "faststart" if late else _MOVFLAGS
            if {tag.lower() for tag in tags} - _BOXED:
                movflags += "+use_metadata_tags"
            options = {"movflags": movflags, "movie_timescale": str(ticks)}
        self._container: OutputContainer = av.open(
            f"file:{self._part}" if self._part else "pipe:1",
            "w",
            format=name,
            container_options=options,
        )
        self._routes: dict[int, Stream] = {}  # input stream -> output stream
        for stream in reader.streams:
            if stream.index == reader.video.index:
                self._video = self._add_picture(encoding)
                self._describe(self._video, stream)
            elif self._carry:
                self._add_copy(stream)
        self._video.set_display_matrix(reader.display_matrix)
        self._container.metadata.update(tags)

    def _add_picture(self, encoding: Encoding) -> VideoStream:
        """Make room for the picture, and say what of it is lost."""
        reader = self._reader
        if self._segments is not None:
            self.encoder = self._segments.encoder
            self._packets = self._segments.packets()
            return self._container.add_stream_from_template(self._segments.stream, opaque=True)
        encoding, warning = usable(encoding, reader.first, reader.frame_rate)
        self.warnings += [warning] if warning else []
        video = add_encoder(
            self._container, encoding, reader.codec, reader.first, reader.frame_rate,
            reader.time_base, reader.sample_aspect_ratio,
        )  # fmt: skip
        context = video.codec_context
        self.encoder = context.name
        if (
            (reader.sample_aspect_ratio or 1) != 1
            and self._container.format.name in {"matroska", "webm"}
            and context.codec.canonical_name not in {"h264", "hevc"}  # they have it in the stream
        ):
            # PyAV sets it in the encoder only, and these containers have it from elsewhere.
            self.dropped.append(f"the pixels' aspect ratio: not possible in {self.target.suffix}")
        self.dropped += [
            f"{what}: not possible with {context.name}" for what in _lost(context, reader)
        ]
        return video

    def _add_copy(self, stream: Stream) -> None:
        """Make room for a stream that is copied, or say why it is dropped."""
        if stream.discard == Discard.all:  # a chapter track, which comes back with the chapters
            return
        name = self._container.format.name
        if name == "matroska" and stream.index in self._reader.covers:
            # To Matroska cover art is an attached file, not a track.
            kind = "png" if stream.codec_context.name == "png" else "jpeg"
            file = stream.metadata.get("filename", f"cover.{kind.replace('jpeg', 'jpg')}")
            data = self._reader.covers[stream.index]
            self._container.add_attachment(file, f"image/{kind}", data)
            self.carried.append(described(stream))
        elif self._live and _lacks_header(stream):
            # FFmpeg goes back to fill in what the header lacks, and dies of it where it can't.
            self.dropped.append(f"{described(stream)}: not possible without a file")
        elif _takes(name, stream):
            self._routes[stream.index] = self._container.add_stream_from_template(
                stream, opaque=True
            )
            self._describe(self._routes[stream.index], stream)
            self.carried.append(described(stream))
        else:
            self.dropped.append(f"{described(stream)}: not possible in {self.target.suffix}")

    def _describe(self, new: Stream, stream: Stream) -> None:
        new.metadata.update(_merged(stream.metadata, {}))
        new.disposition = stream.disposition

    def _chapters(self) -> list[Chapter]:
        """The input's chapters, moved and cut like its frames."""
        moved: list[Chapter] = []
        for chapter in self._reader.chapters:
            base = chapter["time_base"] or Fraction(1, av.time_base)
            shift = round((self.shift - self._reader.zero) / base)
            start, end = max(chapter["start"] + shift, 0), chapter["end"] + shift
            if end > start:
                moved.append({**chapter, "start": start, "end": end})
        return moved

    def _load(self, passengers: tuple[av.Packet[Any], ...]) -> None:
        """Copy the packets, each into its stream."""
        for packet in passengers:
            route = self._routes.get(packet.stream_index)
            if route is None:
                continue
            shift = round(self.shift / packet.time_base)
            last = self._last.get(route.index)
            dts = packet.pts if packet.dts is None else packet.dts
            dts = None if dts is None else dts + shift
            astray = dts is not None and self._is_astray(dts, packet, route)
            if dts is None or astray:
                dts = (last or 0) + (packet.duration or 1)
            pts = dts if packet.pts is None or astray else packet.pts + shift
            if last is not None and dts <= last:  # muxers insist that it rises
                dts = last + 1
            packet.dts, packet.pts = dts, max(pts, dts)
            self._last[route.index] = dts
            packet.stream = route
            try:
                self._container.mux_one(packet)
            except (ArgumentError, InvalidDataError) as error:
                note = f"stream {route.index}: some packets were refused ({error.strerror})"
                if note not in self.dropped:
                    self.dropped.append(note)

    def _is_astray(self, dts: int, packet: av.Packet[Any], route: Stream) -> bool:
        """Whether a packet's time is far ahead of its own stream and of the picture, both.

        It is damaged then, and would drag along all that come after it.
        """
        shown, last = self._last.get(self._video.index), self._last.get(route.index)
        if shown is None or last is None:
            return False
        most = _ASTRAY if route.type == "audio" else _FAR_ASTRAY
        usual = max(shown * self._reader.time_base, last * packet.time_base)
        return dts * packet.time_base - usual > most

    def _encode(self, picture: av.VideoFrame) -> None:
        """Encode the picture at its own time; afterwards it is as it was."""
        context = self._video.codec_context
        size = (context.width, context.height)
        if picture.format.name != context.pix_fmt or (picture.width, picture.height) != size:
            picture = converted(picture, context.pix_fmt or "yuv420p", *size)
        pts, kind = picture.pts, picture.pict_type
        last = self._last.get(self._video.index)
        moved = (pts or 0) + round(self.shift / self._reader.time_base)
        picture.pts = moved if last is None else max(moved, last + 1)
        picture.pict_type = 0  # x264 would obey the source's choice of key frames
        self._last[self._video.index] = picture.pts
        try:
            self._mux(self._video.encode(picture))
        finally:
            picture.pts, picture.pict_type = pts, kind

    def _mux(self, packets: Iterable[av.Packet[Any]]) -> None:
        """Write what the encoder gave; of fewer pictures than it may reorder, x265 gives times of
        decoding that nobody has set."""
        for packet in packets:
            pts, last = packet.pts or 0, self._frontier
            most = _ODD / packet.time_base
            if packet.dts is None or not pts - most < packet.dts <= pts:
                packet.dts = pts if last is None else min(pts, last + 1)
            self._frontier = packet.dts
            self._container.mux(packet)

    def _copy(self) -> None:
        """Write the next packet of the picture that was encoded before."""
        packet, zero = next(self._packets, (None, Fraction(0)))
        if packet is None or packet.pts is None:
            raise OutputError(f"{self.target}: what was kept of an earlier run is incomplete.")
        base = self._reader.time_base
        move = zero - self._reader.zero + self.shift
        pts = round((packet.pts * packet.time_base + move) / base)
        # Of the first packets Matroska keeps no time of decoding: it is before all others. Where
        # two segments meet, these times may overlap.
        dts = pts - _REORDERED
        if packet.dts is not None:
            dts = round((packet.dts * packet.time_base + move) / base)
        elif self._frontier is not None:
            dts = self._frontier + 1
        if self._frontier is not None:
            dts = max(dts, self._frontier + 1)
        self._frontier = dts
        packet.time_base, packet.pts, packet.dts = base, max(pts, dts), dts
        packet.stream = self._video
        index = self._video.index
        self._last[index] = max(self._last.get(index, packet.pts), packet.pts)
        self._container.mux_one(packet)

    def finish(self) -> None:
        """Nothing comes back; the file is whole, but has not got its name yet. Once is enough."""
        if self._whole:
            return
        if not self.frames:
            raise OutputError(f"{self.target} got no frame.")
        with self._errors():
            self._load(self._reader.trailing)
            if self._segments is None:
                self._mux(self._video.encode(None))
            index = self._video.index  # which is void once the file is closed
            self._container.close()
            self._whole = True
            if self._part is not None:
                self._check_end(self._part, index)

    def _check_end(self, part: Path, index: int) -> None:
        """OutputError unless the last picture written is found in the file."""
        wanted = self._last[index] * self._reader.time_base
        reached = wanted - 1
        with av.open(f"file:{part}", metadata_errors="replace") as written:
            video = written.streams[index]
            assert video.time_base is not None
            written.seek(int(wanted / video.time_base), stream=video)
            for packet in written.demux(video):
                if packet.pts is not None:
                    reached = max(reached, packet.pts * video.time_base)
        if reached < wanted - _COARSE:
            raise OutputError(f"{self.target} was not written whole: its end can't be read back.")

    def _leave(self) -> None:
        """What was written stays, playable, under the name of a part."""
        with suppress(Exception):
            self._mux(self._video.encode(None))
        with suppress(Exception):
            self._container.close()

    def _discard(self) -> None:
        with suppress(Exception):  # closing writes an end to what is thrown away
            self._container.close()
        if self._part is not None:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns what FFmpeg says into OutputError."""
        try:
            yield
        except (FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{self.target} can't be written ({reason}).") from error


def _lost(context: VideoCodecContext, reader: Reader) -> Iterator[str]:
    """What goes with the codec of the picture."""
    picture = reader.first
    interlaced = context.flags & Flags.interlaced_dct or context.name == "ffv1"
    if picture.interlaced_frame and not interlaced:
        yield "that the picture is interlaced"
    if has_alpha(picture.format.name) and not has_alpha(context.pix_fmt or "yuv420p"):
        yield "transparency"
    yield from unwritten(picture)


def refused(reader: Reader, target: Path, encoding: Encoding) -> list[str]:
    """A sentence for each thing that a target of that name won't have, and for hardware that won't
    encode it; OutputError if it can't be."""
    container = "matroska" if str(target) == STDOUT else container_of(target)
    others = (s for s in reader.streams if s.index != reader.video.index)
    left = (s for s in others if s.discard != Discard.all and not _takes(container, s))
    encoding, warning = usable(encoding, reader.first, reader.frame_rate)
    with av.open(io.BytesIO(), "w", format=container) as trial:
        video = add_encoder(
            trial, encoding, reader.codec, reader.first, reader.frame_rate, reader.time_base,
            reader.sample_aspect_ratio,
        )  # fmt: skip
        lost = [f"{what}: not possible with {video.codec_context.name}"
                for what in _lost(video.codec_context, reader)]  # fmt: skip
    lost += [f"{described(s)}: not possible in {target.suffix}" for s in left]
    return [*([warning] if warning else []), *(f"Left out: {what}." for what in lost)]


def container_of(target: Path) -> str:
    """FFmpeg's name for a container by the target's suffix; OutputError if it is none."""
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(f"{target} must end in one of {', '.join(FORMATS)}.")
    return FORMATS[suffix]


def _headroom(first: Frame) -> Fraction:
    """How far to move all streams so that none of them begins before 0."""
    times = [first.seconds or Fraction(0)]
    for packet in first.passengers:
        if packet.pts is not None:
            times.append(packet.pts * packet.time_base + _RUN_UP)
    return max(-min(times), Fraction(0))


def _lacks_header(stream: Stream) -> bool:
    """True for AAC out of a transport stream: an index written early could not describe it yet."""
    context = stream.codec_context
    return context is not None and context.name == "aac" and not context.extradata


def _takes(container: str, stream: Stream) -> bool:
    """True if the container's header can be written with that stream: the only sure answer."""
    if (container == "webm" and stream.type == "attachment") or (
        container == "mov" and is_cover(stream)
    ):
        return False  # the header can be, and then they are not there
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (FFmpegError, ValueError, OSError):
        return False
    return True


def _merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The tags that stay true, with new ones put before old ones of the same name."""
    tags = {
        key: value
        for key, value in old.items()
        if key.lower() not in _STALE and not key.startswith("_STATISTICS")
    }
    for key, value in new.items():
        same = next((known for known in tags if known.lower() == key.lower()), None)
        before = tags.pop(same) if same is not None else ""
        tags[key] = value if before in ("", value) else f"{value} | {before}"
    return tags
