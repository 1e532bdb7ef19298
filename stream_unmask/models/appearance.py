"""The appearance model: a first guess at the face under the mask, which the inpainter works from.

An active appearance model's texture (Cootes et al., 2001): once pose and shape are taken away, so
that every face's nose lies on every other's, faces are a mean and a few principal components. What
is seen of a face says which ones, and these say what is plausible where nothing is seen. It is a
mean of thousands of people: nobody's mouth, at the right place, in the right light.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.types import Mask, Points

Floats = NDArray[np.float32]

SCALE = 0.5  # of a crop's size: at which faces are compared and guessed
_NOISE = 0.5  # deviation that is no component's, 0..1: neighbouring texels do not err by themselves
_STRANGE = 0.12  # how far off a texel is, 0..1, from which it is glasses, hair, a hand
_ROUNDS = 2  # of fitting, the later ones without what was strange to the one before
_EVERY = 5  # texels are looked at
_NOSE_TIP = [1, 2, 4, 5, 19, 94, 98, 327]
_BY_MASK = 4.0  # sigma in pixels over which a mask's edge is soft to what it hides
_FAR = 3.0  # deviations from the mean mesh, beyond which nothing was learned
_EDGE = 2  # pixels beyond the mesh in which the face may still be
_INNER, _SOFT = 3, 2.5  # pixels from its edge where it is half a guess, and sigma of that


@dataclass(frozen=True)
class Texels:
    """Where each of n points lies on a mesh: at: (n, 2) pixels (x, y). corners: (n, 3) vertices of
    its triangle. shares: (n, 3) of each vertex, which sum to 1."""

    at: NDArray[np.intp]
    corners: NDArray[np.intp]
    shares: Floats

    def on(self, mesh: Points) -> Floats:
        """(n, 2): the points on another mesh."""
        return np.asarray((self.shares[..., None] * mesh[self.corners]).sum(1), np.float32)

    def areas(self, mesh: Points) -> Floats:
        """(n,): twice the areas of their triangles on another mesh, negative for their backs."""
        return _areas(mesh[self.corners])

    def __getitem__(self, which: Any) -> "Texels":
        return Texels(self.at[which], self.corners[which], self.shares[which])


@dataclass(frozen=True)
class Correction:
    """How far the landmarks of masked faces are off, as told by how they lie: a linear regression.

    A landmarker that was made for bare faces sees a mask's edge for the jaw, and makes its mesh
    smaller. mean: (936,) of meshes in a crop's pixels; directions: (936, k), in which they vary by
    1; offsets: (k + 1, 936), what each of these and, last, what all are off by.
    """

    mean: Floats
    directions: Floats
    offsets: Floats

    def __call__(self, mesh: Points, mask: Mask) -> Points:
        """Where the landmarks (468, 2) of a face would lie without its mask (h, w), 0..1."""
        scores = ((mesh.reshape(-1) - self.mean) @ self.directions).clip(-_FAR, _FAR)
        offsets = (scores @ self.offsets[:-1] + self.offsets[-1]).reshape(-1, 2)
        # What is seen lies where it was found, and a nose that is seen tells where the mouth is.
        soft = cv2.GaussianBlur(mask, (0, 0), _BY_MASK)
        x, y = np.rint(mesh).astype(int).T
        hidden = soft[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
        return np.asarray(mesh + offsets * (hidden * hidden[_NOSE_TIP].mean())[:, None], np.float32)


class Appearance:
    """What faces look like, fitted to what is seen of one. texels: those of its texture.

    vertices: (v,) those of the mesh that are used. shape: (v, 2) where they lie in texels.
    triangles: (t, 3) of them, those in front last. mean: (n, 3) and components: (k, n, 3), 0..1,
    over the n texels that they cover. deviations: (k,) of the components. correction: of meshes
    that were found with a mask on, for a crop that they hold.
    """

    def __init__(
        self,
        vertices: NDArray[np.integer[Any]],
        shape: Points,
        triangles: NDArray[np.integer[Any]],
        mean: Floats,
        components: Floats,
        deviations: Floats,
        correction: Correction,
    ) -> None:
        self._vertices, self._shape, self._triangles = vertices, shape, triangles
        self.texels = self.placed(shape, texture_size(shape))
        self._mean = mean.reshape(-1)
        self._components = components.reshape(len(components), -1)
        self._prior = np.diag((_NOISE / deviations) ** 2).astype(np.float32)
        self.correction = correction
        self._few = self.texels[::_EVERY]
        self._few_mean = mean[::_EVERY].reshape(-1)
        self._few_components = components[:, ::_EVERY].reshape(len(components), -1)

    @classmethod
    def load(cls, path: Path) -> "Appearance":
        """The model that `training.appearance` stored."""
        with np.load(path) as stored:
            scales = stored["scales"][:, None, None]
            return cls(
                stored["vertices"], stored["shape"], stored["triangles"],
                stored["mean"].astype(np.float32),
                stored["components"] * scales, stored["deviations"],
                Correction(
                    *(stored[f"mesh_{part}"].astype(np.float32)
                      for part in ("mean", "directions", "offsets"))
                ),
            )  # fmt: skip

    def __call__(self, image: Floats, mask: Mask, mesh: Points | None) -> Floats:
        """A guess at a picture without what hides it (h, w, 4): RGB, and its face's share, 0..1.

        Beyond the face it is what is seen around, smoothly continued, as all of it is without a
        mesh. The share falls to 0 within the face, whose mesh is least sure at its edge.

        image: (h, w, 3), 0..1. mask: (h, w), 1 where it is hidden. mesh: (468, 2) in its pixels.
        """
        height, width = mask.shape
        size = round(width * SCALE), round(height * SCALE)
        small = _resized(image, size, cv2.INTER_AREA)
        hidden = _resized(mask, size, cv2.INTER_AREA)
        face = np.zeros((size[1], size[0], 4), np.float32)
        if mesh is not None and np.isfinite(mesh).all():
            placed = scaled(mesh)[self._vertices]
            face = self._rendered(self._fitted(small, hidden, placed), placed, size)
        near = cv2.dilate(face[..., 3], np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8))
        around = surroundings(small, np.asarray((1 - near) * (hidden == 0), np.float32))
        on_face = _softened(face[..., 3], 1, 1.2)[..., None]
        share = _softened(face[..., 3], _INNER, _SOFT)
        guess = np.dstack([around + on_face * (face[..., :3] - around), share])
        return _resized(guess, (width, height), cv2.INTER_LINEAR)

    def texture(self, picture: Floats, mesh: Points) -> Floats:
        """(n, c): what a picture (h, w, c) at SCALE shows of the face whose mesh (468, 2) lies
        there."""
        return _at(picture, self.texels.on(mesh[self._vertices]))

    def placed(self, mesh: Points, size: tuple[int, int]) -> Texels:
        """The pixels of a picture (width, height) that a mesh (v, 2) covers, and where on it they
        lie."""
        at, numbers = self._covered(mesh, size)
        vertices = self._triangles[numbers]
        a, b, c = (mesh[vertices[:, i]] for i in range(3))
        whole = _cross(b - a, c - a)
        second = _cross(at - a, c - a) / whole
        third = _cross(b - a, at - a) / whole
        # Pixels on an edge may lie a little outside.
        shares = np.stack([1 - second - third, second, third], 1).clip(0, 1)
        shares /= shares.sum(1, keepdims=True)
        return Texels(at, vertices.astype(np.intp), shares.astype(np.float32))

    def _covered(
        self, mesh: Points, size: tuple[int, int]
    ) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """The pixels (n, 2) that a mesh covers, and by which of its triangles (n,)."""
        fronts = _areas(mesh[self._triangles]) > 0
        drawn = np.full((size[1], size[0]), -1, np.int32)
        corners = np.rint(mesh * 16).clip(-(1 << 20), 1 << 20).astype(np.int32)[self._triangles]
        for number in np.nonzero(fronts)[0].tolist():
            cv2.fillConvexPoly(drawn, corners[number], number, shift=4)
        y, x = np.nonzero(drawn >= 0)
        return np.stack([x, y], 1), drawn[y, x]

    def _fitted(self, picture: Floats, hidden: Mask, mesh: Points) -> Floats:
        """(n, 3): the texture that is most plausible given what is seen of it."""
        points = self._few.on(mesh)
        seen = _at(np.dstack([picture, hidden]), points)
        off = seen[:, :3].reshape(-1) - self._few_mean
        inside = (points >= 0).all(1) & (points <= np.array(hidden.shape[::-1]) - 1).all(1)
        # What faces away from the camera is squeezed into few pixels.
        squeezed = (self._few.areas(mesh) / self._few.areas(self._shape)).clip(0, 1)
        trust = np.asarray(squeezed * (inside & (seen[:, 3] == 0)), np.float32)
        weights = trust
        for _ in range(_ROUNDS):
            weighted = self._few_components * np.repeat(weights, 3)
            normal = weighted @ self._few_components.T + self._prior
            factors = np.linalg.solve(normal, weighted @ off).astype(np.float32)
            left = (off - factors @ self._few_components).reshape(-1, 3)
            weights = trust / (1 + (left**2).mean(1) / np.float32(_STRANGE**2))
        return np.asarray(self._mean + factors @ self._components).reshape(-1, 3)

    def _rendered(self, texture: Floats, mesh: Points, size: tuple[int, int]) -> Floats:
        """The texture (n, 3) on a mesh, and 1 where that lies (h, w, 4)."""
        width, height = texture_size(self._shape)
        # A texture without holes at its edge, where four texels are mixed.
        whole = np.tile(texture.mean(0), (height, width, 1)).astype(np.float32)
        x, y = self.texels.at.T
        whole[y, x] = texture
        at, numbers = self._covered(mesh, size)
        ways = _ways(mesh[self._triangles], self._shape[self._triangles])[numbers]
        x, y = at.T
        places = (ways @ np.stack([x, y, np.ones_like(x)], 1, dtype=np.float32)[..., None])[..., 0]
        drawn = np.zeros((size[1], size[0], 4), np.float32)
        drawn[y, x, :3] = _at(whole, places).clip(0, 1)
        drawn[y, x, 3] = 1
        return drawn


def surroundings(picture: Floats, seen: Mask) -> Floats:
    """(h, w, 3): the picture where it is `seen` (h, w), 0..1, smoothly continued where it is not.

    Push-pull (Gortler et al., 1996): what has no colour takes that of a coarser picture.
    """
    finest = np.dstack([picture * seen[..., None], seen])
    levels = [np.asarray(finest, np.float32)]
    while min(levels[-1].shape[:2]) > 1:
        coarser = np.asarray(cv2.pyrDown(levels[-1]), np.float32)
        weight = coarser[..., 3:]
        levels.append(coarser * np.minimum(1 / np.maximum(weight, 1e-6), 4))
    filled = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-6)
    for level in levels[-2::-1]:
        height, width = level.shape[:2]
        filled = np.asarray(cv2.pyrUp(filled, dstsize=(width, height)), np.float32)
        filled = level[..., :3] + (1 - level[..., 3:]) * filled
    return np.asarray(filled, np.float32)


def _softened(where: Mask, inset: int, sigma: float) -> Mask:
    """1 in what is 1 (h, w), falling to 0 towards its edge: half of it `inset` pixels within."""
    inner = cv2.erode(where, np.ones((2 * inset + 1, 2 * inset + 1), np.uint8))
    return np.asarray(cv2.GaussianBlur(inner, (0, 0), sigma) * where, np.float32)


def scaled(mesh: Points) -> Points:
    """A mesh in a crop's pixels, in those of the crop at SCALE."""
    # Pixels are squares: their middles, not their corners, are scaled.
    return np.asarray((mesh + 0.5) * SCALE - 0.5, np.float32)


