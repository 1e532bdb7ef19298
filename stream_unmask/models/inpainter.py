"""The inpainter: paints the face where the map hides it (paper: autoencoder)."""

from collections.abc import Sequence

import numpy as np

from stream_unmask.backends.engine import Engine, in_batches
from stream_unmask.models.guide import guide
from stream_unmask.models.tensors import from_images, from_masks, to_images
from stream_unmask.types import Image, Mask, Points


class Inpainter:
    """Faces and maps in, whole faces out.

    guided: the network also takes the map and the guide, as further channels.
    """

    def __init__(self, engine: Engine, guided: bool = False) -> None:
        self._engine = engine
        self._guided = guided

    def __call__(
        self, faces: Sequence[Image], masks: Sequence[Mask], meshes: Sequence[Points | None]
    ) -> list[Image]:
        """Each face crop painted anew; what its map (h, w), 0..1, covers was not looked at.

        meshes: (468, 2) in crop pixels. Paper: the input is image x (1 - map), the output is linear
        and clamped to 0..1.
        """
        maps = from_masks(masks)
        given = from_images(faces) * (1 - maps)
        if self._guided:
            size = (maps.shape[3], maps.shape[2])
            guides = from_masks([guide(mesh, size) for mesh in meshes])
            given = np.concatenate([given, maps, guides], axis=1)
        return to_images(in_batches(self._engine, given)[0])
