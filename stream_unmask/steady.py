"""Steadies what the networks say of one person from frame to frame. A new person, a new object.

A crop keeps still with its face (`faces/smoothing.py`); what a head that turns or drifts changes in
it, other frames are carried along by. They are believed pixel by pixel, as far as the picture there
then looks the same: where a mask is pulled down or a hand comes in front, only the present counts,
at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.faces.geometry import Affine, apply, compose, invert
from stream_unmask.models.profile import Profile
from stream_unmask.types import Crop, Image, Maps, Mask, Points
from stream_unmask.unmask import Box, around, clean, completed, over_mouth, softened

# How much of the mouth's surroundings a mask covers that is put on, and at least one that stays: on
# a head that turns the mesh, and the crop with it, slides off the mask.
_ON, _OFF = 0.5, 0.15
_VAGUE = 1.25  # from how much is undecided in a map it is that of no mask
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
_MOVED = 8.0  # px of a crop by which a mesh has changed so much that the fill is another
_HARDLY = 0.2  # px below which nothing is carried along: resampling blurs
# How alike two pixels are by their difference, 0..255.
_LIKENESS = np.exp(-((np.arange(256, dtype=np.float32) / (255 * _SAME)) ** 2))

Floats = NDArray[np.float32]
_NOWHERE: Affine = np.eye(2, 3)
_ALL: Box = (slice(None), slice(None))


def worn(maps: Maps, profile: Profile, blurred: float = _VAGUE) -> Mask | None:
    """What is worn in a single picture (h, w), 0 or 1; None if no mask is. maps: (c, h, w).

    blurred: how much of the map may be undecided, as `undecided` tells it.
    """
    fabric = clean(maps[0], profile)
    if over_mouth(fabric, profile) < _ON or undecided(maps) >= blurred:
        return None
    return completed(fabric, maps, profile)


def undecided(maps: Maps) -> float:
    """The area in which maps (c, h, w) leave open whether it is fabric, in the area of what is.

    On masks that is a tenth to a half, rarely as much as there is mask; on wheels, cups and posters
    that were taken for faces six tenths to many times as much.
    """
    between = float(np.count_nonzero((maps[0] > 0.1) & (maps[0] < 0.9)))
    return between / max(float(np.count_nonzero(maps[0] > 0.5)), 1.0)


@dataclass(frozen=True, slots=True)
class Glance:
    """A crop with maps, made ready to be compared with others of the same face.

    look, maps: its picture (h, w, 3) and its maps (c, h, w) at half the size. cover: how much of
    the mouth's surroundings the cleaned map covers. vague: whether it is too undecided for a mask
    that nobody knew of.
    """

    crop: Crop
    look: Image
    maps: Floats
    cover: float
    vague: bool

    @classmethod
    def at(cls, crop: Crop, profile: Profile, before: "Glance | None" = None) -> "Glance":
        """The glance at a crop that has been segmented. before: at the same face in the frame
        before, whose maps these may be."""
        assert crop.maps is not None
        if before is not None and crop.maps is before.crop.maps:
            return replace(before, crop=crop, look=_halved(crop.image))
        cover = over_mouth(clean(crop.maps[0], profile), profile)
        maps = np.stack([_halved(one) for one in crop.maps])
        return cls(crop, _halved(crop.image), maps, cover, undecided(crop.maps) >= _VAGUE)

    @property
    def evidence(self) -> tuple[float, float]:
        """The cover for one who wears no mask as yet, nothing of a vague map, and for one who does:
        on a small face some maps are vague, and its mask must not blink."""
        return 0.0 if self.vague else self.cover, self.cover


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
    _before: list[tuple[float, float]] = field(default_factory=list)  # the evidence of each frame
    _past: tuple[Glance, Floats, Floats] | None = field(default=None, repr=False)
    _found: tuple[Mask, float] | None = field(default=None, repr=False)

    def __call__(self, now: Glance, coming: Sequence[Glance] = ()) -> Mask | None:
        """What is worn (h, w), 0 to 1: the cleaned map and what hangs on it; None if no mask is.

        coming: the same face in the next frames, the nearest first.
        """
        if self._past is None or now.crop.maps is not self._past[0].crop.maps:
            self._found = self._look(now, coming)
        else:
            # Maps are kept while nothing changes: what was made of them stays right, and counts for
            # one frame more.
            _, maps, counted = self._past
            self._past = now, maps, 1 + np.minimum(counted, np.float32(_PAST))
        assert self._found is not None
        mask, cover = self._found
        evidence = self._evidence(now, coming)
        self.worn = cover >= _OFF and evidence >= (_OFF if self.worn else _ON)
        return mask if self.worn else None

    def _look(self, now: Glance, coming: Sequence[Glance]) -> tuple[Mask, float]:
        """The same, were a mask worn, and how much of the mouth's surroundings it covers."""
        maps = self._fused(now, coming) if self.smooth else now.crop.maps
        assert maps is not None
        fabric = clean(maps[0], self.profile)
        cover = over_mouth(fabric, self.profile)
        if cover < _OFF:
            return fabric, cover
        whole = completed(fabric, maps, self.profile)
        return softened(whole, maps) if self.smooth else whole, cover

    def _evidence(self, now: Glance, coming: Sequence[Glance]) -> float:
        """The median of how much the mask covers in this frame and in those around it: as many
        before as after, so that neither outvotes the other where one is put on or taken off."""
        reach = min(len(self._before), len(coming)) if coming else _RECENT
        before = self._before[::-1][:reach]
        self._before = [*self._before, now.evidence][-max(len(coming), _RECENT) :]
        seen = (*before, now.evidence, *(glance.evidence for glance in coming[:reach]))
        return float(np.median([each[self.worn] for each in seen]))

    def _fused(self, now: Glance, coming: Sequence[Glance]) -> Maps:
        """The maps (c, h, w) of this frame, those of others blended in; remembers the past."""
        total: Floats = now.maps
        count: Floats = np.ones(now.maps.shape[1:], np.float32)
        if self._past is not None:
            before, maps, counted = self._past
            way = _in_halves(_back(before.crop.to_frame, now.crop))
            look, counted = _carried(before.look, way), _carried(counted, way)
            weight = np.minimum(_likeness(look, now.look) * counted, np.float32(_PAST))
            total, count = total + weight * _each_carried(maps, way), count + weight
        self._past = now, total / count, count
        ahead, last = _NOWHERE, now
        for step, glance in enumerate(coming, 1):
            back, last = _back(last.crop.to_frame, glance.crop), glance
            ahead = compose(invert(back), ahead)
            way = _in_halves(ahead)
            weight = _likeness(_carried(glance.look, way), now.look) * np.float32(_COMING**step)
            total, count = total + weight * _each_carried(glance.maps, way), count + weight
        # What other frames change is worked out at half the size and added to the sharp maps.
        change = [cv2.resize(one, self.profile.size) for one in total / count - now.maps]
        assert now.crop.maps is not None
        return np.asarray(now.crop.maps + np.stack(change), np.float32)


