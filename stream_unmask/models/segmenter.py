"""The segmenter: finds the mask in a face crop (paper: U-Net)."""

from collections.abc import Sequence

from stream_unmask.backends.engine import Engine, EngineSpec, TensorSpec, in_batches
from stream_unmask.models.profile import PAPER
from stream_unmask.models.tensors import from_images, to_masks
from stream_unmask.types import Image, Mask

SEGMENTER = EngineSpec(
    "segmenter",
    inputs=(TensorSpec("faces", (None, 3, PAPER.height, PAPER.width)),),
    outputs=(TensorSpec("masks", (None, 1, PAPER.height, PAPER.width)),),
)


class Segmenter:
    """Faces in, maps out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, faces: Sequence[Image]) -> list[Mask]:
        """The map (h, w) of each face crop: how likely each pixel shows the mask, 0..1."""
        return to_masks(in_batches(self._engine, from_images(faces))[0])
