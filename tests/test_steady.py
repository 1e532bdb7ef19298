"""Maps and fills over time: they shake less, and a mask doesn't come and go."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from stream_unmask.faces.geometry import Affine, compose, invert
from stream_unmask.models.profile import PORTRAIT, Profile
from stream_unmask.steady import Glance, SteadyFill, SteadyMaps, SteadyMask, undecided, worn
from stream_unmask.types import Crop
from stream_unmask.unmask import clean, widen

SKIN, CLOTH, HAND = (200, 160, 140), (90, 140, 190), (120, 80, 70)
AHEAD = 4


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


def picture(there: np.ndarray, seed: int = 0) -> np.ndarray:
    """A face (h, w, 3) in a mask where these maps have one, with the camera's noise."""
    rng = np.random.default_rng(0)
    light = cv2.resize(rng.uniform(-30, 30, (8, 8)), there.shape[:0:-1])[..., None]
    drawn = np.where(there[0, ..., None] > 0.5, CLOTH, SKIN) + light
    drawn = drawn + np.random.default_rng(seed).normal(0, 1.5, drawn.shape)
    return drawn.clip(0, 255).astype(np.uint8)


def crop(maps: np.ndarray, image: np.ndarray) -> Crop:
    return Crop(image, np.eye(3)[:2], maps=maps)


def glance(
    profile: Profile, maps: np.ndarray, there: np.ndarray | None = None, seed: int = 0
) -> Glance:
    """What the segmenter says, of a face with a mask as in `there`, or else as it says."""
    return Glance.at(crop(maps, picture(maps if there is None else there, seed)), profile)


def told(person: SteadyMask, glances: Sequence[Glance], ahead: int = 0) -> list[np.ndarray | None]:
    """What the person wears in each frame, with that many frames to come."""
    return [person(now, glances[i + 1 : i + 1 + ahead]) for i, now in enumerate(glances)]


def shown(person: SteadyMask, glances: Sequence[Glance], ahead: int = 0) -> list[bool]:
    """Whether a mask is worn in each frame."""
    return [fabric is not None for fabric in told(person, glances, ahead)]


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_a_mask_is_worn_from_the_first_frame(profile: Profile, smooth: bool, ahead: int) -> None:
    person = SteadyMask(profile, smooth)
    maps = disc(profile, 0.77)
    fabric = person(glance(profile, maps), [glance(profile, maps)] * ahead)
    assert fabric is not None
    assert person.worn
    assert np.array_equal(fabric, clean(maps[0], profile))


def test_no_mask_no_map(profile: Profile) -> None:
    person = SteadyMask(profile)
    assert not any(shown(person, [glance(profile, empty(profile))] * 5, AHEAD))
    assert not person.worn


def test_a_small_mistake_is_no_mask(profile: Profile) -> None:
    wrong = glance(profile, disc(profile, 0.31), empty(profile))
    assert not any(shown(SteadyMask(profile), [wrong] * 20))


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_one_wrong_frame_puts_no_mask_on(profile: Profile, smooth: bool, ahead: int) -> None:
    bare = glance(profile, empty(profile))
    wrong = glance(profile, disc(profile, 0.9), empty(profile))
    seen = [*[bare] * 10, wrong, *[bare] * 5]
    assert not any(shown(SteadyMask(profile, smooth), seen, ahead))


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_a_map_that_is_missing_for_a_frame_is_bridged(profile: Profile, ahead: int) -> None:
    """The picture shows the mask as before, so the network must have missed it."""
    there = disc(profile, 0.77)
    seen = [glance(profile, there, seed=seed) for seed in range(10)]
    seen[5] = glance(profile, empty(profile), there, seed=5)
    wanted = clean(there[0], profile)
    for fabric in told(SteadyMask(profile), seen, ahead):
        assert fabric is not None
        assert np.abs(fabric - wanted).mean() < 0.005


