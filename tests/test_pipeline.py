"""The stream with networks that are plain functions: blue is mask, and grey is what is painted."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from threading import Semaphore
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from stream_unmask import pipeline, steady
from stream_unmask.api import Run, flow
from stream_unmask.backends import EngineSpec
from stream_unmask.backends.function import FunctionEngine
from stream_unmask.faces.geometry import apply
from stream_unmask.faces.landmarks import FACE_LANDMARK, Landmarker, anchors
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.guide import guide
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PAPER, PORTRAIT, Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.options import Options
from stream_unmask.pipeline import (
    Composed,
    Parts,
    Scene,
    appearance,
    decide,
    find,
    gather,
    masked,
    open_parts,
    present,
    repaint,
    unmask_frames,
    vouched,
    whole_mask,
)
from stream_unmask.report import Clock
from stream_unmask.types import Crop, Face
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
                Inpainter(FunctionEngine(profile.inpainter, self.paint), appearance(profile)),
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


def test_a_mask_vouches_for_a_face_that_nobody_is_sure_of(fakes_of: Make) -> None:
    """And says nothing of bare ones; where everybody is sure, nobody is asked."""
    fakes = fakes_of(LEFT, RIGHT)
    image = to_rgb(picture(0, (LEFT,)).picture)
    heads = tuple(replace(head(middle), mesh=None) for middle in (LEFT, RIGHT))
    networks = fakes.parts.networks
    assert [face.sure for face in vouched(image, heads, networks)] == [True, False]
    assert fakes.segmented == [2]
    known = tuple(replace(face, sure=True) for face in heads)
    assert vouched(image, known, networks) == known
    assert fakes.segmented == [2]


def barely_seen(fakes: Fakes) -> pipeline.Parts:
    """Parts whose detector is not sure of the two heads."""
    seen = tuple(replace(head(middle), score=0.55) for middle in (LEFT, RIGHT))
    return replace(fakes.parts, detector=lambda _: seen)  # type: ignore[arg-type]


@pytest.mark.parametrize("smooth", [True, False])
def test_a_face_that_is_barely_seen_is_followed_if_it_wears_a_mask(
    fakes_of: Make, smooth: bool
) -> None:
    frames = [picture(index, (LEFT,)) for index in range(4)]
    for scene in find(frames, barely_seen(fakes_of()), Options(smooth=smooth)):
        (crop,) = scene.crops
        assert is_blue(crop.image).any()


def test_a_picture_has_the_faces_that_are_sure_or_masked(fakes_of: Make) -> None:
    parts = barely_seen(fakes_of())
    found = present(to_rgb(picture(0, (LEFT,)).picture), parts)
    assert [round(float(face.eyes[:, 0].mean()), -1) for face in found] == [LEFT[0]]


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


@pytest.mark.parametrize(
    ("batch", "window", "ahead"),
    [(1, 1, 0), (1, 1, 4), (3, 4, 2), (8, 16, 4), (100, 5, 7), (8, 16, 100)],
)
def test_order_times_and_passengers_are_kept(
    fakes_of: Make, batch: int, window: int, ahead: int
) -> None:
    """And nothing is lost, at the end neither."""
    fakes = fakes_of(LEFT, RIGHT)
    frames = [picture(index, (LEFT,) if index % 6 < 3 else ()) for index in range(17)]
    frames = [Frame(frame.picture, (object(),)) for frame in frames]  # type: ignore[arg-type]
    options = Options(batch=batch, window=window, look_ahead=ahead)
    done = [*unmask_frames(frames, fakes.parts, options)]
    assert len(done) == 17
    for composed, frame in zip(done, frames, strict=True):
        assert composed.scene.frame is frame
        assert composed.frame.seconds == frame.seconds
        assert composed.frame.passengers is frame.passengers
        assert [crop.track for crop in composed.scene.crops] == [0, 1]
    assert sum(fakes.segmented) == 12  # one changes every third frame, and maps are kept twice


class Counted:
    """Frames that count how many of them were taken."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.frames, self.taken = frames, 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            self.taken += 1
            yield frame


def delays(frames: Sequence[Frame], fakes: Fakes, options: Options) -> list[int]:
    """For each frame that comes out, how many more were taken by then."""
    source = Counted(frames)
    done = enumerate(unmask_frames(source, fakes.parts, options), 1)
    return [source.taken - given for given, _ in done]


