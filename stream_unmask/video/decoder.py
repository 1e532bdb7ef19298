"""Packets into pictures: in hardware where that is wanted and works, otherwise in software."""

from __future__ import annotations  # PyAV's packets are generic for the type checker only

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stream_unmask.errors import OptionError
from stream_unmask.video.frame import separated

_MOST = 1000  # packets that are kept where key frames are rare
_UNTIMED = -(1 << 60)  # from here on, numbers instead of times for packets that have none


@dataclass(frozen=True, slots=True)
class Hardware:
    """What to decode with. device: FFmpeg's name. accel: None if it can't be; why: a phrase."""

    device: str
    accel: HWAccel | None
    why: str = ""


def check_device(wanted: str | None) -> None:
    """Nothing comes back; OptionError unless FFmpeg knows such a device to decode on."""
    known = ("auto", *hwdevices_available())
    if wanted is not None and wanted not in known:
        raise OptionError(
            f"There is no hardware {wanted!r} to decode with; choose {', '.join(known)}."
        )


def find_hardware(wanted: str | None) -> Hardware | None:
    """The device of that name, or with "auto" the first that can be opened; None if none is wanted.

    OptionError if FFmpeg knows no such device.
    """
    check_device(wanted)
    if wanted is None:
        return None
    reasons = []
    for device in hwdevices_available() if wanted == "auto" else [wanted]:
        accel = HWAccel(device)
        try:
            accel.create(av.Codec("h264", "r"))  # every device that is asked by this way can do it
        except FFmpegError as error:
            reasons.append(f"{device} can't be opened ({error.strerror})")
        except NotImplementedError:
            reasons.append(f"{device} has no decoder here")
        else:
            return Hardware(device, accel)
    return Hardware(wanted, None, ", ".join(reasons) or "there is no hardware for it")


class Decoder:
    """Decodes the packets of a stream, in the order in which they come.

    Where the stream was opened for hardware, that is used until it fails or gives anything but the
    samples that software would. From then on it is software, and no picture is lost: the packets
    since the last key frame but one are decoded again, and pictures that were given are left out.

    source: what warnings call the stream. options: for the decoder. damaged: called with each
    packet that can't be decoded. warning: a sentence if software steps in for hardware, else "".
    """

    def __init__(
        self,
        source: str,
        stream: VideoStream,
        options: dict[str, str],
        hardware: Hardware | None,
        damaged: Callable[[av.Packet[Any] | None], None],
    ) -> None:
        self._source, self._options, self._damaged = source, options, damaged
        self._context = self._ready(stream.codec_context)
        self._device = ""  # while it is in use
        self._names: dict[str, None] = {}
        self._count = 0
        self.warning = ""
        if hardware is not None and self._context.is_hwaccel:
            self._device = hardware.device
            self._surface = self._context.pix_fmt
            self._software = self._ready(_twin(stream))
        elif hardware is not None:
            codec = self._context.codec.name
            self._warn(hardware.why or f"its decoder {codec} knows no {hardware.device}")
        self.restart()

    @property
    def name(self) -> str:
        """The decoders that gave pictures, as "h264 (cuda)"; "h264" alone is in software."""
        return ", ".join(self._names)

    def restart(self) -> None:
        """Nothing comes back; the next packet may be from anywhere in the stream."""
        self._past: list[av.Packet[Any]] = []
        self._key = 0  # where in it the last key frame is
        self._given: set[int | None] = set()  # times of the pictures that came of it
        self._context.flush_buffers()

    def decode(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """The pictures that come out once the packet is in; None is the end of the stream."""
        if self._device:
            return self._by_hardware(packet)
        try:
            pictures = self._context.decode(packet)
        except FFmpegError:
            self._damaged(packet)
            return []
        return self._counted(pictures)

    def _by_hardware(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        context = self._context
        if packet is not None:
            self._keep(packet)
        try:
            found = context.decode(packet)
        except FFmpegError as error:
            return self._again(packet, f"{self._device} failed ({error.strerror})")
        if found and context.pix_fmt != self._surface:
            return self._again(packet, f"{self._device} can't decode such pictures")
        size, pixel_format = (context.width, context.height), self._software.pix_fmt or ""
        pictures = []
        for surface in found:
            picture = separated(surface, pixel_format)
            if picture is None or (picture.width, picture.height) != size:
                return self._again(packet, f"{self._device} gives other samples than software")
            pictures.append(picture)
        self._given.update(picture.pts for picture in pictures)
        return self._counted(pictures)

    def _again(self, packet: av.Packet[Any] | None, why: str) -> list[av.VideoFrame]:
        """The pictures that hardware was to give; from now on they come from software."""
        self._warn(why)
        self._device, self._context = "", self._software
        pictures = []
        for each in (*self._past, *([None] if packet is None else [])):
            try:
                pictures += self._context.decode(each)
            except FFmpegError:
                if each is None or each.pts not in self._given:
                    self._damaged(each)
        return self._counted([one for one in pictures if one.pts not in self._given])

    def _keep(self, packet: av.Packet[Any]) -> None:
        """Keep the packet for the case that hardware fails; decoders pass its time on."""
        if packet.pts is None:
            packet.pts = _UNTIMED + self._count
            self._count += 1
        if packet.is_keyframe or len(self._past) > _MOST:
            # Pictures before the key frame may still be to come, and ones after it build on those.
            self._past = self._past[self._key :] if packet.is_keyframe else []
            self._given &= {old.pts for old in self._past}
            self._key = len(self._past)
        self._past.append(packet)

    def _counted(self, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """The pictures, with their own times, and the name of their decoder noted."""
        for picture in pictures:
            if picture.pts is not None and picture.pts < _UNTIMED // 2:
                picture.pts = None
        if pictures:
            name = self._context.codec.name
            self._names[f"{name} ({self._device})" if self._device else name] = None
        return pictures

    def _warn(self, why: str) -> None:
        rest = "The rest of " if self._names else ""
        self.warning = f"{rest}{self._source} is decoded in software: {why}."

    def _ready(self, context: VideoCodecContext) -> VideoCodecContext:
        # Not frame by frame in threads: an error would come with a later packet, or with none, and
        # take good pictures along.
        context.thread_type = "SLICE"
        context.options = dict(self._options)
        return context


def _twin(stream: VideoStream) -> VideoCodecContext:
    """A decoder in software for the stream, with all that its container says of it."""
    with av.open(io.BytesIO(), "w", format="nut") as container:
        context = container.add_stream_from_template(stream, opaque=True).codec_context
    context.codec_tag = stream.codec_context.codec_tag
    return context
