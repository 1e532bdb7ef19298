"""Clips to measure with: a given height and number of masked faces, which sway over a background.

    python -m benchmarks.clips clip.mp4 --height 720 --faces 2

The face is a portrait in the public domain in a drawn mask (examples/make_clip.py), the background
a photograph of a cup of coffee; both come with scikit-image.
"""

import argparse
import math
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data, io

from examples.make_clip import masked_still
from stream_unmask.types import Image

RATE = 30
_ASPECT = 16 / 9
_HEAD = (330, 265, 0.62)  # of the still: where the head's middle is, and its share of the height
_SPOTS = ((0.5, 0.5), (0.25, 0.45), (0.75, 0.55), (0.88, 0.35))  # of the picture's sides
_SIZES = {0: 0.0, 1: 0.5, 2: 0.42, 3: 0.34, 4: 0.3}  # of a head, of the picture's height


def make_clip(target: Path, height: int, faces: int, seconds: float) -> None:
    """Nothing comes back; the clip is in the file: H.264 at 30 frames a second, 16:9.

    faces: 0 to 4.
    """
    width = round(height * _ASPECT / 2) * 2
    background = _background(width, height)
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, width=width, height=height)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "20", "preset": "fast"}
        stream.codec_context.thread_type = "AUTO"
        for index in range(round(seconds * RATE)):
            time = index / RATE
            image = _shifted(background, (width, height), time)
            for number in range(faces):
                _put(image, _SPOTS[number if faces > 1 else 0], _SIZES[faces], time + number)
            picture = av.VideoFrame.from_ndarray(image, "rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _background(width: int, height: int) -> Image:
    """A photograph that is a fifth larger than the picture."""
    photograph = io.imread(Path(data.__file__).parent / "coffee.png")[..., :3]
    size = (round(width * 1.2), round(height * 1.2))
    return np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _shifted(background: Image, size: tuple[int, int], time: float) -> Image:
    """The part of it that a hand-held camera sees."""
    room = (background.shape[1] - size[0], background.shape[0] - size[1])
    x, y = (r * (0.5 + 0.4 * math.sin(f * time)) for r, f in zip(room, (0.9, 1.3), strict=True))
    matrix = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return np.asarray(cv2.warpAffine(background, matrix, size), np.uint8)


@cache
def _head() -> tuple[Image, NDArray[np.float32]]:
    """The masked portrait and where in it the head is, 0..1, soft."""
    still = masked_still()
    x, y, share = _HEAD
    cover = np.zeros(still.shape[:2], np.float32)
    half = round(still.shape[0] * share / 2)
    cv2.ellipse(cover, (x, y), (round(0.75 * half), half), 0, 0, 360, 1.0, -1)
    return still, np.asarray(cv2.GaussianBlur(cover, (0, 0), 12), np.float32)


def _put(image: Image, spot: tuple[float, float], size: float, time: float) -> None:
    """Draws the head into the picture, swaying."""
    still, cover = _head()
    height, width = image.shape[:2]
    scale = size * height / (still.shape[0] * _HEAD[2])
    matrix = cv2.getRotationMatrix2D(_HEAD[:2], 6 * math.sin(1.7 * time), scale)
    sway = (0.02 * height * math.sin(2.1 * time), 0.01 * height * math.sin(2.9 * time))
    matrix[:, 2] += np.array([spot[0] * width, spot[1] * height]) + sway - np.array(_HEAD[:2])
    fine = scale < 1
    source = cv2.GaussianBlur(still, (0, 0), 0.5 / scale) if fine else still
    drawn = cv2.warpAffine(source, matrix, (width, height))
    alpha = cv2.warpAffine(cover, matrix, (width, height))[..., None]
    image[:] = np.rint(image + (drawn.astype(np.float32) - image) * alpha)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a clip to measure with.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--faces", type=int, choices=range(len(_SPOTS) + 1), default=1)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    make_clip(args.target, args.height, args.faces, args.seconds)


if __name__ == "__main__":
    main()
