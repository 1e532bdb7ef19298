from dataclasses import replace

import numpy as np
import pytest

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


def test_two_looks_at_one_face_give_one(detector, landmarker, portrait):
    (face,) = detector(portrait)
    assert len(landmarker(portrait, (face, face))) == 1


def test_placing_keeps_order_and_track(detector, landmarker, portrait):
    (face,) = detector(portrait)
    numbered = tuple(replace(face, track=number) for number in (3, 1))
    assert [placed.track for placed in landmarker.place(portrait, numbered)] == [3, 1]


def test_the_second_placement_steadies(detector, landmarker, portrait):
    """Shaken boxes lead to the same mesh, the more so the second time."""
    (face,) = detector(portrait)
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


def test_parity_with_mediapipe(detector, landmarker, portrait):
    mesh = pytest.importorskip("mediapipe").solutions.face_mesh
    (ours,) = landmarker(portrait, detector(portrait))
    with mesh.FaceMesh(static_image_mode=True, refine_landmarks=False) as reference:
        (theirs,) = reference.process(portrait).multi_face_landmarks
    points = np.array([(p.x * 512 - 0.5, p.y * 512 - 0.5) for p in theirs.landmark])
    difference = np.linalg.norm(points - ours.mesh, axis=1) / eye_distance(ours)
    assert difference.mean() < 0.03
    assert difference.max() < 0.1
