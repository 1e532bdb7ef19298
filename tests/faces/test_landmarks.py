from dataclasses import replace

import numpy as np
import pytest

from stream_unmask.backends import open_engine
from stream_unmask.backends.function import FunctionEngine
from stream_unmask.faces.geometry import apply, similarity
from stream_unmask.faces.landmarks import _EYES, FACE_LANDMARK, Landmarker, anchors, eye_region
from stream_unmask.faces.landmarks import turned as how_far_turned
from stream_unmask.types import Face


def eye_distance(face):
    return float(np.linalg.norm(face.eyes[1] - face.eyes[0]))


def test_portrait(detector, landmarker, portrait):
    (face,) = landmarker(portrait, detector(portrait))
    assert face.mesh.shape == (468, 2)
    assert face.score > 0.99
    assert np.abs(face.eyes - [(203.0, 101.5), (246.0, 104.0)]).max() < 2
    assert face.box == (*face.mesh.min(0), *face.mesh.max(0))
    nose, chin = face.mesh[1], face.mesh[152]
    assert face.eyes[:, 1].max() < nose[1] < chin[1]


@pytest.mark.parametrize("roll", [-45, -20, 20, 45])
@pytest.mark.parametrize("width", [60, 93, 300])
def test_rolls_and_sizes(detector, landmarker, place, roll, width):
    picture, eyes = place(np.full((540, 960, 3), 110, np.uint8), (480, 270), width, roll)
    (face,) = landmarker(picture, detector(picture))
    assert np.linalg.norm(face.eyes - eyes, axis=1).max() < 0.05 * width


def test_no_faces(landmarker, portrait):
    assert landmarker(portrait, ()) == ()
    assert landmarker.place(portrait, ()) == ()


def test_what_is_no_face_is_dropped(landmarker, portrait):
    shuttle = Face((400.0, 60.0, 500.0, 160.0), np.array([(430, 90), (470, 90)], np.float32), 0.4)
    assert landmarker(portrait, (shuttle,)) == ()


@pytest.mark.parametrize(("presence", "eyes", "kept"), [
    (-9.0, (-0.5, 0.5), True),  # doubted, as under a mask, but the detector agrees
    (-9.0, (-0.05, 0.05), False),  # a full profile, for which there is no mesh
    (9.0, (-0.05, 0.05), True),
])  # fmt: skip
def test_a_full_profile_is_not_taken_on_the_detectors_word(
    landmarker, detector, portrait, presence, eyes, kept
):
    (found,) = landmarker(portrait, detector(portrait))
    engine = open_engine(FACE_LANDMARK)

    def doubting(looks):
        points, logits = engine(looks)
        return points, np.full_like(logits, presence)

    axis = found.eyes[1] - found.eyes[0]
    seen = found.eyes.mean(0) + np.array(eyes)[:, None] * axis
    face = Face(found.box, seen.astype(np.float32), 0.9)
    doubtful = Landmarker(FunctionEngine(FACE_LANDMARK, doubting))
    assert len(doubtful(portrait, (face,))) == kept


def test_two_looks_at_one_face_give_one(detector, landmarker, portrait):
    face, *_ = detector(portrait)
    assert len(landmarker(portrait, (face, face))) == 1


def test_placing_keeps_order_and_track(detector, landmarker, portrait):
    face, *_ = detector(portrait)
    numbered = tuple(replace(face, track=number) for number in (3, 1))
    assert [placed.track for placed in landmarker.place(portrait, numbered)] == [3, 1]


def test_the_second_placement_steadies(detector, landmarker, portrait):
    """Shaken boxes lead to the same mesh, the more so the second time."""
    face, *_ = detector(portrait)
    random = np.random.default_rng(0)
    shaken = tuple(
        Face(tuple(np.array(face.box) + random.normal(0, 5, 4)), face.eyes, face.score)
        for _ in range(8)
    )
    once = landmarker.place(portrait, shaken)
    twice = landmarker.place(portrait, once)
    spread = [np.stack([f.eyes for f in faces]).std(0).mean() for faces in (once, twice)]
    assert spread[1] < 0.7 * spread[0]
    assert spread[1] < 0.02 * eye_distance(face)


def test_a_face_that_looks_straight_ahead_is_anchored_by_its_eyes(frontal):
    assert np.allclose(anchors(frontal), [(-0.5, 0), (0.5, 0)], atol=1e-5)


