"""The stream with networks that are plain functions: blue is mask, and grey is what is painted."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker, anchors
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.guide import guide
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PAPER, PORTRAIT, Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.options import Options
from stream_unmask.pipeline import Parts, Scene, gather, open_parts, unmask_frames, whole_mask
from stream_unmask.report import Clock
from stream_unmask.types import Face
from stream_unmask.unmask import Networks
from stream_unmask.video.frame import Frame, Patch, to_rgb

WIDTH, HEIGHT, SIDE = 400, 300, 100
LEFT, RIGHT = (110, 150), (290, 150)  # the middles of two heads
BLUE, GREEN, SKIN = (10, 20, 240), (10, 240, 20), (200, 160, 140)


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

    def __init__(self, profile: Profile, frontal: np.ndarray, *heads: tuple[int, int]) -> None:
        self.segmented: list[int] = []
        self.painted: list[int] = []
        self.given: list[np.ndarray] = []
        self._mesh = self._in_the_middle(frontal)
        idle = None
        if profile.enhancer is not None:
            idle = Enhancer(FunctionEngine(profile.enhancer, lambda luma: luma))
        self.parts = Parts(
            lambda image: tuple(map(head, heads)),  # type: ignore[arg-type]
            Landmarker(FunctionEngine(FACE_LANDMARK, self.landmarks)),
            Networks(
                profile,
                Segmenter(FunctionEngine(profile.segmenter, self.segment)),
                Inpainter(FunctionEngine(profile.inpainter, self.paint), profile.guided),
                idle,
            ),
            "fake",
        )

    @staticmethod
    def _in_the_middle(frontal: np.ndarray) -> np.ndarray:
        """The mesh (468, 3) in the landmark network's 192 x 192 picture so that it stays where it
        is put: the network looks at 1.5 times the larger side, around the middle, and points are
        told by their pixels' corners."""
        low, high = frontal.min(0), frontal.max(0)
        points = 96 + (frontal - (low + high) / 2) * 128 / float((high - low).max())
        return np.column_stack([points, np.zeros(468)]).astype(np.float32)

    def landmarks(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(images)
        return np.repeat(self._mesh[None], count, 0), np.full((count, 1), 9, np.float32)

    def segment(self, faces: np.ndarray) -> np.ndarray:
        """Blue is fabric; green, where it is asked for, is a strap."""
        self.segmented.append(len(faces))
        red, green, blue = faces[:, 0], faces[:, 1], faces[:, 2]
        maps = [(blue > 0.7) & (red < 0.4), (green > 0.7) & (red < 0.4)]
        wanted = self.parts.networks.profile.maps
        return np.stack(maps[:wanted], 1).astype(np.float32)

    def paint(self, given: np.ndarray) -> np.ndarray:
        self.painted.append(len(given))
        self.given.append(given)
        return np.full_like(given[:, :3], 0.6)


Make = Callable[..., Fakes]


@pytest.fixture
def fakes_of(profile: Profile, frontal: np.ndarray) -> Make:
    """A function that makes the parts for heads at some places."""
    return lambda *heads: Fakes(profile, frontal, *heads)


def is_blue(image: np.ndarray) -> np.ndarray:
    return (image[..., 2].astype(int) - image[..., 0]) > 60


def test_a_masked_face_is_repainted_and_nothing_else_is(fakes_of: Make) -> None:
    fakes, frame = fakes_of(LEFT), picture(0, (LEFT,))
    (composed,) = unmask_frames([frame], fakes.parts, Options())
    before, after = to_rgb(frame.picture), to_rgb(composed.frame.picture)
    assert is_blue(before).sum() == 40 * 60
    assert is_blue(after).sum() == 0
    assert np.array_equal(before[composed.mask() == 0], after[composed.mask() == 0])
    # The skin around brought its light along.
    assert np.abs(after[150:180, 90:130].astype(int) - SKIN).max() < 30
    (patch,) = composed.patches
    assert composed.mask().shape == (HEIGHT, WIDTH)
    assert composed.mask()[165, 110] == pytest.approx(1, abs=1e-3)
    assert composed.mask()[:, WIDTH // 2 :].max() == 0
    assert patch.mask.size < 0.1 * HEIGHT * WIDTH


def test_without_a_mask_the_picture_is_the_very_same_object(fakes_of: Make) -> None:
    fakes = fakes_of(LEFT, RIGHT)
    frames = [picture(index, ()) for index in range(5)]
    done = [*unmask_frames(frames, fakes.parts, Options(label=True))]
    assert all(c.frame.picture is f.picture for c, f in zip(done, frames, strict=True))
    assert [len(c.scene.crops) for c in done] == [2] * 5
    assert not any(c.patches or c.mask().any() for c in done)
    assert fakes.painted == []


def test_without_a_face_no_network_runs(fakes_of: Make) -> None:
    fakes = fakes_of()
    frames = [picture(index, ()) for index in range(3)]
    done = [*unmask_frames(frames, fakes.parts, Options())]
    assert all(c.frame.picture is f.picture for c, f in zip(done, frames, strict=True))
    assert fakes.segmented == fakes.painted == []


@pytest.mark.parametrize(("batch", "window"), [(1, 1), (3, 4), (8, 16), (100, 5)])
def test_order_times_and_passengers_are_kept(fakes_of: Make, batch: int, window: int) -> None:
    fakes = fakes_of(LEFT, RIGHT)
    frames = [picture(index, (LEFT,) if index % 3 else ()) for index in range(17)]
    frames = [Frame(frame.picture, (object(),)) for frame in frames]  # type: ignore[arg-type]
    done = [*unmask_frames(frames, fakes.parts, Options(batch=batch, window=window))]
    assert len(done) == 17
    for composed, frame in zip(done, frames, strict=True):
        assert composed.scene.frame is frame
        assert composed.frame.seconds == frame.seconds
        assert composed.frame.passengers is frame.passengers
    assert sum(fakes.segmented) == 34


def test_batches_are_bounded_and_so_is_the_delay(fakes_of: Make) -> None:
    fakes, taken = fakes_of(LEFT, RIGHT), 0

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


def test_of_two_people_only_the_masked_one_is_changed(fakes_of: Make) -> None:
    fakes = fakes_of(LEFT, RIGHT)
    frames = [picture(index, (RIGHT,)) for index in range(6)]
    done = [*unmask_frames(frames, fakes.parts, Options())]
    for composed, frame in zip(done, frames, strict=True):
        before, after = to_rgb(frame.picture), to_rgb(composed.frame.picture)
        assert np.array_equal(before[:, : WIDTH // 2], after[:, : WIDTH // 2])
        assert not is_blue(after).any()
        assert [crop.track for crop in composed.scene.crops] == [0, 1]
        assert [crop.mask is not None for crop in composed.scene.crops] == [False, True]
    assert sum(fakes.painted) == 6


def test_both_are_changed_where_both_wear_one(fakes_of: Make) -> None:
    (composed,) = unmask_frames([picture(0, (LEFT, RIGHT))], fakes_of(LEFT, RIGHT).parts, Options())
    assert len(composed.patches) == 2
    assert not is_blue(to_rgb(composed.frame.picture)).any()


def with_strap(frame: Frame) -> Frame:
    """The frame with a green strap on the left head's cheek, from the mask outwards."""
    image = to_rgb(frame.picture).copy()
    image[155:159, LEFT[0] + 30 : LEFT[0] + 40] = GREEN
    drawn = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
    drawn.pts, drawn.time_base = frame.picture.pts, frame.picture.time_base
    return Frame(drawn)


def test_straps_go_with_the_mask_where_the_profile_looks_for_them(
    fakes_of: Make, profile: Profile
) -> None:
    frame = with_strap(picture(0, (LEFT,)))
    (composed,) = unmask_frames([frame], fakes_of(LEFT).parts, Options())
    before, after = (to_rgb(f.picture).astype(int) for f in (frame, composed.frame))
    green = (before[..., 1] - before[..., 0]) > 60
    assert green.sum() == 40
    left = (after[..., 1] - after[..., 0])[green] > 60
    assert left.sum() == 0 if profile.maps == 2 else left.sum() > 15


def test_straps_of_nobody_masked_are_left_alone(frontal: np.ndarray) -> None:
    frame = with_strap(picture(0, ()))
    (composed,) = unmask_frames([frame], Fakes(PORTRAIT, frontal, LEFT).parts, Options())
    assert composed.frame.picture is frame.picture


def test_the_inpainter_is_shown_where_this_face_lies(frontal: np.ndarray) -> None:
    """Its anchors land where the profile wants them, and its mesh is the guide's."""
    fakes = Fakes(PORTRAIT, frontal, LEFT, RIGHT)
    (composed,) = unmask_frames([picture(0, (RIGHT,))], fakes.parts, Options())
    crop = composed.scene.crops[1]
    assert crop.mesh is not None
    assert np.abs(anchors(crop.mesh) - PORTRAIT.eyes).max() < 0.1
    (given,) = fakes.given
    assert given.shape == (1, 5, PORTRAIT.height, PORTRAIT.width)
    assert np.array_equal(given[0, 4], guide(crop.mesh, PORTRAIT.size))
    assert crop.mask is not None
    assert np.array_equal(given[0, 3], crop.mask)


def test_the_papers_inpainter_sees_the_face_alone(frontal: np.ndarray) -> None:
    fakes = Fakes(PAPER, frontal, LEFT)
    list(unmask_frames([picture(0, (LEFT,))], fakes.parts, Options()))
    assert [given.shape[1] for given in fakes.given] == [3]


def test_the_options_profile_is_what_is_opened(profile: Profile) -> None:
    with open_parts(Options(profile=profile.name)) as parts:
        assert parts.networks.profile is profile
        assert (parts.networks.enhancer is not None) == profile.enhanced
        (maps,) = parts.networks.segmenter([np.zeros((profile.height, profile.width, 3), np.uint8)])
        assert maps.shape == (profile.maps, profile.height, profile.width)
        assert parts.backend.startswith(("openvino", "onnxruntime"))


def test_the_label_is_drawn_on_changed_frames_but_not_on_the_map(fakes_of: Make) -> None:
    frame = picture(0, (LEFT,))
    plain, labelled = (
        next(unmask_frames([frame], fakes_of(LEFT).parts, Options(label=label)))
        for label in (False, True)
    )
    difference = to_rgb(plain.frame.picture) != to_rgb(labelled.frame.picture)
    rows, columns, _ = np.nonzero(difference)
    assert rows.min() > 0.8 * HEIGHT
    assert columns.max() < 0.6 * WIDTH
    assert np.array_equal(plain.mask(), labelled.mask())


def test_the_source_frame_is_not_painted_on(fakes_of: Make) -> None:
    frame = picture(0, (LEFT,))
    before = to_rgb(frame.picture)
    next(unmask_frames([frame], fakes_of(LEFT).parts, Options()))
    assert np.array_equal(to_rgb(frame.picture), before)


def test_the_clock_knows_every_stage(fakes_of: Make) -> None:
    clock = Clock()
    list(unmask_frames([picture(0, (LEFT,))], fakes_of(LEFT).parts, Options(), clock))
    assert set(clock.seconds) == {"find", "segment", "steady", "repaint", "composite"}
    assert all(seconds > 0 for seconds in clock.seconds.values())


def test_where_maps_overlap_the_larger_counts() -> None:
    patch = Patch(1, 0, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 0.5, np.float32))
    other = Patch(2, 1, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 0.8, np.float32))
    whole = whole_mask((4, 5), [patch, other])
    assert whole[0].tolist() == [0, 0.5, 0.5, 0, 0]
    assert whole[1] == pytest.approx([0, 0.5, 0.8, 0.8, 0])
