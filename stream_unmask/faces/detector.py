"""Finds faces in a picture with MediaPipe's short-range detection network.

It was made for selfies: the whole picture at 128 x 128. So it sees it, with margins of several
widths, for close-ups. But it is convolutional, so it takes the picture at the scales of a pyramid
as well, where a face may be anywhere. Masked faces of 60 to 200 px are found two to three times as
often as by MediaPipe's full-range network, which is made for small faces, but for bare ones
(docs/evaluation.md, detection).

It puts out, for each anchor (a point on a grid), a logit and 16 numbers in input pixels: the
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

FACE_DETECTION = EngineSpec(
    "face_detection_short_range",
    inputs=(TensorSpec("image", (None, 3, None, None)),),  # sides in multiples of 32
    outputs=(TensorSpec("boxes", (None, None, 16)), TensorSpec("logits", (None, None, 1))),
    precise=True,
)

_SIDE = 128  # what the network was made for
_MULTIPLE = 32
_GRIDS = ((8, 2), (16, 6))  # (stride, anchors per cell)
# Sides of the square around the frame that the network sees, in the frame's long side: it misses
# faces that fill its view, and each view more adds votes for a true face.
_MARGINS = (1.0, 1.25, 1.6, 2.2)
# The finest level of the pyramid shrinks a face of 60 px to 28 px, the least that is found well;
# a small frame less, one above 2,000 px more, which would cost too much.
_FINEST_SCALE = 0.475
_LONG_SIDES = (608, 960)
_STEP = 1.72  # between levels
_COARSEST = 200  # px that the long side of a level has at least
_LARGEST = 90  # px in a level; beyond, it sees parts of a face

_MIN_SCORE = 0.4  # of an anchor; below MediaPipe's 0.5, since masks lower it and votes count too
_VOTES = 3
_MIN_FACE_SCORE = (
    0.4  # of their mean; of 166 masked faces one had less, of 68 that were none a quarter
)
_SAME_FACE = 0.3  # intersection over union
_INSIDE = 0.5  # intersection over the smaller area


@dataclass(frozen=True, slots=True)
class _View:
    """A picture as the network sees it, (3, h, w) from -1 to 1, and its way back to the frame."""

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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, image: Image) -> tuple[Face, ...]:
        """Every face in an RGB picture (H, W, 3), the most certain first.

        Some are none, or lie within another: a wheel around a face. `Landmarker` tells them apart.
        """
        long_side = max(image.shape[:2])
        found: list[Face] = []
        small = _Scaled(image)
        for scale in _pyramid(long_side):
            small = small.at(scale)  # from the level before: cheaper than from the frame
            faces = _run(self._engine, [_view(small, _canvas(small))])
            found.extend(face for face in faces if face.side * scale < _LARGEST)
        close = [
            _view(small.at(_SIDE / (margin * long_side)), (_SIDE, _SIDE)) for margin in _MARGINS
        ]
        found.extend(_run(self._engine, close))
        return _merge(found)


def _pyramid(long_side: int) -> list[float]:
    """The scales at which the network looks for faces anywhere, from the finest."""
    least, most = (side / long_side for side in _LONG_SIDES)
    finest = min(max(min(_FINEST_SCALE, most), least), 1.0)
    levels = math.log(max(finest * long_side / _COARSEST, 1)) / math.log(_STEP)
    return [finest / _STEP**level for level in range(int(levels) + 1)]


def _canvas(small: _Scaled) -> tuple[int, int]:
    """(width, height) of the smallest input that holds a scaled picture."""
    height, width = (math.ceil(side / _MULTIPLE) * _MULTIPLE for side in small.image.shape[:2])
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


def _run(engine: Engine, views: list[_View]) -> Iterable[Face]:
    """The faces that the network sees in views of one size, in frame pixels, overlaps included."""
    boxes, logits = engine(np.stack([view.pixels for view in views]))
    anchors = _anchors(views[0].pixels.shape[1:])
    threshold = math.log(_MIN_SCORE / (1 - _MIN_SCORE))
    for view, raw, logit in zip(views, boxes, logits[..., 0], strict=True):
        for index in np.flatnonzero(logit >= threshold):
            score = 1 / (1 + math.exp(-min(float(logit[index]), 100.0)))
            yield _face(raw[index].reshape(8, 2), anchors[index], view.to_frame, score)


def _face(raw: Tensor, anchor: Tensor, to_frame: Affine, score: float) -> Face:
    """One anchor's answer (centre, size, six points) as a face in the frame."""
    # The network counts from the corner of the first pixel, we from its centre.
    points = apply(to_frame, raw[[0, 2, 3]] + anchor - 0.5)
    half = raw[1] * (scale_of(to_frame) / 2)
    low, high = points[0] - half, points[0] + half
    return Face((float(low[0]), float(low[1]), float(high[0]), float(high[1])), points[1:], score)


def _anchors(shape: tuple[int, ...]) -> Tensor:
    """The centres of all anchors, (n, 2) in input pixels, in the order of the outputs."""
    parts = []
    for stride, count in _GRIDS:
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
    certain = (face for face in merged if face.score >= _MIN_FACE_SCORE)
    return tuple(sorted(certain, key=lambda face: -face.score))


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
    """The faces, the most certain first, without those that cover the same person as an earlier."""
    kept: list[Face] = []
    for face in faces:
        if not any(covers(face, other) for other in kept):
            kept.append(face)
    return tuple(sorted(kept, key=lambda face: -face.score))


def weight(face: Face) -> float:
    """What decides which of two faces stays: the score, and a little the size.

    Networks see small faces in the parts of a large one (an eye and a fold of the mask), rarely a
    large one around a small.
    """
    return float(face.score**2 * math.sqrt(max(face.box[2] - face.box[0], 0.0)))


def covers(first: Face, second: Face) -> bool:
    """Whether two boxes share more than half of the smaller one: then they are one person's."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = first.box, second.box
    shared = max(min(x1, u1) - max(x0, u0), 0.0) * max(min(y1, v1) - max(y0, v0), 0.0)
    return shared > _INSIDE * min((x1 - x0) * (y1 - y0), (u1 - u0) * (v1 - v0))
