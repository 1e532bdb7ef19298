"""Masked clips whose truth is known in every frame: section E of evaluation.md.

`portraits`: a face of LFW, dressed once and then moved, turned, lit and photographed frame by frame
in a way that is known. `footage`: real clips of people without masks, each dressed with one mask
that follows the face. Nothing is kept on disk; the same seed gives the same clips.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from stream_unmask.faces.crop import cut
from stream_unmask.faces.landmarks import anchors
from stream_unmask.faces.smoothing import SteadyFace
from stream_unmask.faces.tracker import Tracker
from stream_unmask.models.profile import PORTRAIT
from stream_unmask.types import Face, Image, Mask, Points
from stream_unmask.unmask import widen
from stream_unmask.video.frame import to_rgb
from stream_unmask.video.reader import Reader
from training import synthesis
from training.dataset import FaceSet, Samples, face_finder
from training.masks import Array
from training.synthesis import Trio

LENGTH = 40  # frames of a clip
SIZE = (400, 320)  # width and height of those made of portraits
GRAIN = 1.5 / 255  # sigma of the camera's noise
EYES = 62.0  # px between them at rest
SWITCH = 20  # the frame of a cut, of a jump, and of every taking on
OFF = 32  # the frame in which the mask is taken off again
_COVERED = (4, 61, 291, 17, 205, 425)  # nose tip, mouth corners, lower lip, both cheeks
_LARGEST = 4.0  # area of a mask, in squares over the distance between the eyes
_KNOTS = 48  # points of the mesh by which a mask follows a face


@dataclass(frozen=True)
class Clip:
    """frames, truth: RGB uint8 (h, w, 3), with the mask and without. maps: (h, w) where that is,
    0..1. wide: (h, w) the same as the product widens it to repaint.

    held: (2, 2) where the face's anchors truly are in each frame, up to a constant offset. worn: of
    each frame, whether a mask is worn at all.
    """

    name: str
    frames: list[Image]
    truth: list[Image]
    maps: list[Mask]
    wide: list[Mask]
    held: list[Points]
    worn: list[bool]


@dataclass(frozen=True)
class Moment:
    """How a portrait is seen in one frame: moved by a homography (3, 3) about the face's middle,
    blurred by sigma in pixels, lit by gains (left and right of the picture)."""

    moved: NDArray[np.float64]
    blur: float = 0.0
    light: tuple[float, float] = (1.0, 1.0)


Motion = Callable[[float], Moment]


def _similar(x: float = 0, y: float = 0, zoom: float = 1, degrees: float = 0) -> Moment:
    turn = np.deg2rad(degrees)
    c, s = zoom * np.cos(turn), zoom * np.sin(turn)
    return Moment(np.array([[c, -s, x], [s, c, y], [0, 0, 1]]))


def _turned(degrees: float) -> Moment:
    """The picture's plane turned about the vertical, seen from five face widths away."""
    turn = np.deg2rad(degrees)
    return Moment(np.array([[np.cos(turn), 0, 0], [0, 1, 0], [np.sin(turn) / 700, 0, 1]]))


def _wave(t: float, frames: float = 25) -> float:
    return float(np.sin(2 * np.pi * t / frames))


STILL, CUT, JUMP, ON_OFF = "still", "cut", "jump", "on and off"
MOTIONS: dict[str, Motion] = {
    STILL: lambda t: _similar(),
    "sideways": lambda t: _similar(40 * _wave(t), 8 * _wave(t, 14)),
    "nearer": lambda t: _similar(zoom=1 + 0.22 * _wave(t, 30)),
    "roll": lambda t: _similar(degrees=18 * _wave(t, 30)),
    "turn": lambda t: _turned(30 * _wave(t, 30)),
    "blur": lambda t: Moment(_similar(10 * _wave(t)).moved, 2.5 * abs(_wave(t, 40))),
    "light": lambda t: Moment(np.eye(3), 0, (1 + 0.35 * _wave(t, 30), 1 - 0.25 * _wave(t, 20))),
    JUMP: lambda t: _similar(0 if t < SWITCH else 60, 0),
    CUT: lambda t: _similar(-15 if t < SWITCH else 20, 0),
    ON_OFF: lambda t: _similar(3 * _wave(t)),
}  # fmt: skip


