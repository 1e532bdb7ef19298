"""How often a masked face is found in a wide scene, and how often one is found where nobody is."""

from pathlib import Path

import cv2
import numpy as np
from skimage import data, io

from stream_unmask.pipeline import present
from stream_unmask.types import Face, Image
from training.photos import Photo, Photos
from training.product import SEED, Bench

PARTS = ("detection",)
SCENE = (720, 1280)
WIDTHS = (40, 60, 90, 140, 220)  # px of a mask
# Photographs without people that scikit-image brings along; the first is the scene.
EMPTY = ("coffee.png", "motorcycle_left.png", "rocket.jpg", "chelsea.png", "hubble_deep_field.jpg")
EMPTY += ("brick.png", "grass.png", "gravel.png", "ihc.png", "retina.jpg")

_TITLE = "A. Detection in scenes"
_NOTE = (
    "The labelled photographs with one mask, shrunk until it is so many px wide, at a place of"
    " their own in a scene of 1280 x 720. Found: a face on the mask that the product is sure of;"
    " elsewhere: faces found beside it, of this scene or of the photograph. Empty: faces found in"
    " pictures without people, as they are and at 1280 x 720."
)


def detection(bench: Bench) -> None:
    """The table, over the 48 test photographs and our own together."""
    photos = [
        p for load in (Photos.test, Photos.own) for p in load(bench.data, bench.profile).photos
    ]
    photos = [photo for photo in photos if _single(photo)]
    photos = photos[: bench.count(len(photos))]
    scene = _wide(_picture(EMPTY[0]))
    for width in WIDTHS:
        rng, found, elsewhere, seen = np.random.default_rng(SEED), 0, 0, 0
        for photo in photos:
            placed = _placed(photo, scene, width, rng)
            if placed is None:
                continue
            image, centre = placed
            faces = present(image, bench.parts)
            hits = sum(_holds(face, centre) for face in faces)
            seen, found, elsewhere = seen + 1, found + bool(hits), elsewhere + len(faces) - hits
        row = {"mask, px": width, "n": seen, "found": found / max(seen, 1), "elsewhere": elsewhere}
        bench.add("detection", _TITLE, _NOTE, [row])
    empty = [look for name in EMPTY for look in (_picture(name), _wide(_picture(name)))]
    count = sum(len(present(image, bench.parts)) for image in empty)
    bench.add("detection", _TITLE, _NOTE, [
        {"mask, px": "empty", "n": len(empty), "found": None, "elsewhere": count}
    ])  # fmt: skip


def _single(photo: Photo) -> bool:
    """Whether one mask alone is labelled, and all of the photograph counts."""
    count, _ = cv2.connectedComponents(photo.truth.astype(np.uint8))
    return count == 2 and bool(photo.counted.all())


def _placed(
    photo: Photo, scene: Image, width: int, rng: np.random.Generator
) -> tuple[Image, np.ndarray] | None:
    """The scene with the photograph in it, and where its mask is; None if it does not fit."""
    rows, columns = np.nonzero(photo.truth)
    scale = width / (np.ptp(columns) + 1)
    small = cv2.resize(photo.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    room = np.array(SCENE) - small.shape[:2]
    if scale > 1.2 or room.min() < 0:
        return None
    y, x = rng.integers(0, room + 1)
    image = scene.copy()
    image[y : y + small.shape[0], x : x + small.shape[1]] = small
    return image, np.array([x + columns.mean() * scale, y + rows.mean() * scale])


def _holds(face: Face, point: np.ndarray) -> bool:
    x0, y0, x1, y1 = face.box
    return bool(x0 < point[0] < x1 and y0 < point[1] < y1)


def _picture(name: str) -> Image:
    image = io.imread(Path(data.__file__).parent / name)
    image = image[..., :3] if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    return np.ascontiguousarray(image, np.uint8)


def _wide(image: Image) -> Image:
    return np.asarray(cv2.resize(image, SCENE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
