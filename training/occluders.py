"""Draws what hides a face without being a mask: hands, hair, glasses, scarves, microphones.

As in `training.masks`, pictures are float32 RGB in 0..1, in the pixels of a crop.
"""

import cv2
import numpy as np
from numpy.random import Generator

from stream_unmask.types import Mask, Points
from training import masks
from training.masks import Array


def in_front(masked: Array, face: Array, mesh: Points, rng: Generator) -> tuple[Array, Mask]:
    """Hair, hands, glasses and microphones laid over a picture, now and then, and how much of
    the rest is still to be seen (h, w)."""
    seen = np.ones(face.shape[:2], np.float32)
    layers = []
    if rng.random() < 0.10:
        layers.append(hand(face, mesh, rng))
    if rng.random() < 0.06:
        layers.append(_strands(face, mesh, rng))
    if rng.random() < 0.15:
        layers.append(_glasses(mesh, face.shape, rng))
    if rng.random() < 0.03:
        layers.append(_microphone(mesh, face.shape, rng))
    for paint, alpha in layers:
        masked = masked + (paint - masked) * alpha[..., None]
        seen = seen * (1 - alpha)
    return masked, seen


def scarf(picture: Array, mesh: Points, rng: Generator) -> Array:
    """The picture with cloth around the neck, which is no mask."""
    size, face = (picture.shape[1], picture.shape[0]), float(np.hypot(*(mesh[152] - mesh[168])))
    top = mesh[152][1] + rng.uniform(0.02, 0.25) * face
    x = np.linspace(-5, size[0] + 5, 7)
    y = top - rng.uniform(0, 0.3) * face * (2 * x / size[0] - 1) ** 2 + rng.normal(0, 2, 7)
    ring = np.vstack([np.column_stack([x, y]), [(size[0] + 9, size[1] + 9), (-9, size[1] + 9)]])
    polygon = ring.astype(np.float32)
    cloth = masks.drape(masks.fabric(rng), polygon, size, rng)
    cloth = cloth * masks.folds(polygon, size, rng)[..., None]
    alpha = masks.fill(polygon, size)[..., None]
    return picture + (np.clip(cloth, 0, 1) - picture) * alpha


def _skin(face: Array, mesh: Points, rng: Generator) -> Array:
    """The colour of this person's skin, read off the cheeks and the forehead."""
    at = np.rint(mesh[[117, 346, 9, 151]]).astype(int)
    at = at.clip(0, (face.shape[1] - 1, face.shape[0] - 1))
    return np.median(face[at[:, 1], at[:, 0]], axis=0) * rng.uniform(0.8, 1.15)


def hand(face: Array, mesh: Points, rng: Generator) -> tuple[Array, Mask]:
    """Fingers from below or from a side: paint (h, w, 3) and coverage (h, w)."""
    height, width = face.shape[:2]
    alpha, shade = np.zeros((height, width), np.uint8), np.ones((height, width), np.float32)
    scale = float(np.hypot(*(mesh[152] - mesh[168])))
    tip = along_mouth = mesh[13] + rng.normal(0, 0.3, 2) * scale
    angle = rng.uniform(0.15, 0.85) * np.pi
    way = np.array([np.cos(angle), np.sin(angle)])
    thick = rng.uniform(0.12, 0.2) * scale
    for finger in range(int(rng.integers(1, 5))):
        side = np.array([-way[1], way[0]]) * thick * 1.02 * finger
        tip = along_mouth + side + way * rng.normal(0, 0.25) * thick
        knuckle = tip + way * scale * rng.uniform(0.45, 0.6)
        end = knuckle + (way + rng.normal(0, 0.3, 2)) * scale
        line = np.rint(np.stack([tip, knuckle, end]) * 16).astype(np.int32)
        one = np.zeros_like(alpha)
        cv2.polylines(one, [line], False, 255, max(int(thick), 2), cv2.LINE_AA, 4)
        round_ = cv2.distanceTransform((one > 127).astype(np.uint8), cv2.DIST_L2, 3)
        depth = np.clip(round_ / max(thick / 2, 1), 0, 1) ** 0.5
        shade = np.where(one > 0, 0.6 + 0.45 * depth, shade)
        alpha = np.maximum(alpha, one)
    texture = 1 + 0.05 * masks.noise(rng, (24, 24), (width, height))
    paint = np.clip(_skin(face, mesh, rng) * (shade * texture)[..., None], 0, 1)
    return paint.astype(np.float32), cv2.GaussianBlur(alpha, (0, 0), 0.7).astype(np.float32) / 255


