"""What the tests of faces share: the portrait, pictures made from it, and the parts under test."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_unmask.backends import open_engine
from stream_unmask.faces.detector import FACE_DETECTION, Detector
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker
from stream_unmask.types import Image

# Where the eyes of the 512 x 512 portrait are and how wide its face is, read off the picture.
EYES = np.array([(203.0, 101.5), (246.0, 104.0)], np.float32)
FACE_WIDTH = 93.0

Placer = Callable[..., tuple[Image, np.ndarray]]


@pytest.fixture(scope="session")
def portrait() -> Image:
    """scikit-image's portrait of an astronaut, whose face is 93 px wide."""
    return np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut())


@pytest.fixture(scope="session")
def place(portrait: Image) -> Placer:
    """A function that draws the portrait's head into a picture and says where the eyes went."""

    def draw(canvas: Image, centre: tuple[float, float], width: float, roll: float = 0.0):
        scale = width / FACE_WIDTH
        middle = (224.0, 122.0)
        matrix = cv2.getRotationMatrix2D(middle, roll, scale)
        matrix[:, 2] += np.array(centre) - middle
        size = canvas.shape[1::-1]
        blurred = cv2.GaussianBlur(portrait, (0, 0), 0.5 / scale) if scale < 1 else portrait
        head = np.zeros(portrait.shape[:2], np.float32)
        cv2.ellipse(head, (224, 105), (85, 105), 0, 0, 360, 1.0, -1)
        alpha = cv2.warpAffine(cv2.GaussianBlur(head, (0, 0), 6), matrix, size)[..., None]
        drawn = cv2.warpAffine(blurred, matrix, size)
        picture = (canvas * (1 - alpha) + drawn * alpha).astype(np.uint8)
        return picture, EYES @ matrix[:, :2].T + matrix[:, 2]

    return draw


@pytest.fixture(scope="session")
def detector() -> Iterator[Detector]:
    with closing(open_engine(FACE_DETECTION)) as engine:
        yield Detector(engine)


@pytest.fixture(scope="session")
def landmarker() -> Iterator[Landmarker]:
    with closing(open_engine(FACE_LANDMARK)) as engine:
        yield Landmarker(engine)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared data, which is no part of the repository."""
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder
