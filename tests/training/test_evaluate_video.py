"""The figures of steadiness: what a steady product gets, what a flickering one does, and why."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("skimage", reason="needs the train extra")

from stream_unmask.faces.crop import cut
from stream_unmask.faces.geometry import apply
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.pipeline import Composed, Scene
from stream_unmask.report import Clock
from stream_unmask.types import Crop, Face, Image, Mask, Points
from stream_unmask.video.frame import Patch, to_rgb
from training import evaluate_video as video
from training.clips import CUT, JUMP, OFF, ON_OFF, SWITCH, Clip
from training.evaluate_video import Played

pytestmark = pytest.mark.needs_train

SHAPE = (240, 260)  # of a frame
EYES = np.float32([(105, 95), (155, 95)])
FEW = 8  # frames of a clip made by hand


@pytest.fixture(scope="module")
def portrait() -> Image:
    """A real picture, of which clips show a part."""
    return np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut())


def square(x: int = 0, level: float = 1.0, side: int = 40) -> Mask:
    """A map that is on in a square over the mouth, moved to the right."""
    mask = np.zeros(SHAPE, np.float32)
    mask[125 : 125 + side, 110 + x : 110 + x + side] = level
    return mask


def moved(
    portrait: Image, name: str, places: Sequence[int], sides: Sequence[int] | None = None
) -> Clip:
    """A clip that shows the portrait through a window that moves to the left, so that the face is
    so far to the right, in a mask of such a size. What is hidden is grey."""
    clip = Clip(name, [], [], [], [], [], [])
    for x, side in zip(places, sides or [40] * len(places), strict=True):
        truth = portrait[40 : 40 + SHAPE[0], 60 - x : 60 - x + SHAPE[1]].copy()
        mask = square(x, side=side)
        clip.truth.append(truth)
        clip.frames.append(np.where(mask[..., None] > 0, np.uint8(128), truth))
        clip.maps.append(mask)
        clip.wide.append(cv2.dilate(mask, np.ones((7, 7), np.uint8)))
        clip.held.append(EYES + np.float32([x, 0]))
        clip.worn.append(True)
    return clip


def moving(portrait: Image, name: str = "sideways 1", step: int = 2) -> Clip:
    """A clip of a face that moves evenly."""
    return moved(portrait, name, [step * t for t in range(FEW)])


def face_at(image: Image, held: Points, mask: Mask | None = None, track: int = 0) -> Crop:
    """The crop of a face, with the part of a frame's map that lies in it."""
    face = Face((0, 0, 1, 1), held, 1.0, track=track)
    crop = cut(image, face, PORTRAIT.eyes, PORTRAIT.size)
    inside = None
    if mask is not None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        inside = cv2.warpAffine(mask, crop.to_frame, PORTRAIT.size, flags=flags)
    return Crop(crop.image, crop.to_frame, None, track, None, inside)


def result_of(
    clip: Clip,
    results: Sequence[Image],
    found: Sequence[Mask],
    held: Sequence[Points],
    seconds: float = 0.0,
) -> Played:
    """A product that made these pictures, repainted by these maps, and held the face there."""
    done = []
    for t, (image, mask) in enumerate(zip(results, found, strict=True)):
        frame = video._frame(image, t)
        crop = face_at(image, held[t], mask if mask.any() else None)
        patches = (Patch(0, 0, image, mask),) if mask.any() else ()
        done.append(Composed(frame, Scene(frame, (crop,)), patches))
    return Played(done, Clock({"steady": seconds}))