def test_batches_are_bounded(fakes_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "_MAPS_KEPT", 0)
    monkeypatch.setattr(steady, "_FILL_KEPT", 0)
    fakes, both = fakes_of(LEFT, RIGHT), [picture(index, (LEFT, RIGHT)) for index in range(20)]
    waits = delays(both, fakes, Options(batch=5, window=16, every=1))
    assert fakes.segmented == fakes.painted == [6] * 6 + [4]  # three frames with two faces each
    # Three may wait for each network, four to be looked ahead at, five for faces found later.
    assert 5 + 4 <= max(waits) < 5 + 3 + 4 + 3


@pytest.mark.parametrize("heads", [(), (LEFT, RIGHT)], ids=["nobody", "two"])
@pytest.mark.parametrize("masked", [(), (LEFT,)], ids=["bare", "masked"])
@pytest.mark.parametrize(("window", "ahead"), [(5, 3), (4, 0), (1, 6)])
def test_the_delay_is_bounded(
    fakes_of: Make,
    heads: tuple[tuple[int, int], ...],
    masked: tuple[tuple[int, int], ...],
    window: int,
    ahead: int,
) -> None:
    """A window is waited for twice, before either network, however few faces there are."""
    frames = [picture(index, masked) for index in range(24)]
    options = Options(batch=100, window=window, look_ahead=ahead, every=2)
    waits = delays(frames, fakes_of(*heads), options)
    assert len(waits) == 24
    back = 11 if ahead else 0  # detected every twelfth frame at the most, and gone back from there
    assert back + ahead <= waits[0]
    assert max(waits) < back + 2 * window + ahead
    assert waits[-1] == 0


@pytest.mark.parametrize("heads", [(), (LEFT,)], ids=["nobody", "one"])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("latency", [0, 3, 13])
def test_a_latency_bounds_all_that_waits(
    fakes_of: Make, heads: tuple[tuple[int, int], ...], smooth: bool, latency: int
) -> None:
    """And is made use of, though two windows that begin with the same frame wait as one."""
    frames = [picture(index, (LEFT,) if index % 9 < 6 else ()) for index in range(20)]
    options = Options(batch=100, latency=latency, smooth=smooth)
    delayed, waits = delays(frames, fakes_of(*heads), options), options.waits
    assert len(delayed) == 20
    assert waits.back + waits.ahead + waits.window - 1 <= max(delayed) <= latency


@pytest.mark.parametrize("heads", [(), (LEFT,)], ids=["nobody", "one"])
@pytest.mark.parametrize("latency", [0, 2, 9])
def test_threads_hold_no_frame_back(
    fakes_of: Make, heads: tuple[tuple[int, int], ...], latency: int
) -> None:
    """The source gives a frame only once all but the last so many are out."""
    out, frames = Semaphore(latency + 1), [picture(index, (LEFT,)) for index in range(15)]

    def slowly() -> Iterator[Frame]:
        for index, frame in enumerate(frames):
            assert out.acquire(timeout=20), f"frame {index - latency - 1} is held back"
            yield frame

    written: list[Fraction | None] = []

    def write(frame: Frame) -> None:
        written.append(frame.seconds)
        out.release()

    played(fakes_of(*heads), slowly(), write, Options(latency=latency))
    assert written == [frame.seconds for frame in frames]


def test_threads_run_no_further_ahead_than_a_latency_lets_them(fakes_of: Make) -> None:
    """A frame each in three queues, and one each in the hands of who puts and gets them."""
    frames = [picture(index, ()) for index in range(40)]

    def ahead(latency: int | None) -> int:
        source, left = Counted(frames), list[int]()

        def write(_: Frame) -> None:
            time.sleep(0.02)  # as an encoder that is slower than all else
            left.append(source.taken - len(left) - 1)

        played(fakes_of(), source, write, Options(latency=latency, smooth=False, window=1))
        return max(left)

    assert ahead(0) <= 3 + 4 < ahead(None)


def played(
    fakes: Fakes, frames: Iterable[Frame], write: Callable[[Frame], None], options: Options
) -> None:
    """Nothing comes back; frames have gone through all threads of a run."""
    reader: Any = Read(frames)
    writer: Any = SimpleNamespace(write=write)
    flow(reader, writer, fakes.parts, options, Run())


class Read:
    """What a run wants of a reader."""

    source, duration = "a camera", None

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)


@pytest.mark.parametrize("smooth", [True, False])
def test_live_a_frame_comes_out_before_the_next_goes_in(fakes_of: Make, smooth: bool) -> None:
    """Without smoothing there is nothing to look ahead for."""
    frames = [picture(index, (LEFT,) if index % 4 < 2 else ()) for index in range(8)]
    options = Options(batch=1, window=1, look_ahead=0 if smooth else 4, smooth=smooth)
    assert delays(frames, fakes_of(LEFT, RIGHT), options) == [0] * 8
    assert delays(frames, fakes_of(), options) == [0] * 8