def test_where_maps_were_kept_the_mask_is(profile: Profile) -> None:
    """Nothing is worked out again, and the past counts for as much as if it had been."""
    maps = disc(profile, 0.77)
    first = glance(profile, maps)
    kept = Glance.at(crop(maps, picture(maps, 1)), profile, first)
    assert kept.maps is first.maps
    assert not np.array_equal(kept.look, first.look)
    assert Glance.at(crop(maps.copy(), first.crop.image), profile, first).maps is not first.maps
    person = SteadyMask(profile)
    one, other = told(person, [first, kept])
    assert one is other
    after = {}
    for same in (True, False):
        person = SteadyMask(profile)
        told(person, [glance(profile, maps if same else maps.copy()) for _ in range(3)])
        after[same] = person(glance(profile, maps * np.float32(0.2), maps))
    assert after[True] is not None
    assert np.abs(after[True] - after[False]).max() < 1e-4


def test_unless_each_map_is_to_be_left_as_it_is(profile: Profile) -> None:
    """Then there is nothing to paint by, but only for that frame."""
    there = disc(profile, 0.77)
    seen = [glance(profile, there)] * 10
    seen[5] = glance(profile, empty(profile), there)
    kept = shown(SteadyMask(profile, smooth=False), seen)
    assert kept == [True] * 5 + [False] + [True] * 4


def test_with_frames_to_come_three_that_miss_the_mask_are_bridged(profile: Profile) -> None:
    there = disc(profile, 0.77)
    seen = [glance(profile, there, seed=seed) for seed in range(15)]
    seen[6:9] = [glance(profile, empty(profile), there, seed) for seed in range(6, 9)]
    assert all(shown(SteadyMask(profile), seen, AHEAD))
    assert not all(shown(SteadyMask(profile), seen))  # live, that is too long


def dressed(profile: Profile) -> list[Glance]:
    """Somebody who puts a mask on at the tenth frame and takes it off at the twentieth."""
    story = [empty(profile)] * 10 + [disc(profile, 0.9)] * 10 + [empty(profile)] * 10
    return [glance(profile, maps, seed=seed) for seed, maps in enumerate(story)]


@pytest.mark.parametrize("smooth", [True, False])
def test_live_a_mask_put_on_or_taken_off_is_followed_within_a_frame(
    profile: Profile, smooth: bool
) -> None:
    kept = shown(SteadyMask(profile, smooth), dressed(profile))
    assert not any(kept[:10])
    assert all(kept[11:20])
    assert not any(kept[20:])  # where there is nothing, nothing is painted


def test_with_frames_to_come_a_mask_put_on_is_followed_at_once(profile: Profile) -> None:
    masks = told(SteadyMask(profile), dressed(profile), AHEAD)[:19]
    assert [fabric is not None for fabric in masks] == [False] * 10 + [True] * 9
    wanted = clean(disc(profile, 0.9)[0], profile)
    assert all(np.array_equal(fabric, wanted) for fabric in masks[10:])


def test_with_frames_to_come_a_mask_taken_off_is_followed_at_once(profile: Profile) -> None:
    kept = shown(SteadyMask(profile), dressed(profile), AHEAD)
    assert kept[10:] == [True] * 10 + [False] * 10


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_mask_taken_off_soon_after_the_start_is_worn_till_then(
    profile: Profile, frames: int
) -> None:
    story = [disc(profile, 0.9)] * frames + [empty(profile)] * 8
    kept = shown(SteadyMask(profile), [glance(profile, maps) for maps in story], AHEAD)
    assert kept == [True] * frames + [False] * 8


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_a_map_between_the_thresholds_stays_as_it_was(profile: Profile, ahead: int) -> None:
    """Hysteresis: a small mask that was worn is kept, one that wasn't is not put on."""
    small = [glance(profile, disc(profile, 0.46))] * 20  # covers 0.44 of what counts
    first = [glance(profile, disc(profile, 0.9))] * 5
    assert all(shown(SteadyMask(profile), [*first, *small], ahead)[5:])
    assert not any(shown(SteadyMask(profile), small, ahead))


