"""Steadies what the networks say of one person from frame to frame. A new person, a new object."""

from dataclasses import dataclass, field

import numpy as np

from stream_unmask.models.profile import Profile
from stream_unmask.types import Maps, Mask
from stream_unmask.unmask import clean, completed, over_mouth

# How much of the mouth's surroundings a mask covers that is put on, and at least one that stays.
_ON, _OFF = 0.5, 0.35
_GONE = 0.15  # below this no mask is worn in this frame, whatever the past says
_KEPT = 0.6  # how much of the last map is kept where nothing changes
_CHANGED = 0.7  # IoU of two maps below which the past says nothing of the present


@dataclass(slots=True)
class SteadyMask:
    """The maps of one track, each blended with those before; the crop moves with the face.

    smooth: False leaves each map as it is; whether a mask is worn is steadied all the same.
    """

    profile: Profile
    smooth: bool = True
    worn: bool = False
    _evidence: float | None = None
    _last: Maps | None = field(default=None, repr=False)

    def __call__(self, maps: Maps) -> Mask | None:
        """What is worn (h, w), 0 or 1, in the next frame: the cleaned map and what hangs on it.

        maps: (c, h, w) from the segmenter. None if no mask is worn.
        """
        if self.smooth and self._last is not None and _overlap(maps[0], self._last[0]) >= _CHANGED:
            maps = (1 - _KEPT) * maps + _KEPT * self._last
        self._last = maps
        fabric = clean(maps[0], self.profile)
        cover = over_mouth(fabric, self.profile)
        if self._evidence is None:
            self._evidence = cover
        self._evidence += 0.3 * (cover - self._evidence)
        self.worn = cover >= _GONE and self._evidence >= (_OFF if self.worn else _ON)
        return completed(fabric, maps, self.profile) if self.worn else None


def _overlap(first: Mask, second: Mask) -> float:
    """IoU of two maps, soft; 1 if both are empty."""
    either = float(np.maximum(first, second).sum())
    return float(np.minimum(first, second).sum()) / either if either > 1 else 1.0