def portraits(faces: FaceSet, people: int, seed: int) -> Iterator[Clip]:
    """For each kind of motion, clips of so many people of a face set's validation split."""
    templates = synthesis.drawn_templates()
    samples = Samples([faces.split(True)], [1.0], PORTRAIT, templates, seed, 0.0, 0.0)
    for place, (kind, motion) in enumerate(MOTIONS.items()):
        for number in range(people):
            rng = np.random.default_rng((seed, number, place))
            people_in_it = [_dressed(samples, rng) for _ in range(1 + (kind == CUT))]
            yield _played(f"{kind} {number + 1}", kind, motion, people_in_it, rng)


@dataclass(frozen=True)
class _Portrait:
    """A dressed face in a frame of `SIZE`, and where its anchors are in it."""

    face: Array
    masked: Array
    mask: Mask
    wide: Mask
    held: Points


def _dressed(samples: Samples, rng: Generator) -> _Portrait:
    """A face that looks ahead, with a wide mask, in the middle of a frame."""
    (faces,) = samples.sets
    while True:
        index = int(rng.integers(len(faces.names)))
        middle = np.array(SIZE, np.float32) / 2
        eyes = (middle + np.array([(-EYES / 2, -30), (EYES / 2, -30)])).astype(np.float32)
        crop = faces.crop(index, eyes, SIZE)
        assert crop.mesh is not None
        trio = _worn(crop.image, crop.mesh, rng)
        if trio is not None:
            worn = np.maximum(trio.mask, trio.straps)
            # Without the mask: all else, a hand or a microphone, stays where it was.
            lit, off = trio.face * trio.lit[..., None], cv2.dilate(worn, np.ones((3, 3))) > 0.01
            bare = np.where(off[..., None], lit, trio.masked)
            return _Portrait(bare, trio.masked, worn, _widened(worn), anchors(crop.mesh))


def _worn(image: Image, mesh: Points, rng: Generator) -> Trio | None:
    """The trio of a face with a mask as it should be worn, over nose and mouth; None if it is not:
    this is about steadiness, not about what can be found at all."""
    trio = synthesis.wear(image.astype(np.float32) / 255, mesh, rng)
    x, y = np.rint(mesh[list(_COVERED)]).astype(int).T
    inside = x.min() >= 0 and y.min() >= 0 and x.max() < image.shape[1] and y.max() < image.shape[0]
    covered = inside and bool((trio.mask[y, x] > 0.5).all())
    return trio if covered and float(trio.mask.sum()) < _LARGEST * PORTRAIT.unit**2 else None


def _widened(worn: Mask) -> Mask:
    """The map as the product widens it; faces are as large here as in a crop."""
    return widen((worn > 0.5).astype(np.float32), PORTRAIT)


def _played(name: str, kind: str, motion: Motion, people: list[_Portrait], rng: Generator) -> Clip:
    clip = Clip(name, [], [], [], [], [], [])
    for t in range(LENGTH):
        person, moment = people[-1 if t >= SWITCH else 0], motion(t)
        middle = person.held.mean(0) + (0, 25)
        there = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]])
        matrix = there @ moment.moved @ np.linalg.inv(there)
        bare = kind == ON_OFF and not SWITCH <= t < OFF
        noise = GRAIN * rng.standard_normal((SIZE[1], SIZE[0], 3), np.float32)
        face, masked, mask, wide = (
            cv2.warpPerspective(
                part, matrix, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
            for part in (person.face, person.masked, person.mask, person.wide)
        )
        if bare:
            masked, mask, wide = face, np.zeros_like(mask), np.zeros_like(mask)
        clip.truth.append(_shot(face, moment, noise))
        clip.frames.append(_shot(masked, moment, noise))
        clip.maps.append(mask)
        clip.wide.append(wide)
        corners = cv2.perspectiveTransform(person.held[None].astype(np.float64), matrix)[0]
        clip.held.append(corners.astype(np.float32))
        clip.worn.append(not bare)
    return clip


def _shot(picture: Array, moment: Moment, noise: Array) -> Image:
    """The picture as a camera takes it at a moment."""
    if moment.blur > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), moment.blur)
    light = np.linspace(*moment.light, picture.shape[1], dtype=np.float32)[None, :, None]
    return np.asarray(np.rint(((picture * light + noise) * 255).clip(0, 255)), np.uint8)


