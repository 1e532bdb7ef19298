"""The stream with networks that are plain functions: blue is mask, and grey is what is painted."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker
from stream_unmask.models.enhancer import ENHANCER, Enhancer
from stream_unmask.models.inpainter import INPAINTER, Inpainter
from stream_unmask.models.profile import PAPER
from stream_unmask.models.segmenter import SEGMENTER, Segmenter
from stream_unmask.options import Options
from stream_unmask.pipeline import Parts, Scene, gather, unmask_frames, whole_mask
from stream_unmask.report import Clock
from stream_unmask.types import Face
from stream_unmask.unmask import Networks
from stream_unmask.video.frame import Frame, Patch, to_rgb

WIDTH, HEIGHT, SIDE = 400, 300, 100
LEFT, RIGHT = (110, 150), (290, 150)  # the middles of two heads
BLUE, SKIN = (10, 20, 240), (200, 160, 140)
# The eyes' outlines in MediaPipe's mesh, image-left first (as in `landmarks.py`).
EYES = (
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
)


def mesh() -> np.ndarray:
    """A mesh (468, 3) in the landmark network's 192 x 192 picture that stays where it is put."""
    points = np.random.default_rng(0).uniform(32, 160, (468, 3)).astype(np.float32)
    points[0, :2], points[1, :2] = (32, 32), (160, 160)
    for outline, x in zip(EYES, (76, 116), strict=True):
        points[outline, :2] = (x, 76)
    return points


