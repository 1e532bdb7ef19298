from dataclasses import replace

import numpy as np
import pytest

from stream_unmask.faces.landmarks import anchors
from stream_unmask.faces.tracker import Tracker

BACKGROUND = np.random.default_rng(0).integers(30, 220, (9, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def empty():
    cv2 = pytest.importorskip("cv2")
    return cv2.resize(BACKGROUND, (640, 360), interpolation=cv2.INTER_CUBIC)


class Counted:
    """A detector that counts its calls."""

    def __init__(self, detector):
        self.detector, self.calls = detector, 0

    def __call__(self, image):
        self.calls += 1
        return self.detector(image)


def numbers(faces):
    return [face.track for face in faces]


def test_a_moving_face_keeps_its_number(detector, landmarker, place, empty):
    counted = Counted(detector)
    tracker = Tracker(counted, landmarker, every=5)
    for step in range(20):
        picture, eyes = place(empty, (150 + 12 * step, 180), 80, roll=2.0 * step)
        (face,) = tracker(picture)
        assert face.track == 0
        assert face.mesh is not None
        assert np.linalg.norm(face.eyes - eyes, axis=1).max() < 0.08 * 80
    assert counted.calls == 4


@pytest.mark.parametrize(
    ("seen", "looks"), [(True, [0, 2, 6, 14, 22]), (False, [0, 4, 8, 12, 16, 20])]
)
def test_where_nothing_is_new_looks_grow_rare(detector, landmarker, place, empty, seen, looks):
    """Twice the frames pass each time, up to as many as are allowed with and without somebody."""
    at, index = [], 0

    def noted(image):
        at.append(index)
        return detector(image)

    tracker = Tracker(noted, landmarker, every=2, rarely=8, alone=4)
    picture = place(empty, (320, 180), 80)[0] if seen else empty
    for index in range(23):  # noqa: B007 (read by `noted`)
        assert numbers(tracker(picture)) == [0] * seen
    assert at == looks


def test_anchors_and_eyes_are_told_as_they_were_seen(detector, landmarker, place, empty):
    """What shakes here is steadied later, by what the picture did (`smoothing.py`)."""
    tracker, shifts = Tracker(detector, landmarker, every=4), np.random.default_rng(2)
    measured, true = [], []
    for shift in shifts.normal(0, 1, (12, 2)):
        picture, eyes = place(empty, (320, 180) + shift, 80)
        (face,) = tracker(picture)
        assert np.array_equal(face.anchors, anchors(face.mesh))
        measured.append(face.eyes.mean(0))
        true.append(eyes.mean(0))
    moved, told = (np.diff(each, axis=0)[3:].ravel() for each in (true, measured))
    assert np.corrcoef(moved, told)[0, 1] > 0.9
    assert told.std() > 0.8 * moved.std()


def test_two_faces_have_two_numbers(detector, landmarker, place, empty):
    tracker = Tracker(detector, landmarker)
    where = {}
    for step in range(30):  # they walk towards each other and pass at different heights
        picture, left = place(empty, (150 + 12 * step, 105), 70)
        picture, right = place(picture, (490 - 12 * step, 260), 70)
        faces = tracker(picture)
        assert sorted(numbers(faces)) == [0, 1]
        for face in faces:
            is_left = bool(np.linalg.norm(face.eyes - left) < np.linalg.norm(face.eyes - right))
            assert where.setdefault(face.track, is_left) == is_left


def test_a_face_that_leaves_ends_and_its_number_is_not_given_again(
    detector, landmarker, place, empty
):
    tracker = Tracker(detector, landmarker, every=3)
    picture, _ = place(empty, (150, 180), 80)
    assert numbers(tracker(picture)) == [0]
    for _ in range(14):
        faces = tracker(empty)
    assert faces == ()
    elsewhere, _ = place(empty, (500, 180), 80)
    seen = [numbers(tracker(elsewhere)) for _ in range(4)]
    assert seen[-1] == [1]


def test_a_short_loss_keeps_the_number(detector, landmarker, place, empty):
    tracker = Tracker(detector, landmarker, every=2)
    picture, _ = place(empty, (320, 180), 80)
    tracker(picture)
    for _ in range(7):
        tracker(empty)
    back, _ = place(empty, (335, 185), 80)
    assert numbers([*map(tracker, [back] * 3)][-1]) == [0]


def test_a_new_face_is_found_within_a_few_frames(detector, landmarker, place, empty):
    tracker = Tracker(detector, landmarker, every=4)
    one, _ = place(empty, (150, 180), 80)
    two, _ = place(one, (480, 180), 80)
    tracker(one)
    assert numbers([*map(tracker, [two] * 4)][-1]) == [0, 1]


def test_a_cut_gives_new_numbers_at_once(detector, landmarker, place, empty):
    counted = Counted(detector)
    tracker = Tracker(counted, landmarker, every=100)
    before, _ = place(empty, (320, 180), 80)
    other = np.zeros_like(empty)
    other[:, :300] = 200
    after, _ = place(other, (320, 180), 80)
    assert numbers(tracker(before)) == [0]
    assert numbers(tracker(after)) == [1]
    assert counted.calls == 2


def test_a_change_of_light_is_no_cut(detector, landmarker, place, empty):
    tracker = Tracker(detector, landmarker)
    picture, _ = place(empty, (320, 180), 80)
    assert numbers(tracker(picture)) == [0]
    assert numbers(tracker((picture * 0.7).astype(np.uint8))) == [0]


def test_twins_are_merged_under_the_older_number(detector, landmarker, place, empty):
    picture, _ = place(empty, (320, 180), 80)
    tracker = Tracker(detector, landmarker, every=1)
    tracker(picture)
    tracker._tracks[0].number = 7
    tracker._tracks.append(replace(tracker._tracks[0], number=3))
    assert numbers(tracker(picture)) == [3]


def test_every_must_be_positive(detector, landmarker):
    with pytest.raises(ValueError, match="at least 1"):
        Tracker(detector, landmarker, every=0)


@pytest.mark.parametrize("vouched", [True, False])
def test_somebody_else_may_vouch_for_a_face_that_is_not_known(
    detector, landmarker, place, empty, vouched
):
    """And is not asked again once it is followed."""
    asked = []

    def unsure(image):
        """The face as the detector finds it, barely."""
        return tuple(replace(face, score=0.55) for face in detector(image))

    def vouch(image, faces):
        asked.append(len(faces))
        return tuple(replace(face, sure=vouched) for face in faces)

    class Hesitant:
        """Landmarks that are no more sure than the detector."""

        place = staticmethod(landmarker.place)

        def __call__(self, image, faces):
            return tuple(replace(face, sure=False) for face in landmarker(image, faces))

    tracker = Tracker(unsure, Hesitant(), every=2, vouch=vouch)
    picture, _ = place(empty, (320, 180), 80)
    assert [numbers(tracker(picture)) for _ in range(4)] == [[0] * vouched] * 4
    assert asked == ([1, 0] if vouched else [1, 1])


def luma(picture):
    return np.ascontiguousarray(picture[::4, ::4, 1])


def test_where_nobody_is_only_some_frames_are_asked_for(detector, landmarker, empty):
    """Every fifth, and the first one of another scene."""
    counted = Counted(detector)
    tracker, asked = Tracker(counted, landmarker, every=5), []
    for index in range(15):
        picture = empty if index < 12 else np.ascontiguousarray(empty[::-1, ::-1])
        if not tracker.idle(luma(picture)):
            asked.append(index)
            assert tracker(picture) == ()
    assert asked == [0, 5, 10, 12]
    assert counted.calls == 4


def test_a_cut_is_asked_for_at_once(detector, landmarker, place, empty):
    tracker = Tracker(detector, landmarker, every=100)
    picture, _ = place(np.ascontiguousarray(empty[::-1, ::-1]), (320, 180), 80)
    assert not tracker.idle(luma(empty))
    assert tracker(empty) == ()
    assert all(tracker.idle(luma(empty)) for _ in range(5))
    assert not tracker.idle(luma(picture))
    assert numbers(tracker(picture)) == [0]
    assert not any(tracker.idle(luma(picture)) for _ in range(5))  # while somebody is followed
