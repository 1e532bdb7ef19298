"""Trios for training: face -> (face, masked face, exact soft map). Section "Data" of paper.md.

`overlay` is the paper's recipe: three masks in four colours, placed by six points of the face mesh.
`wear` goes wide: any cut, cloth, light and fold, straps, hands and hair in front. `camera` then
photographs the result. All are seeded by the generator that they are given.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stream_unmask.types import Mask, Points
from training import masks, occluders, straps
from training.masks import LEFT_CONTOUR, MIDDLE, PAPER_COLOURS, RIGHT_CONTOUR, Array


class PlacementError(ValueError):
    """The overlay does not fit this face (the paper skips such faces)."""


@dataclass(frozen=True, slots=True)
class Trio:
    """face, masked: (h, w, 3) float32 RGB 0..1; mask, straps: (h, w) float32, share per pixel; lit
    (h, w): what the mask's shadow leaves of the light on the skin, 0..1."""

    face: Array
    masked: Array
    mask: Mask
    straps: Mask
    lit: Mask


@dataclass(frozen=True, slots=True)
class Template:
    """A mask picture: rgba (h, w, 4) 0..1, and (6, 2) points a..f in its pixels (data README)."""

    rgba: Array
    points: Points


def anchors(mesh: Points) -> Points:
    """The six points a..f (6, 2) of a face that a template's points are taken to.

    a, c: jaw at nose-tip height; b: nose bridge; d, f: jaw at lower-lip height; e: chin; a and d
    image-left.
    """
    down = mesh[152] - mesh[168]
    down = down / max(float(np.hypot(*down)), 1e-6)

    def at_height(contour: tuple[int, ...], index: int) -> Points:
        heights = np.maximum.accumulate(mesh[list(contour)] @ down)
        level = float(mesh[index] @ down)
        points = mesh[list(contour)]
        return np.array([np.interp(level, heights, points[:, i]) for i in (0, 1)], np.float32)

    a, c = at_height(LEFT_CONTOUR, 4), at_height(RIGHT_CONTOUR, 4)
    d, f = at_height(LEFT_CONTOUR, 17), at_height(RIGHT_CONTOUR, 17)
    return np.stack([a, masks.along(mesh[list(MIDDLE)], 0.13), c, d, mesh[152], f])


def drawn_templates() -> list[Template]:
    """The paper's 3 masks x 4 colours, drawn here."""
    return [
        Template(_draw(style, np.array(colour, np.float32)), _TEMPLATE_POINTS)
        for style in ("surgical", "KN95", "cloth")
        for colour in PAPER_COLOURS.values()
    ]


def load_templates(folder: Path) -> list[Template]:
    """Front-view templates of a library (PNG, keypoints.json), each in the paper's colours."""
    points = json.loads((folder / "keypoints.json").read_text(encoding="utf-8"))
    templates = []
    for name in ("surgical.png", "KN95.png", "cloth.png"):
        picture = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.shape[2] != 4:
            raise FileNotFoundError(f"{folder / name} is not an RGBA picture")
        rgba = cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
        corners = np.array([points[name][key] for key in "abcdef"], np.float32)
        for colour in PAPER_COLOURS.values():
            templates.append(Template(_tint(rgba, np.array(colour, np.float32)), corners))
    return templates


def overlay(face: Array, mesh: Points, template: Template) -> Trio:
    """The trio of a face (h, w, 3) with a template laid on; PlacementError where that fails."""
    height, width = face.shape[:2]
    target = anchors(mesh)
    matrix, _ = cv2.findHomography(template.points, target)
    if matrix is None:
        raise PlacementError("the face's points have no homography to the template")
    landed = cv2.perspectiveTransform(template.points[None], matrix)[0]
    error = np.hypot(*(landed - target).T).max()
    size = (width, height)
    # Premultiplied and area-averaged: a template has ten times the crop's pixels.
    rgba = template.rgba.copy()
    rgba[..., :3] *= rgba[..., 3:]
    grow = np.diag([4.0, 4.0, 1.0])
    big = cv2.warpPerspective(rgba, grow @ matrix, (width * 4, height * 4), flags=cv2.INTER_LINEAR)
    laid = cv2.resize(big, size, interpolation=cv2.INTER_AREA)
    mask = clean(laid[..., 3])
    if not 0.02 < mask.mean() < 0.4 or error > 0.12 * width:
        raise PlacementError("the mask does not fit the face")
    masked = laid[..., :3] + face * (1 - laid[..., 3:])
    return Trio(face, masked, mask, np.zeros_like(mask), np.ones_like(mask))