def test_anchors_follow_size_place_and_roll_exactly(frontal):
    move = similarity(np.array([(-0.5, 0), (0.5, 0)]), np.array([(120, 80), (90, 110)]))
    assert np.allclose(anchors(apply(move, frontal)), [(120, 80), (90, 110)], atol=1e-3)


def test_the_portraits_anchors_are_close_to_its_eyes(detector, landmarker, portrait):
    """She looks about straight ahead."""
    (face,) = landmarker(portrait, detector(portrait))
    assert np.array_equal(face.anchors, anchors(face.mesh))
    off = np.linalg.norm(face.anchors - face.eyes, axis=1) / eye_distance(face)
    assert off.max() < 0.15


@pytest.fixture(scope="module")
def deep(detector, portrait):
    """The portrait's mesh with its depth (468, 3), in the landmark network's pixels."""
    engine, seen = open_engine(FACE_LANDMARK), []

    def look(images):
        found = engine(images)
        seen.append(found[0])
        return found

    Landmarker(FunctionEngine(FACE_LANDMARK, look))(portrait, detector(portrait))
    return seen[-1][0].astype(np.float64)


def turned(deep, degrees):
    """Its points (468, 2) with the head turned to a side."""
    angle, middle = np.radians(degrees), deep.mean(0)
    turn = [(np.cos(angle), 0, np.sin(angle)), (0, 1, 0)]
    return ((deep - middle) @ np.array(turn).T + middle[:2]).astype(np.float32)


@pytest.mark.parametrize("degrees", [-45, -30, 30, 45])
def test_a_turned_face_is_enlarged_and_shifted_less_than_its_eyes_would_have_it(deep, degrees):
    def held(points):
        """How large a crop is for the face and how far aside, by its eyes and by its anchors."""
        eyes = np.stack([points[list(outline)].mean(0) for outline in _EYES])
        middle = (points[:, 0].min() + points[:, 0].max()) / 2
        pairs = (eyes, anchors(points))
        return np.array([(1 / np.linalg.norm(b - a), (a + b)[0] / 2 - middle) for a, b in pairs])

    ahead, aside = held(turned(deep, 0)), held(turned(deep, degrees))
    by_eyes, by_anchors = aside[:, 0] / ahead[:, 0] - 1
    assert by_eyes > 0.12
    assert 0 < by_anchors < 0.6 * by_eyes
    by_eyes, by_anchors = np.abs(aside[:, 1] - ahead[:, 1])
    assert by_anchors < 0.75 * by_eyes


def test_parity_with_mediapipe(detector, landmarker, portrait):
    mesh = pytest.importorskip("mediapipe").solutions.face_mesh
    (ours,) = landmarker(portrait, detector(portrait))
    with mesh.FaceMesh(static_image_mode=True, refine_landmarks=False) as reference:
        (theirs,) = reference.process(portrait).multi_face_landmarks
    points = np.array([(p.x * 512 - 0.5, p.y * 512 - 0.5) for p in theirs.landmark])
    difference = np.linalg.norm(points - ours.mesh, axis=1) / eye_distance(ours)
    assert difference.mean() < 0.03
    assert difference.max() < 0.1


def test_how_far_a_head_is_how_far_turned(frontal):
    """Either way the same; size and roll do not count."""
    assert how_far_turned(frontal) < 0.01
    nose = frontal.copy()
    nose[1, 0] += 0.5 * 2.18  # as far aside as half the face is wide
    other = nose.copy()
    other[1, 0] *= -1
    assert how_far_turned(nose) == pytest.approx(0.5, abs=0.02)
    assert how_far_turned(other) == pytest.approx(how_far_turned(nose))
    rolled = apply(similarity(np.array([(0, 0), (1, 0)]), np.array([(40, 9), (70, 39)])), nose)
    assert how_far_turned(rolled) == pytest.approx(how_far_turned(nose), abs=1e-3)


def test_the_region_of_the_eyes_ends_at_the_lower_lids(detector, landmarker, portrait) -> None:
    """It holds eyes and brows; the bridge of the nose and what is below, where masks begin, not."""
    (face,) = landmarker(portrait, detector(portrait))
    region = eye_region(face.mesh, portrait.shape[:2])

    def at(index: int) -> float:
        x, y = np.rint(face.mesh[index]).astype(int)
        return float(region[y, x])

    assert [at(i) for i in (159, 386, 105, 334, 27, 257)] == [1.0] * 6
    assert [at(i) for i in (6, 168, 4, 50, 280, 119, 348, 13, 127, 356)] == [0.0] * 10
