"""Evaluation by eye: results among untouched pictures, for someone to tell apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream_unmask.models.profile import PORTRAIT
from stream_unmask.types import Face, Image
from training import sheets
from training.dataset import FaceSet
from training.evaluate_photos import UNMASKED, searched
from training.evaluate_profiles import Picture, draw, found, order, repaint
from training.metrics import ring
from training.photos import Photos
from training.product import SEED, Bench, see

PARTS = ("glance",)
COUNT = 48  # results of each kind, and as many untouched pictures
COLUMNS, ROWS, SIDE = 6, 4, 208

_AWAY, _DRAWN = 0.15, 20  # units from the mask, and pixels there that may differ


@dataclass(frozen=True)
class Tile:
    """A picture to look at. painted: whether the product painted something in it."""

    name: str
    image: Image
    result: bool
    painted: bool


def glance(bench: Bench) -> None:
    """Sheets of numbered tiles without a hint of what they are, and the key to them."""
    kinds = {"faces": _faces(bench), "photos": _photos(bench)}
    key: dict[str, dict[str, Any]] = {}
    for kind, tiles in kinds.items():
        mixed = [tiles[i] for i in np.random.default_rng(SEED).permutation(len(tiles))]
        entries = [sheets.Entry(str(i), [tile.image]) for i, tile in enumerate(mixed, 1)]
        sheets.write(bench.out, f"glance_{kind}", entries, COLUMNS, COLUMNS * ROWS)
        key[kind] = {
            str(i): {"result": tile.result, "painted": tile.painted, "name": tile.name}
            for i, tile in enumerate(mixed, 1)
        }
    (bench.out / "glance_key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")


def _faces(bench: Bench) -> list[Tile]:
    """Validation faces of both sets: repainted ones, and others in the same crop as they are."""
    tiles = []
    for faces in (one.split(True) for one in bench.sets.values()):
        numbers, wanted = order(faces), max(bench.count(COUNT) // len(bench.sets), 1)
        half = len(numbers) // 2
        pictures: list[Picture] = []
        for picture in draw(faces, numbers[:half]):
            if _clear(picture, faces):
                pictures.append(picture)
            if len(pictures) == wanted:
                break
        tiles += _results(bench, faces, pictures)
        for index in numbers[half : half + wanted]:
            image = faces.crop(index, PORTRAIT.eyes, PORTRAIT.size).image
            tiles.append(Tile(faces.names[index], _tile(image), result=False, painted=False))
    return tiles


def _results(bench: Bench, faces: FaceSet, pictures: Sequence[Picture]) -> list[Tile]:
    crops, maps = found(bench.parts.networks, pictures)
    results = repaint(bench.parts.networks, pictures, crops, maps)
    return [
        Tile(faces.names[p.index], _tile(image), result=True, painted=mask is not None)
        for p, image, mask in zip(pictures, results, maps, strict=True)
    ]


def _clear(picture: Picture, faces: FaceSet) -> bool:
    """Whether nothing but the mask was drawn: scarves and glasses would give a result away."""
    bare = faces.crop(picture.index, PORTRAIT.eyes, PORTRAIT.size).image
    away = ring(picture.pair.hidden(PORTRAIT) > 0.5, _AWAY * PORTRAIT.unit, float("inf"))
    change = np.abs(picture.pair.masked.astype(np.int16) - bare).max(2)
    return int((change[away] > 24).sum()) <= _DRAWN


def _photos(bench: Bench) -> list[Tile]:
    """The labelled test photographs after the product, and photographs of bare faces."""
    photos = Photos.test(bench.data, bench.profile).photos[: bench.count(COUNT)]
    tiles = []
    for seen in see(bench.parts, ((p.name, p.image, p.faces) for p in photos)):
        worn = [face for face, one in zip(seen.faces, seen.worn, strict=True) if one is not None]
        image = _around(seen.result, worn or seen.faces)
        tiles.append(Tile(seen.name, image, result=True, painted=bool(worn)))
    for name, image, faces in searched(bench, UNMASKED, COUNT):
        tiles.append(Tile(Path(name).name, _around(image, faces), result=False, painted=False))
    return tiles


def _around(image: Image, faces: Sequence[Face]) -> Image:
    """The largest face in a picture on a tile; any part of the picture if there is none.

    Square at the expense of what is around and above the face: photographs of masked people are
    taller than those of bare ones, which would give them away.
    """
    boxes = sorted((face.box for face in faces), key=lambda box: box[2] - box[0])[-1:]
    x0, y0, x1, y1 = sheets.around(boxes, image.shape)
    for _, top, _, bottom in boxes:
        y1 = min(y1, round(bottom + 0.1 * (bottom - top)))
    side = max(min(x1 - x0, y1 - y0), 1)
    left = x0 + (x1 - x0 - side) // 2
    return sheets.close_up(image, (left, y1 - side, left + side, y1), side=SIDE)


def _tile(image: Image) -> Image:
    """The upper part of a portrait crop, square, to below the chin."""
    height, width = image.shape[:2]
    return sheets.close_up(image, (0, 0, width, min(width, height)), side=SIDE)
