"""The visible label on pictures with an invented face, and the mark in their metadata."""

from importlib.metadata import version

import cv2
import numpy as np

from stream_unmask.video.frame import Patch


def mark() -> str:
    """The sentence that goes into an output's metadata."""
    return (
        f"Faces in this file were synthesised by stream-unmask {version('stream-unmask')} where "
        "people wore masks. They are invented, not recovered."
    )


def label_patch(shape: tuple[int, int]) -> Patch:
    """A patch that says "synthesised face" at the lower left of a picture of (height, width)."""
    scale = max(min(shape) / 720, 0.4)
    text, font, width = "synthesised face", cv2.FONT_HERSHEY_SIMPLEX, max(round(scale * 2), 1)
    (text_width, text_height), below = cv2.getTextSize(text, font, scale, width)
    margin = text_height // 2
    box = np.zeros((text_height + below + 2 * margin, text_width + 2 * margin, 3), np.uint8)
    at = (margin, margin + text_height)
    cv2.putText(box, text, at, font, scale, (255, 255, 255), width, cv2.LINE_AA)
    top = max(shape[0] - box.shape[0] - margin, 0)
    box = np.ascontiguousarray(box[: shape[0] - top, : max(shape[1] - margin, 1)])
    cover = np.maximum(box[..., 0].astype(np.float32) / 255, 0.6).astype(np.float32)
    return Patch(margin, top, box, cover)
