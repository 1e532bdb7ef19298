"""Steadies what the networks say of one person from frame to frame. A new person, a new object.

A crop keeps still with its face (`faces/smoothing.py`), so that other frames need no moving. They
are believed pixel by pixel, as far as the picture there looks the same: where a mask is pulled
down, a hand comes in front or the head turns, only the present counts, at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.models.profile import Profile
from stream_unmask.types import Crop, Image, Maps, Mask, Points
from stream_unmask.unmask import clean, completed, over_mouth

# How much of the mouth's surroundings a mask covers that is put on, and at least one that stays: on
# a head that turns the mesh, and the crop with it, slides off the mask.
_ON, _OFF = 0.5, 0.15
_RECENT = 2  # frames before this one that say whether a mask is worn, if none to come are known
_SAME = 0.05  # difference in colour, 0..1, at which another frame's word counts for little
_PAST, _FILL_PAST = 4.0, 6.0  # frames that the past counts for at most: of maps, and of fills
_COMING = 0.7  # for each step ahead: a map that fails for a few frames must not outvote this one
# How alike a still face is, and less than how many px its mesh has moved; how often in a row it is
# not painted anew, and of how many paintings what is shown then is the mean at the least. What is
# less alike than the last shows at once.
_STILL, _DRIFTED, _FILL_KEPT, _SETTLED, _ABRUPT = 0.85, 0.5, 3, 2.0, 0.5
# How often in a row its maps are kept, and how much of what lies near a mask, in units, must not
# look so much different.
_MAPS_KEPT, _FEW, _OTHER, _NEAR_MASK = 2, 0.002, 0.5, (-0.1, 1.94, 1.3)
_MOVED = 5.0  # px of a crop by which a mesh has changed so much that the fill is another
# How alike two pixels are by their difference, 0..255.
_LIKENESS = np.exp(-((np.arange(256, dtype=np.float32) / (255 * _SAME)) ** 2))

Floats = NDArray[np.float32]


def worn(maps: Maps, profile: Profile) -> Mask | None:
    """What is worn in a single picture (h, w), 0 or 1; None if no mask is. maps: (c, h, w)."""
    fabric = clean(maps[0], profile)
    return completed(fabric, maps, profile) if over_mouth(fabric, profile) >= _ON else None


@dataclass(frozen=True, slots=True)
class Glance:
    """A crop with maps, made ready to be compared with others of the same face.

    look, maps: its picture (h, w, 3) and its maps (h, w, c) at half the size. cover: how much of
    the mouth's surroundings the cleaned map covers.
    """

    crop: Crop
    look: Image
    maps: Floats
    cover: float

    @classmethod
    def at(cls, crop: Crop, profile: Profile) -> "Glance":
        """The glance at a crop that has been segmented."""
        assert crop.maps is not None
        cover = over_mouth(clean(crop.maps[0], profile), profile)
        maps = _channels(_halved(crop.maps.transpose(1, 2, 0)))
        return cls(crop, _halved(crop.image), maps, cover)


@dataclass(slots=True)
class SteadyMaps:
    """The maps of one track are those of the frame before while its picture stays the same: first
    it is asked whether the segmenter is to look, then called with what that says."""

    profile: Profile
    _look: Image | None = field(default=None, repr=False)
    _maps: Maps | None = field(default=None, repr=False)
    _kept: int = 0

    def asks(self, crop: Crop) -> bool:
        """Whether the segmenter is to look at the next frame. crop: as it was cut."""
        look = _halved(crop.image)
        if self._look is not None and self._kept < _MAPS_KEPT:
            alike = _likeness(self._look, look)[_in_look(self.profile.window(*_NEAR_MASK))]
            if (alike < _OTHER).sum() < _FEW * self.profile.unit**2:
                self._kept += 1
                return False
        self._look, self._kept = look, 0
        return True

    def __call__(self, maps: Maps | None) -> Maps:
        """The maps (c, h, w) of the next frame; None if the segmenter did not look."""
        self._maps = self._maps if maps is None else maps
        assert self._maps is not None
        return self._maps


@dataclass(slots=True)
class SteadyMask:
    """The mask of one track, from its maps in this frame, in those before and in the next ones.

    smooth: False leaves each map as it is; whether a mask is worn is steadied all the same.
    """

    profile: Profile
    smooth: bool = True
    worn: bool = False
    _covers: list[float] = field(default_factory=list)
    _past: tuple[Image, Floats, Floats] | None = field(default=None, repr=False)

    def __call__(self, now: Glance, coming: Sequence[Glance] = ()) -> Mask | None:
        """What is worn (h, w), 0 or 1: the cleaned map and what hangs on it; None if no mask is.

        coming: the same face in the next frames, the nearest first.
        """
        maps = self._fused(now, coming) if self.smooth else now.crop.maps
        assert maps is not None
        evidence = self._evidence(now, coming)
        fabric = clean(maps[0], self.profile)
        cover = over_mouth(fabric, self.profile)
        self.worn = cover >= _OFF and evidence >= (_OFF if self.worn else _ON)
        return completed(fabric, maps, self.profile) if self.worn else None

    def _evidence(self, now: Glance, coming: Sequence[Glance]) -> float:
        """The median of how much the mask covers in this frame and in those around it: as many
        before as after, so that neither outvotes the other where one is put on or taken off."""
        reach = min(len(self._covers), len(coming)) if coming else _RECENT
        before = self._covers[::-1][:reach]
        self._covers = [*self._covers, now.cover][-max(len(coming), _RECENT) :]
        after = [glance.cover for glance in coming[:reach]]
        return float(np.median([*before, now.cover, *after]))

    def _fused(self, now: Glance, coming: Sequence[Glance]) -> Maps:
        """The maps (c, h, w) of this frame, those of others blended in; remembers the past."""
        total: Floats = now.maps
        count: Floats = np.ones((*now.maps.shape[:2], 1), np.float32)
        if self._past is not None:
            look, maps, counted = self._past
            weight = np.minimum(_likeness(look, now.look) * counted, np.float32(_PAST))
            total, count = total + weight * maps, count + weight
        self._past = now.look, total / count, count
        for step, glance in enumerate(coming, 1):
            weight = _likeness(glance.look, now.look) * np.float32(_COMING**step)
            total, count = total + weight * glance.maps, count + weight
        # What other frames change is worked out at half the size and added to the sharp maps.
        change = _channels(cv2.resize(total / count - now.maps, self.profile.size))
        assert now.crop.maps is not None
        return np.asarray(now.crop.maps + change.transpose(2, 0, 1), np.float32)


class Wish(NamedTuple):
    """What is to be painted of a frame. past: how many frames the past counts for beside it;
    infinitely many if it need not be painted, as nothing has changed since the last time. steps:
    frames, this one included, in which what is shown comes to what was painted: where a painting
    comes after several without it must not show at once, or still faces would pulse."""

    past: float
    steps: int

    @property
    def new(self) -> bool:
        """Whether to paint."""
        return math.isfinite(self.past)


@dataclass(slots=True)
class SteadyFill:
    """The painted face of one track keeps its looks while the face keeps its own: first it is
    asked what is to be painted, then called with that."""

    _seen: tuple[Image, Points | None] | None = field(default=None, repr=False)
    _past: Floats | None = field(default=None, repr=False)
    _shown: Floats | None = field(default=None, repr=False)
    _count: float = 0.0
    _kept: int = 0
    _left: int = 1  # steps of the wish before

    def asks(self, crop: Crop) -> Wish:
        """What is wished for the next frame. crop: as it was cut, with the mask over the face."""
        assert crop.mask is not None
        look, same, moved = _halved(crop.image), 0.0, 0.0
        if self._seen is not None:
            before, mesh = self._seen
            where = _channels(_halved(crop.mask))
            moved = _moved(mesh, crop.mesh)
            same = float((_likeness(before, look, lit=True) * where).sum() / where.sum())
            same *= math.exp(-((moved / _MOVED) ** 2))
        still = same > _STILL and moved < _DRIFTED and self._count > _SETTLED
        left = max(self._left - 1, 1)
        if still and self._kept < _FILL_KEPT:
            self._kept, self._left = self._kept + 1, left
            return Wish(math.inf, left)
        # What drifts must not lag behind the longer for not having been painted in every frame.
        past = min(self._count, _FILL_PAST) * same / (1 + self._kept * (moved / _DRIFTED) ** 2)
        self._left = max(1 + self._kept, left) if same > _ABRUPT else 1
        self._seen, self._count, self._kept = (look, crop.mesh), 1 + past, 0
        return Wish(past, self._left)

    def __call__(self, painted: Image | None, wish: Wish) -> Image:
        """The painted face (h, w, 3) of the next frame, with those before blended in; None if none
        was painted. wish: what it asked for."""
        if painted is not None:
            blended = painted.astype(np.float32)
            if self._past is not None:
                blended += (self._past - blended) * np.float32(wish.past / (1 + wish.past))
            self._past = blended
        assert self._past is not None
        before = self._past if self._shown is None else self._shown
        self._shown = before + (self._past - before) / np.float32(wish.steps)
        return np.asarray(np.rint(self._shown.clip(0, 255)), np.uint8)


def _likeness(other: Image, now: Image, lit: bool = False) -> Floats:
    """How far (h, w, 1), 0..1, each pixel of a look is as in another.

    lit: a change of light makes a difference, even one that falls on all of the picture.
    """
    if not lit:
        # The median: a hand that comes in front is no change of light.
        change = np.median(now[::4, ::4].astype(np.int16) - other[::4, ::4], axis=(0, 1))
        other = np.asarray(cv2.add(other, np.array([*change, 0.0])), np.uint8)
    red, green, blue = cv2.split(cv2.absdiff(now, other))
    off = cv2.blur(cv2.max(cv2.max(red, green), blue), (5, 5))
    return _channels(cv2.LUT(off, _LIKENESS))


def _moved(before: Points | None, now: Points | None) -> float:
    """By how many pixels on average a mesh (468, 2) has another shape than it had."""
    if before is None or now is None:
        return 0.0
    return float(np.linalg.norm(now - before, axis=1).mean())


def _halved(values: NDArray[Any]) -> NDArray[Any]:
    """A picture or maps (h, w, ...) at half the size."""
    size = (values.shape[1] // 2, values.shape[0] // 2)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))


def _in_look(window: tuple[slice, slice]) -> tuple[slice, slice]:
    """A window of a crop in a look, which has half the size."""
    rows, columns = (slice(part.start // 2, part.stop // 2) for part in window)
    return rows, columns


def _channels(maps: NDArray[Any]) -> Floats:
    """Maps as (h, w, c), also if OpenCV has dropped the axis of a single one."""
    return np.asarray(maps.reshape(*maps.shape[:2], -1), np.float32)
