"""The choice of an encoder and its settings, from a name and a picture to an opened stream."""

import re
from fractions import Fraction
from typing import cast

import av
from av.codec.codec import UnknownCodecError, find_best_pix_fmt_of_list
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from stream_unmask.errors import OutputError
from stream_unmask.video.frame import BT601, LIMITED

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_DEFAULTS = {"webm": "libvpx-vp9"}
# Quality at which a second look finds no difference, at a speed that keeps up with two cores.
_SETTINGS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libx265": {"preset": "veryfast", "crf": "20", "x265-params": "log-level=error"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5", "row-mt": "1", "crf": "24"},
    "libsvtav1": {"preset": "9", "crf": "28"},
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "20"},
    "hevc_nvenc": {"preset": "p4", "rc": "vbr", "cq": "22"},
}
_QUALITY_OPTIONS = ("crf", "cq", "qp", "global_quality")


def add_encoder(
    container: OutputContainer,
    name: str | None,
    quality: int | None,
    picture: av.VideoFrame,
    rate: Fraction,
    time_base: Fraction,
    sample_aspect_ratio: Fraction | None,
) -> VideoStream:
    """An opened stream for pictures like this one; OutputError if the encoder can't do it."""
    name = name or _DEFAULTS.get(container.format.name, "libx264")
    codec = _codec(name)
    try:
        new = container.add_stream(
            name, rate=rate, time_base=time_base, width=picture.width, height=picture.height
        )
        stream = cast(VideoStream, new)
        context = stream.codec_context
        context.pix_fmt = _pixel_format(codec, picture)
        if not picture.format.is_rgb:
            context.color_range, context.colorspace = picture.color_range, picture.colorspace
        elif not av.VideoFormat(context.pix_fmt).is_rgb:
            context.color_range, context.colorspace = LIMITED, BT601  # as `converted` makes it
        context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        context.options = _options(stream, name, quality)
        context.open()  # now rather than with the first frame: a missing GPU shows here
    except (FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"The encoder {name} can't be used here ({reason}).") from error
    return stream


def _codec(name: str) -> av.Codec:
    try:
        codec = av.Codec(name, "w")
    except (UnknownCodecError, FFmpegError) as error:
        raise OutputError(f"There is no encoder {name}.") from error
    if codec.type != "video":
        raise OutputError(f"{name} is no encoder for video.")
    return codec


def _options(stream: VideoStream, name: str, quality: int | None) -> dict[str, str]:
    options = dict(_SETTINGS.get(name, {}))
    if quality is not None:
        known = {option.name for option in stream.codec_context.supported_options.private}
        key = next((key for key in _QUALITY_OPTIONS if key in known), None)
        if key is None:
            raise OutputError(f"The encoder {name} has no setting for quality.")
        options[key] = str(quality)
    return options


def _pixel_format(codec: av.Codec, picture: av.VideoFrame) -> str:
    """The picture's own format if the encoder takes it, otherwise the nearest that it does."""
    source = picture.format
    names = [known.name for known in codec.video_formats or [source]]
    name = source.name
    if name not in names:
        plain = source.is_rgb or source.has_palette  # what players take, before what loses least
        best = None if plain and "yuv420p" in names else find_best_pix_fmt_of_list(names, name)[0]
        name = best.name if best is not None else "yuv420p"
    chosen = av.VideoFormat(name, 64, 64)
    odd = picture.width % (64 // chosen.chroma_width()) or (
        picture.height % (64 // chosen.chroma_height())
    )
    if odd and codec.canonical_name in {"h264", "hevc"}:
        # Their streams can only be cropped by whole chroma samples; a chroma sample for every
        # pixel keeps the size (the alternative would be to cut or to add a line).
        name = re.sub(r"^nv\d+$", "yuv444p", re.sub(r"4[124][0-2]p", "444p", name))
    return name
