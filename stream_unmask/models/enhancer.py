"""The enhancer: sharpens the luminance of a painted face (paper: SRCNN)."""

from collections.abc import Sequence

import cv2
import numpy as np

from stream_unmask.backends.engine import Engine, in_batches
from stream_unmask.models.tensors import from_masks, to_masks
from stream_unmask.types import Image


class Enhancer:
    """Painted faces in, sharper ones out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, faces: Sequence[Image]) -> list[Image]:
        """Each face crop with Y of YCrCb enhanced; Cr and Cb stay as painted."""
        pictures = [cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb) for face in faces]
        luma = from_masks([np.float32(1 / 255) * picture[..., 0] for picture in pictures])
        for picture, sharper in zip(
            pictures, to_masks(in_batches(self._engine, luma)[0]), strict=True
        ):
            picture[..., 0] = np.rint(sharper.clip(0, 1) * 255)
        return [
            np.asarray(cv2.cvtColor(picture, cv2.COLOR_YCrCb2RGB), np.uint8) for picture in pictures
        ]
