"""Draws what holds a mask: loops that end where an ear begins, and bands that go round the head.

As in `training.masks`, pictures are float32 RGB in 0..1, in the pixels of a crop.
"""

import cv2
import numpy as np
from numpy.random import Generator

from stream_unmask.types import Mask, Points
from training import masks
from training.masks import LEFT_CONTOUR, RIGHT_CONTOUR, Array

# How often the corners of a mask are held by what: a side may be out of sight, a loop may be one
# cord or two, a band goes over or under the ear to the back of the head.
_SIDE, _CORNER, _BAND, _BROAD = 0.92, 0.92, 0.2, 0.15


def worn(
    picture: Array, mesh: Points, polygon: Points, cloth: Array, rng: Generator
) -> tuple[Array, Mask, Mask]:
    """The picture with straps from a mask's corners outwards, on the skin, their share of each
    pixel (h, w), and what their shadow leaves of the light there.

    polygon: the mask's outline (n, 2). cloth: its colour (3,).
    """
    unit, band = masks.unit(mesh), rng.random() < _BAND
    tone = _tone(cloth, rng)
    broad = rng.random() < _BROAD
    width = (rng.uniform(3, 7) if broad else rng.uniform(0.7, 3.2)) * unit
    nose = mesh[4][0]
    reach = {sign: abs(mesh[line[1]][0] - nose) for line, sign in _SIDES}
    alpha, shine = (np.zeros(picture.shape[:2], np.float32) for _ in range(2))
    size = (picture.shape[1], picture.shape[0])
    for contour, sign in _SIDES:
        if rng.random() > _SIDE:
            continue
        # On a turned head the far ear lies behind the cheek's edge, the near one well this side.
        near = reach[sign] / max(float(np.mean(list(reach.values()))), 1)
        for low in (False, True):
            corner = _corner(polygon, sign, low)
            if corner is None or rng.random() > _CORNER:
                continue
            end = _band_end(mesh, contour, low, rng) if band else _ear(mesh, contour, low, rng)
            out = rng.uniform(2, 12) if band else rng.uniform(-1, 7)
            end = end + (sign * unit * out * np.clip(near, 0.1, 1.6) ** 1.5, 0)
            line = _bow(corner - (sign * 2 * unit, 0), end, rng)
            inner = width * rng.uniform(0.3, 0.7)
            alpha = np.maximum(alpha, masks.strokes([(line, width)], size))
            shine = np.maximum(shine, masks.strokes([(line, inner)], size))
    return _laid(picture, tone, alpha, shine, unit, rng)


_SIDES = ((LEFT_CONTOUR, -1), (RIGHT_CONTOUR, 1))


def _tone(cloth: Array, rng: Generator) -> Array:
    """A strap's colour: white, grey or black elastic, that of the cloth, or any."""
    kind = rng.random()
    if kind < 0.55:
        grey = rng.uniform(0.75, 1) if rng.random() < 0.6 else rng.uniform(0.03, 0.6)
        return np.float32([0.95] * 3) * np.float32(grey) + rng.normal(0, 0.015, 3)
    return cloth * rng.uniform(0.7, 1.1) if kind < 0.75 else masks.colour(rng)


def _corner(polygon: Points, sign: int, low: bool) -> Points | None:
    """The point of an outline that lies farthest out and up, or down, on one side."""
    side = polygon[(polygon[:, 0] - polygon[:, 0].mean()) * sign > 0]
    if len(side) == 0:
        return None
    farthest = np.argmax(side[:, 0] * sign + side[:, 1] * (0.8 if low else -0.8))
    return np.asarray(side[farthest], np.float32)


def _ear(mesh: Points, contour: tuple[int, ...], low: bool, rng: Generator) -> Points:
    """Where a loop is lost behind the ear: above it, or at its lobe."""
    ends = (0.10, 0.34) if low and rng.random() < 0.75 else (-0.04, 0.14)
    line = mesh[list(contour)]
    t = rng.uniform(*ends)
    return masks.along(line, max(t, 0)) + np.float32(min(t, 0)) * (line[-1] - line[0])


def _band_end(mesh: Points, contour: tuple[int, ...], low: bool, rng: Generator) -> Points:
    """Where a band leaves the face: above the ear, or under its lobe."""
    line = mesh[list(contour)]
    face = line[-1] - line[0]
    return line[0] + np.float32(rng.uniform(0.25, 0.5) if low else -rng.uniform(0.05, 0.3)) * face


def _bow(start: Points, end: Points, rng: Generator) -> Points:
    """A line (9, 2) between two points, bent as a cord is that lies on a cheek or hangs."""
    t = np.linspace(0, 1, 9)[:, None]
    across = np.array([start[1] - end[1], end[0] - start[0]])
    return np.asarray(start + t * (end - start) + 4 * t * (1 - t) * rng.normal(0, 0.05) * across)


def _laid(
    picture: Array, tone: Array, alpha: Mask, shine: Mask, unit: float, rng: Generator
) -> tuple[Array, Mask, Mask]:
    """The picture with straps laid on, in its light, rounder than paper, with their shadow; their
    share and what that leaves of the light (h, w)."""
    grey = cv2.GaussianBlur(picture.mean(2), (0, 0), 8 * unit)
    typical = float((grey * alpha).sum() / max(float(alpha.sum()), 1e-3))
    light = (grey / max(typical, 0.05)).clip(0.3, 1.7) ** rng.uniform(0, 1.2)
    light = light * (max(typical, 0.08) / 0.5) ** rng.uniform(0, 1) * rng.uniform(0.75, 1.25)
    light = light * (1 + rng.uniform(-0.05, 0.35) * (shine - 0.7))
    x, y = rng.normal(0, 0.8, 2) * unit + (0, 0.6 * unit)
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, 1.5) * unit)
    shadow = cv2.warpAffine(soft, shift, alpha.shape[::-1])
    shade = np.asarray(1 - rng.uniform(0, 0.5) * shadow, np.float32)
    under = picture * shade[..., None]
    cover = alpha[..., None] * np.float32(rng.uniform(0.8, 1))  # some elastic lets skin through
    lit = (tone * light[..., None]).clip(0, 1)
    return np.asarray(under + (lit - under) * cover, np.float32), alpha, shade