def soft_disc(profile: Profile, radius: float) -> np.ndarray:
    """Maps as networks give them: unsure along the edge."""
    maps, (x0, y0) = empty(profile), profile.eyes.mean(0)
    y, x = np.mgrid[: profile.height, : profile.width]
    inside = radius * profile.unit - np.hypot(x - x0, y - y0 - 0.99 * profile.unit)
    maps[0] = np.clip(inside / (0.15 * profile.unit) + 0.5, 0, 1)
    return maps


def flicker(profile: Profile, smooth: bool, ahead: int = 0) -> float:
    """The mean change of the map's area from frame to frame, its true size being constant."""
    rng, there = np.random.default_rng(0), disc(profile, 0.77)
    seen = [
        glance(profile, soft_disc(profile, 0.77 + rng.uniform(-0.05, 0.05)), there, seed)
        for seed in range(40)
    ]
    masks = told(SteadyMask(profile, smooth), seen, ahead)[:-AHEAD]
    areas = [float(fabric.sum()) for fabric in masks if fabric is not None]
    assert len(areas) == len(masks)
    return float(np.abs(np.diff(areas)).mean())


def test_smoothing_takes_the_flicker_out(profile: Profile) -> None:
    raw, live, ahead = (flicker(profile, *how) for how in ((False,), (True,), (True, AHEAD)))
    assert live < 0.4 * raw
    assert ahead < 0.8 * live


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_a_jump_is_taken_as_it_is(profile: Profile, ahead: int) -> None:
    """Where the picture has changed with the map, this is not mixed with others."""
    left, right = (disc(profile, 0.92, x) for x in (-0.56, 0.56))
    seen = [glance(profile, maps) for maps in [left] * 5 + [right] * 5]
    masks = told(SteadyMask(profile), seen, ahead)
    for fabric, maps in zip(masks, [left] * 5 + [right] * 5, strict=True):
        assert fabric is not None
        assert np.array_equal(fabric, clean(maps[0], profile))


def spot(profile: Profile, x: float, y: float, side: float) -> tuple[slice, slice]:
    """A square (rows, columns) of the crop, by its middle and half its side in eye distances."""
    column, row = profile.eyes.mean(0) + np.array([x, y]) * profile.unit
    half = side * profile.unit
    return (
        slice(round(row - half), round(row + half)),
        slice(round(column - half), round(column + half)),
    )


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_a_hand_is_seen_at_once_while_the_rest_stays_smooth(profile: Profile, ahead: int) -> None:
    """Two pieces of the map are missing: one where a hand has come, one where nothing has."""
    there = disc(profile, 1.0)
    hand, still = spot(profile, -0.9, 1, 0.3), spot(profile, 0.9, 1, 0.3)
    seen = [glance(profile, there, seed=seed) for seed in range(6)]
    for index in range(6, 12):
        maps, image = there.copy(), picture(there, index)
        maps[0][hand], image[hand] = 0, HAND
        if index == 6:
            maps[0][still] = 0
        seen.append(Glance.at(crop(maps, image), profile))
    before, now = told(SteadyMask(profile), seen, ahead)[5:7]
    assert before is not None
    assert now is not None
    inner = spot(profile, -0.75, 1, 0.1)  # nearer to the edges, what is cleaned is rounded off
    assert before[inner].all()
    assert not now[inner].any()
    assert np.abs(now[still] - before[still]).mean() < 0.03
    alone = told(SteadyMask(profile, smooth=False), seen)[6]
    assert alone is not None
    assert (alone[still] != before[still]).mean() > 0.3


@pytest.mark.parametrize("light", [0.94, 1.06, 1.15])
def test_light_that_changes_everywhere_does_not_end_the_smoothing(
    profile: Profile, light: float
) -> None:
    there = disc(profile, 0.77)
    image = (picture(there, 1) * light).clip(0, 255).astype(np.uint8)
    person = SteadyMask(profile)
    told(person, [glance(profile, there)] * 5)
    assert person(Glance.at(crop(empty(profile), image), profile)) is not None