def clean(mask: Mask) -> Mask:
    """A map without specks or pinholes (OpenCV morphology, as the paper does)."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel)


def wear(
    face: Array, mesh: Points, rng: Generator, picture: Callable[[], Array] | None = None
) -> Trio:
    """The trio of a face with a mask of the wide kind, as worn by real people.

    face: (h, w, 3), eyes level. mesh: (468, 2) in its pixels. picture: gives patches of other
    photographs to serve as printed cloth.
    """
    size, unit = (face.shape[1], face.shape[0]), masks.unit(mesh)
    polygon = masks.outline(mesh, rng)
    mask = masks.fill(polygon, size)
    cloth = masks.drape(masks.fabric(rng, picture), polygon, size, rng)
    if rng.random() < 0.25:  # piping or a band of another colour along the edge
        inner = cv2.erode(mask, np.ones((3, 3)), iterations=round(rng.uniform(1, 3) * unit))
        cloth = cloth + (masks.colour(rng) - cloth) * (1 - inner)[..., None]
    if rng.random() < 0.08:
        cloth = _valve(cloth, polygon, unit, rng)
    cloth = cloth * (masks.folds(polygon, size, rng) * _light(face, mask, unit, rng))[..., None]
    lit = _lit(mask, unit, rng)
    under, held = face * lit[..., None], np.zeros_like(mask)
    if rng.random() < 0.8:
        under, held, shade = straps.worn(under, mesh, polygon, _mean(cloth, mask), rng)
        lit = lit * shade
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.9 * unit))
    masked = under + (np.clip(cloth, 0, 1) - under) * soft[..., None]
    masked, seen = occluders.in_front(masked, face, mesh, rng)
    return Trio(face, masked, soft * seen, held * (1 - soft) * seen, lit)


def unmasked(face: Array, mesh: Points, rng: Generator) -> Trio:
    """A negative: nothing worn, but perhaps a scarf below the chin, a hand, a microphone."""
    masked = face.copy()
    if rng.random() < 0.3:
        masked = occluders.scarf(masked, mesh, rng)
    if rng.random() < 0.3:
        paint, alpha = occluders.hand(face, mesh, rng)
        masked = masked + (paint - masked) * alpha[..., None]
    masked, _ = occluders.in_front(masked, face, mesh, rng)
    nothing = np.zeros(face.shape[:2], np.float32)
    return Trio(face, masked, nothing, nothing, np.ones_like(nothing))


def _mean(cloth: Array, mask: Mask) -> Array:
    """The colour (3,) of a cloth (h, w, 3) where it is worn."""
    return (cloth * mask[..., None]).sum((0, 1)) / max(float(mask.sum()), 1.0)


def _light(face: Array, mask: Mask, unit: float, rng: Generator) -> Array:
    """The face's own light (h, w) around 1, cast on the cloth, with exposure."""
    luma = cv2.transform(face, np.full((1, 3), 1 / 3))
    grey = cv2.GaussianBlur(luma, (0, 0), rng.uniform(6, 16) * unit)
    mean = float((grey * mask).sum() / max(float(mask.sum()), 1.0))
    light = (grey / max(mean, 0.05)) ** rng.uniform(0, 1.2)
    level = (max(mean, 0.08) / 0.5) ** rng.uniform(0, 1) * rng.uniform(0.75, 1.25)
    return np.clip(light, 0.4, 1.9) * np.float32(level)


