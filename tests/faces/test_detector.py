from itertools import islice, takewhile

import cv2
import numpy as np
import pytest

from stream_unmask.faces.detector import Detector, _pyramid, covers, distinct, weight
from stream_unmask.types import Face


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 110, np.uint8)


def errors(faces, eyes, width):
    """Mean distance of each face's eyes from `eyes`, in face widths."""
    return [float(np.linalg.norm(face.eyes - eyes, axis=1).mean()) / width for face in faces]


def test_portrait(detector, portrait):
    face, *doubtful = detector(portrait)
    assert all(other.score < 0.6 for other in doubtful)
    assert face.mesh is None
    assert face.track is None
    assert face.score > 0.8
    assert 80 < face.box[2] - face.box[0] < 120
    assert errors([face], [(203.0, 101.5), (246.0, 104.0)], 93)[0] < 0.06


@pytest.mark.parametrize(
    ("size", "width"),
    [
        *[(size, 40) for size in ((388, 218), (640, 360), (1280, 720), (1920, 1080))],
        *[((388, 218), 200), ((1280, 720), 600), ((1920, 1080), 900), ((700, 1280), 90)],
    ],
)
def test_sizes(detector, place, size, width):
    picture, eyes = place(grey(*size), (size[0] * 0.45, size[1] * 0.5), width)
    face, *doubtful = detector(picture)
    assert errors([face], eyes, width)[0] < 0.1
    assert all(other.score < 0.6 for other in doubtful)


@pytest.mark.parametrize("roll", [-45, -30, 30, 45])
@pytest.mark.parametrize("width", [60, 150, 400])
def test_rolls(detector, place, width, roll):
    picture, eyes = place(grey(960, 540), (480, 270), width, roll)
    face, *_ = detector(picture)
    # Its eyes are rough on rolled small faces; the landmarks come right from there (see there).
    assert errors([face], eyes, width)[0] < 0.4
    assert np.linalg.norm(face.eyes.mean(0) - eyes.mean(0)) < 0.35 * width


def test_ten_at_once(detector, place):
    picture, expected = grey(1280, 720), []
    for index in range(10):
        centre = (130 + 250 * (index % 5), 180 + 340 * (index // 5))
        picture, eyes = place(picture, centre, 45 + 8 * index)
        expected.append(eyes)
    faces = detector(picture)
    assert sum(face.score > 0.6 for face in faces) == 10
    for index, eyes in enumerate(expected):
        assert min(errors(faces, eyes, 45 + 8 * index)) < 0.15


def test_face_larger_than_the_picture(detector, portrait):
    tight = cv2.resize(portrait[62:185, 182:268], None, fx=3, fy=3)
    assert len(detector(tight)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (3, 900), (900, 3), (361, 641)])
def test_nothing_there(detector, shape):
    assert detector(np.zeros((*shape, 3), np.uint8)) == ()


def test_pyramid_keeps_small_faces_visible():
    for long_side in (100, 200, 388, 640, 1280, 1920, 3840):
        scales = _pyramid(long_side)
        assert scales == sorted(scales, reverse=True)
        least = 112 if long_side > 2000 else 60  # px that a face must have to be found well
        assert scales[0] * least >= min(28, least)
        assert scales[0] * long_side <= 960
        assert min(long_side, 200) <= scales[-1] * long_side < 400


def face(x0, y0, x1, y1, score):
    return Face((x0, y0, x1, y1), np.zeros((2, 2), np.float32), score)


def test_parts_of_a_face_are_not_faces():
    whole, part, other = (
        face(0, 0, 90, 90, 0.7),
        face(20, 10, 60, 50, 0.8),
        face(80, 0, 170, 90, 0.6),
    )
    assert covers(whole, part)
    assert not covers(whole, other)
    assert weight(whole) > weight(part)
    assert distinct([whole, part, other]) == (whole, other)
    assert distinct([part, whole, other]) == (part, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clip", "at_least"),
    # What the union of MediaPipe's own two detectors finds there at most (see engines/README.md).
    [
        ("masked_group_506p", 136),
        ("masked_dancer_portrait_audio", 39),
        ("putting_mask_on_218p", 24),
    ],
)
def test_clips(detector: Detector, landmarker, shared, clip, at_least):
    capture = cv2.VideoCapture(str(shared / "clips" / f"{clip}.mp4"))
    frames = takewhile(lambda answer: answer[0], iter(capture.read, None))
    count = 0
    for _, frame in islice(frames, 0, None, 10):
        image = np.ascontiguousarray(frame[..., ::-1])
        count += len(landmarker(image, detector(image)))
    assert count >= at_least


def test_parity_with_mediapipe(detector, portrait):
    """Box and eyes agree with both of MediaPipe's detectors, which see less of the picture."""
    detection = pytest.importorskip("mediapipe").solutions.face_detection
    ours, *_ = detector(portrait)
    for model in (0, 1):
        with detection.FaceDetection(model_selection=model) as reference:
            (theirs,) = reference.process(portrait).detections
        points = [(p.x * 512, p.y * 512) for p in theirs.location_data.relative_keypoints[:2]]
        width = theirs.location_data.relative_bounding_box.width * 512
        assert errors([ours], points, width)[0] < 0.06
        assert ours.box[2] - ours.box[0] == pytest.approx(width, rel=0.15)
