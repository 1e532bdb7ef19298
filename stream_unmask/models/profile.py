"""A profile: the frame in which the networks of one set expect a face, and their engines."""

from dataclasses import dataclass

import numpy as np

from stream_unmask.backends.engine import EngineSpec, TensorSpec
from stream_unmask.types import Points


@dataclass(frozen=True, slots=True)
class Profile:
    """Size of the crop in pixels and where the face's anchors lie in it, image-left first.

    maps: how many maps its segmenter gives: that of the fabric, and that of the straps, if 2.
    guided: whether its inpainter is shown where map and face lie (`models.guide`) and a first guess
    at the face (`models.appearance`).
    enhanced: whether a network of its own sharpens what was painted.
    """

    name: str
    width: int
    height: int
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    maps: int = 1
    guided: bool = False
    enhanced: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the crop."""
        return self.width, self.height

    @property
    def eyes(self) -> Points:
        """(2, 2) eye centres in crop pixels."""
        return np.array([self.left_eye, self.right_eye], np.float32)

    @property
    def unit(self) -> float:
        """The distance between the eyes in crop pixels, by which lengths on the face are told."""
        return self.right_eye[0] - self.left_eye[0]

    def window(self, top: float, bottom: float, side: float) -> tuple[slice, slice]:
        """Rows and columns of the crop from `top` to `bottom` below the eyes and `side` to both
        sides of their middle, in units."""
        x, y = (self.left_eye[0] + self.right_eye[0]) / 2, self.left_eye[1]
        top, bottom, left, right = (
            round(at) for at in (y + top * self.unit, y + bottom * self.unit,
                                 x - side * self.unit, x + side * self.unit)
        )  # fmt: skip
        return slice(top, bottom), slice(left, right)

    @property
    def segmenter(self) -> EngineSpec:
        """Faces (n, 3, h, w) -> maps (n, maps, h, w)."""
        return self._spec("segmenter", "faces", 3, "masks", self.maps)

    @property
    def inpainter(self) -> EngineSpec:
        """Faces without what the map hides (n, 3, h, w), guided: and map, guide, guess (RGB and its
        share) -> faces."""
        return self._spec("inpainter", "hidden", 9 if self.guided else 3, "faces", 3)

    @property
    def appearance(self) -> str | None:
        """The name of its appearance model."""
        return f"{self.name}_appearance" if self.guided else None

    @property
    def enhancer(self) -> EngineSpec | None:
        """Luminance -> sharper luminance (n, 1, h, w)."""
        return self._spec("enhancer", "luma", 1, "sharper", 1) if self.enhanced else None

    def _spec(self, network: str, given: str, channels: int, made: str, results: int) -> EngineSpec:
        def tensor(name: str, count: int) -> tuple[TensorSpec, ...]:
            return (TensorSpec(name, (None, count, self.height, self.width)),)

        return EngineSpec(f"{self.name}_{network}", tensor(given, channels), tensor(made, results))


# CelebA's 178 x 218 frame, cut by 1 px left and right and 5 px above and below (paper.md: the
# autoencoder's four pools and its 13 x 11 bottleneck ask for 208 x 176).
PAPER = Profile("paper", 176, 208, (68.5, 106.3), (107.5, 106.3), enhanced=True)
# The head from the forehead to the neck, with 2.7 times the pixels where the mask is: as wide as
# masks on turned heads reach.
PORTRAIT = Profile("portrait", 224, 256, (79.5, 76.0), (143.5, 76.0), maps=2, guided=True)
PROFILES = {profile.name: profile for profile in (PORTRAIT, PAPER)}