class Wish(NamedTuple):
    """What is to be painted of a frame. past: how many frames the past counts for beside it;
    infinitely many if it need not be painted, as nothing has changed since the last time. steps:
    frames, this one included, in which what is shown comes to what was painted: where a painting
    comes after several without it must not show at once, or still faces would pulse. back: the way
    (2, 3) from this crop to the one before. box: rows and columns of it that are repainted."""

    past: float
    steps: int
    back: Affine = _NOWHERE
    box: Box = _ALL

    @property
    def new(self) -> bool:
        """Whether to paint."""
        return math.isfinite(self.past)


@dataclass(slots=True)
class SteadyFill:
    """The painted face of one track keeps its looks while the face keeps its own: first it is
    asked what is to be painted, then called with that."""

    _before: Affine | None = field(default=None, repr=False)  # from the last crop to its frame
    _seen: tuple[Image, Points | None] | None = field(default=None, repr=False)
    _since: Affine = field(default_factory=_NOWHERE.copy, repr=False)  # the way back to that
    _past: Floats | None = field(default=None, repr=False)
    _shown: Floats | None = field(default=None, repr=False)
    _way: Affine = field(default_factory=_NOWHERE.copy, repr=False)  # to the crop of these two
    _count: float = 0.0
    _kept: int = 0
    _left: int = 1  # steps of the wish before

    def asks(self, crop: Crop) -> Wish:
        """What is wished for the next frame. crop: as it was cut, with the mask over the face."""
        assert crop.mask is not None
        back = _NOWHERE if self._before is None else _back(self._before, crop)
        self._before, self._since = crop.to_frame, compose(self._since, back)
        look = _halved(crop.image)
        same, moved = self._unchanged(crop, look)
        still = same > _STILL and moved < _DRIFTED and self._count > _SETTLED
        left, box = max(self._left - 1, 1), around(crop.mask)
        if still and self._kept < _FILL_KEPT:
            self._kept, self._left = self._kept + 1, left
            return Wish(math.inf, left, back, box)
        # What drifts must not lag behind the longer for not having been painted in every frame.
        past = min(self._count, _FILL_PAST) * same / (1 + self._kept * (moved / _DRIFTED) ** 2 / 2)
        self._left = max(1 + self._kept, left) if same > _ABRUPT else 1
        self._seen, self._since = (look, crop.mesh), _NOWHERE
        self._count, self._kept = 1 + past, 0
        return Wish(past, self._left, back, box)

    def _unchanged(self, crop: Crop, look: Image) -> tuple[float, float]:
        """How far what is under the mask is as it was when last it was painted, 0..1, and by how
        many pixels the mesh has moved otherwise than the picture."""
        if self._seen is None:
            return 0.0, 0.0
        assert crop.mask is not None
        before, mesh = self._seen
        where = _halved(crop.mask)
        moved = _moved(None if mesh is None else apply(invert(self._since), mesh), crop.mesh)
        alike = _likeness(_carried(before, _in_halves(self._since)), look, lit=True)
        same = float((alike * where).sum() / where.sum())
        return same * math.exp(-((moved / _MOVED) ** 2)), moved

    def __call__(self, painted: Image | None, wish: Wish) -> Image:
        """The painted face (h, w, 3) of the next frame, with those before blended in; None if none
        was painted. wish: what it asked for."""
        self._carry(wish)
        if painted is not None:
            self._past = _mixed(painted.astype(np.float32), self._past, 1 / (1 + wish.past))
        assert self._past is not None
        self._shown = _mixed(self._past, self._shown, 1 / wish.steps)
        return np.asarray(np.rint(self._shown.clip(0, 255)), np.uint8)

    def _carry(self, wish: Wish) -> None:
        """Takes what was painted and what was shown along with the face."""
        self._way = compose(self._way, wish.back)
        if self._past is None or self._shown is None or not _far(self._way, self._past):
            return
        both = self._shown is self._past
        self._past = _taken_along(self._past, self._way, wish.box)
        self._shown = self._past if both else _taken_along(self._shown, self._way, wish.box)
        self._way = _NOWHERE


