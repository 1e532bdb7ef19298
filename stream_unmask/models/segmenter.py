"""The segmenter: finds the mask in a face crop (paper: U-Net)."""

from collections.abc import Sequence
from threading import Lock

from stream_unmask.backends.engine import Engine, in_batches
from stream_unmask.models.tensors import from_images
from stream_unmask.types import Image, Maps


class Segmenter:
    """Faces in, maps out. One call at a time, whatever threads they come from: who finds faces asks
    it too, ahead of those who work on them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()

    def __call__(self, faces: Sequence[Image]) -> list[Maps]:
        """The maps (c, h, w) of each face crop: how likely each pixel shows the mask's fabric,
        and, of profiles with two maps, its straps, 0..1."""
        with self._lock:
            return list(in_batches(self._engine, from_images(faces))[0])
