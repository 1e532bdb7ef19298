"""Maps over time: they shake less, and a mask doesn't come and go."""

import cv2
import numpy as np

from stream_unmask.steady import SteadyMask
from stream_unmask.unmask import clean

SHAPE = (208, 176)
EMPTY = np.zeros(SHAPE, np.float32)


def disc(radius: int, x: int = 88) -> np.ndarray:
    mask = np.zeros(SHAPE, np.float32)
    cv2.circle(mask, (x, 145), radius, 1.0, -1)
    return mask


def test_a_mask_is_worn_from_the_first_frame() -> None:
    person = SteadyMask()
    fabric = person(disc(30))
    assert fabric is not None
    assert person.worn
    assert np.array_equal(fabric, clean(disc(30)))


def test_no_mask_no_map() -> None:
    person = SteadyMask()
    assert all(person(EMPTY) is None for _ in range(5))
    assert not person.worn


def test_a_small_mistake_is_no_mask() -> None:
    person = SteadyMask()
    assert all(person(disc(12)) is None for _ in range(20))


def test_one_wrong_frame_puts_no_mask_on() -> None:
    person = SteadyMask()
    for _ in range(10):
        person(EMPTY)
    assert person(disc(20)) is None
    assert person(EMPTY) is None


def test_one_missing_frame_takes_no_mask_off_for_longer() -> None:
    person = SteadyMask()
    for _ in range(5):
        person(disc(30))
    assert person(EMPTY) is None  # nothing to paint by
    assert person(disc(30)) is not None


def test_a_mask_put_on_and_taken_off_is_followed_within_a_few_frames() -> None:
    person = SteadyMask()
    shown = [person(mask) is not None for mask in [EMPTY] * 10 + [disc(35)] * 10 + [EMPTY] * 10]
    assert not any(shown[:10])
    assert shown[10:].index(True) <= 2
    assert all(shown[13:20])
    assert not any(shown[21:])


def test_a_map_between_the_thresholds_stays_as_it_was() -> None:
    """Hysteresis: a small mask that was worn is kept, one that wasn't is not put on."""
    small = disc(18)  # covers 0.44 of what counts
    worn, bare = SteadyMask(), SteadyMask()
    for _ in range(5):
        worn(disc(35))
        bare(EMPTY)
    assert all(worn(small) is not None for _ in range(20))
    assert all(bare(small) is None for _ in range(20))


def soft_disc(radius: float) -> np.ndarray:
    """A map as networks give it: unsure along its edge."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = radius - np.hypot(x - 88, y - 145)
    return np.clip(inside / 6 + 0.5, 0, 1).astype(np.float32)


def flicker(smooth: bool) -> float:
    """The mean change of the map's area from frame to frame, its true size being constant."""
    rng, person, areas = np.random.default_rng(0), SteadyMask(smooth), []
    for _ in range(40):
        fabric = person(soft_disc(30 + rng.uniform(-2, 2)))
        assert fabric is not None
        areas.append(float(fabric.sum()))
    return float(np.abs(np.diff(areas)).mean())


def test_smoothing_takes_the_flicker_out() -> None:
    assert flicker(smooth=True) < 0.6 * flicker(smooth=False)


def test_a_jump_is_taken_as_it_is() -> None:
    """A map that shows something else than the last is not mixed with it."""
    person = SteadyMask()
    person(disc(36, x=66))
    fabric = person(disc(36, x=110))
    assert fabric is not None
    assert np.array_equal(fabric, clean(disc(36, x=110)))