STRAP = PORTRAIT.window(0.38, 0.48, 1.3)  # a band across the face, over its rim


def strapped(share: float) -> np.ndarray:
    """A mask with a band of which the segmenter is that sure."""
    maps = disc(PORTRAIT, 0.77)
    maps[1][STRAP] = share
    return maps


def test_straps_come_with_the_mask() -> None:
    fabric = SteadyMask(PORTRAIT)(glance(PORTRAIT, strapped(0.9)))
    assert fabric is not None
    cloth = clean(disc(PORTRAIT, 0.77)[0], PORTRAIT)
    assert np.array_equal(np.maximum(cloth, strapped(1)[1]), fabric)


def test_straps_alone_put_no_mask_on() -> None:
    maps = empty(PORTRAIT)
    maps[1] = 1
    assert not any(shown(SteadyMask(PORTRAIT), [glance(PORTRAIT, maps)] * 10))


def test_straps_are_smoothed_like_the_fabric() -> None:
    """A strap that all but vanishes for one frame stays, if smoothing was asked for."""
    bare = (strapped(1)[1] > 0) & (disc(PORTRAIT, 0.77)[0] == 0)
    seen = [*[glance(PORTRAIT, strapped(1))] * 5, glance(PORTRAIT, strapped(0.3))]
    for smooth, low, high in ((True, 0.95, 1), (False, 0, 0.05)):
        fabric = told(SteadyMask(PORTRAIT, smooth), seen)[-1]
        assert fabric is not None
        assert low <= fabric[bare].mean() <= high


def test_what_is_worn_in_a_single_picture(profile: Profile) -> None:
    for radius, masked in ((0.0, False), (0.31, False), (0.46, False), (0.6, True), (0.9, True)):
        maps = disc(profile, radius) if radius else empty(profile)
        fabric = worn(maps, profile)
        assert (fabric is not None) == masked, radius
        assert fabric is None or np.array_equal(fabric, clean(maps[0], profile))


def vague(maps: np.ndarray, profile: Profile) -> np.ndarray:
    """Maps as segmenters give them of wheels and cups: something here, something there."""
    blurred = [cv2.GaussianBlur(one, (0, 0), 0.6 * profile.unit) for one in maps]
    return np.minimum(np.stack(blurred) * 1.5, 0.89)


def test_a_map_that_leaves_much_open_is_that_of_no_mask(profile: Profile) -> None:
    sharp = soft_disc(profile, 0.77)
    assert undecided(sharp) < 0.5
    assert worn(sharp, profile) is not None
    assert worn(sharp, profile, blurred=undecided(sharp)) is None
    poster = vague(sharp, profile)
    assert undecided(poster) > 1.25
    assert clean(poster[0], profile).any()
    assert worn(poster, profile) is None
    assert not any(shown(SteadyMask(profile), [glance(profile, poster)] * 9, AHEAD))


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_vague_maps_take_no_mask_off(profile: Profile, ahead: int) -> None:
    """On a small face some are, here and there or for a while."""
    there = soft_disc(profile, 0.77)
    seen = [glance(profile, there, seed=seed) for seed in range(12)]
    seen[5:9] = [glance(profile, vague(there, profile), there, seed=seed) for seed in range(5, 9)]
    assert all(shown(SteadyMask(profile), seen, ahead))


def test_a_single_picture_has_straps_too() -> None:
    fabric = worn(strapped(0.9), PORTRAIT)
    assert fabric is not None
    assert fabric[STRAP].all()


def masked(profile: Profile, seed: int = 0, **changes: object) -> Crop:
    """A crop whose face wears a mask, as it is to be painted over."""
    maps = disc(profile, 0.9)
    seen = Crop(picture(maps, seed), np.eye(3)[:2], mask=widen(clean(maps[0], profile), profile))
    return replace(seen, **changes)  # type: ignore[arg-type]


