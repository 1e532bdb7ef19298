"""Follows faces from frame to frame and gives each person a number that stays.

Every frame, the mesh of each face is placed anew around that of the frame before. The detector,
which costs several times as much, runs now and then, after a cut and when a face gets lost; it
brings in new faces and vouches for those whose presence the landmark network doubts. The longer
there is nothing new and no doubt, the more rarely it runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_unmask.faces.detector import covers, weight
from stream_unmask.faces.landmarks import MIN_SCORE, Landmarker
from stream_unmask.types import Face, Image

_NEAR = 0.6  # the farthest two centres of the same person lie apart, in sides of the box
_SIZES = 1.7  # the most that the same person's box grows or shrinks between two looks
# Rounds of detection in vain after which a face is lost. The stated presence alone proves little:
# it is often low on masked faces, and high on a bare wall.
_DOUBTFUL_ROUNDS = 2
_SURE_ROUNDS = 4
_MEMORY = 30  # frames for which the number of a lost face is kept
_CUT = 0.55  # correlation of two frames below which they show different scenes


@dataclass(slots=True)
class _Track:
    """A person: the latest mesh and what speaks for it."""

    number: int
    face: Face
    seen: Face  # as it was when the detector last found it
    unseen: int = 0  # frames since the detector first missed it; 0 while it does not
    doubtful: bool = False  # the landmark network sees no face where the mesh is
    lost: int = 0  # frames since it was last shown; 0 while it is


class Tracker:
    """Finds and follows the faces of one video, frame by frame; a new video takes a new object.

    detector: the faces of a picture, as `Detector` gives them. every: frames from one detection
    to the next. rarely, alone: the most that it grows to, twofold each time, while there is no
    doubt about anybody, and while nobody is in sight. A face that the detector misses a few times
    running is lost; its number is kept for 30 frames more, in case it turns up again nearby.
    vouch: the same faces of a picture, `sure` also those of which somebody else is.
    """

    def __init__(
        self,
        detector: Callable[[Image], tuple[Face, ...]],
        landmarker: Landmarker,
        every: int = 5,
        rarely: int | None = None,
        alone: int | None = None,
        vouch: Callable[[Image, tuple[Face, ...]], tuple[Face, ...]] = lambda _, faces: faces,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self._detector = detector
        self._landmarker = landmarker
        self._vouch = vouch
        self._every = every
        self._rarely, self._alone = (max(every, most or every) for most in (rarely, alone))
        self._tracks: list[_Track] = []
        self._next_number = 0
        self._since_detection = self._pause = every
        self._thumbnail: NDArray[np.float32] | None = None
        self._glimpse: NDArray[np.float32] | None = None  # the same of the luma

    def idle(self, luma: NDArray[np.uint8]) -> bool:
        """Whether the next frame, of which sparse luma (h, w) is given, needs no call.

        True, and the frame counts as seen, while nobody is followed, it is not yet time to detect
        and the scene is that of the last frame.
        """
        last, self._glimpse = self._glimpse, _thumbnail(luma)
        if last is not None and _differ(last, self._glimpse):
            self._since_detection = self._pause = self._every
        if self._tracks or self._since_detection + 1 >= self._pause:
            return False
        self._since_detection += 1
        self._thumbnail = None
        return True

    def __call__(self, image: Image) -> tuple[Face, ...]:
        """The faces of the next frame (H, W, 3), with mesh and track number."""
        if self._is_cut(image):
            self._tracks = []
            self._since_detection = self._pause = self._every
        alarm = self._follow(image)
        self._since_detection += 1
        if alarm or self._since_detection >= self._pause:
            known = len(self._tracks)
            self._detect(image)
            self._since_detection = 0
            self._pause = self._every if len(self._tracks) > known else self._longer()
        self._tidy()
        shown = (track for track in self._tracks if not track.lost)
        return tuple(replace(track.face, track=track.number) for track in shown)

    def _longer(self) -> int:
        """The frames to the next detection, if this one brought nothing new."""
        if any(track.lost or track.doubtful or track.unseen for track in self._tracks):
            return self._every
        most = self._rarely if self._tracks else self._alone
        return max(min(2 * self._pause, most), self._every)

    def _follow(self, image: Image) -> bool:
        """Moves every track to this frame; says whether one just got lost or doubtful."""
        shown = [track for track in self._tracks if not track.lost]
        placed = self._landmarker.place(image, tuple(track.face for track in shown))
        alarm = False
        for track, face in zip(shown, placed, strict=True):
            sure = face.score >= MIN_SCORE
            if _distance(track.face, face) > _NEAR or not _in_sight(face, image):
                track.lost = 1
            elif sure:
                track.face = face
            else:  # it is the detector that vouches for this face, so the score is from there
                track.face = replace(face, score=track.seen.score)
            alarm |= bool(track.lost) or not (sure or track.doubtful)
            track.doubtful = not sure
            track.unseen += bool(track.unseen)
        return alarm

    def _detect(self, image: Image) -> None:
        """Looks for faces in the whole picture: new ones, and those that are known."""
        faces = self._landmarker(image, self._detector(image))
        pairs = _pairs(self._tracks, faces)
        for number, track in enumerate(self._tracks):
            if number not in pairs.values():
                track.unseen = track.unseen or 1
        for index, number in pairs.items():
            _refresh(self._tracks[number], faces[index])
        strangers = tuple(face for index, face in enumerate(faces) if index not in pairs)
        for face in self._vouch(image, strangers):
            if face.sure:
                self._tracks.append(_Track(self._next_number, face, face))
                self._next_number += 1

    def _tidy(self) -> None:
        """Ends tracks without proof, forgets those long lost and merges those on one face."""
        for track in self._tracks:
            patience = _DOUBTFUL_ROUNDS if track.doubtful else _SURE_ROUNDS
            if track.lost or track.unseen > (patience - 1) * self._every:
                track.lost += 1
                track.face = track.seen  # where to wait for it: the mesh has wandered off
        kept: list[_Track] = []
        for track in sorted(self._tracks, key=lambda track: -weight(track.face)):
            twin = next((other for other in kept if _one_person(track, other)), None)
            if twin is not None:
                twin.number = min(twin.number, track.number)
            elif track.lost <= _MEMORY:
                kept.append(track)
        self._tracks = sorted(kept, key=lambda track: track.number)

    def _is_cut(self, image: Image) -> bool:
        """Whether this frame shows another scene than the last; brightness doesn't count."""
        last, self._thumbnail = self._thumbnail, _thumbnail(image)
        return last is not None and _differ(last, self._thumbnail)


