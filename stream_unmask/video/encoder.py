"""The choice of an encoder and its settings, from a picture and wishes to an opened stream."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast

import av
from av.codec.codec import UnknownCodecError, find_best_pix_fmt_of_list
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stream_unmask.errors import OutputError
from stream_unmask.video.frame import BT601, LIMITED, SEPARATE
from stream_unmask.video.hardware import hardware_format, hardware_options, translated
from stream_unmask.video.hdr import light_options

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# By format of the coded picture: the encoder that makes it.
ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
}
# What players expect in a container, the usual one first.
_USUAL = {
    "mp4": ("h264", "hevc", "av1", "vp9"),
    "mov": ("h264", "hevc"),
    "matroska": ("h264", "hevc", "av1", "vp9", "ffv1"),
    "webm": ("vp9", "av1"),
}
# Quality at which a second look finds no difference, at a speed that keeps up with two cores.
_SETTINGS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libx265": {"preset": "veryfast", "crf": "20", "x265-params": "log-level=error"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5", "row-mt": "1", "crf": "24"},
    "libsvtav1": {"preset": "9", "crf": "28"},
}
_LOSSLESS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "lossless=1"},
    "libvpx-vp9": {"lossless": "1"},
    "ffv1": {},
    "h264_nvenc": {},
    "hevc_nvenc": {},
}
# What x264's assembler computes for this differs from run to run (core 165, AVX-512).
_REPEATABLE = {"libx264": {"x264-params": "mbtree=0"}}
# With threads of its usual kind, x264 would still be at several pictures at a time.
_UNDELAYED = {
    "libx264": {"tune": "zerolatency", "x264-params": "sliced-threads=1"},
    "libx265": {"tune": "zerolatency"},
    "libvpx-vp9": {"lag-in-frames": "0"},
    "libsvtav1": {"svtav1-params": "pred-struct=1"},
}
_QUALITY_OPTIONS = ("crf", "cq", "qp", "global_quality")
_PRESET_OPTIONS = ("preset", "cpu-used")
# Formats with the same samples under another name.
_SAME_SAMPLES = {
    "yuvj420p": ("yuv420p",),
    "yuvj422p": ("yuv422p",),
    "yuvj444p": ("yuv444p",),
    "rgb24": ("gbrp", "bgr0"),
    "bgr24": ("gbrp", "bgr0"),
    "rgba": ("bgra", "gbrap"),
    "argb": ("bgra", "gbrap"),
    "abgr": ("bgra", "gbrap"),
    "pal8": ("bgra",),
    "bgra": ("gbrap",),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the picture is encoded; None is the usual.

    codec: a format (h264, hevc, vp9, av1, ffv1) or an FFmpeg encoder's name; else the source's own,
    where there is an encoder for it and the container takes it. Software steps in for hardware that
    can't be used. quality: crf, cq or qp, as the encoder calls it. preset: its speed. pixel_format:
    FFmpeg's name. lossless: samples come back as they were. repeatable: the same pictures give the
    same bytes. undelayed: encoders in software keep no picture back to learn from later ones, which
    makes larger files.
    """

    codec: str | None = None
    quality: int | None = None
    preset: str | None = None
    pixel_format: str | None = None
    lossless: bool = False
    repeatable: bool = False
    undelayed: bool = False


def add_encoder(
    container: OutputContainer,
    encoding: Encoding,
    source_codec: str,
    picture: av.VideoFrame,
    rate: Fraction,
    time_base: Fraction,
    sample_aspect_ratio: Fraction | None,
) -> VideoStream:
    """An opened stream for pictures like this one; OutputError if no encoder can do it.

    encoding: what `usable` has made of it.
    """
    name = _encoder(container.format.name, encoding, source_codec, picture)
    codec = _codec(name)
    if name == "libsvtav1":  # which tells its life on standard error, and hears on nothing else
        os.environ.setdefault("SVT_LOG", "1")
    options = _options(codec, encoding, picture), _pixel_format(codec, encoding, picture)
    try:
        new = container.add_stream(name, rate=rate, time_base=time_base)
        stream = cast(VideoStream, new)
        context = stream.codec_context
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if codec.canonical_name == "hevc" and container.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # the one of two that Apple's players know
        _open(context, picture, *options)
    except (FFmpegError, ValueError, OSError) as error:
        raise OutputError(f"The encoder {name} can't be used here ({_reason(error)}).") from error
    return stream