def _lit(mask: Mask, unit: float, rng: Generator) -> Mask:
    """What the mask's shadow leaves of the light (h, w) on the skin under and around it."""
    x, y = rng.normal(0, 1.5, 2) * unit
    shift = np.float32([[1, 0, x], [0, 1, y]])
    blurred = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.8, 3) * unit)
    cast = cv2.warpAffine(blurred, shift, (mask.shape[1], mask.shape[0]))
    return np.asarray(1 - rng.uniform(0, 0.45) * cast, np.float32)


def _laid(picture: Array, tone: Array, alpha: NDArray[np.uint8]) -> Array:
    """The picture with one colour laid on where alpha (h, w) says."""
    return picture + (tone - picture) * (alpha[..., None] * np.float32(1 / 255))


def _valve(cloth: Array, polygon: Points, unit: float, rng: Generator) -> Array:
    at = polygon.mean(0) + rng.normal(0, 0.18, 2) * (polygon.max(0) - polygon.min(0))
    axes = (np.abs(rng.normal(9, 2, 2)) + 3) * unit
    tone = np.clip(masks.colour(rng) * rng.uniform(0.5, 1.2), 0, 1)
    for shrink, dim in ((1.0, 1.0), (0.7, rng.uniform(0.6, 1.1))):
        box = (at.tolist(), (axes * 2 * shrink).tolist(), rng.uniform(0, 180))
        alpha = np.zeros(cloth.shape[:2], np.uint8)
        cv2.ellipse(alpha, box, 255, -1, cv2.LINE_AA)
        cloth = _laid(cloth, (tone * dim).astype(np.float32), alpha)
    return cloth


_TEMPLATE_POINTS = np.array(
    [(20, 80), (200, 12), (380, 80), (36, 225), (200, 330), (364, 225)], np.float32
)


def _draw(style: str, colour: Array) -> Array:
    """A template picture (360, 400, 4) in one of the paper's three styles."""
    a, b, c, d, e, f = _TEMPLATE_POINTS
    if style == "surgical":
        ring = np.stack([a, (a + b) / 2 - (0, 14), b, (b + c) / 2 - (0, 14), c, f, e + (95, -8),
                         e + (0, 6), e - (95, 8), d])  # fmt: skip
    elif style == "KN95":
        ring = np.stack([a + (8, 24), b - (48, -22), b, b + (48, 22), c - (8, -24), f + (0, -10),
                         e + (42, 0), e + (0, 14), e - (42, 0), d + (0, -10)])  # fmt: skip
    else:
        ring = np.stack([a, b - (90, -40), b - (25, 2), b + (25, -2), b + (90, 40), c, f,
                         e + (70, -14), e + (0, 8), e - (70, 14), d])  # fmt: skip
    size = (400, 360)
    polygon = masks.smooth(ring.astype(np.float32), 2)
    alpha = masks.fill(polygon, size)
    u, v = masks.uv(polygon, size)
    shade = 1 - 0.22 * u * u - 0.12 * v * v
    if style == "surgical":
        pleats = [
            0.14 * np.exp(-(((v + 0.1 * u * u - at) / 0.035) ** 2)) for at in (-0.35, 0, 0.35)
        ]
        shade = shade - np.sum(pleats, axis=0)
    elif style == "KN95":
        shade = shade - 0.25 * np.exp(-((u / 0.02) ** 2)) + 0.05 * np.sign(u)
    else:
        edge = alpha - cv2.erode(alpha, np.ones((3, 3)), iterations=6)
        shade = shade - 0.15 * edge
    rgb = np.clip(colour * shade[..., None] + 0.02, 0, 1)
    return np.dstack([rgb, alpha]).astype(np.float32)


def _tint(rgba: Array, colour: Array) -> Array:
    """A template in another colour: its own light and folds, scaled to the colour's brightness."""
    grey = rgba[..., :3].mean(2, keepdims=True)
    typical = float(np.median(grey[rgba[..., 3] > 0.5]))
    rgb = np.clip(colour * (grey / max(typical, 0.05)) ** 0.8, 0, 1)
    return np.concatenate([rgb, rgba[..., 3:]], axis=2).astype(np.float32)