def fill(profile: Profile, seed: int = 0, level: int = 120) -> np.ndarray:
    """A painted face (h, w, 3) that looks a little different every time."""
    noise = np.random.default_rng(100 + seed).normal(0, 8, (profile.height, profile.width, 3))
    return (level + noise).clip(0, 255).astype(np.uint8)


def shimmer(fills: Sequence[np.ndarray]) -> float:
    """How much a face changes from frame to frame."""
    return float(np.diff(np.stack(fills).astype(int), axis=0).std())


def filled(steady: SteadyFill, painted: np.ndarray, crop: Crop) -> np.ndarray:
    """What is shown of a crop for which this would be painted."""
    wish = steady.asks(crop)
    return steady(painted if wish.new else None, wish)


def test_the_first_fill_is_taken_as_it_is(profile: Profile) -> None:
    assert np.array_equal(filled(SteadyFill(), fill(profile), masked(profile)), fill(profile))


def test_a_face_that_keeps_still_keeps_its_fill(profile: Profile) -> None:
    steady, raw = SteadyFill(), [fill(profile, seed) for seed in range(12)]
    out = [filled(steady, painted, masked(profile, seed)) for seed, painted in enumerate(raw)]
    assert shimmer(out[3:]) < 0.4 * shimmer(raw[3:])
    assert out[-1].dtype == np.uint8
    assert abs(float(np.mean(out)) - float(np.mean(raw))) < 0.2


def test_a_fill_that_stays_another_is_reached(profile: Profile) -> None:
    """Slowly, and all the way."""
    steady = SteadyFill()
    for _ in range(5):
        filled(steady, np.full_like(fill(profile), 100), masked(profile))
    other = np.full_like(fill(profile), 140)
    levels = [float(filled(steady, other, masked(profile)).mean()) for _ in range(120)]
    assert 100 <= levels[0] < levels[4] < 120
    assert levels == sorted(levels)
    assert levels[-1] > 138


def after(profile: Profile, first: Crop, second: Crop) -> np.ndarray:
    """The fill of a crop, 200, after another's, which was 100 for several frames."""
    steady = SteadyFill()
    for _ in range(5):
        filled(steady, np.full_like(fill(profile), 100), first)
    return filled(steady, np.full_like(fill(profile), 200), second)


@pytest.mark.parametrize("under", [True, False])
def test_only_what_changes_under_the_mask_brings_a_new_fill(profile: Profile, under: bool) -> None:
    seen = masked(profile)
    assert seen.mask is not None
    near = cv2.dilate(seen.mask, np.ones((9, 9))) > 0
    image = np.where((near == under)[..., None], HAND, seen.image).astype(np.uint8)
    done = after(profile, seen, replace(seen, image=image))
    assert done.min() >= 199 if under else done.max() < 150


@pytest.mark.parametrize("light", [0.7, 1.3])
def test_another_light_brings_a_new_fill(profile: Profile, light: float) -> None:
    seen = masked(profile)
    image = (seen.image * light).clip(0, 255).astype(np.uint8)
    assert after(profile, seen, replace(seen, image=image)).min() >= 195


@pytest.mark.parametrize(("pixels", "low", "high"), [(0.3, 100, 125), (15.0, 198, 200)])
def test_another_expression_brings_a_new_fill(
    profile: Profile, frontal: np.ndarray, pixels: float, low: int, high: int
) -> None:
    mesh = (profile.eyes.mean(0) + profile.unit * frontal).astype(np.float32)
    moved = mesh + np.float32([0, pixels])
    done = after(profile, masked(profile, mesh=mesh), masked(profile, mesh=moved))
    assert low <= done.min() <= done.max() <= high


def test_a_still_face_is_painted_anew_every_fourth_frame(profile: Profile) -> None:
    """From when what is shown is the mean of three paintings."""
    person = SteadyFill()
    asked = [person.asks(masked(profile, seed)) for seed in range(12)]
    new = [wish.new for wish in asked]
    assert new == [True] * 3 + [False] * 3 + [True] + [False] * 3 + [True, False]
    assert asked[0].past == 0
    assert asked[1].past < asked[2].past < asked[6].past < asked[10].past < 4


