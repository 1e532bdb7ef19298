"""Places MediaPipe's face mesh, 468 points, on faces whose whereabouts are known."""

import math
from dataclasses import replace

import cv2
import numpy as np

from stream_unmask.backends.engine import Engine, EngineSpec, Tensor, TensorSpec, in_batches
from stream_unmask.faces.detector import distinct, weight
from stream_unmask.faces.geometry import Affine, apply, similarity
from stream_unmask.types import Face, Image, Mask, Points

FACE_LANDMARK = EngineSpec(
    "face_landmark",
    inputs=(TensorSpec("image", (None, 3, 192, 192)),),
    outputs=(TensorSpec("points", (None, 468, 3)), TensorSpec("logits", (None, 1))),
    precise=True,
)

_SIDE = 192
_GROW = 1.5  # side of the square that the network sees, in sides of the face's box
_PASSES = 3
MIN_SCORE = 0.5  # a face
# One that nobody knew before: lamps and paper reach 0.5, and the segmenter, which was only shown
# faces, sees a mask on them. The detector must see it, and either it or the landmarks must be sure.
# How many are found, and how many in pictures without people: docs/evaluation.md, detection.
_SEEN, _SURE, _MESH_SURE = 0.6, 0.72, 0.75
_PROFILE = 0.18  # eyes closer together than this, in sides of the box, are those of a full profile
_BONUS = 0.05  # brings the confirmation, which parts best at 0.45, to the same scale

# The outlines of both eyes in the mesh, image-left first. Their mean hardly moves in a blink and
# shakes less than any two corners.
_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_OUTER_CORNERS = (33, 263)
# Of each eye: its inner corner, the lower lid, its outer corner.
_LOWER_LIDS = ((133, 153, 145, 144, 33), (362, 380, 374, 373, 263))
_ABOVE_EYES = 0.45  # how far brows and forehead reach up, in distances of the outer corners
_CLEAR = 0.08  # the part of that which is left free above the lid

# A face that looks straight ahead, in eye distances from the middle between its eyes: the median of
# the frontal ones among 27,000 faces of three sets.
_UPRIGHT = {
    33: (-0.71, 0.00), 263: (0.71, 0.00), 133: (-0.28, 0.02), 362: (0.28, 0.02),
    70: (-0.90, -0.22), 300: (0.90, -0.22), 127: (-1.10, 0.04), 356: (1.10, 0.04),
    234: (-1.09, 0.27), 454: (1.09, 0.27), 172: (-0.87, 1.20), 397: (0.87, 1.20),
    61: (-0.42, 1.01), 291: (0.42, 1.01), 10: (0.00, -0.82), 168: (0.00, -0.05),
    1: (0.00, 0.65), 17: (0.00, 1.24), 152: (0.00, 1.75),
}  # fmt: skip


