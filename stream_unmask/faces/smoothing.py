"""Holds each face steady in its crop.

Landmarks shake by half a pixel and lag behind fast heads. Optical flow knows what moved how far
from one picture to the next far better, but not where a face is. So the anchors go with the flow,
and are drawn to the landmarks slowly: nothing shakes and nothing lags.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.faces.crop import cut
from stream_unmask.faces.geometry import Affine, affine, apply, compose, invert, similarity
from stream_unmask.types import Face, Image, Points

T = TypeVar("T")
Grey = NDArray[np.uint8]
Wide = NDArray[np.float64]

# The small upright look of a face by which it is followed: its size, and where its anchors lie.
_SIZE = (112, 128)
_HELD = np.array([(40, 44), (72, 44)], np.float32)
_GRID = 6  # px between the points at which the flow is asked
_CENTRE, _AXES = (56.0, 62.0), (40.0, 52.0)  # the oval within which these lie: face, no background
_SLOPE = 12.0  # Sobel's, of 255, below which a place looks like its surroundings
_FEW = 8  # points below which nothing is said
_ROUNDS = 3  # of the fit, each without those that are farther off than
_OUTLIERS = 2.5  # times the median
_TRUSTED = 1.0  # px, median, by which points may miss the fit; above, the flow knows nothing
_DRAWN = 0.07  # share of the way to the landmarks that the anchors go in each picture
_STRAYED = 0.25  # of the anchors' distance: flow and landmarks that differ by more disagree
_FAMILIAR = 0.5  # likeness, below which landmarks that disagreed are not on the face again
_PATIENCE = 60  # pictures in a row in which the flow may be believed then
_SHAKEN = 0.025  # of the anchors' distance: a mesh that changed by less has only shaken
_KEPT = 0.75  # how much of the last mesh is kept then


def _optical_flow() -> cv2.DISOpticalFlow:
    # A level finer than the preset's; without its refinement that takes no longer.
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(1)
    flow.setVariationalRefinementIterations(0)
    return flow


class Step(NamedTuple):
    """What the flow says: where the anchors (2, 2) have gone, and the affine (2, 3) of frame pixels
    by which all of the face has moved."""

    anchors: Points
    moved: Affine


@dataclass(slots=True)
class SteadyFace:
    """The anchors and the mesh of one track, held steady. A new track, a new object."""

    _past: tuple[Points, Grey, Affine] | None = None  # anchors, look, and the way to that
    _astray: int = 0
    _known: Grey | None = None
    _mesh: Points | None = None
    _flow: cv2.DISOpticalFlow = field(default_factory=_optical_flow)

    def __call__(self, image: Image, face: Face) -> Face:
        """The face of the next picture (H, W, 3), its anchors and mesh steadied."""
        anchors = measured = face.held_by
        look, to_look = look_of(image, face), similarity(measured, _HELD)
        step = self._followed(look, to_look)
        if step is not None and _near(step.anchors, measured) and self._familiar(look):
            self._astray, self._known = 0, look
            anchors = step.anchors + np.float32(_DRAWN) * (measured - step.anchors)
        elif (held := self._held(image, face, look)) is not None:
            step, look, to_look = held
            self._astray, anchors = self._astray + 1, step.anchors
        else:
            step, self._astray, self._known, self._mesh = None, 0, look, None
        self._past = anchors, look, to_look
        moved = None if step is None else step.moved
        return replace(face, anchors=anchors, mesh=self._shaped(face, anchors), moved=moved)

    def _held(self, image: Image, face: Face, measured: Grey) -> tuple[Step, Grey, Affine] | None:
        """Where the flow says that the face is, its look there, and the way to that; None if that
        looks no more like the face than what was measured does."""
        if self._past is None or self._astray >= _PATIENCE:
            return None
        # Where landmarks jump and the face does not, it is they who are wrong.
        last = self._past[0]
        look, to_look = _cut(image, face, last), similarity(last, _HELD)
        step = self._followed(look, to_look)
        if step is None or not self._knows(_cut(image, face, step.anchors), measured):
            return None
        return step, look, to_look

    def _familiar(self, look: Grey) -> bool:
        """Whether landmarks that were doubted are back on the face: to the flow, two faces in one
        place are one that has moved."""
        if self._astray == 0 or self._known is None:
            return True
        return likeness(self._known, look) > _FAMILIAR

    def _knows(self, one: Grey, other: Grey) -> bool:
        """Whether one look is more like this face, when last nobody doubted it, than another."""
        known = self._known
        return known is not None and likeness(known, one) > likeness(known, other)

    def _followed(self, look: Grey, to_look: Affine) -> Step | None:
        """How the flow from the last look to this one has moved the face; None if that is not
        known."""
        if self._past is None:
            return None
        anchors, before, to_before = self._past
        found = self._motion(before, look)
        if found is None:
            return None
        back = invert(to_look)
        similar, whole = (compose(back, compose(moved, to_before)) for moved in found)
        return Step(apply(similar, anchors), whole)

    def _motion(self, before: Grey, now: Grey) -> tuple[Affine, Affine] | None:
        """The similarity and the affine (2, 3) that take the face in one look to that in another;
        None if the flow between them is not that of a face that moved."""
        flow = self._flow.calc(before, now, np.zeros((*before.shape, 2), np.float32))
        y, x = _POINTS.T
        there = _POINTS[:, ::-1] + flow[y, x]
        # Only where there is something to see does flow say anything.
        slope = np.hypot(cv2.Sobel(before, cv2.CV_32F, 1, 0), cv2.Sobel(before, cv2.CV_32F, 0, 1))
        told = slope[y, x] >= max(float(np.median(slope[y, x])), _SLOPE)
        if told.sum() < _FEW:
            return None
        points = _POINTS[told][:, ::-1].astype(np.float64), there[told].astype(np.float64)
        similar, missed = _fitted(similarity, *points)
        return (similar, _fitted(affine, *points)[0]) if missed < _TRUSTED else None

    def _shaped(self, face: Face, anchors: Points) -> Points | None:
        """The mesh (468, 2) put where the anchors are; what only shakes is averaged over time."""
        if face.mesh is None:
            return None
        shape = apply(similarity(face.held_by, _HELD), face.mesh)
        if self._mesh is not None:
            off = float(np.linalg.norm(shape - self._mesh, axis=1).mean())
            unit = float(_HELD[1, 0] - _HELD[0, 0])
            kept = _KEPT * np.exp(-((off / (_SHAKEN * unit)) ** 2))
            shape = shape + np.float32(kept) * (self._mesh - shape)
        self._mesh = shape
        return apply(similarity(_HELD, anchors), shape)


def steadied(
    seen: Iterable[tuple[T, Image, tuple[Face, ...]]],
) -> Iterator[tuple[T, Image, tuple[Face, ...]]]:
    """Pictures with their faces, the anchors and meshes of these steadied by track."""
    people: dict[int | None, SteadyFace] = {}
    for what, image, faces in seen:
        people = {face.track: people.get(face.track) or SteadyFace() for face in faces}
        yield what, image, tuple(people[face.track](image, face) for face in faces)


def _fitted(
    fit: Callable[[Wide, Wide], Affine], source: Wide, target: Wide
) -> tuple[Affine, float]:
    """The motion that takes most points (n, 2) closest to others, and by how many pixels half of
    them miss it."""
    for _ in range(_ROUNDS):
        matrix = fit(source, target)
        off = np.linalg.norm(source @ matrix[:, :2].T + matrix[:, 2] - target, axis=1)
        missed = float(np.median(off))
        near = off <= max(_OUTLIERS * missed, 0.05)
        source, target = source[near], target[near]
    return matrix, missed


def _near(followed: Points, measured: Points) -> bool:
    """Whether anchors have been followed to about where they are measured."""
    unit = float(np.linalg.norm(measured[1] - measured[0]))
    return bool(np.abs(followed - measured).max() <= _STRAYED * unit)


def look_of(image: Image, face: Face) -> Grey:
    """The small upright look (h, w) of a face in a picture."""
    return _cut(image, face, face.held_by)


def likeness(one: Grey, other: Grey) -> float:
    """How much two looks are alike, -1 to 1: the correlation of what isn't finest detail."""
    first, second = _standard(one), _standard(other)
    return float(first @ second)


def _standard(look: Grey) -> NDArray[np.float64]:
    """A look's values with mean 0 and norm 1; 0 if they are all the same."""
    y, x = _POINTS.T
    values = cv2.blur(look, (_GRID, _GRID))[y, x].astype(np.float64)
    apart = values - values.mean()
    return np.asarray(apart / max(float(np.linalg.norm(apart)), 1e-9))


def _cut(image: Image, face: Face, anchors: Points) -> Grey:
    """The look (h, w) of a face held by some anchors."""
    crop = cut(image, replace(face, anchors=anchors, mesh=None), _HELD, _SIZE)
    return np.asarray(cv2.cvtColor(crop.image, cv2.COLOR_RGB2GRAY), np.uint8)


def _oval() -> NDArray[np.intp]:
    """Grid points (n, 2), row and column, within the oval of a face."""
    rows, columns = np.mgrid[_GRID : _SIZE[1] : _GRID, _GRID : _SIZE[0] : _GRID]
    across, down = (columns - _CENTRE[0]) / _AXES[0], (rows - _CENTRE[1]) / _AXES[1]
    inside = np.hypot(across, down) <= 1
    return np.stack([rows[inside], columns[inside]], axis=1)


_POINTS = _oval()
