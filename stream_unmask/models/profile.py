"""A profile: the frame in which the networks of one set expect a face."""

from dataclasses import dataclass

import numpy as np

from stream_unmask.types import Points


@dataclass(frozen=True, slots=True)
class Profile:
    """Size of the crop in pixels and where the eye centres lie in it, image-left first."""

    name: str
    width: int
    height: int
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the crop."""
        return self.width, self.height

    @property
    def eyes(self) -> Points:
        """(2, 2) eye centres in crop pixels."""
        return np.array([self.left_eye, self.right_eye], np.float32)


# CelebA's 178 x 218 frame, cut by 1 px left and right and 5 px above and below (paper.md: the
# autoencoder's four pools and its 13 x 11 bottleneck ask for 208 x 176).
PAPER = Profile("paper", 176, 208, (68.5, 106.3), (107.5, 106.3))
PROFILES = {PAPER.name: PAPER}
