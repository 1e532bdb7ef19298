"""The preview sheet: before, map and after, side by side, at a few times of a video."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from stream_unmask.types import Image, Mask

_ROWS = 6
_WIDTH = 426  # of each of the three pictures in a row


@dataclass(slots=True)
class PreviewSheet:
    """Collects rows for a sheet. duration: seconds of the video, None if unknown."""

    duration: float | None
    _rows: list[Image] = field(default_factory=list)

    def wants(self, seconds: float) -> bool:
        """Whether the frame at this time should be added."""
        step = (self.duration or 60.0) / _ROWS
        return len(self._rows) < _ROWS and seconds >= (len(self._rows) + 0.5) * step

    def add(self, seconds: float | None, before: Image, mask: Mask, after: Image) -> None:
        """Adds a row: pictures (H, W, 3) and map (H, W) of one frame; seconds: None if still."""
        overlay = before.copy()
        red = np.array([255, 40, 40], np.float32)
        overlay[:] = before + (red - before) * (0.6 * mask[..., None])
        height = max(round(before.shape[0] * _WIDTH / before.shape[1]), 1)
        row = np.hstack(
            [
                cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
                for picture in (before, overlay, after)
            ]
        )
        time = "" if seconds is None else f"{seconds:.2f} s   "
        text = f"{time}before | map | after (synthesised)"
        cv2.rectangle(row, (0, 0), (_WIDTH, 22), (0, 0, 0), cv2.FILLED)
        white = (255, 255, 255)
        cv2.putText(row, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, white, 1, cv2.LINE_AA)
        self._rows.append(np.asarray(row, np.uint8))

    def image(self) -> Image | None:
        """The sheet, None if it has no row."""
        return np.vstack(self._rows) if self._rows else None
