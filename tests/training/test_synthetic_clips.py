"""Masked clips whose truth is known: the same for a seed, and moved as they say."""

import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs the train extra")

from stream_unmask.faces.crop import cut
from stream_unmask.faces.geometry import apply, similarity
from stream_unmask.faces.landmarks import anchors
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.types import Face, Image, Points
from stream_unmask.video.frame import to_rgb
from stream_unmask.video.reader import Reader
from training import clips as made
from training.clips import CUT, JUMP, MOTIONS, OFF, ON_OFF, STILL, SWITCH, Clip, _Layer
from training.dataset import Archive, FaceSet, is_validation

pytestmark = pytest.mark.needs_train

LATER = 5  # a frame in which all motions are well under way
CUT_SEED = 0


@pytest.fixture(scope="module")
def two(faces: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """The portrait and the same mirrored, both for validation."""
    path = tmp_path_factory.mktemp("faces") / "two.zip"
    numbered = (f"35_1_0_2017{number:04d}.png" for number in range(999))
    names = [name for name in numbered if is_validation(name)][:2]
    with zipfile.ZipFile(path, "w") as file:
        for name, other in zip(names, faces.names, strict=True):
            picture = faces.archive.read(other)[..., ::-1]
            file.writestr(name, cv2.imencode(".png", picture)[1].tobytes())
    return FaceSet(Archive(path), names, faces.meshes, faces.worn)


def drawn(
    faces: FaceSet, *kinds: str, frames: int = LATER + 1, seed: int = 0, people: int = 1
) -> list[Clip]:
    """The first frames of clips of some kinds, otherwise as the evaluation gets them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "LENGTH", frames)
        patch.setattr(made, "MOTIONS", {kind: MOTIONS[kind] for kind in kinds})
        return [*made.portraits(faces, people, seed)]


def upright(clip: Clip, index: int) -> np.ndarray:
    """What is around the anchors of a frame's truth, without what lies near the crop's rim."""
    face = Face((0, 0, 1, 1), clip.held[index], 1.0)
    crop = cut(clip.truth[index], face, PORTRAIT.eyes, PORTRAIT.size)
    return crop.image[40:200, 40:-40].astype(np.float32)


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean())


def tilt(held: Points) -> float:
    """The roll of a face held by its anchors, in degrees."""
    x, y = held[1] - held[0]
    return float(np.rad2deg(np.arctan2(y, x)))


def span(held: Points) -> float:
    return float(np.linalg.norm(held[1] - held[0]))


def test_each_person_has_a_clip_of_each_motion(faces: FaceSet) -> None:
    found = drawn(faces, *MOTIONS, frames=1, people=2)
    assert [clip.name for clip in found] == [f"{kind} {n}" for kind in MOTIONS for n in (1, 2)]
    shapes = {part.shape for clip in found for part in (*clip.frames, *clip.truth)}
    assert shapes == {(*made.SIZE[::-1], 3)}
    assert {part.shape for clip in found for part in (*clip.maps, *clip.wide)} == {made.SIZE[::-1]}
    # Whoever moves, and however: no two of them wear the same mask.
    worn = [float(clip.maps[0].sum()) for clip in found if all(clip.worn)]
    assert len(set(worn)) == len(worn) == 18


def test_a_clip_is_the_same_for_a_seed(faces: FaceSet) -> None:
    (one,), (again,), (other,) = (
        drawn(faces, "sideways", frames=2, seed=seed) for seed in (0, 0, 1)
    )
    for part in ("frames", "truth", "maps", "wide", "held"):
        pairs = zip(getattr(one, part), getattr(again, part), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs), part
    assert not np.array_equal(one.frames[0], other.frames[0])
    assert not np.array_equal(one.maps[0], other.maps[0])
    assert not np.array_equal(one.frames[0], one.frames[1])  # noise, and it moves


@pytest.mark.parametrize("kind", [kind for kind in MOTIONS if kind not in ("blur", ON_OFF)])
def test_beside_the_mask_a_frame_is_its_truth(faces: FaceSet, kind: str) -> None:
    """Bit for bit, and with the same noise: not even the shadow is a difference.

    Of a seed in which nobody holds a hand in front, which the truth would lack.
    """
    (clip,) = drawn(faces, kind, frames=3, seed=2)
    for frame, truth, mask in zip(clip.frames, clip.truth, clip.maps, strict=True):
        off = np.abs(frame.astype(int) - truth).max(2)
        assert not off[mask == 0].any()
        assert np.median(off[mask > 0.95]) > 10
        assert 0.03 < (mask > 0.5).mean() < 0.3


def test_a_blurred_mask_reaches_no_further_than_the_blur(faces: FaceSet) -> None:
    (clip,) = drawn(faces, "blur", frames=11, seed=2)
    off = np.abs(clip.frames[10].astype(int) - clip.truth[10]).max(2)
    reached = cv2.dilate(clip.maps[10], np.ones((23, 23), np.uint8)) > 0
    assert not off[~reached].any()
    assert off[reached & (clip.maps[10] == 0)].any()
    grain = [cv2.Laplacian(clip.truth[t], cv2.CV_32F).std() for t in (0, 10)]
    assert grain[1] < 0.8 * grain[0]


def test_noise_is_of_each_frame_and_as_strong_as_told(faces: FaceSet) -> None:
    (clip,) = drawn(faces, STILL, frames=2)
    inside = (clip.truth[0] > 40) & (clip.truth[0] < 215)  # nothing is cut off at black or white
    change = clip.truth[1].astype(np.float32) - clip.truth[0]
    assert change[inside].std() == pytest.approx(np.sqrt(2) * 255 * made.GRAIN, rel=0.1)


@pytest.mark.parametrize("kind", ["sideways", "nearer", "roll"])
def test_the_anchors_move_as_the_picture_does(faces: FaceSet, kind: str) -> None:
    """Held by them, the face keeps still."""
    (clip,) = drawn(faces, kind)
    first = upright(clip, 0)
    assert apart(first, upright(clip, LATER)) < 6  # noise and sampling
    stuck = replace(clip, held=[clip.held[0]] * len(clip.held))
    assert apart(first, upright(stuck, LATER)) > 15


def test_the_motions_are_those_of_their_names(faces: FaceSet) -> None:
    kinds = [STILL, "sideways", "nearer", "roll", "turn", "light"]
    held = {clip.name[:-2]: clip.held for clip in drawn(faces, *kinds)}
    moved = {kind: h[LATER].mean(0) - h[0].mean(0) for kind, h in held.items()}
    grown = {kind: span(h[LATER]) / span(h[0]) for kind, h in held.items()}
    turned = {kind: tilt(h[LATER]) - tilt(h[0]) for kind, h in held.items()}
    wave = {frames: np.sin(2 * np.pi * LATER / frames) for frames in (14, 25, 30)}
    for kind in (STILL, "light"):
        assert all(np.array_equal(h, held[kind][0]) for h in held[kind])
    assert moved["sideways"] == pytest.approx((40 * wave[25], 8 * wave[14]), abs=0.01)
    assert grown["nearer"] == pytest.approx(1 + 0.22 * wave[30])
    assert turned["roll"] == pytest.approx(18 * wave[30], abs=0.01)
    for kind in ("sideways", "roll"):
        assert grown[kind] == pytest.approx(1, abs=1e-4)
    for kind in ("sideways", "nearer"):
        assert turned[kind] == pytest.approx(0, abs=0.01)
    # Turned about the vertical, a face gets narrower.
    assert grown["turn"] == pytest.approx(np.cos(np.deg2rad(30 * wave[30])), abs=0.04)
    assert abs(turned["turn"]) < 3


def test_light_changes_from_the_left_to_the_right(faces: FaceSet) -> None:
    (clip,) = drawn(faces, "light", seed=2)
    plain, lit = (np.median(clip.truth[t].astype(np.float32), 2) for t in (0, LATER))
    usable = (plain > 40) & (plain < 180)
    left, right = (
        float(np.median((lit / plain.clip(1))[:, side][usable[:, side]]))
        for side in (slice(40), slice(-40, None))
    )
    assert left > 1.2
    assert right < 0.8


def test_a_jump_is_one_of_place_alone(faces: FaceSet) -> None:
    (clip,) = drawn(faces, JUMP, frames=SWITCH + 2)
    steps = np.diff(np.array(clip.held).mean(1), axis=0)
    assert np.nonzero(np.abs(steps).any(1))[0].tolist() == [SWITCH - 1]
    assert steps[SWITCH - 1] == pytest.approx((60, 0))
    assert apart(upright(clip, SWITCH - 1), upright(clip, SWITCH)) < 4
    before, after = clip.maps[SWITCH - 1], clip.maps[SWITCH]
    assert np.allclose(after[:, 60:], before[:, :-60], atol=1e-4)


def test_a_cut_shows_two_people(two: FaceSet) -> None:
    """Of a face set with many; of one with two, in this seed."""
    (clip,) = drawn(two, CUT, frames=SWITCH + 2, seed=CUT_SEED)
    assert apart(upright(clip, 0), upright(clip, SWITCH - 1)) < 4
    assert apart(upright(clip, SWITCH), upright(clip, SWITCH + 1)) < 4
    assert apart(upright(clip, SWITCH - 1), upright(clip, SWITCH)) > 15
    areas = [float(mask.sum()) for mask in clip.maps]
    assert np.ptp(areas[:SWITCH]) < 1
    assert abs(areas[SWITCH] - areas[0]) > 50


def test_a_mask_is_put_on_and_taken_off(faces: FaceSet) -> None:
    (clip,) = drawn(faces, ON_OFF, frames=OFF + 2, seed=2)
    assert [t for t, worn in enumerate(clip.worn) if worn] == [*range(SWITCH, OFF)]
    for t, worn in enumerate(clip.worn):
        assert bool(clip.maps[t].any()) == bool(clip.wide[t].any()) == worn
        assert np.array_equal(clip.frames[t], clip.truth[t]) != worn
    assert all(all(other.worn) for other in drawn(faces, STILL, CUT, frames=SWITCH + 1))


def test_the_wide_map_covers_the_map_and_a_rim(faces: FaceSet) -> None:
    for clip in drawn(faces, "roll", "nearer", people=2):
        for mask, wide in zip(clip.maps, clip.wide, strict=True):
            assert wide[mask > 0.5].min() == pytest.approx(1)
            assert wide.min() >= 0
            assert wide.max() <= 1
            rim = (wide > 0.5) & (mask < 0.5)
            reach = cv2.distanceTransform((mask < 0.5).astype(np.uint8), cv2.DIST_L2, 5)[rim]
            assert 4 < reach.max() < 12


def test_every_mask_covers_nose_and_mouth(faces: FaceSet) -> None:
    """The validation split has one face, so that its mesh is known in every clip."""
    (mesh,) = faces.split(True).meshes
    for clip in drawn(faces, STILL, frames=1, people=8):
        matrix = similarity(anchors(mesh), clip.held[0])
        x, y = np.rint(apply(matrix, mesh[[4, 61, 291, 17]])).astype(int).T
        assert clip.maps[0][y, x].min() > 0.5
        assert clip.maps[0].sum() < 4 * PORTRAIT.unit**2


def test_a_mask_that_is_not_worn_over_nose_and_mouth_is_none(faces: FaceSet) -> None:
    crop = faces.crop(0, PORTRAIT.eyes, PORTRAIT.size)
    assert crop.mesh is not None
    found = [made._worn(crop.image, crop.mesh, np.random.default_rng(s)) for s in range(10)]
    assert 0 < sum(trio is None for trio in found) < 10
    outside = crop.mesh + np.float32([0, 130])  # the chin is no longer in the picture
    assert made._worn(crop.image, outside, np.random.default_rng(0)) is None


X, Y = 90, 55  # of the crop in the picture
WINDOW = (slice(Y, Y + PORTRAIT.height), slice(X, X + PORTRAIT.width))
LAYER_SEED = 8  # of a mask whose edge lies on skin, not on the black collar


@pytest.fixture(scope="module")
def bare(faces: FaceSet) -> tuple[Image, Points]:
    """A picture of a face as large as in a crop, with room around it."""
    crop = faces.crop(0, PORTRAIT.eyes + np.float32([X, Y]), (400, 330))
    assert crop.mesh is not None
    return crop.image, crop.mesh


@pytest.fixture(scope="module")
def layer(bare: tuple[Image, Points]) -> _Layer:
    """A mask cut out of it."""
    return _Layer.worn(*bare, np.random.default_rng(LAYER_SEED))


def test_a_layer_has_the_colours_of_a_mask_that_is_worn(
    bare: tuple[Image, Points], layer: _Layer
) -> None:
    image, mesh = bare
    held = Face((0, 0, 1, 1), anchors(mesh), 1.0, mesh)
    crop = cut(image, held, PORTRAIT.eyes, PORTRAIT.size)
    rng, trio = np.random.default_rng(LAYER_SEED), None
    while trio is None:
        assert crop.mesh is not None
        trio = made._worn(crop.image, crop.mesh, rng)
    assert np.array_equal(layer.mesh, crop.mesh)
    assert np.array_equal(layer.share, np.maximum(trio.mask, trio.straps))
    sure = layer.share > 0.95
    assert np.array_equal(layer.paint[sure], trio.masked[sure])
    # Beyond its edge the cloth's colours go on, and not the skin's.
    edge = cv2.dilate(sure.astype(np.uint8), np.ones((3, 3))).astype(bool) & (layer.share < 0.5)
    inside = np.where(sure[..., None], layer.paint, np.float32(np.nan))
    low, high = np.nanmin(inside, (0, 1)), np.nanmax(inside, (0, 1))
    assert (low - 1e-3 <= layer.paint[edge]).all()
    assert (layer.paint[edge] <= high + 1e-3).all()
    assert (
        apart(layer.paint[edge], trio.face[edge]) > 0.1 > apart(trio.masked[edge], trio.face[edge])
    )


def test_a_layer_laid_on_the_face_it_was_cut_from_is_the_mask_again(
    bare: tuple[Image, Points], layer: _Layer
) -> None:
    image, mesh = bare
    result, share, wide = layer.on(image, mesh)
    assert share.shape == wide.shape == image.shape[:2]
    for found, wanted in ((share, layer.share), (wide, layer.wide)):
        assert np.abs(found[WINDOW] - wanted).max() < 0.03
        found[WINDOW] = 0
        assert found.max() < 0.03  # all of it lies in the crop
    before = image[WINDOW] / np.float32(255)
    wanted = before + (layer.paint - before) * layer.share[..., None]
    assert np.abs(result[WINDOW] / np.float32(255) - wanted)[layer.share > 0.95].mean() < 0.01
    assert np.abs(result[WINDOW] / np.float32(255) - wanted).max() < 0.1
    result, share, _ = layer.on(image, mesh)
    assert np.array_equal(result[share == 0], image[share == 0])
    assert np.array_equal(image, bare[0])


def test_a_layer_goes_where_the_face_goes(bare: tuple[Image, Points], layer: _Layer) -> None:
    image, mesh = bare
    first = layer.on(image, mesh)
    grey = np.full_like(image, 128)
    moved = layer.on(grey, mesh + np.float32([24, 11]))
    for here, there in zip(first[1:], moved[1:], strict=True):
        assert np.allclose(there[11:, 24:], here[:-11, :-24], atol=1e-3)
    sure = first[1][:-11, :-24] > 0.999
    assert np.abs(moved[0][11:, 24:].astype(int) - first[0][:-11, :-24])[sure].max() <= 1
    assert np.array_equal(moved[0][moved[1] == 0], grey[moved[1] == 0])


def test_a_layer_on_a_face_that_leaves_the_picture_is_cut_off(
    bare: tuple[Image, Points], layer: _Layer
) -> None:
    image, mesh = bare
    _, whole, _ = layer.on(image, mesh)
    _, part, _ = layer.on(image, mesh - np.float32([200, 130]))
    assert np.allclose(part[:-130, :-200], whole[130:, 200:], atol=1e-3)
    assert 0.2 < part.sum() / whole.sum() < 0.8


def test_footage_wears_one_mask_and_is_otherwise_as_it_was(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "LENGTH", 3)
    clip = made.footage(clips / "unmasked_woman_grey_512p_audio.mp4", 1.0, 2)
    with Reader(clips / "unmasked_woman_grey_512p_audio.mp4", 1.0, None) as reader:
        first = to_rgb(next(iter(reader)).picture)
    assert np.array_equal(clip.truth[0], first)
    assert clip.worn == [True] * 3
    for frame, truth, mask, wide, held in zip(
        clip.frames, clip.truth, clip.maps, clip.wide, clip.held, strict=True
    ):
        assert np.array_equal(frame[mask == 0], truth[mask == 0])
        assert apart(frame[mask > 0.95], truth[mask > 0.95]) > 10
        assert wide[mask > 0.6].min() > 0.9
        across = held[1] - held[0]
        x, y = np.rint(held.mean(0) + across[::-1] * (-1, 1)).astype(int)
        assert mask[y, x] > 0.95  # the mouth
        assert mask[round(float(held[0, 1])), round(float(held[0, 0]))] == 0
        assert 1.5 < mask.sum() / span(held) ** 2 < 4
    shapes = [int((mask > 0.5).sum()) for mask in clip.maps]
    assert np.ptp(shapes) < 0.03 * shapes[0]
