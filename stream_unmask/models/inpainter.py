"""The inpainter: paints the face where the map hides it (paper: autoencoder)."""

from collections.abc import Sequence

from stream_unmask.backends.engine import Engine, EngineSpec, TensorSpec, in_batches
from stream_unmask.models.profile import PAPER
from stream_unmask.models.tensors import from_images, from_masks, to_images
from stream_unmask.types import Image, Mask

INPAINTER = EngineSpec(
    "inpainter",
    inputs=(TensorSpec("hidden", (None, 3, PAPER.height, PAPER.width)),),
    outputs=(TensorSpec("faces", (None, 3, PAPER.height, PAPER.width)),),
)


class Inpainter:
    """Faces and maps in, whole faces out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, faces: Sequence[Image], masks: Sequence[Mask]) -> list[Image]:
        """Each face crop painted anew; what its map (h, w), 0..1, covers was not looked at.

        Paper: the input is image x (1 - map), the output is linear and clamped to 0..1.
        """
        hidden = from_images(faces) * (1 - from_masks(masks))
        return to_images(in_batches(self._engine, hidden)[0])
