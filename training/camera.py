"""Photographs a trio: exposure, colour casts, blur, noise, compression, tight framing."""

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]


def expose(pictures: list[Array], rng: Generator) -> list[Array]:
    """The same light, contrast and colour cast on every picture (they stay a pair)."""
    gain = (rng.uniform(0.8, 1.2) * (1 + rng.normal(0, 0.06, 3))).astype(np.float32)
    gamma, lift = float(np.exp(rng.normal(0, 0.25))), rng.uniform(-0.06, 0.06)
    grey, saturation = rng.random() < 0.06, rng.uniform(0.6, 1.25)
    done = []
    for picture in pictures:
        toned = np.clip(picture * gain + lift, 0, 1) ** gamma
        luma = cv2.transform(toned, np.full((1, 3), 1 / 3))[..., None]
        toned = luma + (toned - luma) * (0 if grey else saturation)
        done.append(np.clip(toned, 0, 1))
    return done


def photograph(picture: Array, rng: Generator) -> Array:
    """The picture (h, w, 3) 0..1 as a cheap camera and a codec hand it over."""
    height, width = picture.shape[:2]
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.8))
    if rng.random() < 0.12:
        picture = cv2.filter2D(picture, -1, _motion(rng))
    if rng.random() < 0.4:
        factor = rng.uniform(0.2, 0.9)
        small = (max(int(width * factor), 16), max(int(height * factor), 16))
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.15:  # sharpened by the camera
        blurred = cv2.GaussianBlur(picture, (0, 0), 1.2)
        picture = picture + rng.uniform(0.3, 1.5) * (picture - blurred)
    if rng.random() < 0.5:
        noise = rng.standard_normal(picture.shape, np.float32)
        picture = picture + rng.uniform(0.004, 0.04) * noise
    picture = np.clip(picture, 0, 1)
    if rng.random() < 0.6:
        picture = compress(picture, int(rng.integers(25, 95)))
    return picture


def frame(
    rng: Generator, size: tuple[int, int], tight: float = 0.3
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column indices that repeat the border outside a random window, as `cut` does when a
    face reaches the edge of a photograph; the identity but in a share `tight` of the cases."""
    columns, rows = np.arange(size[0]), np.arange(size[1])
    if rng.random() < tight:
        reach = np.array([0.34 * size[0], 0.34 * size[0], 0.38 * size[1], 0.24 * size[1]])
        cuts = rng.integers(0, reach.astype(int)) * (rng.random(4) < 0.5 + tight / 2)
        left, right, top, bottom = cuts
        columns = columns.clip(left, size[0] - 1 - right)
        rows = rows.clip(top, size[1] - 1 - bottom)
    return rows, columns


def _motion(rng: Generator) -> Array:
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    middle = (length - 1) / 2
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1)
    return kernel / max(float(kernel.sum()), 1)


def compress(picture: Array, quality: int) -> Array:
    """The picture (h, w, 3) 0..1 after JPEG of a quality (1..100)."""
    data = np.rint(picture[..., ::-1] * 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", data, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255
