"""Steadies points over time: the One-Euro filter (Casiez, Roussel, Vogel, CHI 2012).

A low-pass whose cut-off rises with speed: a still face doesn't shake, a moving one doesn't lag.
Time is counted in frames and length in whatever the caller measures in.
"""

import math

import numpy as np
from numpy.typing import NDArray

from stream_unmask.types import Points

Vector = NDArray[np.float64]


class OneEuro:
    """A filter for one vector; all its components share one speed, hence one cut-off.

    rest: the cut-off at rest, in cycles per frame. gain: cycles per frame that a speed of one
    unit per frame adds.
    """

    def __init__(self, rest: float, gain: float) -> None:
        self._rest = rest
        self._gain = gain
        self._value: Vector | None = None
        self._speed: Vector = np.zeros(1)

    def __call__(self, value: Vector) -> Vector:
        """The steadied value of this frame; the first one comes back as it is."""
        if self._value is None:
            self._value = value
            self._speed = np.zeros_like(value)
            return value
        self._speed = self._speed + _weight(_SPEED_CUTOFF) * (value - self._value - self._speed)
        cutoff = self._rest + self._gain * float(np.linalg.norm(self._speed))
        self._value = self._value + _weight(cutoff) * (value - self._value)
        return self._value


# Slow enough that the shaking itself hardly counts as speed.
_SPEED_CUTOFF = 0.15


def _weight(cutoff: float) -> float:
    """The share of the new value in a first-order low-pass at `cutoff` cycles per frame."""
    turn = 2 * math.pi * cutoff
    return turn / (turn + 1)


class SteadyAnchors:
    """Steadies the anchors of one track, in their distance, so that all face sizes are alike.

    The middle between them follows quickly. The vector between them, which sets roll and
    scale of the crop, changes slowly in people and shows most when it shakes: it is held harder.
    """

    def __init__(self) -> None:
        self._middle = OneEuro(rest=0.05, gain=8)
        self._across = OneEuro(rest=0.03, gain=6)
        self._unit: float | None = None

    def __call__(self, anchors: Points) -> Points:
        """The steadied anchors (2, 2) of this frame."""
        left, right = anchors.astype(np.float64)
        if self._unit is None:
            self._unit = max(float(np.linalg.norm(right - left)), 1.0)
        middle = self._middle((left + right) / 2 / self._unit) * self._unit
        across = self._across((right - left) / self._unit) * self._unit
        return np.stack([middle - across / 2, middle + across / 2]).astype(np.float32)