def flickering(clip: Clip) -> list[Image]:
    """The truth, but inside the mask every other frame is lighter."""
    return [
        np.where((mask > 0)[..., None] & (t % 2 > 0), truth // 2 + 100, truth)
        for t, (truth, mask) in enumerate(zip(clip.truth, clip.maps, strict=True))
    ]


def test_pictures_come_through_a_frame_as_they_were(portrait: Image) -> None:
    frame = video._frame(portrait[:240, :260], 7)
    assert np.abs(to_rgb(frame.picture).astype(int) - portrait[:240, :260]).max() <= 4
    assert frame.seconds == pytest.approx(7 / 25)


# Maps


def test_maps_that_change_as_the_truth_does_are_steady() -> None:
    truth = [square(0), square(9)]
    assert video._dtssd(truth, truth, 1) == 0
    offset = [square(0, 0.6), square(9, 0.6)]
    same_change = [t + square(20, 0.3) for t in truth]  # always as much too large in one place
    assert video._dtssd(same_change, truth, 1) == pytest.approx(0, abs=1e-4)
    assert video._dtssd(offset, truth, 1) > 10
    assert video._dtssd([square(0, 0)] * 2, [square(0, 0)] * 2, 1) == 0


def test_a_flickering_map_is_off_by_its_flicker() -> None:
    still = [square(), square(), square()]
    found = [square(), square(level=0.75), square()]
    for t in (1, 2):
        assert video._dtssd(found, still, t) == pytest.approx(25)
    # A quarter of the square comes and goes: the root of a quarter.
    quarter = square()
    quarter[145:, :130] = 1
    part = square()
    part[125:145, 110:130] = 0
    assert video._dtssd([square(), part], still, 1) == pytest.approx(50)
    # Where there is no map at all, nothing is averaged.
    assert video._dtssd(
        [square(side=10), square(level=0.5, side=10)], [square(side=10)] * 2, 1
    ) == (pytest.approx(50))


def test_a_map_held_by_the_face_keeps_still(portrait: Image) -> None:
    clip = moving(portrait, step=5)
    held = [video._held(*pair, PORTRAIT) for pair in zip(clip.wide, clip.held, strict=True)]
    assert held[0].shape == (PORTRAIT.height, PORTRAIT.width)
    assert np.abs(held[0] - held[-1]).max() < 1e-3
    # A square of 40 px in a face of 50 px between the eyes.
    assert video._held(clip.maps[0], EYES, PORTRAIT).sum() == pytest.approx(
        1600 * (PORTRAIT.unit / 50) ** 2, rel=0.01
    )


# Pictures


def test_the_truth_is_as_steady_as_itself(portrait: Image) -> None:
    clip = moving(portrait, step=3)
    for t in (1, 4):
        ours, own = video._warping(clip.truth, clip.truth, clip.maps, t)
        assert ours == own
        # The flow follows the motion: without it, the difference would be much larger.
        change = (clip.truth[t].astype(np.float32) - clip.truth[t - 1]) / 255
        plain = float((change**2).mean(-1)[clip.maps[t] > 0.5].sum())
        assert 0 <= own < 0.2 * plain


def test_a_flickering_result_has_a_larger_warping_error(portrait: Image) -> None:
    clip = moving(portrait)
    wrong, own = video._warping(clip.truth, flickering(clip), clip.maps, 3)
    assert wrong > 20 * own
    # What flickers elsewhere is not what is measured.
    beside = [truth.copy() for truth in clip.truth]
    beside[3][:, :60] = 0
    assert video._warping(clip.truth, beside, clip.maps, 3) == (own, own)
    nowhere = [np.zeros(SHAPE, np.float32)] * FEW
    assert video._warping(clip.truth, flickering(clip), nowhere, 3) == (0, 0)


def test_what_was_not_seen_in_the_frame_before_is_not_compared(portrait: Image) -> None:
    clip = moving(portrait, step=0)
    new = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
    there = (slice(125, 165), slice(120, 140))  # half of the mask
    change = float((((clip.truth[3][there].astype(np.float32) - new) / 255) ** 2).mean(-1).sum())
    clip.truth[3][there] = new
    ours, own = video._warping(clip.truth, clip.truth, clip.maps, 3)
    assert ours == own < 0.2 * change


def test_a_uniform_change_has_a_known_warping_error(portrait: Image) -> None:
    """Of a grey picture that gets lighter by 51 of 255: 0.04 of each pixel."""
    clip = moving(portrait, step=0)
    results = [np.full_like(clip.truth[0], level) for level in (100, 151)]
    wrong, own = video._warping(clip.truth[:2], results, clip.maps[:2], 1)
    assert wrong == pytest.approx(0.04 * 1600)
    assert own == 0


# Crops


def test_a_crop_that_moves_with_the_face_is_off_by_a_constant(portrait: Image) -> None:
    clip = moving(portrait, step=4)
    aside = [held + np.float32([3, 5]) for held in clip.held]
    exact, constant = (
        video._off(
            [face_at(*pair) for pair in zip(clip.truth, held, strict=True)], clip.held, PORTRAIT
        )
        for held in (clip.held, aside)
    )
    assert exact.shape == (FEW, 2, 2)
    assert np.abs(exact).max() < 1e-4
    grow = PORTRAIT.unit / 50  # px of the crop to a pixel
    assert constant == pytest.approx(np.broadcast_to((-3 * grow, -5 * grow), (FEW, 2, 2)), abs=1e-3)
    assert max(video._moved(a, b) for a, b in pairwise(constant)) < 1e-3


def test_a_crop_that_stays_moves_against_the_face(portrait: Image) -> None:
    clip = moving(portrait, step=4)
    crops: list[Crop | None] = [face_at(truth, EYES) for truth in clip.truth]
    off = video._off(crops, clip.held, PORTRAIT)
    grow = PORTRAIT.unit / 50
    assert off.mean(1)[:, 0] == pytest.approx(np.arange(FEW) * 4 * grow, abs=1e-3)
    assert [video._moved(off[t], off[t - 1]) for t in range(1, FEW)] == pytest.approx(
        [4 * grow] * (FEW - 1), abs=1e-3
    )
    crops[2] = None
    without = video._off(crops, clip.held, PORTRAIT)
    assert np.isnan(without[2]).all()
    assert np.array_equal(np.delete(without, 2, 0), np.delete(off, 2, 0))


def test_a_turning_crop_is_off_though_its_middle_is_not(portrait: Image) -> None:
    turned = EYES + np.float32([(0, -5), (0, 5)])
    off = video._off([face_at(portrait, EYES), face_at(portrait, turned)], [EYES] * 2, PORTRAIT)
    assert off[1].mean(0) == pytest.approx((0, 0), abs=1e-3)
    assert video._moved(off[0], off[1]) > 5


def test_of_several_faces_the_one_is_meant_that_is_there_or_repainted(portrait: Image) -> None:
    frame = video._frame(portrait[:240, :260], 0)
    here, there = face_at(portrait, EYES), face_at(portrait, EYES + 60, square(60), track=1)
    seen = Played(
        [
            Composed(frame, Scene(frame, crops), ())
            for crops in ((here, there), (there, here), (here,), ())
        ],
        Clock(),
    )
    assert [seen.face(t, EYES + 8) for t in range(4)] == [here, here, here, None]
    assert [seen.face(t, EYES + 52) for t in range(4)] == [there, there, here, None]
    assert [seen.face(t) for t in range(4)] == [there, there, None, None]


# Sudden things


def states(text: str) -> list[bool]:
    return [letter == "x" for letter in text]


@pytest.mark.parametrize(
    ("worn", "times"),
    [
        ("", 0), ("....", 0), ("xxxx", 0), ("..xx..", 0), ("x.x", 1), ("xx..x.xx", 2),
        ("x" + 13 * "." + "x", 1), ("x" + 17 * "." + "x", 0), ("x.x" + 30 * "." + "x.x", 2),
    ],
)  # fmt: skip
def test_blinks_are_masks_that_come_back_soon(worn: str, times: int) -> None:
    assert video._blinks(states(worn)) == times


@pytest.mark.parametrize(
    ("found", "wanted", "frames"),
    [
        ("xx", True, 0),
        ("..xx", True, 2),
        ("..x.", False, 0),
        ("xx.x", False, 2),
        ("xxx", False, np.nan),
        ("", True, np.nan),
    ],
)
def test_frames_are_counted_until_a_state_is_reached(
    found: str, wanted: bool, frames: float
) -> None:
    assert video._frames_until(states(found), wanted) == pytest.approx(frames, nan_ok=True)


def test_each_kind_of_clip_has_its_own_lag() -> None:
    edited = states(24 * "." + 10 * "x" + 6 * ".")  # 4 late, and 2 too long
    off = np.zeros((40, 2, 2))
    off[:, :, 1] = 7.0  # wherever the crop usually lies
    off[SWITCH : SWITCH + 3, :, 0] = (60.0,), (20.0,), (3.5,)
    lags = {kind: video._lags(kind, edited, off) for kind in (ON_OFF, CUT, JUMP, "roll")}
    known = {kind: {k: v for k, v in found.items() if v == v} for kind, found in lags.items()}
    assert known == {
        ON_OFF: {"on": 4, "gone": 34 - OFF, "early": 0},
        CUT: {"cut": 4}, JUMP: {"jump": 3}, "roll": {},
    }  # fmt: skip
    assert video._lags(JUMP, edited, np.full((40, 2, 2), 7.0))["jump"] == 0
    never = np.repeat(off[:1], 40, 0)
    never[SWITCH:] += 60
    assert np.isnan(video._lags(JUMP, edited, never)["jump"])
    always, bare = (video._lags(ON_OFF, states(40 * letter), off) for letter in "x.")
    assert always["on"] == bare["gone"] == 0
    assert always["early"] == bare["early"] == 6
    assert np.isnan([always["gone"], bare["on"]]).all()
    late = states((OFF + 2) * "." + 6 * "x")  # only when the mask is off again
    assert np.isnan(video._lags(ON_OFF, late, off)["on"])


def test_what_is_shown_before_it_happens_is_early() -> None:
    off = np.zeros((40, 2, 2))

    def early(text: str) -> float:
        assert len(text) == 40
        return video._lags(ON_OFF, states(text), off)["early"]

    on, gone = (OFF - SWITCH) * "x", (40 - OFF) * "."
    assert early(SWITCH * "." + on + gone) == 0
    assert early((SWITCH - 3) * "." + "xxx" + on + gone) == 3
    assert early(SWITCH * "." + on[:-2] + ".." + gone) == 2
    assert early((SWITCH - 1) * "." + "x" + on[:-1] + "." + gone) == 2
    # Long before a change it is a mistake of another kind.
    assert early("xx" + (SWITCH - 2) * "." + on + gone) == 0


def test_the_worst_lag_and_all_blinks_are_told() -> None:
    nothing = {
        "on": np.nan,
        "gone": np.nan,
        "early": np.nan,
        "cut": np.nan,
        "jump": np.nan,
        "blinks": 1,
    }
    rows = [nothing, nothing | {"on": 2.0}, nothing | {"on": 5.0, "cut": 0.0, "blinks": 2}]
    told = video._sudden(rows)
    assert (told["on"], told["cut"], told["blinks"]) == (5, 0, 4)
    assert np.isnan([told["gone"], told["jump"]]).all()


# Whole clips


def test_what_does_as_the_truth_does_is_perfect(portrait: Image) -> None:
    clip = moving(portrait, step=2)
    row = video.measured(clip, result_of(clip, clip.truth, clip.wide, clip.held, 0.4), PORTRAIT)
    for key in ("dtssd", "flicker", "jitter", "away", "blinks"):
        assert row[key] == pytest.approx(0, abs=1e-3), key
    assert row["iou"] == 1
    assert row["warp"] == pytest.approx(1, abs=0.2)  # a frame's colours are rounded
    assert row["seam"] < 0.01
    assert row["skin_off"] < 0.5
    assert row["ms"] == pytest.approx(1000 * 0.4 / FEW)
    for key in ("still", "on", "gone", "cut", "jump"):
        assert np.isnan(row[key])


def test_a_map_that_grows_with_the_true_one_does_not_flicker(portrait: Image) -> None:
    clip = moved(portrait, "nearer 1", [0] * FEW, [30 + 2 * t for t in range(FEW)])
    row = video.measured(clip, result_of(clip, clip.truth, clip.wide, clip.held), PORTRAIT)
    assert row["dtssd"] == pytest.approx(0, abs=1e-3)
    assert row["flicker"] == pytest.approx(0, abs=1e-3)
    stuck = [clip.wide[-1]] * FEW
    row = video.measured(clip, result_of(clip, clip.truth, stuck, clip.held), PORTRAIT)
    grown = np.mean(np.diff([float(wide.sum()) for wide in clip.wide]))
    assert row["flicker"] == pytest.approx(100 * grown / clip.wide[-1].sum())
    assert row["dtssd"] > 10


@pytest.mark.parametrize("kind", [JUMP, CUT])
def test_how_long_a_jump_takes_is_a_figure_of_its_own(portrait: Image, kind: str) -> None:
    clip = moved(portrait, f"{kind} 1", [0] * SWITCH + [30] * 3)
    behind = [clip.held[0]] * len(clip.held)
    row = video.measured(clip, result_of(clip, clip.truth, clip.wide, behind), PORTRAIT)
    assert row["jitter"] == pytest.approx(0, abs=1e-3)
    assert row["cut"] == pytest.approx(0 if kind == CUT else np.nan, nan_ok=True)
    row = video.measured(clip, result_of(clip, clip.truth, clip.wide, clip.held), PORTRAIT)
    assert row["jump"] == pytest.approx(0 if kind == JUMP else np.nan, nan_ok=True)
    slow = [*clip.held[:SWITCH], clip.held[0], *clip.held[SWITCH + 1 :]]
    row = video.measured(clip, result_of(clip, clip.truth, clip.wide, slow), PORTRAIT)
    assert row["jump"] == pytest.approx(1 if kind == JUMP else np.nan, nan_ok=True)


def test_a_mask_that_is_put_on_is_told_by_its_lag(portrait: Image) -> None:
    """Bare before and after: what is repainted there is wrong."""
    clip = moved(portrait, f"{ON_OFF} 1", [0] * (OFF + 4))
    for t in range(OFF + 4):
        clip.worn[t] = SWITCH <= t < OFF
        if not clip.worn[t]:
            clip.frames[t] = clip.truth[t]
            clip.maps[t] = clip.wide[t] = np.zeros(SHAPE, np.float32)
    late = [square() if SWITCH + 2 <= t < OFF + 1 else clip.maps[0] for t in range(OFF + 4)]
    row = video.measured(clip, result_of(clip, clip.truth, late, clip.held), PORTRAIT)
    assert (row["on"], row["gone"], row["blinks"]) == (2, 1, 0)
    assert row["iou"] == pytest.approx(10 / 12 * 40**2 / 46**2)
    assert row["flicker"] == pytest.approx(0, abs=1e-3)


def test_what_flickers_and_lags_behind_is_not(portrait: Image) -> None:
    clip = moving(portrait, step=2)
    found = [wide if t % 2 else clip.maps[t] for t, wide in enumerate(clip.wide)]
    behind = [clip.held[0]] * FEW
    row = video.measured(clip, result_of(clip, flickering(clip), found, behind), PORTRAIT)
    grow = PORTRAIT.unit / 50
    assert row["jitter"] == pytest.approx(2 * grow, abs=0.01)
    # The median frame of eight lies between the fourth and the fifth; across alone it is off.
    assert row["away"] == pytest.approx(2 * grow * 2 / 2, abs=0.01)
    assert row["flicker"] == pytest.approx(100 * (1 - 40**2 / 46**2), abs=0.1)
    assert 40 < row["dtssd"] < 60  # the rim, a quarter of the map, comes and goes
    assert row["iou"] == pytest.approx((1 + 40**2 / 46**2) / 2, abs=0.01)
    assert row["warp"] > 10
    assert row["seam"] < 0.02  # it is the inside that flickers
    assert row["skin_off"] > 1


def test_of_a_face_that_keeps_still_jitter_is_told_apart(portrait: Image) -> None:
    clip = moving(portrait, "still 2", step=0)
    shaken = [held + np.float32([2 * (t % 2), 0]) for t, held in enumerate(clip.held)]
    row = video.measured(clip, result_of(clip, clip.truth, clip.wide, shaken), PORTRAIT)
    assert row["still"] == row["jitter"] == pytest.approx(2 * PORTRAIT.unit / 50, abs=0.01)


def test_a_mask_left_for_a_moment_is_a_blink(portrait: Image) -> None:
    clip = moving(portrait)
    found = [np.zeros_like(wide) if t in (3, 4) else wide for t, wide in enumerate(clip.wide)]
    pictures = [clip.frames[t] if t in (3, 4) else truth for t, truth in enumerate(clip.truth)]
    row = video.measured(clip, result_of(clip, pictures, found, clip.held), PORTRAIT)
    assert row["blinks"] == 1
    assert row["iou"] == pytest.approx(1 - 2 / FEW)
    # A figure of its own: what changes between frames is told of those that were repainted.
    assert row["flicker"] == pytest.approx(0, abs=1e-3)
    assert row["warp"] < 1.5


def test_where_nothing_is_repainted_there_is_nothing_to_be_steady(portrait: Image) -> None:
    clip = moving(portrait)
    nothing = [np.zeros(SHAPE, np.float32)] * FEW
    row = video.measured(clip, result_of(clip, clip.frames, nothing, clip.held), PORTRAIT)
    assert row["iou"] == row["blinks"] == 0
    assert all(np.isnan(row[key]) for key in ("dtssd", "flicker", "warp", "jitter"))


def tracked(portrait: Image, maps: Sequence[Mask | None], middles: Sequence[float]) -> Played:
    """One person at some places on a line, repainted by maps of the crop, or not."""
    done = []
    for t, (mask, x) in enumerate(zip(maps, middles, strict=True)):
        image = np.full((*SHAPE, 3), 100 + 5 * (t % 2), np.uint8)
        crop = face_at(image, EYES + np.float32([x, 0]), track=7)
        crop = Crop(crop.image, crop.to_frame, None, 7, None, mask)
        frame = video._frame(image, t)
        patches = () if mask is None else (Patch(0, 0, image, np.ones(SHAPE, np.float32)),)
        done.append(Composed(frame, Scene(frame, (crop,)), patches))
    return Played(done, Clock())


def in_crop(rows: int) -> Mask:
    mask = np.zeros((PORTRAIT.height, PORTRAIT.width), np.float32)
    mask[100 : 100 + rows, 60:160] = 1
    return mask


def test_of_real_clips_what_changes_is_told(portrait: Image) -> None:
    frames = [portrait] * 6
    steady = tracked(portrait, [in_crop(60)] * 6, [10.0 * t for t in range(6)])
    row = video._tracked(frames, steady, PORTRAIT)
    assert row["repainted"] == 6
    assert row["area"] == row["map"] == row["blinks"] == 0
    assert row["fill"] == pytest.approx(5)
    assert row["shake"] == pytest.approx(0, abs=1e-4)  # it moves, but evenly

    maps = [in_crop(45), in_crop(60), None, in_crop(60), in_crop(60), in_crop(60)]
    shaken = tracked(portrait, maps, [0, 3, 0, 3, 0, 3])
    row = video._tracked(frames, shaken, PORTRAIT)
    assert (row["repainted"], row["blinks"]) == (5, 1)
    # From frame to frame by a quarter, once in three times that both have a map.
    assert row["area"] == row["map"] == pytest.approx(25 / 3)
    assert row["shake"] == pytest.approx(6 * PORTRAIT.unit / 50, abs=0.01)


def test_a_map_that_moves_changes_but_not_its_area(portrait: Image) -> None:
    maps = [in_crop(60), np.roll(in_crop(60), 30, axis=0)]
    row = video._tracked([portrait] * 2, tracked(portrait, maps, [0, 0]), PORTRAIT)
    assert row["area"] == 0
    assert row["map"] == pytest.approx(100 * 2 / 3)
    assert np.isnan(row["shake"])


def test_each_person_is_followed_alone(portrait: Image) -> None:
    """Two take turns: that is two masks that blink, and not one that stays."""
    done = []
    for t in range(6):
        frame = video._frame(portrait[:240, :260], t)
        crops = tuple(
            face_at(
                portrait, EYES + 60 * track, square(60 * track) if t % 2 == track else None, track
            )
            for track in (0, 1)
        )
        done.append(Composed(frame, Scene(frame, crops), ()))
    row = video._tracked([portrait] * 6, Played(done, Clock()), PORTRAIT)
    assert row["blinks"] == 4
    assert np.isnan([row["area"], row["map"], row["fill"]]).all()
    assert row["repainted"] == 0


def test_curves_follow_area_and_place(portrait: Image) -> None:
    clip = moving(portrait, step=3)
    curves = video._curves(clip, result_of(clip, clip.truth, clip.maps, [EYES] * FEW), PORTRAIT)
    assert curves["area"] == pytest.approx([1600] * FEW)
    assert curves["true area"] == pytest.approx([46**2] * FEW)
    assert curves["x"] == pytest.approx(np.arange(FEW) * 3 * PORTRAIT.unit / 50, abs=1e-3)
    assert curves["y"] == pytest.approx([0] * FEW, abs=1e-3)
    middle = apply(face_at(portrait, EYES).to_frame, PORTRAIT.eyes)
    assert middle == pytest.approx(EYES, abs=1e-3)
