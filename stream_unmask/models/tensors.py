"""Converts between pictures (uint8 HWC RGB, maps HW) and tensors (float32 NCHW, 0..1)."""

from collections.abc import Sequence

import numpy as np

from stream_unmask.backends.engine import Tensor
from stream_unmask.types import Image, Mask


def from_images(images: Sequence[Image]) -> Tensor:
    """(n, 3, h, w) in 0..1 from pictures of one size."""
    batch = np.stack(images).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(batch, np.float32) * np.float32(1 / 255)


def to_images(tensor: Tensor) -> list[Image]:
    """Pictures from (n, 3, h, w); values are clamped to 0..1."""
    scaled = np.rint(tensor.clip(0, 1) * 255).astype(np.uint8)
    return list(np.ascontiguousarray(scaled.transpose(0, 2, 3, 1)))


def from_masks(masks: Sequence[Mask]) -> Tensor:
    """(n, 1, h, w) from maps of one size."""
    return np.ascontiguousarray(np.stack(masks)[:, None], np.float32)


def to_masks(tensor: Tensor) -> list[Mask]:
    """Maps from (n, 1, h, w)."""
    return list(tensor[:, 0])
