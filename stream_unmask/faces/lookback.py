"""Gives each face also in the frames before the one in which the detector first found it.

The detector runs only now and then, so a face has been in the picture for a while when it is found.
Where frames may wait, it is followed back through them, for as long as it looks the same.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from stream_unmask.faces.detector import covers
from stream_unmask.faces.landmarks import Landmarker
from stream_unmask.faces.smoothing import likeness, look_of
from stream_unmask.types import Face, Image

T = TypeVar("T")
_ALIKE = 0.8  # correlation of two looks of the same face in frames that follow each other
_MOST_HELD = 256 << 20  # bytes of images that wait; beyond, frames wait less long
_STRETCHED = 1.15  # the most that a face grows or shrinks from one frame to the next


def looked_back(
    seen: Iterable[tuple[T, Image, tuple[Face, ...]]],
    landmarker: Landmarker,
    depth: int,
    picture: Callable[[T], Image],
) -> Iterator[tuple[T, Image, tuple[Face, ...]]]:
    """What was seen, `depth` frames later, with faces in front of their first appearance.

    seen: whatever is known of each frame, its image (H, W, 3) and the faces in it, with tracks.
    picture: the image of a frame whose own is empty.
    """
    waiting: deque[tuple[T, Image, tuple[Face, ...]]] = deque()
    for item in seen:
        waiting.append(item)
        _, image, faces = item
        before = {face.track for face in waiting[-2][2]} if len(waiting) > 1 else set()
        for face in faces:
            if face.track not in before:
                _follow_back(face, image, waiting, landmarker, picture)
        while len(waiting) > depth or sum(image.nbytes for _, image, _ in waiting) > _MOST_HELD:
            yield waiting.popleft()
    yield from waiting


def _follow_back(
    face: Face,
    image: Image,
    waiting: deque[tuple[T, Image, tuple[Face, ...]]],
    landmarker: Landmarker,
    picture: Callable[[T], Image],
) -> None:
    """Adds a face of the last frame to those before it, up to the one where it isn't found."""
    look = look_of(image, face)
    for index in range(len(waiting) - 2, -1, -1):
        what, image, faces = waiting[index]
        if any(other.track == face.track or covers(other, face) for other in faces):
            break
        if not image.size:
            image = picture(what)
        (earlier,) = landmarker.place(image, (face,))
        before, look = look, look_of(image, earlier)
        sizes = sorted((earlier.side, face.side))
        if likeness(before, look) < _ALIKE or sizes[1] > _STRETCHED * sizes[0]:
            break
        face = replace(earlier, score=face.score)  # it is what was found that vouches for it
        waiting[index] = what, image, (*faces, face)