def _back(before: Affine, now: Crop) -> Affine:
    """The way (2, 3) from a crop to that of the same face in the frame before. before: the way from
    that to its frame."""
    if now.moved is None:
        return _NOWHERE
    return compose(invert(before), compose(invert(now.moved), now.to_frame))


def _in_halves(way: Affine) -> Affine:
    """A way between crops as one between looks, which have half the size."""
    linear = way[:, :2]
    return np.column_stack([linear, (linear @ (0.5, 0.5) + way[:, 2] - 0.5) / 2])


def _far(way: Affine, values: NDArray[Any]) -> bool:
    """Whether a way leads anywhere else around the middle of values (h, w, ...)."""
    height, width = values.shape[:2]
    corners = np.array([(x * width, y * height) for x in (0.25, 0.75) for y in (0.25, 0.75)])
    return bool(np.abs(apply(way, corners) - corners).max() >= _HARDLY)


def _carried(values: NDArray[Any], way: Affine) -> NDArray[Any]:
    """A picture or map (h, w, ...) of another crop as it lies in this one, from which the way leads
    there; the same if that is nowhere else."""
    if not _far(way, values):
        return values
    size, flags = values.shape[1::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    carried = cv2.warpAffine(values, way, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(carried)


def _each_carried(maps: Maps, way: Affine) -> Maps:
    """Maps (c, h, w) likewise."""
    return np.stack([_carried(one, way) for one in maps]) if _far(way, maps[0]) else maps


def _taken_along(fill: Floats, way: Affine, box: Box) -> Floats:
    """A fill (h, w, 3) likewise within a box, without it as it was. It is carried again and again,
    so sharply."""
    rows, columns = box
    size = (columns.stop - columns.start, rows.stop - rows.start)
    way = compose(way, np.array([[1, 0, columns.start], [0, 1, rows.start]], np.float64))
    flags, fill = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, fill.copy()
    fill[box] = cv2.warpAffine(fill, way, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return fill


def _mixed(new: Floats, old: Floats | None, share: float) -> Floats:
    """A picture (h, w, 3) that is that share new, and the rest old if there is anything."""
    if old is None or share == 1:
        return new
    return np.asarray(cv2.addWeighted(new, share, old, 1 - share, 0.0), np.float32)


def _likeness(other: Image, now: Image, lit: bool = False) -> Floats:
    """How far (h, w), 0..1, each pixel of a look is as in another.

    lit: a change of light makes a difference, even one that falls on all of the picture.
    """
    if not lit:
        # The median: a hand that comes in front is no change of light.
        change = np.median(now[::4, ::4].astype(np.int16) - other[::4, ::4], axis=(0, 1))
        other = np.asarray(cv2.add(other, np.array([*change, 0.0])), np.uint8)
    red, green, blue = cv2.split(cv2.absdiff(now, other))
    off = cv2.blur(cv2.max(cv2.max(red, green), blue), (5, 5))
    return np.asarray(cv2.LUT(off, _LIKENESS), np.float32)


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
