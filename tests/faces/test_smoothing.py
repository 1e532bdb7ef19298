"""Anchors that go with the picture and not with the landmarks' shaking, on a real head."""

import cv2
import numpy as np
import pytest

from stream_unmask.faces.geometry import apply, similarity
from stream_unmask.faces.smoothing import SteadyFace, steadied
from stream_unmask.types import Face

NOISE = 0.015  # deviation of the measured anchors, in their distance


@pytest.fixture(scope="module")
def empty():
    blocks = np.random.default_rng(0).integers(30, 220, (9, 16, 3), np.uint8)
    return cv2.resize(blocks, (640, 360), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def still(place, empty):
    """A picture and where its eyes are."""
    return place(empty, (320, 180), 80)


def unit(anchors):
    return float(np.linalg.norm(anchors[1] - anchors[0]))


def shaken(anchors, seed=0):
    """Anchors (n, 2, 2) as landmarks measure them."""
    noise = np.random.default_rng(seed).normal(0, NOISE * unit(anchors[0]), np.shape(anchors))
    return anchors + noise


def filmed(picture, seed):
    """The picture with a camera's noise."""
    noise = np.random.default_rng(seed).normal(0, 2, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def face(anchors, mesh=None, track=0):
    anchors = np.asarray(anchors, np.float32)
    return Face((0, 0, 1, 1), anchors, 0.9, mesh, anchors, track)


def followed(pictures, measured):
    """The steadied anchors (n, 2, 2) of one track."""
    steady = SteadyFace()
    seen = zip(pictures, map(face, measured), strict=True)
    return np.stack([steady(picture, each).anchors for picture, each in seen])


def worst(out, true):
    """The largest error of each picture's anchors, in their distance."""
    return np.abs(out - true).max((1, 2)) / unit(true[0])


def test_the_first_picture_is_believed(still, frontal):
    picture, eyes = still
    seen = face(eyes + (3, -2), on(eyes + (3, -2), frontal))
    out = SteadyFace()(picture, seen)
    assert np.array_equal(out.anchors, seen.anchors)
    assert np.abs(out.mesh - seen.mesh).max() < 0.01
    assert (out.eyes is seen.eyes, out.box, out.track) == (True, seen.box, seen.track)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_still_head_shakes_a_fifth_at_most(place, empty, width):
    picture, eyes = place(empty, (320, 180), width)
    true = np.repeat(eyes[None], 40, 0)
    measured = shaken(true)
    out = followed([filmed(picture, seed) for seed in range(40)], measured)
    shake = [np.diff(held, axis=0).std() for held in (measured, out)]
    assert shake[1] < 0.2 * shake[0]
    assert worst(out, true)[5:].max() < NOISE


def test_face_size_makes_no_difference(place, empty):
    tracks = []
    for width in (60, 150):
        picture, eyes = place(empty, (320, 180), width)
        true = np.repeat(eyes[None], 20, 0)
        tracks.append((followed([picture] * 20, shaken(true, 1)) - true) / unit(eyes))
    assert np.abs(tracks[0]).max() > 0.01
    assert np.abs(tracks[0] - tracks[1]).max() < 0.005


def test_a_wrong_start_is_put_right(still):
    """Slowly: it is the landmarks that know where the face is."""
    picture, eyes = still
    true = np.repeat(eyes[None], 60, 0)
    measured = true.copy()
    measured[0] += 0.1 * unit(eyes)
    errors = worst(followed([picture] * 60, measured), true)
    assert errors[5] > 0.05
    assert errors[-1] < 0.005


def walk(place, empty, steps, roll=0.0):
    """Pictures of a head that is moved to the right, and its eyes."""
    seen = [
        place(empty, (130 + step, 180), 80, roll * index)
        for index, step in enumerate(np.cumsum(steps))
    ]
    return [picture for picture, _ in seen], np.stack([eyes for _, eyes in seen])


@pytest.mark.parametrize("speed", [2, 5, 12])
@pytest.mark.parametrize("roll", [0.0, 1.0])
def test_a_moving_head_is_followed_without_lag(place, empty, speed, roll):
    pictures, true = walk(place, empty, [speed] * 30, roll)
    out = followed(pictures, shaken(true))
    assert worst(out, true).max() < 0.022
    behind = (true - out)[..., 0].mean(1)
    assert abs(behind[5:].mean()) < 0.1  # px, at any speed
    assert np.diff(out - true, axis=0).std() < 0.25 * np.diff(shaken(true) - true, axis=0).std()


def test_it_starts_and_stops_with_the_head(place, empty):
    pictures, true = walk(place, empty, [0] * 5 + [12] * 10 + [0] * 10)
    out = followed(pictures, shaken(true))
    assert worst(out, true).max() < 0.022


@pytest.mark.parametrize("aside", [(20, 0), (60, 0), (0, -40)])
def test_landmarks_that_jump_aside_alone_are_not_followed(still, aside):
    """For three pictures, and again and again."""
    picture, eyes = still
    true = np.repeat(eyes[None], 40, 0)
    measured = true.copy()
    for first in (7, 17, 27, 37):
        measured[first : first + 3] += aside
    assert worst(followed([picture] * 40, measured), true).max() < 0.01


def test_landmarks_that_stay_aside_are_believed_in_the_end(still):
    picture, eyes = still
    measured = np.repeat(eyes[None], 80, 0)
    measured[8:] += (20, 0)
    errors = worst(followed([picture] * 80, measured), measured)
    assert errors[60] > 0.4
    assert errors[-1] < 0.02


def test_a_head_that_jumps_is_followed_at_once(place, empty):
    pictures, true = walk(place, empty, [0] * 6 + [60] + [0] * 6)
    errors = worst(followed(pictures, shaken(true)), true)
    assert errors.max() < 0.022
    assert np.ptp(errors[5:7]) < 0.01


@pytest.mark.parametrize("change", ["nobody there", "upside down", "twice as large"])
def test_where_nothing_is_recognised_the_landmarks_are_believed(place, empty, still, change):
    picture, eyes = still
    after = {
        "nobody there": empty,
        "upside down": place(empty, (320, 180), 80, 180)[0],
        "twice as large": place(empty, (320, 180), 160)[0],
    }[change]
    aside = np.float32(eyes + 0.1 * unit(eyes))
    assert np.array_equal(followed([picture, after], [eyes, aside])[1], aside)
    assert not np.array_equal(followed([picture, picture], [eyes, aside])[1], aside)


@pytest.mark.parametrize("speed", [4, 10])
def test_a_hand_that_passes_takes_no_anchors_along(still, speed):
    """What moves before a part of the face is left out."""
    picture, eyes = still
    skin = np.random.default_rng(3).integers(60, 160, (8, 8, 3), np.uint8)
    pictures = [picture.copy() for _ in range(20)]
    for step, covered in enumerate(pictures):
        left = 240 + speed * step
        covered[190:214, left : left + 24] = cv2.resize(skin, (24, 24))
    true = np.repeat(eyes[None], 20, 0)
    assert worst(followed(pictures, true), true).max() < 0.012


def test_a_change_of_light_moves_nothing(still):
    picture, eyes = still
    true = np.repeat(eyes[None], 12, 0)
    pictures = [(picture * (0.6 if 4 <= index < 8 else 1)).astype(np.uint8) for index in range(12)]
    assert worst(followed(pictures, true), true).max() < 0.005


def on(anchors, shape):
    """A mesh of this shape where the anchors are."""
    return apply(similarity(np.array([(-0.5, 0), (0.5, 0)]), anchors), shape)


def meshed(picture, measured, shapes):
    """The faces of one track on a picture that stays, and their meshes as measured."""
    steady = SteadyFace()
    meshes = [on(anchors, shape) for anchors, shape in zip(measured, shapes, strict=True)]
    pairs = zip(measured, meshes, strict=True)
    return [steady(picture, face(anchors, mesh)) for anchors, mesh in pairs], np.stack(meshes)


def test_the_mesh_is_where_the_anchors_are(still, frontal):
    picture, eyes = still
    measured = shaken(np.repeat(eyes[None], 12, 0))
    out, raw = meshed(picture, measured, [frontal] * 12)
    for each in out:
        assert np.abs(each.mesh - on(each.anchors, frontal)).max() < 0.02
        assert each.mesh.dtype == np.float32
    assert np.abs(out[-1].mesh - raw[-1]).max() > 0.2


def test_a_mesh_that_shakes_is_averaged(still, frontal):
    picture, eyes = still
    shapes = frontal + np.random.default_rng(0).normal(0, 0.004, (30, 468, 2))
    out, raw = meshed(picture, [eyes] * 30, shapes)
    out = np.stack([each.mesh for each in out])
    assert np.diff(out[5:], axis=0).std() < 0.4 * np.diff(raw[5:], axis=0).std()
    assert np.abs(out[5:].mean(0) - on(eyes, frontal)).mean() < 0.1


@pytest.mark.parametrize(("change", "left"), [(0.05, 0.1), (0.3, 0.01)])
def test_a_mesh_that_changes_is_taken_over_within_two_pictures(still, frontal, change, left):
    """The part of a face below its eyes goes down, in their distance; left: a share of that."""
    picture, eyes = still
    longer = frontal + np.float32(change) * (frontal[:, 1:] > 0) * np.float32([0, 1])
    out, raw = meshed(picture, [eyes] * 7, [frontal] * 5 + [longer] * 2)
    off = [np.abs(each.mesh - mesh).max() for each, mesh in zip(out, raw, strict=True)]
    assert max(off[:5]) < 0.02
    assert off[6] < left * change * unit(eyes)


def test_without_a_mesh_there_is_none(still):
    picture, eyes = still
    steady = SteadyFace()
    assert [steady(picture, face(eyes)).mesh for _ in range(3)] == [None] * 3


def test_it_says_how_the_picture_of_the_face_has_moved(place, empty):
    """Nothing of the first picture, and nothing where nothing is recognised."""
    pictures, true = walk(place, empty, [7] * 8)
    steady = SteadyFace()
    seen = [steady(picture, face(eyes)) for picture, eyes in zip(pictures, true, strict=True)]
    assert seen[0].moved is None
    for each, before, now in zip(seen[1:], true[:-1], true[1:], strict=True):
        assert np.abs(apply(each.moved, before) - now).max() < 0.5
    other = np.random.default_rng(5).integers(0, 255, pictures[0].shape, np.uint8)
    assert steady(other, face(true[-1])).moved is None


def test_a_face_that_is_squeezed_has_moved_by_more_than_it_turned(still):
    """As one that turns away does in the picture; its anchors keep to what can be held upright."""
    picture, eyes = still
    middle = float(eyes[:, 0].mean())
    squeeze = np.array([[0.97, 0, 0.03 * middle], [0, 1, 0]])
    pictures = [picture]
    for _ in range(3):
        pictures.append(cv2.warpAffine(pictures[-1], squeeze, picture.shape[1::-1]))
    steady = SteadyFace()
    *_, last = (steady(each, face(eyes)) for each in pictures)
    assert last.moved[0, 0] == pytest.approx(0.97, abs=0.012)
    assert last.moved[1, 1] == pytest.approx(1.0, abs=0.012)


def held(seen):
    """The anchors by track of every picture that `steadied` gives."""
    return [{one.track: one.anchors for one in faces} for _, _, faces in steadied(seen)]


def test_passengers_pictures_and_faces_come_through_in_order(still):
    picture, eyes = still
    two = face(eyes, track=3), face(eyes + 9, track=1)
    out = list(steadied([("a", picture, ()), ("b", picture, two), ("c", picture, ())]))
    assert [what for what, _, _ in out] == ["a", "b", "c"]
    assert all(image is picture for _, image, _ in out)
    assert [[one.track for one in faces] for _, _, faces in out] == [[], [3, 1], []]


def test_a_track_that_was_missing_starts_anew(still):
    picture, eyes = still
    aside = np.float32(eyes + 0.1 * unit(eyes))
    for gap in (0, 1):
        seen = [("", picture, (face(eyes),))] * 3 + [("", picture, ())] * gap
        *_, last = held([*seen, ("", picture, (face(aside),))])
        assert np.array_equal(last[0], aside) == bool(gap)


def test_two_people_are_steadied_apart(place, empty):
    """One walks, one comes later and stands; they are told in another order every time."""
    pictures, walking, standing = [], [], []
    for step in range(12):
        picture, eyes = place(empty, (120 + 5 * step, 180), 80)
        picture, others = place(picture, (500, 180), 80)
        pictures.append(picture)
        walking.append(eyes)
        standing.append(others)
    walking, standing = shaken(np.stack(walking), 0), shaken(np.stack(standing), 1)
    seen = []
    for index, picture in enumerate(pictures):
        faces = [face(walking[index], track=0), face(standing[index], track=1)]
        seen.append(("", picture, tuple(faces[:1] if index < 3 else faces[:: (-1) ** index])))
    both = held(seen)
    for track, first, measured in ((0, 0, walking), (1, 3, standing)):
        out = np.stack([people[track] for people in both[first:]])
        assert np.array_equal(out, followed(pictures[first:], measured[first:]))
        assert np.abs(out - measured[first:]).max() > 0.2
