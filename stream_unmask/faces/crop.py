"""Cuts an upright face out of a frame and pastes it back; the two are each other's inverse.

The same cut is used by the training recipes, so that networks see in live video what they saw
when they learned.
"""

import cv2
import numpy as np

from stream_unmask.faces.geometry import Affine, apply, invert, scale_of, similarity
from stream_unmask.types import Crop, Face, Image, Mask, Points


def cut(image: Image, face: Face, eyes: Points, size: tuple[int, int]) -> Crop:
    """The upright crop of a face.

    eyes: (2, 2) where the face's anchors, or else its eye centres, land in the crop, image-left
    first. size: (width, height). Beyond the frame's edge its border pixels are repeated.
    """
    to_crop = similarity(face.held_by, eyes)
    mesh = None if face.mesh is None else apply(to_crop, face.mesh)
    shrunk = _shrink(image, to_crop, size)
    return Crop(shrunk, invert(to_crop), mesh, face.track, moved=face.moved)


def _shrink(image: Image, to_crop: Affine, size: tuple[int, int]) -> Image:
    """`image` warped to `size`; a face larger than the crop is averaged, not sampled."""
    factor = scale_of(to_crop)
    if factor < 0.6:
        # Averaging only the part that the crop shows: a frame is much larger than a face.
        corners = apply(invert(to_crop), _corners(size))
        (x0, y0), (x1, y1) = np.floor(corners.min(0)) - 2, np.ceil(corners.max(0)) + 3
        x0, y0 = max(int(x0), 0), max(int(y0), 0)
        part = image[y0 : max(int(y1), y0 + 1), x0 : max(int(x1), x0 + 1)]
        if part.size:
            height, width = part.shape[:2]
            small = cv2.resize(
                part,
                (max(round(width * factor), 1), max(round(height * factor), 1)),
                interpolation=cv2.INTER_AREA,
            )
            sx, sy = width / small.shape[1], height / small.shape[0]
            # Pixel centres are at integers, so a resize by s maps x to (x + 0.5) / s - 0.5.
            grow = np.array([[sx, 0, x0 + sx / 2 - 0.5], [0, sy, y0 + sy / 2 - 0.5]])
            linear = to_crop[:, :2]
            to_crop = np.column_stack([linear @ grow[:, :2], linear @ grow[:, 2] + to_crop[:, 2]])
            image = np.asarray(small, np.uint8)
    return np.asarray(
        cv2.warpAffine(
            image, to_crop, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def paste(crop: Crop, shape: tuple[int, int]) -> tuple[int, int, Image, Mask] | None:
    """The crop's picture and mask in frame pixels: (x, y, image, mask) of their rectangle.

    shape: (height, width) of the frame. The rectangle is the smallest that holds every pixel
    with a mask above 0; None if there is none in the frame.
    """
    if crop.mask is None or not crop.mask.any():
        return None
    rows, columns = np.nonzero(crop.mask)
    low = (columns.min() - 1, rows.min() - 1)
    high = (columns.max() + 1, rows.max() + 1)
    box = np.array([low, (high[0], low[1]), high, (low[0], high[1])], np.float64)
    corners = apply(crop.to_frame, box)
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (shape[1], shape[0]))
    if x1 <= x0 or y1 <= y0:
        return None
    move = crop.to_frame.copy()
    move[:, 2] -= (x0, y0)
    size = (int(x1 - x0), int(y1 - y0))
    image = cv2.warpAffine(
        crop.image, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    mask = cv2.warpAffine(crop.mask, move, size, flags=cv2.INTER_LINEAR)
    if not mask.any():
        return None
    return int(x0), int(y0), np.asarray(image, np.uint8), np.asarray(mask, np.float32)


def _corners(size: tuple[int, int]) -> Points:
    width, height = size
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
