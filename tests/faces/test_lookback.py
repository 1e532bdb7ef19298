import numpy as np

from stream_unmask.faces.lookback import looked_back
from stream_unmask.faces.tracker import Tracker

BACKGROUND = np.random.default_rng(0).integers(30, 220, (9, 16, 3), np.uint8)
SIZE = (360, 640, 3)


def plain() -> np.ndarray:
    return np.full(SIZE, (90, 120, 80), np.uint8)


def walk(place, frames):
    """A head that walks, from the frame on at which it is there; frames: how many of each."""
    without, there = frames
    for step in range(without + there):
        if step < without:
            yield plain(), None
        else:
            yield place(plain(), (200 + 4 * step, 180), 80)


def followed(detector, landmarker, pictures, *, found, depth, lazy=True):
    """What comes out when the detector looks at frame `found` only."""
    tracker = Tracker(detector, landmarker, every=100)

    def seen():
        for index, picture in enumerate(pictures):
            if index < found:
                yield index, np.zeros((0, 0, 3), np.uint8) if lazy else picture, ()
            else:
                yield index, picture, tracker(picture)

    return list(looked_back(seen(), landmarker, depth, lambda index: pictures[index]))


def test_a_face_is_there_from_its_first_frame(detector, landmarker, place):
    pictures, eyes = zip(*walk(place, (5, 12)), strict=True)
    out = followed(detector, landmarker, pictures, found=14, depth=20)
    assert [index for index, _, _ in out] == list(range(17))
    assert [len(faces) for _, _, faces in out] == [0] * 5 + [1] * 12
    assert {face.track for _, _, faces in out for face in faces} == {0}
    for index, image, faces in out[5:]:
        assert np.array_equal(image, pictures[index])
        (face,) = faces
        assert np.linalg.norm(face.eyes - eyes[index], axis=1).max() < 0.08 * 80
        assert face.score > 0.5


def test_no_farther_than_frames_wait(detector, landmarker, place):
    pictures, _ = zip(*walk(place, (0, 12)), strict=True)
    out = followed(detector, landmarker, pictures, found=11, depth=4)
    assert [len(faces) for _, _, faces in out] == [0] * 7 + [1] * 5


def test_a_frame_waits_for_no_more_than_it_must(detector, landmarker, place):
    taken = 0

    def seen():
        nonlocal taken
        for taken in range(1, 10):
            yield taken, plain(), ()

    waits = [taken - number for number, _, _ in looked_back(seen(), landmarker, 3, lambda _: None)]
    assert waits == [3] * 6 + [2, 1, 0]


def test_large_pictures_wait_less_long(landmarker):
    large = np.zeros((4000, 4000, 3), np.uint8)  # 48 MB, five of which may wait
    taken = 0

    def seen():
        nonlocal taken
        for taken in range(1, 12):
            yield taken, large, ()

    waits = [taken - number for number, _, _ in looked_back(seen(), landmarker, 9, lambda _: None)]
    assert max(waits) == 5


def test_it_ends_at_a_cut(detector, landmarker, place):
    """The same place in another scene is no face."""
    other, there = [plain()[::-1] // 2] * 5, [picture for picture, _ in walk(place, (0, 5))]
    out = followed(detector, landmarker, [*other, *there], found=9, depth=20)
    assert [len(faces) for _, _, faces in out] == [0] * 5 + [1] * 5


def test_two_faces_where_one_was_known(detector, landmarker, place):
    """The one that comes later is added; the other stays as it was."""
    pictures = []
    for step in range(10):
        picture, _ = place(plain(), (150 + 2 * step, 180), 80)
        if step >= 4:
            picture, _ = place(picture, (460 - 2 * step, 180), 80)
        pictures.append(picture)
    tracker = Tracker(detector, landmarker, every=9)
    seen = [(index, picture, tracker(picture)) for index, picture in enumerate(pictures)]
    assert [len(faces) for _, _, faces in seen] == [1] * 9 + [2]
    out = list(looked_back(seen, landmarker, 20, lambda index: pictures[index]))
    assert [[face.track for face in faces] for _, _, faces in out] == [[0]] * 4 + [[0, 1]] * 6
    for before, after in zip(seen, out, strict=True):
        assert before[2][0] is after[2][0]


def test_a_face_with_another_number_is_not_given_twice(detector, landmarker, place):
    """One that was lost and found as somebody else is followed back to where it was lost."""
    pictures, _ = zip(*walk(place, (0, 8)), strict=True)
    first, second = Tracker(detector, landmarker), Tracker(detector, landmarker, every=1)
    second._next_number = 7
    seen = [(index, picture, first(picture)) for index, picture in enumerate(pictures[:3])]
    seen += [(index, pictures[index], ()) for index in (3, 4, 5)]
    seen += [(index, pictures[index], second(pictures[index])) for index in (6, 7)]
    out = looked_back(seen, landmarker, 20, lambda index: pictures[index])
    tracks = [[face.track for face in faces] for _, _, faces in out]
    assert tracks == [[0]] * 3 + [[7]] * 5
