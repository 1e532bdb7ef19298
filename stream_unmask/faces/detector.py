"""Finds faces in a picture with MediaPipe's two detection networks.

The short-range network sees the whole picture at 128 x 128, with margins of several widths, and
is at its best on close-ups. The full-range one is convolutional, so it takes the whole picture at
every scale of a pyramid, up to one at which a face of 40 px is 14 px wide. What both say is merged.

Both put out, for each anchor (a point on a grid), a logit and 16 numbers in input pixels: the
box's centre relative to the anchor, its size, then six points relative to the anchor, of which
the first two are the eyes, the image-left one first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.backends.engine import Engine, EngineSpec, Tensor, TensorSpec
from stream_unmask.faces.geometry import Affine, apply, scale_of
from stream_unmask.types import Face, Image

SHORT_RANGE = EngineSpec(
    "face_detection_short_range",
    inputs=(TensorSpec("image", (None, 3, 128, 128)),),
    outputs=(TensorSpec("boxes", (None, 896, 16)), TensorSpec("logits", (None, 896, 1))),
    precise=True,
)
FULL_RANGE = EngineSpec(
    "face_detection_full_range",
    inputs=(TensorSpec("image", (None, 3, None, None)),),  # sides in multiples of 32
    outputs=(TensorSpec("boxes", (None, None, 16)), TensorSpec("logits", (None, None, 1))),
    precise=True,
)

_SHORT_SIDE = 128
_SHORT_GRIDS = ((8, 2), (16, 6))  # (stride, anchors per cell)
# Sides of the square around the frame that the short-range network sees, in the frame's long side:
# it misses faces that fill its view, and each view more adds votes for a true face.
_MARGINS = (1.0, 1.25, 1.6, 2.2)

_FULL_SIDE = 192  # what the network was made for: the whole frame's long side
_FULL_GRIDS = ((4, 1),)
_FULL_MULTIPLE = 32
# The finest level shrinks the frame to a long side of 512, but never so far that a face of 40 px
# gets narrower than 14 px, and never less than to 16 px, which adds little and costs much.
_FINEST_LONG_SIDE = 512
_FINEST_SCALES = (14 / 40, 16 / 40)
_LARGEST_STEP = 3.6  # between levels: the network finds faces over a range of sizes wider than this

_MIN_SCORE = 0.4  # of an anchor; below MediaPipe's 0.5, since masks lower it and votes count too
_VOTES = 3
_SAME_FACE = 0.3  # intersection over union
_INSIDE = 0.5  # intersection over the smaller area


@dataclass(frozen=True, slots=True)
class _View:
    """A picture as a network sees it, (3, h, w) from -1 to 1, and its way back to the frame."""

    pixels: Tensor
    to_frame: Affine


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A shrunken picture and the (x, y) factors by which the frame is larger."""

    image: Image
    factors: tuple[float, float] = (1.0, 1.0)

    def at(self, scale: float) -> "_Scaled":
        """The picture at `scale` of the frame, averaged so that nothing aliases."""
        height, width = self.image.shape[:2]
        fx, fy = self.factors
        size = (max(round(width * fx * scale), 1), max(round(height * fy * scale), 1))
        larger = size[0] > width or size[1] > height
        method = cv2.INTER_LINEAR if larger else cv2.INTER_AREA
        image = np.asarray(cv2.resize(self.image, size, interpolation=method), np.uint8)
        return _Scaled(image, (fx * width / size[0], fy * height / size[1]))


class Detector:
    """Finds the faces in a picture, each with its box and eyes but without a mesh."""

    def __init__(self, short: Engine, full: Engine) -> None:
        self._short = short
        self._full = full

    def __call__(self, image: Image) -> tuple[Face, ...]:
        """Every face in an RGB picture (H, W, 3), the most certain first."""
        long_side = max(image.shape[:2])
        found: list[Face] = []
        small = _Scaled(image)
        for scale in _pyramid(long_side):
            small = small.at(scale)  # from the level before: cheaper than from the frame
            found.extend(_run(self._full, [_view(small, _canvas(small))], _FULL_GRIDS))
        close = [
            _view(small.at(_SHORT_SIDE / (margin * long_side)), (_SHORT_SIDE, _SHORT_SIDE))
            for margin in _MARGINS
        ]
        found.extend(_run(self._short, close, _SHORT_GRIDS))
        return _merge(found)


def _pyramid(long_side: int) -> list[float]:
    """The scales at which the full-range network looks, from the finest to the whole frame."""
    coarsest = _FULL_SIDE / long_side
    finest = float(np.clip(_FINEST_LONG_SIDE / long_side, *_FINEST_SCALES))
    if finest < coarsest * 1.1:
        return [coarsest]
    steps = math.ceil(math.log(finest / coarsest) / math.log(_LARGEST_STEP))
    return [finest * (coarsest / finest) ** (step / steps) for step in range(steps + 1)]


def _canvas(small: _Scaled) -> tuple[int, int]:
    """(width, height) of the smallest input that holds a scaled picture."""
    height, width = (
        math.ceil(side / _FULL_MULTIPLE) * _FULL_MULTIPLE for side in small.image.shape[:2]
    )
    return width, height