def texture_size(shape: Points) -> tuple[int, int]:
    """(width, height) of the texture on which a mesh (v, 2) in texels lies."""
    right, bottom = np.ceil(shape.max(0)).astype(int) + 2
    return int(right), int(bottom)


def _resized(picture: Floats, size: tuple[int, int], how: int) -> Floats:
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.float32)


def _at(picture: Floats, points: Floats) -> Floats:
    """(n, c): a picture (h, w, c) at points (n, 2); beyond it its border is repeated."""
    if not len(points):
        return np.zeros((0, picture.shape[2]), np.float32)
    x, y = points.T[:, None]
    found = cv2.remap(
        picture, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(found[0], np.float32)


def _ways(triangles: Floats, others: Floats) -> Floats:
    """(t, 2, 3) the affine maps that take triangles (t, 3, 2) to others."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    whole = _areas(triangles)[:, None]
    whole = np.where(np.abs(whole) > 1e-6, whole, 1)  # such a one covers nothing
    to_b = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], 1) / whole
    to_c = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], 1) / whole
    turned = (others[:, 1] - others[:, 0])[:, :, None] * to_b[:, None]
    turned = turned + (others[:, 2] - others[:, 0])[:, :, None] * to_c[:, None]
    moved = others[:, 0] - (turned @ a[..., None])[..., 0]
    return np.asarray(np.concatenate([turned, moved[..., None]], 2), np.float32)


def _areas(triangles: Floats) -> Floats:
    """Twice the areas of triangles (n, 3, 2), negative where they show their back."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    return np.asarray(_cross(b - a, c - a), np.float32)


def _cross(a: Any, b: Any) -> Any:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