def test_a_new_painting_of_a_still_face_comes_in_slowly(profile: Profile) -> None:
    """In as many steps as there are frames for which it serves, and not in one."""
    person = SteadyFill()
    for _ in range(6):
        before = filled(person, np.full_like(fill(profile), 100), masked(profile))
    assert np.array_equal(before, np.full_like(before, 100))
    other = np.full_like(fill(profile), 180)
    levels = [float(filled(person, other, masked(profile)).mean()) for _ in range(8)]
    steps = np.diff([100, *levels])
    assert steps[:4] == pytest.approx([steps[0]] * 4, abs=1)
    assert steps.min() > 0
    assert 115 < levels[3] < levels[7] < 180


@pytest.mark.parametrize("light", [0.94, 1.06])
def test_light_that_changes_slowly_does_not_leave_the_fill_behind(
    profile: Profile, light: float
) -> None:
    """By a level or two a frame, which no frame alone would show."""
    person = SteadyFill()
    for _ in range(6):
        person.asks(masked(profile))
    seen, new = masked(profile), []
    for step in range(8):
        image = (seen.image * light ** (step / 2)).clip(0, 255).astype(np.uint8)
        new.append(person.asks(replace(seen, image=image)).new)
    assert sum(new) >= 4


def test_the_segmenter_looks_at_a_still_face_every_third_frame(profile: Profile) -> None:
    person, maps = SteadyMaps(profile), disc(profile, 0.9)
    asked = [person.asks(crop(maps, picture(maps, seed))) for seed in range(7)]
    assert asked == [True, False, False, True, False, False, True]


def test_maps_that_were_not_looked_for_are_the_last_ones(profile: Profile) -> None:
    person, maps = SteadyMaps(profile), disc(profile, 0.9)
    person.asks(crop(maps, picture(maps)))
    assert person(maps) is maps
    assert person(None) is maps
    assert person(other := empty(profile)) is other
    assert person(None) is other


@pytest.mark.parametrize(
    ("part", "new"), [((0.6, 0.9, 0.1), True), ((-1.2, -0.6, 0.5), False)], ids=["finger", "hat"]
)
def test_the_segmenter_looks_at_once_where_something_moves(
    profile: Profile, part: tuple[float, float, float], new: bool
) -> None:
    person, maps = SteadyMaps(profile), disc(profile, 0.9)
    assert person.asks(crop(maps, picture(maps)))
    image = picture(maps, 1)
    image[profile.window(*part)] = HAND
    assert person.asks(crop(maps, image)) == new


def test_light_alone_is_no_reason_to_look(profile: Profile) -> None:
    person, maps = SteadyMaps(profile), disc(profile, 0.9)
    assert person.asks(crop(maps, picture(maps)))
    brighter = np.clip(picture(maps, 1).astype(int) + 12, 0, 255).astype(np.uint8)
    assert not person.asks(crop(maps, brighter))


@pytest.mark.parametrize("step", [0.05, 0.2, 0.6])
def test_a_head_that_turns_slowly_does_not_leave_its_fill_behind(
    profile: Profile, frontal: np.ndarray, step: float
) -> None:
    """What is painted has its level from where the mesh is, in px; what is shown lags by less than
    a tenth of the eyes' distance, even where the face counts as still."""
    steady, mesh = SteadyFill(), (profile.eyes.mean(0) + profile.unit * frontal).astype(np.float32)
    for index in range(80):
        at = index * step
        seen = masked(profile, mesh=mesh + np.float32([at, 0]))
        shown = filled(steady, np.full_like(fill(profile), round(100 + at)), seen)
    assert 100 + at - float(shown.mean()) < 0.1 * profile.unit


def turned(profile: Profile, step: int) -> Affine:
    """How what a crop shows has changed by that step of a head that turns and goes right."""
    return np.array([[1 - 0.01 * step, 0, 0.08 * profile.unit * step], [0, 1, 0]])


