"""Draws face masks: outlines on the face mesh, fabrics, folds and light. No picture file is needed.

Everything works in the aligned frame of a crop (eyes level), on float32 RGB in 0..1.
"""

import math
from collections.abc import Callable, Iterable
from functools import cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stream_unmask.types import Points

Array = NDArray[np.float32]

# MediaPipe face mesh: the face's contour from ear to chin on each side of the picture, and the
# line down the middle from between the eyes to the chin.
LEFT_CONTOUR = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)
RIGHT_CONTOUR = (356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152)
MIDDLE = (168, 6, 197, 195, 5, 4, 2, 0, 17, 152)
PAPER_COLOURS = {
    "blue": (0.45, 0.65, 0.85),
    "black": (0.09, 0.09, 0.10),
    "white": (0.93, 0.93, 0.93),
    "teal": (0.10, 0.55, 0.55),
}
TILE = 192


def unit(mesh: Points) -> float:
    """How large a face (mesh 468, 2) is beside those of the paper's crop: widths and blurs that
    are given in pixels here are that crop's."""
    return float(np.hypot(*(mesh[152] - mesh[168]))) / 72


def along(points: Points, t: float) -> Points:
    """The point at fraction t (0..1) of a polyline's length."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    at = np.concatenate([[0], np.cumsum(steps)]) / max(float(steps.sum()), 1e-6)
    return np.array([np.interp(t, at, points[:, i]) for i in (0, 1)], np.float32)


def smooth(points: Points, rounds: int) -> Points:
    """A closed polygon with its corners cut `rounds` times (Chaikin)."""
    for _ in range(rounds):
        ahead = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * ahead, 0.25 * points + 0.75 * ahead], 1)
        points = points.reshape(-1, 2)
    return points


def outline(mesh: Points, rng: Generator) -> Points:
    """The outline (n, 2) of a mask as people really wear them: any cut, wide, low or skewed."""
    left, right, middle = (mesh[list(line)] for line in (LEFT_CONTOUR, RIGHT_CONTOUR, MIDDLE))
    chin, face = mesh[152], float(np.hypot(*(mesh[152] - mesh[168])))
    low = rng.random()
    nose = along(middle, rng.uniform(0.05, 0.34) if low > 0.13 else rng.uniform(0.36, 0.66))
    # The nose bridge stands out from the chord between the cheeks.
    skew, lift = rng.normal(0, 0.035), rng.uniform(-0.05, 0.06) * face
    kind = rng.choice(["surgical", "cup", "cloth", "drape"], p=[0.38, 0.22, 0.26, 0.14])
    points = [nose]
    for side, sign in ((right, 1.0), (left, -1.0)):
        start = max(0.02, rng.uniform(0.05, 0.36) + (0.12 if low <= 0.13 else 0) + sign * skew)
        out = rng.uniform(-0.06, 0.12) * face * sign
        top = along(side, start) + (out, 0)
        bottom_at = {"surgical": rng.uniform(0.5, 0.8), "cup": rng.uniform(0.45, 0.7)}.get(
            kind, rng.uniform(0.5, 0.85)
        )
        bottom = along(side, max(bottom_at, start + 0.12))
        bottom = bottom + (out * rng.uniform(0.3, 1.2), rng.uniform(0, 0.06) * face)
        cheek = 0.5 * (nose + top) + (0, lift + rng.normal(0, 0.012) * face)
        if kind == "drape":
            fall = rng.uniform(0.15, 0.9) * face
            bottom = along(side, 0.75) + (out + sign * rng.uniform(0, 0.12) * face, 0)
            jaw = bottom + (sign * rng.uniform(-0.15, 0.2) * face, fall)
        else:
            jaw = along(side, rng.uniform(0.8, 0.93))
            jaw = jaw + (0, rng.uniform(-0.01, 0.10) * face)
        edge = [cheek, top, 0.5 * (top + bottom) + (out * rng.uniform(-0.6, 0.5), 0), bottom, jaw]
        points = points + edge if sign > 0 else edge[::-1] + points
    tip = rng.uniform(-0.02, 0.16) * face if kind != "drape" else rng.uniform(0.2, 1.1) * face
    # Ring order: left edge (bottom up), nose, right edge (top down), then the chin closes it.
    ring = np.array([*points, chin + (rng.normal(0, 0.02) * face, tip)], np.float32)
    if rng.random() < 0.85:
        ring = _bulged(ring, mesh[4], face, rng.uniform(0, 0.25) * face)
    ring += rng.normal(0, 0.008 * face, ring.shape)
    return smooth(ring.astype(np.float32), int(rng.integers(1, 4)))


def _bulged(ring: Points, nose: Points, face: float, by: float) -> Points:
    """An outline (n, 2) that below the nose stands off the face by so much, as stiff or thick cloth
    does: to a camera it reaches beyond cheeks, jaw and chin."""
    away = ring - nose
    lower = (away[:, 1:] / (0.3 * face)).clip(0, 1)
    return ring + lower * by * away / np.hypot(*away.T)[:, None]


def fill(polygon: Points, size: tuple[int, int]) -> Array:
    """The area share (h, w) 0..1 of each pixel that a polygon covers."""
    big = np.zeros((size[1] * 4, size[0] * 4), np.uint8)
    corners = np.rint(((polygon + 0.5) * 4 - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(big, [corners], 255, shift=4)
    return cv2.resize(big, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def strokes(lines: Iterable[tuple[Points, float]], size: tuple[int, int]) -> Array:
    """The area share (h, w) 0..1 of each pixel that lines (n, 2) of some width cover, together."""
    big = np.zeros((size[1] * 4, size[0] * 4), np.uint8)
    for line, width in lines:
        points = np.rint(((line + 0.5) * 4 - 0.5) * 16).astype(np.int32)
        cv2.polylines(big, [points], False, 255, max(round(4 * width), 1), shift=4)
    return cv2.resize(big, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@cache
def grid(size: tuple[int, int]) -> tuple[Array, Array]:
    """x and y (h, w) of every pixel."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    return x, y


