"""Encoders that are hardware, by maker: what they call quality and speed, and what stands in."""

import av

from stream_unmask.errors import OutputError

# Seven speeds, the fastest first, in the words of each encoder; Intel's are those of x264.
_X264 = ("veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_NVENC = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
_SPEEDS = {
    "nvenc": _NVENC,
    "qsv": _X264,
    "amf": (*3 * ("speed",), "balanced", *3 * ("quality",)),
    "libx264": _X264,
    "libx265": _X264,
    "libvpx-vp9": ("8", "7", "6", "5", "4", "2", "1"),
    "libsvtav1": ("12", "11", "10", "9", "7", "6", "4"),
}
_MAKERS = ("nvenc", "qsv", "amf", "videotoolbox")
# Where nothing is said, by format: about what the software encoders here have as their usual.
_QUALITIES = {"h264": 20, "hevc": 22, "vp9": 28, "av1": 28}


def hardware_format(name: str | None) -> str | None:
    """The format that an encoder makes if it is hardware, as "h264" of h264_nvenc; else None."""
    coded, _, maker = (name or "").partition("_")
    return coded if maker in _MAKERS and coded in _QUALITIES else None


def hardware_options(
    codec: av.Codec, quality: int | None, preset: str | None, lossless: bool
) -> dict[str, str]:
    """FFmpeg's options for the encoder; OutputError if it has none for what is wanted.

    quality: as x264's crf, 0 the best .. 51, in AV1 and VP9 .. 63. preset: its own word for a
    speed, or one of x264, NVENC or AMF.
    """
    coded, _, maker = codec.name.partition("_")
    options = {}
    if maker in _SPEEDS:
        options["preset"] = translated(preset or "medium", maker)
        if options["preset"] not in _SPEEDS[maker]:
            words = ", ".join(dict.fromkeys(_SPEEDS[maker]))
            raise OutputError(f"The encoder {codec.name} has no speed {preset}: {words}.")
    elif preset is not None:
        raise OutputError(f"The encoder {codec.name} has no setting for speed.")
    if lossless:
        return options | {"tune": "lossless"}
    level = _QUALITIES[coded] if quality is None else quality
    if maker == "nvenc":  # to which 0 means that it may choose
        most = 63 if coded == "av1" else 51
        return options | {"rc": "vbr", "cq": str(min(max(level, 1), most))}
    if maker == "qsv":  # as above
        return options | {"global_quality": str(min(max(level, 1), 51))}
    if maker == "amf":
        level = 4 * level if coded == "av1" else min(level, 51)
        return options | {"rc": "cqp", "qp_i": str(level), "qp_p": str(level)}
    if quality is not None:
        raise OutputError(f"The encoder {codec.name} has no setting for quality.")
    return options


def translated(preset: str, encoder: str) -> str:
    """A speed in the words of an encoder, or maker; as it is if it is one of those, or unknown."""
    own = _SPEEDS[encoder]
    tongues = (own, _X264, _NVENC, _SPEEDS["amf"])
    spoken = next((words for words in tongues if preset in words), None)
    return preset if spoken is None or spoken is own else own[spoken.index(preset)]
