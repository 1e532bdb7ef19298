"""Contact sheets: pictures side by side, with captions, for someone to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.types import Image, Mask

PER_SHEET = 12
# Outlines: green is the truth, red what was found, blue what was painted over.
TRUE, FOUND, PAINTED = (40, 220, 60), (255, 40, 60), (40, 120, 255)
_GAP, _CAPTION, _PAPER, _INK = 6, 18, 250, 30

Box = tuple[int, int, int, int]
Outline = tuple[NDArray[np.bool_], tuple[int, int, int]]


@dataclass(frozen=True)
class Entry:
    """A line of pictures (h, w, 3) of one size on a sheet."""

    caption: str
    pictures: Sequence[Image]


def write(
    folder: Path, name: str, entries: Sequence[Entry], columns: int = 2, each: int = PER_SHEET
) -> list[Path]:
    """The files NAME_1.png and so on, `each` with so many entries, in `columns` beside each other.

    Those that an earlier run left under such a name are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}_[0-9]*.png"):
        old.unlink()
    paths = []
    for start in range(0, len(entries), each):
        path = folder / f"{name}_{start // each + 1}.png"
        sheet = arrange(entries[start : start + each], columns)
        if not cv2.imwrite(str(path), sheet[..., ::-1]):
            raise OSError(f"{path} could not be written")
        paths.append(path)
    return paths


def arrange(entries: Sequence[Entry], columns: int) -> Image:
    """One sheet (h, w, 3) of all entries, read from left to right and then down."""
    lines = [_line(entry) for entry in entries]
    height = max(line.shape[0] for line in lines)
    width = max(line.shape[1] for line in lines)
    rows = -(-len(lines) // columns)
    shape = (rows * (height + _GAP), columns * (width + 2 * _GAP), 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    for index, line in enumerate(lines):
        y, x = index // columns * (height + _GAP), index % columns * (width + 2 * _GAP)
        sheet[y : y + line.shape[0], x : x + line.shape[1]] = line
    return sheet


def around(boxes: Sequence[Sequence[float]], shape: tuple[int, ...], margin: float = 0.25) -> Box:
    """(x0, y0, x1, y1) of the square around all boxes, with a margin, as far as the picture goes.

    The whole picture if there is no box.
    """
    height, width = shape[:2]
    if not boxes:
        return 0, 0, width, height
    corners = np.asarray(boxes, np.float64)
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    half = max(float((high - low).max()) * (0.5 + margin), 8)
    x, y = (low + high) / 2
    x0, y0 = max(int(x - half), 0), max(int(y - half), 0)
    x1, y1 = min(int(x + half) + 1, width), min(int(y + half) + 1, height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else (0, 0, width, height)


def box_of(found: NDArray[np.bool_]) -> Box | None:
    """(x0, y0, x1, y1) around all pixels found; None if there are none."""
    if not found.any():
        return None
    rows, columns = np.nonzero(found)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def close_up(
    picture: Image,
    box: Box,
    outlines: Sequence[Outline] = (),
    side: int = 256,
) -> Image:
    """A part of a picture on a square tile (side, side, 3), enlarged or reduced to fit.

    outlines: decisions (h, w) in the pixels of the picture, with the colours to draw them in.
    """
    x0, y0, x1, y1 = box
    scale = side / max(x1 - x0, y1 - y0)
    size = (max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1))
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    part = cv2.resize(np.ascontiguousarray(picture[y0:y1, x0:x1]), size, interpolation=way)
    for found, colour in outlines:
        area = found[y0:y1, x0:x1].astype(np.float32)
        large = cv2.resize(area, size, interpolation=cv2.INTER_LINEAR) > 0.5
        hard = large.astype(np.uint8)
        edges, _ = cv2.findContours(hard, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(part, edges, -1, colour, 1, cv2.LINE_AA)
    tile = np.full((side, side, 3), _PAPER, np.uint8)
    tile[: size[1], : size[0]] = part
    return tile


def before_and_after(
    before: Image, after: Image, box: Box, outlines: Sequence[Outline]
) -> list[Image]:
    """Tiles of the part of a picture in `box`: before, before with outlines, after."""
    return [close_up(before, box), close_up(before, box, outlines), close_up(after, box)]


def grey(mask: Mask) -> Image:
    """A map as a picture (h, w, 3), black for 0, white for 1."""
    level = np.rint(mask.clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=2)


def _line(entry: Entry) -> Image:
    """The pictures of an entry beside each other, under its caption."""
    pictures = list(entry.pictures)
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] + 2 for picture in pictures)
    line = np.full((height + _CAPTION, width, 3), _PAPER, np.uint8)
    text = entry.caption.encode("ascii", "replace").decode()
    at = (2, _CAPTION - 5)
    cv2.putText(line, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (_INK,) * 3, 1, cv2.LINE_AA)
    x = 0
    for picture in pictures:
        line[_CAPTION : _CAPTION + picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + 2
    return line