class Landmarker:
    """Places the mesh on faces."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, image: Image, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """Those of the detector's faces that really are faces, with mesh and its eyes and box.

        The mesh is placed three times, because the detector's box is rough: every time halves the
        error that a shaken box causes, and a rolled small face needs all three to come upright.
        score: the presence that the network states or, where that is more, how well mesh and
        detector confirm each other. sure: whether that is enough for a face nobody knew.
        """
        meshes = faces
        certain: dict[int, Face] = {}
        for _ in range(_PASSES):
            meshes = self.place(image, meshes)
            for index, (face, mesh) in enumerate(zip(faces, meshes, strict=True)):
                score = max(mesh.score, _confirmation(face, mesh))
                if score >= MIN_SCORE:  # on a hard face, a later mesh may have slid off
                    sure = face.score >= _SEEN and (face.score >= _SURE or score >= _MESH_SURE)
                    known = index in certain and certain[index].sure
                    certain[index] = replace(mesh, score=score, sure=sure or known)
        # A rough box can lead to the same face, and a large wheel around it to none.
        order = sorted(certain, key=lambda i: -faces[i].score * weight(certain[i]))
        return distinct(certain[index] for index in order)

    def place(self, image: Image, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """Every face with a new mesh, looked for around its old one, or its box if it has none.

        score: the presence that the network states, from 0 to 1. It trusts bare faces; a mask,
        glasses or a cap can take it down to 0.001 although the mesh sits well.
        """
        if not faces:
            return ()
        regions = [_region(face) for face in faces]
        looks = np.stack([_look(image, region) for region in regions])
        points, logits = in_batches(self._engine, looks)
        return tuple(
            _with_mesh(face, apply(region, mesh[:, :2] - 0.5), float(logit))
            for face, region, mesh, logit in zip(faces, regions, points, logits[:, 0], strict=True)
        )


def anchors(mesh: Points) -> Points:
    """Where the eyes of a face of this size and roll would be if it looked straight ahead (2, 2).

    A turned head's eyes come close together, so that a crop that they hold is enlarged (1.4 times
    at 45 degrees) and sits aside; these follow the whole face.
    """
    upright = np.array(list(_UPRIGHT.values()))
    to_face = similarity(upright, mesh[list(_UPRIGHT)])
    return apply(to_face, np.array([(-0.5, 0), (0.5, 0)]))


def turned(mesh: Points) -> float:
    """How far a head is turned to a side: 0 straight ahead, about 0.5 at 45 degrees, 0.7 at 60."""
    left, right, nose = mesh[234], mesh[454], mesh[1]
    across = right - left
    return abs(float((nose - left) @ across) / max(float(across @ across), 1e-6) - 0.5)


def eye_region(mesh: Points, shape: tuple[int, int]) -> Mask:
    """Where both eyes and what is above them are seen (h, w), 0..1: no mask is worn there."""
    region = np.zeros(shape, np.float32)
    across = mesh[_OUTER_CORNERS[1]] - mesh[_OUTER_CORNERS[0]]
    up = _ABOVE_EYES * np.array([across[1], -across[0]])
    for inner, *lid, outer in _LOWER_LIDS:
        lower = mesh[[inner, *lid, outer]] + _CLEAR * up  # masks are worn right up to the lid
        corners = [*lower, mesh[outer] + up, mesh[inner] + up]
        hull = cv2.convexHull(np.array(corners, np.float32))
        cv2.fillPoly(region, [np.rint(hull * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return region


def _confirmation(face: Face, mesh: Face) -> float:
    """How sure detector and mesh are together that this is a face, 0..1.

    The detector's score, less the distance between its eyes and the mesh's in sides of the box.
    Over 226 doubtful detections in masked photographs and clips, looked at one by one, this parts
    faces from ears, wheels and hair far better than the stated presence. Nothing is sure of a full
    profile: the mesh has no such view and slides to the cheek or the ear, where a mouth would be
    painted. The detector lays both eyes on one spot there; of 250 masked faces none is so narrow.
    """
    if np.linalg.norm(face.eyes[1] - face.eyes[0]) < _PROFILE * face.side:
        return 0.0
    distance = float(np.linalg.norm(face.eyes - mesh.eyes, axis=1).mean())
    return min(max(face.score - distance / max(mesh.side, 1e-6) + _BONUS, 0.0), 1.0)


def _region(face: Face) -> Affine:
    """The affine from network pixels to the upright square in the frame around a face."""
    left, right = face.eyes if face.mesh is None else face.mesh[list(_OUTER_CORNERS)]
    axis = right - left
    angle = math.atan2(axis[1], axis[0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if face.mesh is None:
        x0, y0, x1, y1 = face.box
        centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        side = face.side
    else:
        upright = face.mesh @ turn
        low, high = upright.min(0), upright.max(0)
        centre = turn @ ((low + high) / 2)
        side = float((high - low).max())
    linear = turn * (_GROW * side / _SIDE)
    return np.column_stack([linear, centre - linear @ np.full(2, (_SIDE - 1) / 2)])


def _look(image: Image, region: Affine) -> Tensor:
    """The square of a region as (3, 192, 192) from 0 to 1."""
    pixels = cv2.warpAffine(
        image,
        region,
        (_SIDE, _SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255)


def _with_mesh(face: Face, mesh: Points, logit: float) -> Face:
    low, high = mesh.min(0), mesh.max(0)
    eyes = np.stack([mesh[list(outline)].mean(0) for outline in _EYES])
    score = 1 / (1 + math.exp(-min(max(logit, -100.0), 100.0)))
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return Face(box, eyes, score, mesh, anchors(mesh), face.track)