def warped(values: np.ndarray, way: Affine) -> np.ndarray:
    """A picture or map moved by that."""
    size = values.shape[1::-1]
    return np.asarray(cv2.warpAffine(values, way, size, borderMode=cv2.BORDER_REPLICATE))


def turning(profile: Profile, count: int, told: bool) -> list[Crop]:
    """Crops that stay where they are, in which a masked head turns; told: that it is known."""
    there, smooth = disc(profile, 0.7), soft_disc(profile, 0.7)
    drawn, crops = picture(there), []
    for step in range(count):
        way, moved = turned(profile, step), None
        if told and step:
            moved = compose(way, invert(turned(profile, step - 1)))
        maps = np.stack([warped(one, way) for one in smooth])
        crops.append(Crop(warped(drawn, way), np.eye(3)[:2], maps=maps, moved=moved))
    return crops


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_on_a_head_that_turns_other_maps_are_carried_along(profile: Profile, ahead: int) -> None:
    """A map that is missing is that of the other frames, where the mask is now."""
    off = []
    for told_ in (True, False):
        crops = turning(profile, 10, told_)
        wanted = clean(crops[5].maps[0], profile)  # type: ignore[index]
        crops[5] = replace(crops[5], maps=empty(profile))
        fabric = told(SteadyMask(profile), [Glance.at(c, profile) for c in crops], ahead)[5]
        off.append(1.0 if fabric is None else np.abs(fabric - wanted).sum() / wanted.sum())
    assert off[0] < 0.1
    assert off[0] < 0.6 * off[1]


def test_on_a_head_that_turns_the_fill_is_carried_along(profile: Profile) -> None:
    """Those before are blended in where the face is now: sharp in either case, and with less noise
    than what is painted."""
    rough = cv2.GaussianBlur(fill(profile).astype(np.float32), (0, 0), 1.5)
    pattern = 120 + 10 * (rough - 120)
    mask, off = masked(profile).mask, {}
    assert mask is not None
    for told_ in (True, False):
        person, noise = SteadyFill(), np.random.default_rng(0)
        for step, seen in enumerate(turning(profile, 10, told_)):
            true = warped(pattern, turned(profile, step))
            painted = (true + noise.normal(0, 8, true.shape)).clip(0, 255).astype(np.uint8)
            shown = filled(person, painted, replace(seen, mask=mask))
        off[told_] = float(np.abs(shown - true)[mask > 0].mean())
    raw = float(np.abs(painted - true)[mask > 0].mean())
    assert off[True] < 0.8 * raw
    assert off[True] < off[False]


def test_what_hardly_moves_is_not_resampled(profile: Profile) -> None:
    """Or the fill of a still face would blur from frame to frame; but what drifts adds up."""
    person, painted = SteadyFill(), fill(profile)
    filled(person, painted, masked(profile))
    nudge = np.array([[1.0, 0, 0.08], [0, 1, 0]])
    seen = masked(profile, moved=nudge)
    shown = [person(None, person.asks(seen)._replace(past=np.inf)) for _ in range(3)]
    assert [np.array_equal(each, painted) for each in shown] == [True, True, False]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_edge_moves_by_less_than_a_pixel(profile: Profile, share: float) -> None:
    """As the maps do: a blurred edge that moves by a share of a pixel takes the mask with it."""
    areas, sharp = [], []
    for radius in (0.7, 0.7 + share / profile.unit):
        maps = soft_disc(profile, radius)
        for smooth, out in ((True, areas), (False, sharp)):
            fabric = SteadyMask(profile, smooth)(glance(profile, maps))
            assert fabric is not None
            assert 0 <= fabric.min() <= fabric.max() <= 1
            out.append(float(fabric.sum()))
    rim = 2 * np.pi * 0.7 * profile.unit
    assert areas[1] - areas[0] == pytest.approx(share * rim, rel=0.25)
    assert areas[0] == pytest.approx(sharp[0], rel=0.02)
