"""A decoded picture on its way through the stream, and the only code that edits its samples.

Three kinds of coordinates meet here. "Coded" pixels are as the codec stores them; "upright" pixels
are as a viewer sees them, after the container's display matrix; planes may be subsampled. Callers
see upright RGB only, and frames stay coded, so that the display matrix is written back unchanged.
"""

from __future__ import annotations  # PyAV's packets are generic for the type checker only

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import cv2
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from stream_unmask.types import Image, Mask

LIMITED, FULL = 1, 2  # AVColorRange
BT601 = 5  # AVColorSpace
# swscale's default path from YUV to RGB darkens by one level in 255; this one is within rounding.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# AVColorSpace to what swscale can do; everything else, "unspecified" too, is BT.601 in both
# directions, as in FFmpeg itself, so that a picture survives the round trip.
_MATRICES = {1: 1, 4: 4, 5: BT601, 6: BT601, 7: 7, 9: 9, 10: 9}
# Where samples of packed and exotic formats go to be edited.
_PLANAR = (
    *("gray", "yuv420p", "yuv422p", "yuv444p", "yuva420p", "yuva444p", "gbrp", "gbrap"),
    *("gray10le", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gbrp10le"),
    *("gray16le", "yuv420p16le", "yuv422p16le", "yuv444p16le", "gbrp16le"),
)

# Formats in which hardware keeps pictures, with U and V in one plane and the bits at the top, and
# those that hold the same samples, with a plane for each component, as software gives them.
SEPARATE = {
    "nv12": ("yuv420p", "yuvj420p"), "nv16": ("yuv422p", "yuvj422p"),
    "nv24": ("yuv444p", "yuvj444p"),
    "p010le": ("yuv420p10le",), "p210le": ("yuv422p10le",), "p410le": ("yuv444p10le",),
    "p012le": ("yuv420p12le",), "p212le": ("yuv422p12le",), "p412le": ("yuv444p12le",),
    "p016le": ("yuv420p12le",), "p216le": ("yuv422p12le",), "p416le": ("yuv444p12le",),
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded picture and the non-video packets that ride with it."""

    picture: av.VideoFrame
    passengers: tuple[av.Packet[Any], ...] = ()

    @property
    def seconds(self) -> Fraction | None:
        """The exact presentation time, None if the picture has none."""
        picture = self.picture
        if picture.pts is None or picture.time_base is None:
            return None
        return picture.pts * picture.time_base


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rectangle of new pixels: result = image * mask + picture * (1 - mask).

    x, y: its upper left corner in upright pixels; it may stick out of the picture.
    image: (h, w, 3) RGB. mask: (h, w), 0 keeps the sample exactly as decoded.
    """

    x: int
    y: int
    image: Image
    mask: Mask

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be uint8 (h, w, 3), not {self.image.shape}")
        if self.mask.shape != self.image.shape[:2]:
            raise ValueError(f"mask {self.mask.shape} does not fit image {self.image.shape}")


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways from coded to upright: transposed first, then mirrored."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def upright(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of coded (H, W, ...) as the viewer sees it."""
        if self.transposed:
            array = array.swapaxes(0, 1)
        return self._mirrored(array)

    def coded(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of upright (H, W, ...) as the codec stores it; the inverse of `upright`."""
        array = self._mirrored(array)
        return array.swapaxes(0, 1) if self.transposed else array

    def _mirrored(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    """The 9 integers that turn coded pixels upright (FFmpeg's layout), None if absent or void."""
    try:
        # Not `picture.side_data`: the picture keeps that, which refers back to it, and such cycles
        # stay until Python looks for them, which it does ever more rarely in a long video.
        data: Any = SideDataContainer(picture)  # type: ignore[call-arg]
        matrix = struct.unpack("<9i", bytes(data["DISPLAYMATRIX"]))
    except KeyError:
        return None
    except ValueError:  # PyAV knows not every kind of side data, and then hands out none
        angle = math.radians(picture.rotation)
        a, b = round(65536 * math.cos(angle)), round(65536 * -math.sin(angle))
        matrix = (a, b, 0, -b, a, 0, 0, 0, 1 << 30)
        return None if picture.rotation % 90 or matrix[0] == 65536 else matrix
    return matrix if matrix[0] * matrix[4] != matrix[1] * matrix[3] else None


def orientation(picture: av.VideoFrame) -> Orientation:
    """The turn that puts the picture upright; none where the angle is no quarter turn."""
    a, b, _, c, d = (display_matrix(picture) or (1, 0, 0, 0, 1))[:5]
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if crossed > 10 * max(abs(a), abs(d)):
        return Orientation(transposed=True, flip_x=c < 0, flip_y=b < 0)
    if straight > 10 * max(abs(b), abs(c)):
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation()


def to_rgb(picture: av.VideoFrame) -> Image:
    """The upright picture as contiguous RGB, by its own colour matrix and range."""
    rgb = converted(picture, "rgb24").to_ndarray()
    return np.ascontiguousarray(orientation(picture).upright(rgb))


def sparse_luma(picture: av.VideoFrame) -> NDArray[np.uint8] | None:
    """Some of the picture's luma, about 96 rows of it as coded, (h, w), 0..255; None in RGB.

    It costs next to nothing, where a conversion of the whole would cost milliseconds.
    """
    if picture.format.is_rgb or not _editable(picture.format):
        return None
    plane, channels, _, _ = next(_planes(picture))
    step = max(min(picture.width, picture.height) // 96, 1)
    some = plane[::step, :: step * channels]
    depth = picture.format.components[0].bits
    return np.asarray(some >> (depth - 8), np.uint8)


def from_rgb(image: Image, like: av.VideoFrame) -> av.VideoFrame:
    """A picture that shows upright `image`, in all else (format, time, colour) equal to `like`."""
    whole = np.ones(image.shape[:2], np.float32)
    return with_patches(like, [Patch(0, 0, image, whole)])


def with_patches(picture: av.VideoFrame, patches: Sequence[Patch]) -> av.VideoFrame:
    """A copy of the picture with the patches blended in; the picture itself without any.

    Blending happens in the decoded planes: where a mask is 0 (averaged over the pixels that share
    a chroma sample) the sample is bit-identical. Formats without one plane per component, or with
    big-endian samples, come back in their nearest planar format.
    """
    if not patches:
        return picture
    turn = orientation(picture)
    if _editable(picture.format):
        result = _copy(picture)
    else:
        nearest, _ = find_best_pix_fmt_of_list(_PLANAR, picture.format.name)
        result = converted(picture, nearest.name if nearest else "gbrp")
    for patch in patches:
        _blend(result, patch, turn)
    return result


def converted(
    picture: av.VideoFrame, pixel_format: str, width: int | None = None, height: int | None = None
) -> av.VideoFrame:
    """The picture in another format or size; within YUV its matrix and range stay as they are."""
    matrix, source = _matrix(picture), picture.format
    target = LIMITED if source.is_rgb else _range(picture)
    if av.VideoFormat(pixel_format).is_rgb or pixel_format.startswith("yuvj"):
        target = FULL
    result = picture.reformat(
        width=width,
        height=height,
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=_range(picture),
        dst_color_range=target,
        interpolation=_EXACT,
    )
    if not source.is_rgb and not result.format.is_rgb:
        result.colorspace, result.color_range = picture.colorspace, picture.color_range
    return result


def separated(picture: av.VideoFrame, pixel_format: str) -> av.VideoFrame | None:
    """The very samples in the format that software would give; None if it has others."""
    if picture.format.name == pixel_format:
        return picture
    same = pixel_format in SEPARATE.get(picture.format.name, ())
    if not same or (pixel_format.startswith("yuvj") and picture.color_range != FULL):
        return None
    return converted(picture, pixel_format)


def _matrix(picture: av.VideoFrame) -> int:
    return _MATRICES.get(picture.colorspace, BT601)


def _range(picture: av.VideoFrame) -> int:
    full = picture.color_range == FULL or picture.format.name.startswith("yuvj")
    return FULL if full or picture.format.is_rgb else LIMITED


def _editable(pixel_format: av.VideoFormat) -> bool:
    """True if every plane is an array of little-endian samples that `_planes` can view."""
    parts = pixel_format.components
    return (
        (pixel_format.is_planar or len(parts) == 1)
        and not (pixel_format.is_big_endian or pixel_format.has_palette)
        and all(8 <= part.bits <= 16 for part in parts)
    )


def _copy(picture: av.VideoFrame) -> av.VideoFrame:
    """A copy with samples of its own: the decoder may still refer to the picture's buffers.

    PyAV has no such call, but a resized frame carries every property and piece of side data, so
    an empty one is made by way of a tiny one, and all its samples are overwritten.
    """
    tiny = picture.reformat(width=16, height=16, interpolation="POINT", threads=1)
    result = tiny.reformat(picture.width, picture.height, interpolation="POINT", threads=1)
    for (target, *_), (source, *_) in zip(_planes(result), _planes(picture), strict=True):
        target[:] = source
    return result


def _planes(
    picture: av.VideoFrame,
) -> Iterator[tuple[NDArray[Any], int, tuple[int, int], bool]]:
    """For every plane: a writable (H, W * channels) view, channels, (x, y) step, is it alpha."""
    parts = picture.format.components
    step = (64 // picture.format.chroma_width(64), 64 // picture.format.chroma_height(64))
    for index, plane in enumerate(picture.planes):
        own = [part for part in parts if part.plane == index]
        dtype = np.dtype(np.uint8 if own[0].bits == 8 else "<u2")
        rows = np.frombuffer(cast(Any, plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
        view = rows[: plane.height, : plane.width * len(own)]
        yield view, len(own), step if own[0].is_chroma else (1, 1), own[0].is_alpha


def _blend(picture: av.VideoFrame, patch: Patch, turn: Orientation) -> None:
    """Write the patch into the picture's planes."""
    step = (64 // picture.format.chroma_width(64), 64 // picture.format.chroma_height(64))
    placed = _aligned(picture, patch, turn, step)
    if placed is None:
        return
    x, y, image, mask = placed
    paint = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format=picture.format.name,
        dst_colorspace=_matrix(picture),
        src_color_range=FULL,
        dst_color_range=_range(picture),
        interpolation=_EXACT,
        threads=1,
    )
    for (target, channels, (sx, sy), alpha), (new, *_) in zip(
        _planes(picture), _planes(paint), strict=True
    ):
        if alpha:
            continue
        share = mask
        if sx > 1 or sy > 1:
            size = (mask.shape[1] // sx, mask.shape[0] // sy)
            share = cast(Mask, cv2.resize(mask, size, interpolation=cv2.INTER_AREA))
        region = target[y // sy :, x // sx * channels :][: new.shape[0], : new.shape[1]]
        height, width = region.shape  # an odd picture ends inside the last chroma sample
        share = np.repeat(share, channels, axis=1)[:height, :width]
        old = region.astype(np.float32)
        region[:] = np.rint(old + (new[:height, :width] - old) * share)


def _aligned(
    picture: av.VideoFrame, patch: Patch, turn: Orientation, step: tuple[int, int]
) -> tuple[int, int, Image, Mask] | None:
    """The patch in coded pixels, clipped, then grown to whole chroma samples; None if outside."""
    size = (picture.height, picture.width)
    height, width = reversed(size) if turn.transposed else size
    x0, y0 = max(patch.x, 0), max(patch.y, 0)
    x1 = min(patch.x + patch.image.shape[1], width)
    y1 = min(patch.y + patch.image.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return None
    window = (slice(y0 - patch.y, y1 - patch.y), slice(x0 - patch.x, x1 - patch.x))
    x, y = width - x1 if turn.flip_x else x0, height - y1 if turn.flip_y else y0
    if turn.transposed:
        x, y = y, x
    image = np.ascontiguousarray(turn.coded(patch.image[window]))
    mask = np.ascontiguousarray(turn.coded(patch.mask[window]), np.float32)
    height, width = mask.shape
    left, top = x % step[0], y % step[1]
    border = (top, -(y + height) % step[1], left, -(x + width) % step[0])
    image = cast(Image, cv2.copyMakeBorder(image, *border, cv2.BORDER_REPLICATE))
    mask = cast(Mask, cv2.copyMakeBorder(mask, *border, cv2.BORDER_CONSTANT, value=0))
    if x + width == picture.width:  # what lies beyond the picture has no say in its last samples
        mask[:, left + width :] = mask[:, left + width - 1 : left + width]
    if y + height == picture.height:
        mask[top + height :] = mask[top + height - 1 : top + height]
    return x - left, y - top, image, mask
