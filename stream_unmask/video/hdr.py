"""How bright the display of an HDR master was: read off a picture, written the encoders' ways."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import SideDataContainer

Chromaticity = tuple[Fraction, Fraction]


@dataclass(frozen=True, slots=True)
class Mastering:
    """SMPTE ST 2086. red, green, blue, white: CIE 1931 x, y. darkest, brightest: cd/m2."""

    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity
    darkest: Fraction
    brightest: Fraction


def mastering(picture: av.VideoFrame) -> Mastering | None:
    """What the picture says of the display on which it was graded, None if nothing."""
    data = _side(picture, "MASTERING_DISPLAY_METADATA")
    if data is None or not all(struct.unpack_from("<2i", data, 80)):
        return None
    numbers = struct.unpack_from("<20i", data)  # ten ratios of two integers (AVRational)
    values = [Fraction(n, d or 1) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = ((values[i], values[i + 1]) for i in (0, 2, 4, 6))
    return Mastering(red, green, blue, white, *values[8:])


def light_level(picture: av.VideoFrame) -> tuple[int, int] | None:
    """(MaxCLL, MaxFALL) in cd/m2, None if the picture doesn't say."""
    data = _side(picture, "CONTENT_LIGHT_LEVEL")
    return None if data is None else struct.unpack_from("<2I", data)


def light_options(encoder: str, picture: av.VideoFrame) -> dict[str, str]:
    """The encoder's options by which both stay in the stream; empty where it has none."""
    if encoder not in _WAYS:
        return {}
    option, display, level, colour_scale, light_scale = _WAYS[encoder]
    found, levels, parts = mastering(picture), light_level(picture), []
    if found is not None:
        named = {"G": found.green, "B": found.blue, "R": found.red, "WP": found.white}
        colours = "".join(
            f"{key}({_scaled(x, colour_scale)},{_scaled(y, colour_scale)})"
            for key, (x, y) in named.items()
        )
        bright, dark = (_scaled(value, light_scale) for value in (found.brightest, found.darkest))
        parts.append(f"{display}={colours}L({bright},{dark})")
    if levels is not None:
        parts.append(f"{level}={levels[0]},{levels[1]}")
    return {option: ":".join(parts)} if parts else {}


def unwritten(picture: av.VideoFrame) -> Iterator[str]:
    """A phrase for each thing that comes with the picture and that no encoder here writes."""
    try:
        kinds = {entry.type.name for entry in SideDataContainer(picture)}  # type: ignore[call-arg]
    except ValueError as error:  # PyAV knows not every kind, and then tells the number alone
        kinds = {str(error).split()[0]}
    if "DOVI_METADATA" in kinds:
        yield "Dolby Vision's metadata"
    if _VIEW_ID in kinds:
        yield "the view for the other eye"


_VIEW_ID = "29"  # AV_FRAME_DATA_VIEW_ID, of MV-HEVC
# Per encoder: its option, what it calls both, and the units in which it counts.
_WAYS = {
    "libx264": ("x264-params", "mastering-display", "cll", 50_000, 10_000),
    "libx265": ("x265-params", "master-display", "max-cll", 50_000, 10_000),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", None, None),
}


def _scaled(value: Fraction, scale: int | None) -> str:
    return f"{float(value):.5f}" if scale is None else str(round(value * scale))


def _side(picture: av.VideoFrame, name: str) -> bytes | None:
    # Not `picture.side_data`: see `frame.display_matrix`.
    try:
        data: Any = SideDataContainer(picture)  # type: ignore[call-arg]
        return bytes(data[name])
    except (KeyError, ValueError):  # ValueError: side data of a kind that PyAV knows not
        return None