def noise(
    rng: Generator, cells: tuple[int, int], size: tuple[int, int], channels: int = 1
) -> Array:
    """Smooth noise (h, w) or (h, w, channels), about -1..1, with `cells` (across, down) bumps."""
    coarse = rng.normal(0, 0.5, (cells[1], cells[0], channels)).astype(np.float32)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def colour(rng: Generator) -> Array:
    """A fabric's colour: mostly the usual ones, otherwise any."""
    usual = [(0.55, 0.75, 0.88), (0.93, 0.94, 0.94), (0.07, 0.07, 0.08), (0.30, 0.55, 0.70)]
    usual += [(0.5, 0.5, 0.52), (0.1, 0.15, 0.3), (0.85, 0.6, 0.65), (0.6, 0.8, 0.72)]
    if rng.random() < 0.6:
        base = np.array(usual[rng.integers(len(usual))]) + rng.normal(0, 0.05, 3)
    else:
        hue = np.array([[[rng.uniform(0, 360), rng.random() ** 0.7, rng.uniform(0.1, 1)]]])
        base = cv2.cvtColor(hue.astype(np.float32), cv2.COLOR_HSV2RGB)[0, 0]
    return np.clip(base, 0.02, 1).astype(np.float32)


def _plain(rng: Generator) -> Array:
    return np.broadcast_to(colour(rng), (TILE, TILE, 3)).copy()


