"""The inpainter: paints the face where the map hides it (paper: autoencoder)."""

from collections.abc import Sequence

import numpy as np

from stream_unmask.backends.engine import Engine, in_batches
from stream_unmask.models.appearance import Appearance
from stream_unmask.models.guide import guide
from stream_unmask.models.tensors import from_images, from_masks, to_images
from stream_unmask.types import Image, Mask, Points


class Inpainter:
    """Faces and maps in, whole faces out.

    appearance: if given, the network also takes the map, the guide, and a first guess at the face,
    as further channels.
    """

    def __init__(self, engine: Engine, appearance: Appearance | None = None) -> None:
        self._engine = engine
        self.appearance = appearance

    def __call__(
        self, faces: Sequence[Image], masks: Sequence[Mask], meshes: Sequence[Points | None]
    ) -> list[Image]:
        """Each face crop painted anew; what its map (h, w), 0..1, covers was not looked at.

        meshes: (468, 2) in crop pixels. Paper: the input is image x (1 - map), the output is linear
        and clamped to 0..1.
        """
        maps = from_masks(masks)
        shown = from_images(faces)
        given = shown * (1 - maps)
        if self.appearance is not None:
            size = (maps.shape[3], maps.shape[2])
            meshes = [
                mesh if mesh is None else self.appearance.correction(mesh, mask)
                for mesh, mask in zip(meshes, masks, strict=True)
            ]
            guides = from_masks([guide(mesh, size) for mesh in meshes])
            guesses = [
                self.appearance(face.transpose(1, 2, 0), mask, mesh).transpose(2, 0, 1)
                for face, mask, mesh in zip(shown, masks, meshes, strict=True)
            ]
            given = np.concatenate([given, maps, guides, np.stack(guesses)], axis=1)
        return to_images(in_batches(self._engine, given)[0])