def _one_person(first: _Track, second: _Track) -> bool:
    """Whether two tracks follow the same face; one that is lost follows none."""
    return not (first.lost or second.lost) and covers(first.face, second.face)


def _refresh(track: _Track, face: Face) -> None:
    """Notes that the detector found a face; takes over its mesh if the track's own is dubious."""
    strayed = _distance(track.face, face) > _NEAR
    if track.lost or track.doubtful or strayed:
        track.face = face
    if track.lost or strayed:
        track.lost = 0
    track.seen, track.unseen = face, 0


def _in_sight(face: Face, image: Image) -> bool:
    """Whether the middle of a face still lies in the picture."""
    x, y = _centre(face)
    height, width = image.shape[:2]
    return bool(0 <= x < width and 0 <= y < height)


def _pairs(tracks: list[_Track], faces: tuple[Face, ...]) -> dict[int, int]:
    """Which face (key) is whose (value): the nearest pairs first.

    A face may also turn up where the detector last saw it, after its mesh has wandered off.
    """
    distances = sorted(
        (distance, i, j)
        for i, face in enumerate(faces)
        for j, track in enumerate(tracks)
        if (distance := min(_distance(track.face, face), _distance(track.seen, face))) <= _NEAR
    )
    pairs: dict[int, int] = {}
    for _, i, j in distances:
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _distance(first: Face, second: Face) -> float:
    """How far two faces' centres lie apart in sides of the box; infinite if their sizes differ."""
    sides = max(first.side, 1e-6), max(second.side, 1e-6)
    if max(sides) > _SIZES * min(sides):
        return float("inf")
    return float(np.linalg.norm(_centre(first) - _centre(second))) * 2 / sum(sides)


def _centre(face: Face) -> NDArray[np.float64]:
    x0, y0, x1, y1 = face.box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2])


def _differ(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two thumbnails show different scenes."""
    return float((first * second).mean()) < _CUT


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture (H, W) or (H, W, 3) at 16 x 16, with mean 0 and variance 1 (all 0 if plain)."""
    step = max(min(image.shape[:2]) // 96, 1)
    sparse = np.ascontiguousarray(image[::step, ::step])  # skipping is enough and costs nothing
    small = cv2.resize(sparse, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return np.asarray(small / max(float(small.std()), 1.0), np.float32)