def usable(
    encoding: Encoding, picture: av.VideoFrame, rate: Fraction
) -> tuple[Encoding, str | None]:
    """The encoding and None; or, if its encoder is hardware that can't be used here for pictures
    like this one, that in software, and a sentence. OutputError if it could not do what is wanted.
    """
    name, coded = encoding.codec or "", hardware_format(encoding.codec)
    if coded is None:
        return encoding, None
    try:
        codec = av.Codec(name, "w")
        _refuse_loss(name, encoding, picture)
        options = _options(codec, encoding, picture), _pixel_format(codec, encoding, picture)
        # By itself: in a container, an encoder that can't be opened would leave an empty stream.
        context = codec.create("video")
        context.time_base, context.framerate = 1 / rate, rate
        _open(context, picture, *options)
    except (FFmpegError, ValueError, OSError) as error:
        why = _reason(error)
    else:
        return encoding, None
    software, kept = ENCODERS[coded], encoding.pixel_format
    instead = replace(
        encoding, codec=coded,
        preset=encoding.preset and translated(encoding.preset, software),
        pixel_format=kept and SEPARATE.get(kept, (kept,))[0],
    )  # fmt: skip
    return instead, f"The encoder {name} can't be used here ({why}), so {software} steps in."


def _open(
    context: VideoCodecContext, picture: av.VideoFrame, options: dict[str, str], pixel_format: str
) -> None:
    """Nothing comes back; the encoder is ready for pictures like this one."""
    if hardware_format(context.name) and (picture.width % 2 or picture.height % 2):
        raise ValueError("it takes even sizes")  # to P010, swscale converts no others
    context.width, context.height = picture.width, picture.height
    context.pix_fmt = pixel_format
    context.thread_type = "AUTO"  # PyAV's own choice, slices, makes x264 larger and slower
    _colour(context, picture)
    if picture.interlaced_frame and context.name == "libx264":
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    context.options = options
    context.open()  # now rather than with the first frame: a missing GPU shows here


def _reason(error: Exception) -> object:
    return getattr(error, "strerror", None) or error


def _encoder(container: str, encoding: Encoding, source_codec: str, picture: av.VideoFrame) -> str:
    """The name of the encoder to use."""
    if encoding.codec is not None:
        name = ENCODERS.get(encoding.codec, encoding.codec)
        _refuse_loss(name, encoding, picture)
        return name
    usual = _USUAL[container]
    order = (source_codec, *usual) if source_codec in usual else usual
    names = [ENCODERS[codec] for codec in order]
    if not encoding.lossless:
        return names[0]
    for name in names:
        if _keeps(name, picture):
            return name
    raise OutputError(
        f"No encoder keeps a {picture.format.name} picture of {picture.width} x {picture.height} "
        "without loss in this container; .mkv can."
        if container != "matroska"
        else f"No encoder keeps a {picture.format.name} picture without loss."
    )


def _refuse_loss(name: str, encoding: Encoding, picture: av.VideoFrame) -> None:
    if encoding.lossless and not _keeps(name, picture):
        raise OutputError(f"{encoding.codec} can't keep this picture without loss.")


def _keeps(name: str, picture: av.VideoFrame) -> bool:
    """True if the encoder can give back every sample of pictures like this."""
    if name not in _LOSSLESS:
        return False
    codec = _codec(name)
    wanted = _lossless_format(codec, picture)
    return wanted is not None and not _crops_badly(codec, wanted, picture)


def _lossless_format(codec: av.Codec, picture: av.VideoFrame) -> str | None:
    known = set(_formats(codec))
    if codec.name == "libvpx-vp9":  # which refuses transparency where nothing may be lost
        known = {name for name in known if not has_alpha(name)}
    own = picture.format.name
    same = (own, *_SAME_SAMPLES.get(own, ()), _interleaved(known, own))
    return next((name for name in same if name in known), None)


def _formats(codec: av.Codec) -> list[str]:
    """The formats that the encoder takes as they are; hardware also names its own memory, which
    holds no samples, and RGB and 16 bits, which it would convert."""
    known = [known for known in codec.video_formats or [] if known.components]
    if hardware_format(codec.name):
        known = [one for one in known if not one.is_rgb and one.components[0].bits <= 12]
    return [one.name for one in known]