def _stripes(rng: Generator) -> Array:
    x, y = grid((TILE, TILE))
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 40)
    duty, a, b = rng.uniform(-0.7, 0.7), colour(rng), colour(rng)
    wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * np.pi / period))
    blend = np.clip((wave - duty) * 3 + 0.5, 0, 1)
    if rng.random() < 0.45:  # gingham, tartan
        across = np.sin((y * math.cos(angle) - x * math.sin(angle)) * (2 * np.pi / period))
        blend = 0.5 * (blend + np.clip((across - duty) * 3 + 0.5, 0, 1))
    return a + (b - a) * blend[..., None]


def _dots(rng: Generator) -> Array:
    tile, b = _paintable(rng), colour(rng) * 255
    step, radius = int(rng.integers(10, 40)), rng.uniform(0.12, 0.45)
    for row, y in enumerate(range(0, TILE + step, step)):
        for x in range(-step, TILE + step, step):
            centre = (x + (step // 2) * (row % 2), y)
            cv2.circle(tile, centre, max(int(step * radius), 1), b.tolist(), -1, cv2.LINE_AA)
    return tile.astype(np.float32) / 255


def _paintable(rng: Generator) -> NDArray[np.uint8]:
    """Plain cloth in bytes: OpenCV smooths the edges of what it draws on nothing else."""
    return (_plain(rng) * 255).astype(np.uint8)


def _blobs(rng: Generator) -> Array:
    """Camouflage, flowers, tie-dye: thresholded or raw smooth noise in several colours."""
    cells = int(rng.integers(4, 30))
    tile, hard = _plain(rng), rng.random() < 0.7
    for _ in range(int(rng.integers(1, 4))):
        layer = noise(rng, (cells, cells), (TILE, TILE))
        weight = np.clip(layer * (8 if hard else 1) - 0.5, 0, 1)[..., None]
        tile = tile + (colour(rng) - tile) * weight
    return tile


def _print(rng: Generator) -> Array:
    """A logo, letters or a mouth-like drawing on plain cloth."""
    tile, ink = _paintable(rng), (colour(rng) * 255).tolist()
    for _ in range(int(rng.integers(1, 5))):
        at = tuple(int(v) for v in rng.integers(10, TILE - 40, 2))
        if rng.random() < 0.6:
            text = "".join(rng.choice(list("ABCDEFGHKLMNOPRSTUVXYZ0123456789"), rng.integers(1, 8)))
            cv2.putText(
                tile, text, at, int(rng.integers(0, 8)), rng.uniform(0.4, 2.2), ink,
                int(rng.integers(1, 5)), cv2.LINE_AA,
            )  # fmt: skip
        else:
            axes = tuple(int(v) for v in rng.integers(4, 50, 2))
            width = int(rng.choice([-1, 2, 4]))
            cv2.ellipse(tile, at, axes, rng.uniform(0, 180), 0, 360, ink, width, cv2.LINE_AA)
    return tile.astype(np.float32) / 255


def _speckle(rng: Generator) -> Array:
    """Melange, denim, lace: fine noise in one or three channels."""
    tile, cells = _plain(rng), int(rng.integers(40, TILE))
    channels = int(rng.choice([1, 3]))
    speck = noise(rng, (cells, max(cells // int(rng.integers(1, 5)), 4)), (TILE, TILE), channels)
    return tile + rng.uniform(0.05, 0.4) * speck.reshape(TILE, TILE, channels)


FABRICS: tuple[Callable[[Generator], Array], ...] = (
    _plain, _stripes, _dots, _blobs, _print, _speckle,
)  # fmt: skip


def _cloth(rng: Generator, picture: Callable[[], Array] | None = None) -> Array:
    """A cloth (TILE, TILE, 3); `picture()` gives a patch of any photograph to serve as print."""
    if picture is not None and rng.random() < 0.12:
        tile = cv2.resize(picture(), (TILE, TILE), interpolation=cv2.INTER_AREA)
    else:
        maker = FABRICS[rng.choice(len(FABRICS), p=[0.5, 0.1, 0.07, 0.13, 0.1, 0.1])]
        tile = maker(rng)
    return tile


def fabric(rng: Generator, picture: Callable[[], Array] | None = None) -> Array:
    """As `_cloth`, at times sewn together from panels, and with its weave."""
    tile = _cloth(rng, picture)
    if rng.random() < 0.12:
        x, y = grid((TILE, TILE))
        angle = rng.choice([0.0, 0.0, math.pi / 2, rng.uniform(0, math.pi)])
        side = (x - TILE / 2) * math.cos(angle) + (y - TILE / 2) * math.sin(angle)
        panel = side > rng.normal(0, TILE / 10)
        tile = np.where(panel[..., None], _cloth(rng, picture), tile)
    if rng.random() < 0.5:  # weave
        weave = rng.normal(0, rng.uniform(0.005, 0.04), (TILE, TILE, 1)).astype(np.float32)
        tile = tile + weave
    return np.clip(tile, 0, 1).astype(np.float32)


def drape(tile: Array, polygon: Points, size: tuple[int, int], rng: Generator) -> Array:
    """The cloth laid over the face inside the polygon's box: (h, w, 3), bent round the head."""
    u, v = uv(polygon, size)
    bend, sag = rng.uniform(0, 0.35), rng.normal(0, 0.25)
    zoom, turn = rng.uniform(0.35, 1.1), rng.normal(0, 0.25)
    x = u * (1 + bend * u * u)
    y = v + sag * u * u
    wobble = noise(rng, (4, 4), size, 2) * rng.uniform(0, 0.06)
    x, y = x + wobble[..., 0], y + wobble[..., 1]
    cos, sin = math.cos(turn) * zoom * TILE / 2, math.sin(turn) * zoom * TILE / 2
    map_x, map_y = x * cos - y * sin + TILE / 2, x * sin + y * cos + TILE / 2
    return cv2.remap(tile, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def folds(polygon: Points, size: tuple[int, int], rng: Generator) -> Array:
    """Shading (h, w) around 1: the curve of the head, pleats, seams, creases and wrinkles."""
    u, v = uv(polygon, size)
    shade = 1 - rng.uniform(0, 0.35) * u * u - rng.uniform(0, 0.25) * np.clip(v, 0, 2) ** 2
    shade = shade + rng.normal(0, 0.12) * u + rng.normal(0, 0.08) * v
    kind = rng.random()
    if kind < 0.45:  # pleats
        n, bow = int(rng.integers(2, 6)), rng.normal(0, 0.25)
        phase = (v + bow * u * u) * n * 0.5 + rng.random()
        shade = shade - rng.uniform(0.03, 0.25) * (phase % 1) ** rng.uniform(1, 6)
    elif kind < 0.7:  # centre seam
        shade = shade - rng.uniform(0.05, 0.3) * np.exp(-((u / rng.uniform(0.015, 0.05)) ** 2))
        shade = shade + rng.normal(0, 0.12) * np.sign(u)
    for _ in range(int(rng.integers(0, 5))):  # creases
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.8, 0.8)
        d = u * math.cos(angle) + v * math.sin(angle) + rng.normal(0, 0.3) * u * v - offset
        shade = shade + rng.normal(0, 0.12) * np.exp(-((d / rng.uniform(0.02, 0.12)) ** 2))
    cells = (int(rng.integers(2, 8)), int(rng.integers(2, 14)))
    return (shade + rng.uniform(0, 0.2) * noise(rng, cells, size)).astype(np.float32)


def uv(polygon: Points, size: tuple[int, int]) -> tuple[Array, Array]:
    """Coordinates -1..1 across and down the polygon's box, for every pixel."""
    x, y = grid(size)
    low, high = polygon.min(0), np.minimum(polygon.max(0), np.multiply(size, 1.2))
    (cx, cy), (rx, ry) = (low + high) / 2, np.maximum((high - low) / 2, 1)
    return (x - float(cx)) / float(rx), (y - float(cy)) / float(ry)