def landmarks(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(images)
    return np.repeat(mesh()[None], count, 0), np.full((count, 1), 9, np.float32)


def head(middle: tuple[int, int]) -> Face:
    x, y = middle
    eyes = np.array([(x - 15.6, y - 15.6), (x + 15.6, y - 15.6)], np.float32)
    return Face((x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2), eyes, 0.9)


def picture(index: int, masked: tuple[tuple[int, int], ...]) -> Frame:
    """A frame at its own time; each head in `masked` has a blue rectangle below its eyes."""
    image = np.random.default_rng(1).integers(60, 90, (HEIGHT, WIDTH, 3), np.uint8)
    for x, y in (LEFT, RIGHT):
        image[y - 50 : y + 50, x - 40 : x + 40] = SKIN
    for x, y in masked:
        image[y - 5 : y + 35, x - 30 : x + 30] = BLUE
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
    frame.pts, frame.time_base = index * 7, Fraction(1, 90)
    return Frame(frame)


class Fakes:
    """The parts, and what their networks were asked."""

    def __init__(self, *heads: tuple[int, int]) -> None:
        self.segmented: list[int] = []
        self.painted: list[int] = []
        self.parts = Parts(
            lambda image: tuple(map(head, heads)),  # type: ignore[arg-type]
            Landmarker(FunctionEngine(FACE_LANDMARK, landmarks)),
            Networks(
                Segmenter(FunctionEngine(SEGMENTER, self.segment)),
                Inpainter(FunctionEngine(INPAINTER, self.paint)),
                Enhancer(FunctionEngine(ENHANCER, lambda luma: luma)),
            ),
            PAPER,
            "fake",
        )

    def segment(self, faces: np.ndarray) -> np.ndarray:
        self.segmented.append(len(faces))
        return ((faces[:, 2:] > 0.7) & (faces[:, :1] < 0.4)).astype(np.float32)

    def paint(self, hidden: np.ndarray) -> np.ndarray:
        self.painted.append(len(hidden))
        return np.full_like(hidden, 0.6)


def is_blue(image: np.ndarray) -> np.ndarray:
    return (image[..., 2].astype(int) - image[..., 0]) > 60


def test_a_masked_face_is_repainted_and_nothing_else_is() -> None:
    fakes, frame = Fakes(LEFT), picture(0, (LEFT,))
    (composed,) = unmask_frames([frame], fakes.parts, Options())
    before, after = to_rgb(frame.picture), to_rgb(composed.frame.picture)
    assert is_blue(before).sum() == 40 * 60
    assert is_blue(after).sum() == 0
    assert np.array_equal(before[composed.mask() == 0], after[composed.mask() == 0])
    # The skin around brought its light along.
    assert np.abs(after[150:180, 90:130].astype(int) - SKIN).max() < 25
    (patch,) = composed.patches
    assert composed.mask().shape == (HEIGHT, WIDTH)
    assert composed.mask()[165, 110] == pytest.approx(1, abs=1e-3)
    assert composed.mask()[:, WIDTH // 2 :].max() == 0
    assert patch.mask.size < 0.1 * HEIGHT * WIDTH


def test_without_a_mask_the_picture_is_the_very_same_object() -> None:
    fakes = Fakes(LEFT, RIGHT)
    frames = [picture(index, ()) for index in range(5)]
    done = [*unmask_frames(frames, fakes.parts, Options(label=True))]
    assert all(c.frame.picture is f.picture for c, f in zip(done, frames, strict=True))
    assert [len(c.scene.crops) for c in done] == [2] * 5
    assert not any(c.patches or c.mask().any() for c in done)
    assert fakes.painted == []


def test_without_a_face_no_network_runs() -> None:
    fakes = Fakes()
    frames = [picture(index, ()) for index in range(3)]
    done = [*unmask_frames(frames, fakes.parts, Options())]
    assert all(c.frame.picture is f.picture for c, f in zip(done, frames, strict=True))
    assert fakes.segmented == fakes.painted == []


@pytest.mark.parametrize(("batch", "window"), [(1, 1), (3, 4), (8, 16), (100, 5)])
def test_order_times_and_passengers_are_kept(batch: int, window: int) -> None:
    fakes = Fakes(LEFT, RIGHT)
    frames = [picture(index, (LEFT,) if index % 3 else ()) for index in range(17)]
    frames = [Frame(frame.picture, (object(),)) for frame in frames]  # type: ignore[arg-type]
    done = [*unmask_frames(frames, fakes.parts, Options(batch=batch, window=window))]
    assert len(done) == 17
    for composed, frame in zip(done, frames, strict=True):
        assert composed.scene.frame is frame
        assert composed.frame.seconds == frame.seconds
        assert composed.frame.passengers is frame.passengers
    assert sum(fakes.segmented) == 34


def test_batches_are_bounded_and_so_is_the_delay() -> None:
    fakes, taken = Fakes(LEFT, RIGHT), 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for index in range(40):
            taken += 1
            yield picture(index, (LEFT, RIGHT))

    options = Options(batch=5, window=16)
    for given, _ in enumerate(unmask_frames(counted(), fakes.parts, options), 1):
        assert taken - given < 16
    assert max(fakes.segmented) <= 6  # three frames with two faces each
    assert fakes.segmented[:-1] == [6] * (len(fakes.segmented) - 1)
    assert max(fakes.painted) <= 6


def test_gather_waits_for_crops_or_for_frames() -> None:
    crowded, empty = (Scene(None, (None,) * n) for n in (3, 0))  # type: ignore[arg-type]

    def sizes(scenes: list[Scene], batch: int, window: int) -> list[int]:
        return [len(group) for group in gather(scenes, batch, window)]

    assert sizes([crowded] * 5, 6, 99) == [2, 2, 1]
    assert sizes([empty] * 5, 6, 2) == [2, 2, 1]
    assert sizes([crowded, empty, empty, empty], 4, 3) == [3, 1]
    assert sizes([], 4, 3) == []


def test_of_two_people_only_the_masked_one_is_changed() -> None:
    fakes = Fakes(LEFT, RIGHT)
    frames = [picture(index, (RIGHT,)) for index in range(6)]
    done = [*unmask_frames(frames, fakes.parts, Options())]
    for composed, frame in zip(done, frames, strict=True):
        before, after = to_rgb(frame.picture), to_rgb(composed.frame.picture)
        assert np.array_equal(before[:, : WIDTH // 2], after[:, : WIDTH // 2])
        assert not is_blue(after).any()
        assert [crop.track for crop in composed.scene.crops] == [0, 1]
        assert [crop.mask is not None for crop in composed.scene.crops] == [False, True]
    assert sum(fakes.painted) == 6


def test_both_are_changed_where_both_wear_one() -> None:
    (composed,) = unmask_frames([picture(0, (LEFT, RIGHT))], Fakes(LEFT, RIGHT).parts, Options())
    assert len(composed.patches) == 2
    assert not is_blue(to_rgb(composed.frame.picture)).any()


def test_the_label_is_drawn_on_changed_frames_but_not_on_the_map() -> None:
    frame = picture(0, (LEFT,))
    plain, labelled = (
        next(unmask_frames([frame], Fakes(LEFT).parts, Options(label=label)))
        for label in (False, True)
    )
    difference = to_rgb(plain.frame.picture) != to_rgb(labelled.frame.picture)
    rows, columns, _ = np.nonzero(difference)
    assert rows.min() > 0.8 * HEIGHT
    assert columns.max() < 0.6 * WIDTH
    assert np.array_equal(plain.mask(), labelled.mask())


def test_the_source_frame_is_not_painted_on() -> None:
    frame = picture(0, (LEFT,))
    before = to_rgb(frame.picture)
    next(unmask_frames([frame], Fakes(LEFT).parts, Options()))
    assert np.array_equal(to_rgb(frame.picture), before)


def test_the_clock_knows_every_stage() -> None:
    clock = Clock()
    list(unmask_frames([picture(0, (LEFT,))], Fakes(LEFT).parts, Options(), clock))
    assert set(clock.seconds) == {"find", "segment", "steady", "repaint", "composite"}
    assert all(seconds > 0 for seconds in clock.seconds.values())


def test_where_maps_overlap_the_larger_counts() -> None:
    patch = Patch(1, 0, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 0.5, np.float32))
    other = Patch(2, 1, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 0.8, np.float32))
    whole = whole_mask((4, 5), [patch, other])
    assert whole[0].tolist() == [0, 0.5, 0.5, 0, 0]
    assert whole[1] == pytest.approx([0, 0.5, 0.8, 0.8, 0])