def _view(small: _Scaled, size: tuple[int, int]) -> _View:
    """A scaled picture in the middle of black of `size` (width, height)."""
    height, width = small.image.shape[:2]
    x, y = (size[0] - width) // 2, (size[1] - height) // 2
    tensor = np.full((3, size[1], size[0]), -1, np.float32)
    inside = tensor[:, y : y + height, x : x + width]
    np.multiply(small.image.transpose(2, 0, 1), np.float32(1 / 127.5), out=inside)
    inside -= 1
    factors = np.array(small.factors)
    # Pixel centres are at integers, so x of the scaled picture lies at (x + 0.5) * factor - 0.5.
    shift = (0.5 - np.array([x, y])) * factors - 0.5
    return _View(tensor, np.column_stack([np.diag(factors), shift]))


def _run(engine: Engine, views: list[_View], grids: tuple[tuple[int, int], ...]) -> Iterable[Face]:
    """The faces that a network sees in views of one size, in frame pixels, overlaps included."""
    boxes, logits = engine(np.stack([view.pixels for view in views]))
    anchors = _anchors(views[0].pixels.shape[1:], grids)
    threshold = math.log(_MIN_SCORE / (1 - _MIN_SCORE))
    for view, raw, logit in zip(views, boxes, logits[..., 0], strict=True):
        for index in np.flatnonzero(logit >= threshold):
            score = 1 / (1 + math.exp(-min(float(logit[index]), 100.0)))
            yield _face(raw[index].reshape(8, 2), anchors[index], view.to_frame, score)


def _face(raw: Tensor, anchor: Tensor, to_frame: Affine, score: float) -> Face:
    """One anchor's answer (centre, size, six points) as a face in the frame."""
    # A network counts from the corner of the first pixel, we from its centre.
    points = apply(to_frame, raw[[0, 2, 3]] + anchor - 0.5)
    half = raw[1] * (scale_of(to_frame) / 2)
    low, high = points[0] - half, points[0] + half
    return Face((float(low[0]), float(low[1]), float(high[0]), float(high[1])), points[1:], score)


def _anchors(shape: tuple[int, ...], grids: tuple[tuple[int, int], ...]) -> Tensor:
    """The centres of all anchors, (n, 2) in input pixels, in the order of the outputs."""
    parts = []
    for stride, count in grids:
        y, x = np.mgrid[0 : shape[0] // stride, 0 : shape[1] // stride].astype(np.float32)
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride
        parts.append(np.repeat(centres, count, axis=0))
    return np.concatenate(parts)


def _merge(faces: list[Face]) -> tuple[Face, ...]:
    """The faces without repetition: those that overlap become their mean, weighted by score."""
    left = sorted(faces, key=lambda face: -face.score)
    merged = []
    while left:
        same = _overlaps(np.array([face.box for face in left])) > _SAME_FACE
        same[0] = True
        merged.append(_mean([face for face, chosen in zip(left, same, strict=True) if chosen]))
        left = [face for face, chosen in zip(left, same, strict=True) if not chosen]
    return distinct(merged)


def _overlaps(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of the first box with each of (n, 4)."""
    low = np.maximum(boxes[0, :2], boxes[:, :2])
    high = np.minimum(boxes[0, 2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    overlaps: NDArray[np.float64] = shared / np.maximum(areas + areas[0] - shared, 1e-9)
    return overlaps


def _mean(group: list[Face]) -> Face:
    """One face from several of the same person."""
    weights = np.array([face.score for face in group])
    x0, y0, x1, y1 = np.average([face.box for face in group], axis=0, weights=weights)
    eyes = np.average([face.eyes for face in group], axis=0, weights=weights)
    box = (float(x0), float(y0), float(x1), float(y1))
    # A face excites many anchors, an ear or a wheel one or two: the mean of the best three, where
    # a missing one counts as nothing, tells them apart far better than the best alone.
    score = sum(face.score for face in group[:_VOTES]) / _VOTES
    return Face(box, eyes.astype(np.float32), score)


def distinct(faces: Iterable[Face]) -> tuple[Face, ...]:
    """The faces, the most certain first, without those that cover the same person as another."""
    kept: list[Face] = []
    for face in sorted(faces, key=weight, reverse=True):
        if not any(covers(face, other) for other in kept):
            kept.append(face)
    return tuple(sorted(kept, key=lambda face: -face.score))


def weight(face: Face) -> float:
    """What decides which of two faces stays: the score, and a little the size.

    Networks see small faces in the parts of a large one (an eye and a fold of the mask), rarely a
    large one around a small.
    """
    return float(face.score * math.sqrt(max(face.box[2] - face.box[0], 0.0)))


def covers(first: Face, second: Face) -> bool:
    """Whether two boxes share more than half of the smaller one: then they are one person's."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = first.box, second.box
    shared = max(min(x1, u1) - max(x0, u0), 0.0) * max(min(y1, v1) - max(y0, v0), 0.0)
    return shared > _INSIDE * min((x1 - x0) * (y1 - y0), (u1 - u0) * (v1 - v0))