def _strands(face: Array, mesh: Points, rng: Generator) -> tuple[Array, Mask]:
    (height, width), unit = face.shape[:2], masks.unit(mesh)
    alpha = np.zeros((height, width), np.uint8)
    x = rng.choice([rng.uniform(0, 0.35), rng.uniform(0.65, 1)]) * width
    for _ in range(int(rng.integers(2, 20))):
        across = rng.normal(x, np.array([9, 16, 25]) * unit)
        line = np.column_stack([across, (-5, height / 2, height + 7)])
        line = np.rint(line * 16).astype(np.int32)
        thick = max(round(rng.uniform(0.6, 2.4) * unit), 1)
        cv2.polylines(alpha, [line], False, 255, thick, cv2.LINE_AA, 4)
    tone = np.float32(rng.uniform(0.02, 0.5)) * np.float32([1, rng.uniform(0.6, 1), 0.6])
    return np.broadcast_to(tone, face.shape), alpha.astype(np.float32) / 255 * rng.uniform(0.5, 1)


def _glasses(mesh: Points, shape: tuple[int, ...], rng: Generator) -> tuple[Array, Mask]:
    alpha = np.zeros(shape[:2], np.uint8)
    eyes = (mesh[[33, 133]].mean(0), mesh[[362, 263]].mean(0))
    span = float(np.hypot(*(eyes[1] - eyes[0])))
    axes = (span * rng.uniform(0.33, 0.46), span * rng.uniform(0.22, 0.42))
    dark, thick = rng.random() < 0.25, max(round(rng.uniform(0.7, 3.4) * masks.unit(mesh)), 1)
    for eye in eyes:
        box = ((eye + (0, span * 0.06)).tolist(), (2 * axes[0], 2 * axes[1]), 0)
        if dark:
            cv2.ellipse(alpha, box, int(rng.integers(170, 256)), -1, cv2.LINE_AA)
        cv2.ellipse(alpha, box, 255, thick, cv2.LINE_AA)
    bridge = np.rint(np.stack([eyes[0] + (axes[0], 0), eyes[1] - (axes[0], 0)])).astype(np.int32)
    cv2.line(alpha, bridge[0].tolist(), bridge[1].tolist(), 255, thick, cv2.LINE_AA)
    tone = masks.colour(rng) * rng.uniform(0.05, 0.8)
    return np.broadcast_to(tone.astype(np.float32), shape), alpha.astype(np.float32) / 255


def _microphone(mesh: Points, shape: tuple[int, ...], rng: Generator) -> tuple[Array, Mask]:
    alpha = np.zeros(shape[:2], np.uint8)
    unit = masks.unit(mesh)
    at = mesh[152] + rng.normal(0, 12, 2) * unit
    radius = rng.uniform(8, 18) * unit
    end = at + np.array([rng.normal(0, 30), 130]) * unit
    cv2.line(alpha, np.intp(at).tolist(), np.intp(end).tolist(), 255, int(radius), cv2.LINE_AA)
    cv2.ellipse(alpha, (at.tolist(), (2 * radius, 2.6 * radius), 0), 255, -1, cv2.LINE_AA)
    tone = np.float32(rng.uniform(0.03, 0.5)) * np.ones(shape, np.float32)
    tone = tone * (1 + 0.5 * masks.noise(rng, (60, 60), (shape[1], shape[0])))[..., None]
    return tone, alpha.astype(np.float32) / 255
