"""The guide: a rough drawing of the face that the mesh supposes under the mask."""

import cv2
import numpy as np

from stream_unmask.types import Mask, Points

# Outlines in the face mesh, and the level that each is filled with.
_FACE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_NOSE = (6, 129, 98, 97, 2, 326, 327, 358)
_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip
_LEVELS = ((_FACE, 90), (_NOSE, 170), (_LIPS, 255))
_SOFT = 3.0  # sigma in pixels: a painter traces sharp edges, and a guess has none


def guide(mesh: Points | None, size: tuple[int, int]) -> Mask:
    """Face, nose and lips (h, w) as a mesh (468, 2) in crop pixels has them: soft, rising levels.

    size: (width, height). All 0 if there is no mesh.
    """
    drawing = np.zeros((size[1], size[0]), np.uint8)
    if mesh is None:
        return drawing.astype(np.float32)
    for outline, level in _LEVELS:
        corners = np.rint(mesh[list(outline)] * 16).clip(-(1 << 20), 1 << 20).astype(np.int32)
        cv2.fillPoly(drawing, [corners], level, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(drawing, (0, 0), _SOFT)
    return soft.astype(np.float32) * np.float32(1 / 255)