def footage(path: Path, start: float, seed: int) -> Clip:
    """A real clip of someone without a mask, from `start` seconds on, with a mask that follows."""
    rng = np.random.default_rng((seed, round(start * 100)))
    frames: list[Image] = []
    with Reader(path, start, None) as reader:
        for frame in reader:
            frames.append(to_rgb(frame.picture))
            if len(frames) == LENGTH:
                break
    detector, landmarker = face_finder()
    tracker = Tracker(detector, landmarker)
    faces, steady = (
        [max(tracker(image), key=lambda face: face.side) for image in frames],
        SteadyFace(),
    )
    pairs = zip(frames, faces, strict=True)
    meshes = np.stack([_mesh(steady(image, face)) for image, face in pairs])
    layer = _Layer.worn(frames[0], meshes[0], rng)
    clip = Clip(f"{path.stem} {start:g} s", [], [], [], [], [], [])
    for image, mesh in zip(frames, meshes, strict=True):
        masked, mask, wide = layer.on(image, mesh)
        clip.frames.append(masked)
        clip.truth.append(image)
        clip.maps.append(mask)
        clip.wide.append(wide)
        clip.held.append(anchors(mesh))
        clip.worn.append(True)
    return clip


def _mesh(face: Face) -> Points:
    assert face.mesh is not None
    return face.mesh


@dataclass(frozen=True)
class _Layer:
    """A mask by itself, cut out of a crop: paint (h, w, 3), share and the same widened (h, w), and
    that crop's mesh."""

    paint: Array
    share: Mask
    wide: Mask
    mesh: Points

    @classmethod
    def worn(cls, image: Image, mesh: Points, rng: Generator) -> "_Layer":
        held = anchors(mesh)
        face = Face((0, 0, 1, 1), held, 1.0, mesh, held)
        crop = cut(image, face, PORTRAIT.eyes, PORTRAIT.size)
        assert crop.mesh is not None
        while True:
            trio = _worn(crop.image, crop.mesh, rng)
            if trio is not None:
                break
        share = np.maximum(trio.mask, trio.straps)
        # Its colours, carried beyond its edge, where the picture shows half skin.
        sure = (share > 0.95).astype(np.float32)
        near = cv2.GaussianBlur(trio.masked * sure[..., None], (0, 0), 2)
        around = near / np.maximum(cv2.GaussianBlur(sure, (0, 0), 2), 1e-3)[..., None]
        paint = np.where(sure[..., None] > 0, trio.masked, around)
        return cls(paint.astype(np.float32), share, _widened(share), crop.mesh)

    def on(self, image: Image, mesh: Points) -> tuple[Image, Mask, Mask]:
        """A picture with the mask laid on a face (468, 2), where it is and that widened (h, w)."""
        low, high = mesh.min(0), mesh.max(0)
        beyond = 0.4 * float((high - low).max())  # where straps go
        low, high = np.floor(low - beyond), np.ceil(high + beyond)
        x0, y0 = np.maximum(low.astype(int), 0)
        x1, y1 = np.minimum(high.astype(int), (image.shape[1], image.shape[0]))
        knots = np.linspace(0, 467, _KNOTS).astype(int)
        back = RBFInterpolator(
            mesh[knots], self.mesh[knots], kernel="thin_plate_spline", smoothing=5, degree=1
        )
        xs, ys = np.arange(x0, x1 + 8, 8), np.arange(y0, y1 + 8, 8)
        coarse = back(np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2))
        grid = coarse.reshape(len(ys), len(xs), 2).astype(np.float32)
        rows, columns = np.indices((y1 - y0, x1 - x0), np.float32)
        at = cv2.remap(
            grid, columns / 8, rows / 8, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        paint, share, wide = (
            cv2.remap(part, at, None, cv2.INTER_LINEAR)
            for part in (self.paint, self.share, self.wide)
        )
        result = image.copy()
        area = result[y0:y1, x0:x1].astype(np.float32)
        laid = area + (paint * 255 - area) * share[..., None]
        result[y0:y1, x0:x1] = np.rint(laid.clip(0, 255)).astype(np.uint8)
        maps = np.zeros((2, *image.shape[:2]), np.float32)
        maps[:, y0:y1, x0:x1] = share, wide
        return result, maps[0], maps[1]
