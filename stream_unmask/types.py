"""The values that travel from room to room: pictures, maps, faces and crops.

Axes and ranges (docs/conventions.md): pictures are RGB uint8 (H, W, 3), maps are float32 (H, W)
from 0 (keep) to 1 (replace), and `Maps` several of them (c, H, W). Points are (x, y) in pixels;
pixel centres are at integers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.float32]
Maps = NDArray[np.float32]
Points = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a frame.

    box: (x0, y0, x1, y1) in frame pixels. eyes: (2, 2), the centres of both eyes, the image-left
    one first. score: 0..1. mesh: (468, 2) MediaPipe face mesh points, None straight from the
    detector. anchors: (2, 2) by which the face is cut, `landmarks.anchors`; the eyes if None.
    track: an id that stays with the person from frame to frame, None before tracking. sure: whether
    it was found so surely that it may be somebody new. moved: (2, 3) affine of frame pixels, from
    where its picture was in the frame before to where it is now; None if that is not known.
    """

    box: tuple[float, float, float, float]
    eyes: Points
    score: float
    mesh: Points | None = None
    anchors: Points | None = None
    track: int | None = None
    sure: bool = False
    moved: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.eyes.shape != (2, 2):
            raise ValueError(f"eyes must be (2, 2), not {self.eyes.shape}")
        if self.mesh is not None and self.mesh.shape != (468, 2):
            raise ValueError(f"mesh must be (468, 2), not {self.mesh.shape}")

    @property
    def side(self) -> float:
        """The longer side of the box, in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def held_by(self) -> Points:
        """(2, 2) the points by which the face is cut: its anchors, or else its eyes."""
        return self.eyes if self.anchors is None else self.anchors


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """An upright face that carries its way back.

    image: (h, w, 3) of the profile's crop size. to_frame: (2, 3) affine from crop pixels to frame
    pixels. mesh: (468, 2) the face's mesh in crop pixels, None if it has none. maps: (c, h, w) what
    the segmenter said, until it is decided on. mask: (h, w) where the image is repainted; None or
    all zero leaves the frame as it is. moved: as of the face.
    """

    image: Image
    to_frame: NDArray[np.float64]
    mesh: Points | None = None
    track: int | None = None
    maps: Maps | None = None
    mask: Mask | None = None
    moved: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.to_frame.shape != (2, 3):
            raise ValueError(f"to_frame must be (2, 3), not {self.to_frame.shape}")
        if self.mask is not None and self.mask.shape != self.image.shape[:2]:
            raise ValueError(f"mask {self.mask.shape} does not fit image {self.image.shape}")
