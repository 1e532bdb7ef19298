"""Maps over time: they shake less, and a mask doesn't come and go."""

import cv2
import numpy as np

from stream_unmask.models.profile import PORTRAIT, Profile
from stream_unmask.steady import SteadyMask
from stream_unmask.unmask import clean


def empty(profile: Profile) -> np.ndarray:
    """The maps (c, h, w) of a bare face."""
    return np.zeros((profile.maps, profile.height, profile.width), np.float32)


def disc(profile: Profile, radius: float, x: float = 0.0) -> np.ndarray:
    """The maps of a round mask over the mouth, in eye distances; no straps."""
    maps, middle = empty(profile), profile.eyes.mean(0)
    centre = middle + np.array([x, 0.99]) * profile.unit
    at = (round(float(centre[0])), round(float(centre[1])))
    cv2.circle(maps[0], at, round(radius * profile.unit), 1.0, -1)
    return maps


def test_a_mask_is_worn_from_the_first_frame(profile: Profile) -> None:
    person = SteadyMask(profile)
    fabric = person(disc(profile, 0.77))
    assert fabric is not None
    assert person.worn
    assert np.array_equal(fabric, clean(disc(profile, 0.77)[0], profile))


def test_no_mask_no_map(profile: Profile) -> None:
    person = SteadyMask(profile)
    assert all(person(empty(profile)) is None for _ in range(5))
    assert not person.worn


def test_a_small_mistake_is_no_mask(profile: Profile) -> None:
    person = SteadyMask(profile)
    assert all(person(disc(profile, 0.31)) is None for _ in range(20))


def test_one_wrong_frame_puts_no_mask_on(profile: Profile) -> None:
    person = SteadyMask(profile)
    for _ in range(10):
        person(empty(profile))
    assert person(disc(profile, 0.51)) is None
    assert person(empty(profile)) is None


def test_one_missing_frame_takes_no_mask_off_for_longer(profile: Profile) -> None:
    person = SteadyMask(profile)
    for _ in range(5):
        person(disc(profile, 0.77))
    assert person(empty(profile)) is None  # nothing to paint by
    assert person(disc(profile, 0.77)) is not None


def test_a_mask_put_on_and_taken_off_is_followed_within_a_few_frames(profile: Profile) -> None:
    person = SteadyMask(profile)
    shown = [
        person(mask) is not None
        for mask in [empty(profile)] * 10 + [disc(profile, 0.9)] * 10 + [empty(profile)] * 10
    ]
    assert not any(shown[:10])
    assert shown[10:].index(True) <= 2
    assert all(shown[13:20])
    assert not any(shown[21:])


def test_a_map_between_the_thresholds_stays_as_it_was(profile: Profile) -> None:
    """Hysteresis: a small mask that was worn is kept, one that wasn't is not put on."""
    small = disc(profile, 0.46)  # covers 0.44 of what counts
    worn, bare = SteadyMask(profile), SteadyMask(profile)
    for _ in range(5):
        worn(disc(profile, 0.9))
        bare(empty(profile))
    assert all(worn(small) is not None for _ in range(20))
    assert all(bare(small) is None for _ in range(20))


def soft_disc(profile: Profile, radius: float) -> np.ndarray:
    """Maps as networks give them: unsure along the edge."""
    maps, (x0, y0) = empty(profile), profile.eyes.mean(0)
    y, x = np.mgrid[: profile.height, : profile.width]
    inside = radius * profile.unit - np.hypot(x - x0, y - y0 - 0.99 * profile.unit)
    maps[0] = np.clip(inside / (0.15 * profile.unit) + 0.5, 0, 1)
    return maps


def flicker(profile: Profile, smooth: bool) -> float:
    """The mean change of the map's area from frame to frame, its true size being constant."""
    rng, person, areas = np.random.default_rng(0), SteadyMask(profile, smooth), []
    for _ in range(40):
        fabric = person(soft_disc(profile, 0.77 + rng.uniform(-0.05, 0.05)))
        assert fabric is not None
        areas.append(float(fabric.sum()))
    return float(np.abs(np.diff(areas)).mean())


def test_smoothing_takes_the_flicker_out(profile: Profile) -> None:
    assert flicker(profile, smooth=True) < 0.6 * flicker(profile, smooth=False)


def test_a_jump_is_taken_as_it_is(profile: Profile) -> None:
    """A map that shows something else than the last is not mixed with it."""
    person = SteadyMask(profile)
    person(disc(profile, 0.92, x=-0.56))
    jumped = disc(profile, 0.92, x=0.56)
    fabric = person(jumped)
    assert fabric is not None
    assert np.array_equal(fabric, clean(jumped[0], profile))


STRAP = PORTRAIT.window(0.38, 0.48, 1.3)  # a band across the face, over its rim


def strapped(share: float) -> np.ndarray:
    """A mask with a band of which the segmenter is that sure."""
    maps = disc(PORTRAIT, 0.77)
    maps[1][STRAP] = share
    return maps


def test_straps_come_with_the_mask() -> None:
    fabric = SteadyMask(PORTRAIT)(strapped(0.9))
    assert fabric is not None
    cloth = clean(disc(PORTRAIT, 0.77)[0], PORTRAIT)
    assert np.array_equal(np.maximum(cloth, strapped(1)[1]), fabric)


def test_straps_alone_put_no_mask_on() -> None:
    maps, person = empty(PORTRAIT), SteadyMask(PORTRAIT)
    maps[1] = 1
    assert all(person(maps) is None for _ in range(10))


def test_straps_are_smoothed_like_the_fabric() -> None:
    """A strap that all but vanishes for one frame stays, if smoothing was asked for."""
    for smooth in (True, False):
        person = SteadyMask(PORTRAIT, smooth)
        for _ in range(5):
            person(strapped(1))
        fabric = person(strapped(0.3))
        assert fabric is not None
        assert fabric[STRAP].all() == smooth