def _interleaved(known: Iterable[str], pixel_format: str) -> str | None:
    """What hardware calls the format, if it is known by that name."""
    same = [name for name in known if pixel_format in SEPARATE.get(name, ())]
    return next((name for name in same if _depth(name) == _depth(pixel_format)), None)


def _depth(pixel_format: str) -> int:
    return av.VideoFormat(pixel_format).components[0].bits


def has_alpha(pixel_format: str) -> bool:
    """True if the format has transparency."""
    return any(part.is_alpha for part in av.VideoFormat(pixel_format).components)


def _colour(context: Any, picture: av.VideoFrame) -> None:
    """The picture's tags, which say how its samples are to be seen."""
    if not picture.format.is_rgb:
        context.color_range, context.colorspace = picture.color_range, picture.colorspace
    elif not av.VideoFormat(context.pix_fmt).is_rgb:
        context.color_range, context.colorspace = LIMITED, BT601  # as `converted` makes it
    context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc


def _codec(name: str) -> av.Codec:
    try:
        codec = av.Codec(name, "w")
    except (UnknownCodecError, FFmpegError) as error:
        raise OutputError(f"There is no encoder {name}.") from error
    if codec.type != "video":
        raise OutputError(f"{name} is no encoder for video.")
    return codec


def _options(codec: av.Codec, encoding: Encoding, picture: av.VideoFrame) -> dict[str, str]:
    name = codec.name
    if hardware_format(name):
        return hardware_options(codec, encoding.quality, encoding.preset, encoding.lossless)
    options = dict(_SETTINGS.get(name, {}))
    if encoding.lossless:
        options = {key: value for key, value in options.items() if key not in _QUALITY_OPTIONS}
        options = _joined(options, _LOSSLESS[name])
    if encoding.repeatable:
        options = _joined(options, _REPEATABLE.get(name, {}))
    if encoding.undelayed:
        options = _joined(options, _UNDELAYED.get(name, {}))
    wishes = (
        ("quality", encoding.quality, _QUALITY_OPTIONS),
        ("speed", encoding.preset, _PRESET_OPTIONS),
    )
    for what, value, keys in wishes:
        if value is None:
            continue
        known = {option.name for option in codec.create("video").supported_options.private}
        key = next((key for key in keys if key in known), None)
        if key is None:
            raise OutputError(f"The encoder {name} has no setting for {what}.")
        options[key] = str(value)
    return _joined(options, light_options(name, picture))


def _joined(options: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    """Both; lists of parameters under the same name become one."""
    joined = {key: f"{options[key]}:{value}" for key, value in more.items() if key in options}
    return options | more | joined


def _pixel_format(codec: av.Codec, encoding: Encoding, picture: av.VideoFrame) -> str:
    """The picture's own format if the encoder takes it, otherwise the nearest that it does."""
    source = picture.format
    known = _formats(codec) or [source.name]
    if encoding.lossless:
        kept = _lossless_format(codec, picture)
        assert kept is not None  # `_encoder` saw to that
        return kept
    name = encoding.pixel_format or source.name
    name = name if name in known else _interleaved(known, name) or name
    if name not in known:
        if encoding.pixel_format:
            raise OutputError(f"The encoder {codec.name} takes no {name}: {', '.join(known)}.")
        plain = source.is_rgb or source.has_palette  # what players take, before what loses least
        best = None if plain and "yuv420p" in known else find_best_pix_fmt_of_list(known, name)[0]
        name = best.name if best is not None else "yuv420p"
    if _crops_badly(codec, name, picture):
        # A chroma sample for every pixel keeps the size (else to cut, or to add a line).
        name = re.sub(r"^nv\d+$", "yuv444p", re.sub(r"4[124][0-2]p", "444p", name))
    return name


def _crops_badly(codec: av.Codec, pixel_format: str, picture: av.VideoFrame) -> bool:
    """True for H.264 and HEVC, which are cropped by whole chroma samples only, in odd sizes."""
    chosen = av.VideoFormat(pixel_format, 64, 64)
    odd = picture.width % (64 // chosen.chroma_width()) or (
        picture.height % (64 // chosen.chroma_height())
    )
    return bool(odd) and codec.canonical_name in {"h264", "hevc"}