def test_gather_waits_for_faces_or_for_frames() -> None:
    crowded, empty = (Scene(None, (None,) * n) for n in (3, 0))  # type: ignore[arg-type]

    def sizes(scenes: list[Scene], batch: int, window: int, each: int = 1) -> list[int]:
        options = Options(batch=batch, window=window)
        return [len(g) for g in gather(scenes, options, lambda scene: each * len(scene.crops))]

    assert sizes([crowded] * 5, 6, 99) == [2, 2, 1]
    assert sizes([crowded] * 5, 6, 99, each=2) == [1, 1, 1, 1, 1]
    assert sizes([crowded] * 5, 6, 99, each=0) == [5]
    assert sizes([empty] * 5, 6, 2) == [2, 2, 1]
    assert sizes([crowded, empty, empty, empty], 4, 3) == [3, 1]
    assert sizes([], 4, 3) == []


def elsewhere(frame: Frame) -> Frame:
    """The same heads in another scene, half of which is bright."""
    image = to_rgb(frame.picture).copy()
    skin = np.abs(image.astype(int) - SKIN).max(2) < 20
    image[:, : WIDTH // 2][~(skin | is_blue(image))[:, : WIDTH // 2]] = 250
    drawn = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
    drawn.pts, drawn.time_base = frame.picture.pts, frame.picture.time_base
    return Frame(drawn)


@pytest.mark.parametrize("masked_first", [True, False])
def test_a_cut_is_looked_across_in_neither_direction(fakes_of: Make, masked_first: bool) -> None:
    frames = [
        picture(index, (RIGHT,) if (index < 6) == masked_first else ()) for index in range(12)
    ]
    frames[6:] = map(elsewhere, frames[6:])
    done: list[Composed] = [*unmask_frames(frames, fakes_of(RIGHT).parts, Options())]
    assert [crop.track for c in done for crop in c.scene.crops] == [0] * 6 + [1] * 6
    assert [bool(c.patches) for c in done] == [masked_first] * 6 + [not masked_first] * 6


def scenes_of(crop: Crop, tracks: Sequence[int]) -> list[Scene]:
    return [Scene(None, (replace(crop, track=track),)) for track in tracks]  # type: ignore[arg-type]


def test_maps_of_one_track_say_nothing_of_another(profile: Profile) -> None:
    """Even where the picture stays as it is: the same number would bridge the gap."""
    image = np.full((profile.height, profile.width, 3), 120, np.uint8)
    maps = np.zeros((profile.maps, profile.height, profile.width), np.float32)
    crop, wearing = Crop(image, np.eye(3)[:2], maps=maps), maps.copy()
    wearing[0][profile.window(0.3, 1.9, 1)] = 1

    def masks(tracks: Sequence[int], gap: slice, ahead: int) -> list[bool]:
        scenes = scenes_of(replace(crop, maps=wearing), tracks)
        scenes[gap] = scenes_of(crop, tracks[gap])
        done = decide(scenes, profile, Options(look_ahead=ahead), Clock())
        return [scene.crops[0].mask is not None for scene in done]

    one, three = slice(3, 4), slice(6, 9)
    for ahead in (0, 4):
        assert masks([0] * 7, one, ahead) == [True] * 7
        assert masks([0, 0, 0, 1, 0, 0, 0], one, ahead) == [True] * 3 + [False] + [True] * 3
    assert masks([0] * 14, three, 4) == [True] * 14
    assert masks([0] * 14, three, 0) != [True] * 14
    assert masks([0] * 9 + [1] * 5, three, 4) != [True] * 14  # what comes is another's


class Shaking(Fakes):
    """Landmarks that are measured a little aside, every time elsewhere."""

    def __init__(self, profile: Profile, frontal: np.ndarray, *heads: tuple[int, int]) -> None:
        super().__init__(profile, frontal, *heads)
        self._rng = np.random.default_rng(0)

    def landmarks(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, logits = super().landmarks(images)
        return points + self._rng.normal(0, 1, (len(points), 1, 3)).astype(np.float32), logits


def test_crops_are_held_steady(profile: Profile, frontal: np.ndarray) -> None:
    frames, shake = [picture(index, (LEFT,)) for index in range(20)], {}
    for smooth in (True, False):
        scenes = find(frames, Shaking(profile, frontal, LEFT).parts, Options(smooth=smooth))
        where = np.stack([apply(scene.crops[0].to_frame, profile.eyes) for scene in scenes])
        shake[smooth] = float(np.diff(where, axis=0).std())
    assert shake[False] > 0.5
    assert shake[True] < 0.4 * shake[False]


def turned_by(frontal: np.ndarray, much: float) -> np.ndarray:
    """The mesh in the crop of a head whose nose has gone that far aside, in its width."""
    mesh = PORTRAIT.eyes.mean(0) + PORTRAIT.unit * frontal
    mesh[1, 0] += much * (mesh[454, 0] - mesh[234, 0])
    return mesh.astype(np.float32)


def covered(profile: Profile) -> Crop:
    """A grey crop with a mask."""
    mask = np.zeros((profile.height, profile.width), np.float32)
    mask[profile.window(0.3, 1.9, 1)] = 1
    return Crop(np.full((*mask.shape, 3), 120, np.uint8), np.eye(3)[:2], mask=mask)


@pytest.mark.parametrize(("much", "left"), [(0.0, 1.0), (0.5, 1.0), (0.66, 0.6), (0.8, 0.0)])
def test_a_fill_fades_out_as_the_head_turns_to_a_profile(
    frontal: np.ndarray, much: float, left: float
) -> None:
    """But the painter is shown the whole map."""
    mask = np.zeros((PORTRAIT.height, PORTRAIT.width), np.float32)
    mask[PORTRAIT.window(0.3, 1.9, 0.9)] = 1
    image = np.full((*mask.shape, 3), 120, np.uint8)
    crop = Crop(image, np.eye(3)[:2], turned_by(frontal, much), mask=mask)
    fakes = Fakes(PORTRAIT, frontal)
    (scene,) = repaint(scenes_of(crop, [0]), fakes.parts.networks, Options(), Clock())
    done = scene.crops[0].mask
    assert done is not None
    assert float(done.max()) == pytest.approx(left, abs=1e-3)
    assert np.array_equal(fakes.given[0][0, 3], mask)


def patterned(profile: Profile, count: int) -> Networks:
    """Networks that paint another pattern each time, of which relighting leaves the fine parts."""
    shape = (count, profile.height, profile.width)
    patterns = iter(np.random.default_rng(0).uniform(0.4, 0.6, shape))

    def paint(given: np.ndarray) -> np.ndarray:
        return np.stack([[next(patterns)] * 3 for _ in given]).astype(np.float32)

    return Networks(
        profile,
        Segmenter(FunctionEngine(profile.segmenter, lambda faces: faces[:, : profile.maps])),
        Inpainter(FunctionEngine(profile.inpainter, paint), appearance(profile)),
    )


@pytest.mark.parametrize("smooth", [True, False])
def test_fills_of_one_track_are_not_mixed_with_anothers(profile: Profile, smooth: bool) -> None:
    crop = covered(profile)

    def painted(tracks: Sequence[int]) -> np.ndarray:
        networks = patterned(profile, len(tracks))
        done = repaint(scenes_of(crop, tracks), networks, Options(smooth=smooth), Clock())
        return [scene.crops[0].image for scene in done][3]

    other = painted([0, 1, 2, 3])
    assert np.array_equal(painted([0, 0, 0, 1]), other)
    assert np.array_equal(painted([0, 0, 0, 0]), other) != smooth


def test_a_mask_that_comes_back_is_painted_anew(profile: Profile) -> None:
    """Nothing of the face before it was taken off is left in it."""
    crop, images = covered(profile), []
    for without in (True, False):
        seen = list(scenes_of(crop, [0] * 4))
        if without:
            bare = replace(crop, mask=None, track=0)
            seen[2] = replace(seen[2], crops=(bare,))
        networks = patterned(profile, 4)
        *_, last = repaint(iter(seen), networks, Options(), Clock())
        images.append(last.crops[0].image)
    first = list(repaint(scenes_of(crop, [0]), patterned(profile, 1), Options(), Clock()))
    inside = crop.mask > 0.5  # type: ignore[operator]
    rough = [float(image[inside].std()) for image in (first[0].crops[0].image, *images)]
    assert rough[1] == pytest.approx(rough[0], rel=0.05)
    assert rough[2] < 0.9 * rough[0]


@pytest.mark.parametrize(("smooth", "often"), [(True, 1), (False, 1), (True, 40)])
def test_a_network_runs_anew_where_something_changes(
    fakes_of: Make, smooth: bool, often: int
) -> None:
    """Blinds that rise and fall over the picture: in every frame, or only every fortieth."""
    frames = []
    for index in range(24):
        image = to_rgb(picture(index, (LEFT,)).picture).astype(int)
        image = image * (84 + 16 * (index // often % 2)) // 100
        frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv444p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        frames.append(Frame(frame))
    fakes, options = fakes_of(LEFT), Options(smooth=smooth)
    done = [*unmask_frames(frames, fakes.parts, options)]
    assert not any(is_blue(to_rgb(composed.frame.picture)).any() for composed in done)
    still = smooth and often > 1
    assert sum(fakes.painted) == (3 + 5 if still else 24)
    assert sum(fakes.segmented) == (8 if still else 24)


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
    assert sum(fakes.painted) == 3  # then it keeps so still that the mean of these is shown


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
    assert given.shape == (1, 9, PORTRAIT.height, PORTRAIT.width)
    assert crop.mask is not None
    model = appearance(PORTRAIT)
    assert model is not None
    assert np.array_equal(given[0, 4], guide(model.correction(crop.mesh, crop.mask), PORTRAIT.size))
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


@pytest.mark.parametrize(("batch", "calls"), [(1, [1] * 5), (3, [3, 2]), (8, [4, 1])])
def test_a_call_takes_a_batch_at_most(
    fakes_of: Make, monkeypatch: pytest.MonkeyPatch, batch: int, calls: list[int]
) -> None:
    """And no more than the engine likes, four here."""
    given: list[int] = []

    def opened(spec: EngineSpec, *_: str, precision: str) -> FunctionEngine:
        def run(*inputs: np.ndarray) -> np.ndarray:
            given.append(len(inputs[0]))
            return np.zeros((len(inputs[0]), PORTRAIT.maps, 1, 1), np.float32)

        engine = FunctionEngine(spec, run)
        engine.batch = 4
        return engine

    monkeypatch.setattr(pipeline, "open_engine", opened)
    with open_parts(Options(batch=batch)) as parts:
        parts.networks.segmenter([np.zeros((PORTRAIT.height, PORTRAIT.width, 3), np.uint8)] * 5)
    assert given == calls


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


@pytest.mark.parametrize("heads", [(), (LEFT, RIGHT)], ids=["nobody", "two"])
def test_each_frame_is_a_sample_of_each_stage(
    fakes_of: Make, heads: tuple[tuple[int, int], ...]
) -> None:
    """Whose sum is what the stage took."""
    clock, frames = Clock(), [picture(index, (LEFT,)) for index in range(21)]
    list(unmask_frames(frames, fakes_of(*heads).parts, Options(), clock))
    assert {*clock.milliseconds} == {*clock.seconds}
    for stage, counts in clock.milliseconds.items():
        assert counts.total() == 21
        whole = sum(value * count for value, count in counts.items())
        assert whole == pytest.approx(1000 * clock.seconds[stage], rel=0.02, abs=0.05)


def test_where_maps_overlap_the_larger_counts() -> None:
    patch = Patch(1, 0, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 0.5, np.float32))
    other = Patch(2, 1, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 0.8, np.float32))
    whole = whole_mask((4, 5), [patch, other])
    assert whole[0].tolist() == [0, 0.5, 0.5, 0, 0]
    assert whole[1] == pytest.approx([0, 0.5, 0.8, 0.8, 0])


def test_eyes_are_never_painted_over(frontal: np.ndarray) -> None:
    """Even where the segmenter takes the whole face for a mask."""
    shape = (PORTRAIT.height, PORTRAIT.width)
    crop = Crop(np.zeros((*shape, 3), np.uint8), np.eye(3)[:2], turned_by(frontal, 0.0))
    everywhere = masked(crop, np.ones(shape, np.float32), PORTRAIT).mask
    assert everywhere is not None
    for place, wanted in (((0.5, -0.3), 0.0), ((-0.5, -0.3), 0.0), ((0, 0.65), 1.0), ((0, 1), 1.0)):
        x, y = np.rint(PORTRAIT.eyes.mean(0) + PORTRAIT.unit * np.array(place)).astype(int)
        assert everywhere[y, x] == pytest.approx(wanted, abs=0.02)
    unknown = masked(replace(crop, mesh=None), np.ones(shape, np.float32), PORTRAIT).mask
    assert unknown is not None
    assert unknown.min() == 1


def test_while_the_engines_are_open_blas_leaves_them_the_processors() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with open_parts(Options()):
            assert threads() == {1}
        assert threads() == {2}
