"""What holds for whatever comes: geometry, blending, times, options, names."""

import math
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import av
import numpy as np
import pytest

from stream_unmask import Options
from stream_unmask.batch import plan
from stream_unmask.errors import InputError, OptionError
from stream_unmask.faces.crop import cut, paste
from stream_unmask.faces.geometry import Affine, apply, compose, invert, scale_of, similarity
from stream_unmask.models.profile import PORTRAIT, PROFILES
from stream_unmask.options import DEVICES, Waits, seconds
from stream_unmask.types import Crop, Face
from stream_unmask.video.encoder import FORMATS, Encoding
from stream_unmask.video.frame import Orientation, Patch, with_patches
from stream_unmask.video.image import SUFFIXES
from stream_unmask.video.reader import Reader
from stream_unmask.video.source import Limits
from stream_unmask.video.writer import Writer

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import assume, example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as npst  # noqa: E402

# The same cases each time, however long one takes.
settings.register_profile("here", derandomize=True, deadline=None, database=None)
settings.load_profile("here")

T = TypeVar("T")


def tried(action: Callable[[], T]) -> tuple[T | None, str]:
    """What comes back, or None and the sentence with which it is refused."""
    try:
        return action(), ""
    except OptionError as error:
        return None, str(error)


# ------------------------------------------------------------------------------------ geometry


@st.composite
def similarities(draw: st.DrawFn) -> Affine:
    """Any turn, a scale between 1 / 50 and 50, a shift by up to 5000 pixels."""
    angle = draw(st.floats(-math.pi, math.pi))
    scale = math.exp(draw(st.floats(-math.log(50), math.log(50))))
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    x, y = draw(st.tuples(*[st.floats(-5000, 5000)] * 2))
    return np.array([[a, -b, x], [b, a, y]])


pixels = npst.arrays(np.float64, st.tuples(st.integers(2, 8), st.just(2)), elements={
    "min_value": -5000, "max_value": 5000,
})  # fmt: skip


def near(a: np.ndarray, b: np.ndarray, size: float) -> bool:
    """True if both are the same but for the rounding of float32 at numbers of that size."""
    return bool(np.abs(a - b).max() <= 4e-7 * max(size, 1))


@settings(max_examples=60)
@given(similarities(), pixels)
def test_an_inverse_leads_back(matrix: Affine, points: np.ndarray) -> None:
    there = apply(matrix, points)
    back = apply(invert(matrix), there)
    grown = np.abs(there).max() / scale_of(matrix)  # the rounding there, seen from here
    assert near(back, points, np.abs(points).max() + grown + np.abs(invert(matrix)).max())
    assert np.allclose(compose(invert(matrix), matrix), np.eye(2, 3), atol=1e-6)


@settings(max_examples=60)
@given(similarities(), similarities(), pixels)
def test_a_composition_is_one_after_the_other(
    first: Affine, second: Affine, points: np.ndarray
) -> None:
    middle = points @ first[:, :2].T + first[:, 2]
    end = middle @ second[:, :2].T + second[:, 2]
    size = np.abs(middle).max() * scale_of(second) + np.abs(end).max()
    assert near(apply(compose(second, first), points), end, size)
    assert scale_of(compose(second, first)) == pytest.approx(scale_of(first) * scale_of(second))


@settings(max_examples=60)
@given(similarities(), pixels)
def test_points_tell_the_similarity_that_moved_them(matrix: Affine, points: np.ndarray) -> None:
    assume(np.ptp(points, axis=0).max() > 1)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    found = similarity(points, moved)
    again = points @ found[:, :2].T + found[:, 2]
    assert np.abs(again - moved).max() <= 1e-6 * max(np.abs(moved).max(), 1)


def waves(width: int, height: int) -> np.ndarray:
    """A picture without edges, in which every place looks different."""
    y, x = np.mgrid[:height, :width] / 40
    bands = (np.sin(x), np.cos(y), np.sin(0.7 * x + 0.9 * y))
    return np.rint(128 + 100 * np.stack(bands, 2)).astype(np.uint8)


FRAME = waves(400, 300)


@settings(max_examples=40)
@given(
    st.floats(-60, 460), st.floats(-60, 360), st.floats(30, 160), st.floats(-math.pi, math.pi)
)  # fmt: skip
@example(200, 150, 108, 0)
def test_a_crop_goes_back_where_it_was_cut(x: float, y: float, eyes: float, angle: float) -> None:
    """Faces may be small, large, upside down and partly, or wholly, out of the picture."""
    half = np.array([math.cos(angle), math.sin(angle)]) * eyes / 2
    face = Face((0, 0, 1, 1), np.array([(x, y) - half, (x, y) + half], np.float32), 1.0)
    width, height = PORTRAIT.size
    crop = cut(FRAME, face, PORTRAIT.eyes, PORTRAIT.size)
    assert crop.image.shape == (height, width, 3)
    assert np.allclose(apply(crop.to_frame, PORTRAIT.eyes), face.eyes, atol=1e-2)
    mask = np.zeros((height, width), np.float32)
    mask[2:-2, 2:-2] = 1
    placed = paste(Crop(crop.image, crop.to_frame, mask=mask), (300, 400))
    rows, columns = np.mgrid[:300, :400]
    places = np.stack([columns.ravel(), rows.ravel()], 1)
    inside = apply(invert(crop.to_frame), places).reshape(300, 400, 2)
    deep = ((inside >= 2.1) & (inside <= (width - 3.1, height - 3.1))).all(2)
    far = ((inside <= 0.9) | (inside >= (width - 1.9, height - 1.9))).any(2)
    if placed is None:
        assert not deep.any()
        return
    left, top, image, share = placed
    assert 0 <= left < left + image.shape[1] <= 400
    assert 0 <= top < top + image.shape[0] <= 300
    assert image.shape[:2] == share.shape
    whole = np.zeros((300, 400), np.float32)
    whole[top : top + share.shape[0], left : left + share.shape[1]] = share
    assert np.all(whole[deep] > 0.999)
    assert not whole[far].any()
    window = FRAME[top : top + share.shape[0], left : left + share.shape[1]]
    certain = (share > 0.999) & deep[top:, left:][: share.shape[0], : share.shape[1]]
    difference = np.abs(image.astype(int) - window)[certain]
    assert difference.size == 0 or (difference.max() <= 4 and difference.mean() < 0.5)


@given(
    npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=3, max_side=6)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=80)
def test_orientations_undo_themselves(array: np.ndarray, bits: tuple[bool, bool, bool]) -> None:
    turn = Orientation(*bits)
    assert np.array_equal(turn.coded(turn.upright(array)), array)
    assert np.array_equal(turn.upright(turn.coded(array)), array)
    wide = array.shape[:2][:: -1 if turn.transposed else 1]
    assert turn.upright(array).shape[:2] == turn.coded(array).shape[:2] == wide


# ------------------------------------------------------------------------------------ blending

BLENDED = [
    "yuv420p", "yuvj420p", "nv12", "nv16", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p",
    "gray", "gray10le", "gray16le", "gbrp", "gbrap", "yuva420p", "yuva444p", "yuv420p10le",
    "p010le", "yuv422p12le", "yuv444p16le", "gbrp12le",
]  # fmt: skip


def components(frame: av.VideoFrame) -> Iterator[tuple[np.ndarray, tuple[int, int], bool]]:
    """Samples (rows, columns) of each component, its (x, y) step, and whether it is alpha."""
    step = (64 // frame.format.chroma_width(64), 64 // frame.format.chroma_height(64))
    parts = frame.format.components
    for part in parts:
        plane = frame.planes[part.plane]
        kind = np.dtype(np.uint8 if part.bits == 8 else "<u2")
        rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
        sharing = [p for p in parts if p.plane == part.plane]
        samples = rows[: plane.height, : plane.width * len(sharing)]
        own = samples[:, sharing.index(part) :: len(sharing)].copy()
        yield own, step if part.is_chroma else (1, 1), part.is_alpha


@st.composite
def patches(draw: st.DrawFn, width: int, height: int) -> Patch:
    """A rectangle in the picture, or partly or wholly out of it, with holes in its mask."""
    w, h = draw(st.integers(1, width + 20)), draw(st.integers(1, height + 20))
    x, y = draw(st.integers(-w - 2, width + 2)), draw(st.integers(-h - 2, height + 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.choice(np.float32([0, 0, 0, 0.2, 1]), (h, w))
    return Patch(x, y, rng.integers(0, 256, (h, w, 3), np.uint8), mask)


@st.composite
def painted(draw: st.DrawFn) -> tuple[str, int, int, list[Patch]]:
    width, height = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    some = draw(st.lists(patches(width, height), min_size=1, max_size=2))
    return draw(st.sampled_from(BLENDED)), width, height, some


@settings(max_examples=150)
@given(painted())
def test_samples_outside_all_masks_stay_as_they_are(
    case: tuple[str, int, int, list[Patch]],
) -> None:
    pixel_format, width, height, some = case
    rng = np.random.default_rng(width * 41 + height)
    noise = rng.integers(0, 256, (height, width, 4), np.uint8)
    picture = av.VideoFrame.from_ndarray(noise, format="rgba").reformat(format=pixel_format)
    before = list(components(picture))
    after = with_patches(picture, some)
    assert (after.format.name, after.width, after.height) == (pixel_format, width, height)
    cover = np.zeros((height, width), bool)
    for patch in some:
        for row, column in np.argwhere(patch.mask > 0) + (patch.y, patch.x):
            if 0 <= row < height and 0 <= column < width:
                cover[row, column] = True
    for (old, (sx, sy), alpha), (new, *_), (kept, *_) in zip(
        before, components(after), components(picture), strict=True
    ):
        assert np.array_equal(kept, old)  # the picture itself is another
        padded = np.zeros((old.shape[0] * sy, old.shape[1] * sx), bool)
        padded[:height, :width] = cover
        touched = padded.reshape(old.shape[0], sy, old.shape[1], sx).any((1, 3))
        assert np.array_equal(old[~touched], new[~touched])
        assert not alpha or np.array_equal(old, new)
    assert cover.any() or all(
        np.array_equal(a[0], b[0]) for a, b in zip(before, components(after), strict=True)
    )


# --------------------------------------------------------------------------------------- times


@st.composite
def timed(draw: st.DrawFn) -> tuple[Fraction, list[int]]:
    """A time base and rising, irregular time stamps."""
    base = draw(st.sampled_from([600, 1000, 12800, 30000, 90000]))
    steps = draw(st.lists(st.integers(1, base), min_size=1, max_size=20))
    start = draw(st.sampled_from([0, 1, 7, base // 3, base * 2 + 1]))
    return Fraction(1, base), list(accumulate(steps, initial=start))


@contextmanager
def clip(base: Fraction, stamps: Sequence[int], *, reordered: bool = True) -> Iterator[Path]:
    """An MP4 with a picture at each of these times, in a folder that goes away with it.

    reordered: pictures are not coded in their order, which is the usual.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        options = {"movie_timescale": str(base.denominator)}
        with av.open(str(path), "w", container_options=options) as container:
            stream: Any = container.add_stream("libx264", rate=25, time_base=base)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            stream.options = {"preset": "ultrafast", "g": "5", "bf": "2" if reordered else "0"}
            for index, stamp in enumerate(stamps):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), index * 12, np.uint8))
                frame.pts, frame.time_base = stamp, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        yield path


@settings(max_examples=25)
@given(timed())
def test_times_go_through_mp4_exactly(case: tuple[Fraction, list[int]]) -> None:
    base, stamps = case
    with clip(base, stamps) as path:
        target = path.with_name("out.mp4")
        with (
            Reader(path) as reader,
            Writer(target, reader, encoding=Encoding(preset="ultrafast")) as writer,
        ):
            for frame in reader:
                writer.write(frame)
        with av.open(str(target)) as container:
            times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        with Reader(target) as reader:
            again = [frame.seconds for frame in reader]
    assert times == again == [stamp * base for stamp in stamps]


instants = st.none() | st.fractions(0, 15, max_denominator=1000)
windows = st.tuples(instants, instants).filter(lambda w: w[1] is None or w[1] > (w[0] or 0))


@settings(max_examples=40)
@given(timed(), windows)
@example((Fraction(1, 1000), [0, 500, 1000, 1500]), (Fraction(1, 2), Fraction(1)))
def test_a_window_gives_the_frames_within(
    case: tuple[Fraction, list[int]], window: tuple[Fraction | None, Fraction | None]
) -> None:
    """From the first picture on, beginning included and end not; with a start, times move to 0."""
    (base, stamps), (start, end) = case, window
    times = [stamp * base for stamp in stamps]
    with clip(base, stamps, reordered=False) as path:
        with av.open(str(path)) as container:
            clock = Fraction(container.start_time or 0, av.time_base)
        wanted = [
            time
            for time in times
            if (not start or time >= clock + start) and (end is None or time < clock + end)
        ]
        if not wanted:
            with pytest.raises(InputError, match="no frame between"):
                Reader(path, start, end)
            return
        with Reader(path, start, end) as reader:
            seen = [(frame.seconds, frame.picture.to_ndarray()[0, 0]) for frame in reader]
            assert reader.zero == (wanted[0] if start else 0)
    first = wanted[0] if start else 0
    assert [time for time, _ in seen] == [time - first for time in wanted]
    # Each has its own grey, in steps of about 10.
    greys = [round(16 + times.index(time) * 12 * 219 / 255) for time in wanted]
    assert np.abs(np.array([int(grey) for _, grey in seen]) - greys).max() <= 4


@pytest.mark.parametrize(
    "stamps",
    [
        range(0, 800, 40),
        [0, 40, 80, 120, 160, 200, 240, 700, 1200, 1700, 1740, 1780],
    ],
    ids=["constant", "variable"],
)
def test_a_window_gives_the_frames_within_where_they_are_reordered(stamps: Sequence[int]) -> None:
    with clip(Fraction(1, 1000), stamps) as path:
        for stamp in stamps:
            with Reader(path, start=Fraction(stamp, 1000)) as reader:
                assert reader.zero == Fraction(stamp, 1000)


# ------------------------------------------------------------------------------------- options


def spelt(text: str) -> Fraction | None:
    """The seconds that a text means, worked out by hand; None if it is no time."""
    parts = text.split(":")
    whole, _, rest = parts[-1].partition(".")
    digits = [*parts[:-1], whole, *([rest] if rest else [])]
    if len(parts) > 3 or not all(d and set(d) <= set(string.digits) for d in digits):
        return None
    exact = Fraction(int(whole)) + (Fraction(int(rest), 10 ** len(rest)) if rest else 0)
    for part, unit in zip(reversed(parts[:-1]), (60, 3600), strict=False):
        exact += int(part) * unit
    return exact


numerals = st.text(string.digits, min_size=1, max_size=5)
grammar = st.builds(
    lambda parts, end: ":".join(parts) + end,
    st.lists(numerals, min_size=1, max_size=4),
    st.sampled_from(["", ".", ".5", ".25", ".001", ".123456"]),
)


@settings(max_examples=300)
@given(grammar | st.text("0123456789:.-+e _٣\n", max_size=8) | st.text(max_size=6))
@example("1:30")
@example("1\n")
@example("٣")
@example("1_0")
@example("")
@example("9" * 400)
def test_a_time_is_what_it_says_or_no_time(text: str) -> None:
    wanted = spelt(text)
    if wanted is None:
        with pytest.raises(OptionError, match="is no time"):
            seconds(text)
    elif wanted > 10**300:
        assert seconds(text) == math.inf
    else:
        assert seconds(text) == pytest.approx(float(wanted), rel=1e-12)


anything = st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, 1 / 3600, 1000.0])


@settings(max_examples=300)
@given(st.none() | anything, st.none() | anything, anything)
def test_times_and_rates_are_in_range_or_refused(
    start: float | None, end: float | None, rate: float
) -> None:
    good = [
        start is None or (math.isfinite(start) and start >= 0),
        end is None or (math.isfinite(end) and end > (start or 0)),
        1 / 3600 <= rate <= 1000,
    ]
    options, said = tried(lambda: Options(start=start, end=end, rate=rate))
    if options is None:
        assert not all(good)
        assert said.endswith(".")
    else:
        assert all(good)
        assert (options.start, options.end, options.rate) == (start, end, rate)


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "batch": st.integers(-3, 30),
            "window": st.integers(-3, 30),
            "every": st.integers(-3, 30),
            "latency": st.none() | st.integers(-3, 90),
            "smooth": st.booleans(),
            "look_ahead": st.integers(-3, 130) | st.sampled_from([-1, 0, 100, 101]),
            "profile": st.sampled_from([*PROFILES, "", "Portrait"]),
            "device": st.sampled_from([*DEVICES, "", "cuda"]),
            "quality": st.none() | st.integers(-3, 70) | st.sampled_from([-1, 0, 63, 64]),
            "lossless": st.booleans(),
        },
    )
)
@example({"quality": 63})
@example({"quality": 64})
def test_other_choices_are_in_range_or_refused(choices: dict[str, Any]) -> None:
    quality, lossless = choices.get("quality"), choices.get("lossless", False)
    good = [
        *(choices.get(name, 1) >= 1 for name in ("batch", "window", "every")),
        (choices.get("latency") or 0) >= 0,
        0 <= choices.get("look_ahead", 0) <= 100,
        choices.get("profile", PORTRAIT.name) in PROFILES,
        choices.get("device", "auto") in DEVICES,
        quality is None or (0 <= quality <= 63 and not lossless),
    ]
    names = {"quality", "lossless"}
    encoding = Encoding(**{key: value for key, value in choices.items() if key in names})
    others = {key: value for key, value in choices.items() if key not in names}
    options, said = tried(lambda: Options(encoding=encoding, **others))
    assert (options is not None) == all(good)
    assert options is not None or said.endswith(".")


@settings(max_examples=200)
@given(st.integers(0, 100), st.integers(1, 30), st.integers(1, 30), st.booleans())
@example(4, 16, 5, True)
def test_a_latency_is_shared_out_among_all_that_waits(
    ahead: int, window: int, every: int, smooth: bool
) -> None:
    """Down to nothing, and up to where it is no bound any more."""
    without = Options(look_ahead=ahead, window=window, every=every, smooth=smooth)

    def whole(waits: Waits) -> int:
        return waits.back + waits.ahead + 2 * (waits.window - 1)

    most, last = whole(without.waits), -1
    for latency in range(2 * most + 4):
        waits = replace(without, latency=latency).waits
        assert last <= whole(waits) <= latency
        last = whole(waits)
    assert waits == without.waits
    assert replace(without, latency=0).waits == Waits(0, 0, 1)


@pytest.mark.parametrize(
    "limits",
    [
        {"pixels": 0}, {"pixels": -1}, {"streams": 0}, {"hours": math.nan}, {"hours": -1},
        {"errors": -1}, {"timeout": math.nan}, {"timeout": -1}, {"timeout": 0},
    ],
    ids=str,
)  # fmt: skip
def test_limits_are_in_range_or_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Limits(**limits)


# --------------------------------------------------------------------------------------- names

suffixes = st.sampled_from([".mp4", ".MP4", ".mkv", ".avi", ".ts", ".png", ".jpg", ".mp4.avi", ""])
sources = st.builds(
    lambda folder, stem, suffix: f"nowhere/{folder}{stem}{suffix}",
    st.sampled_from(["", "a/", "b/"]),
    st.text("ab.-", min_size=1, max_size=2),
    suffixes,
)
urls = st.builds(lambda path: f"http://host/{path}", st.text("ab./?#%:é ", max_size=8))


@settings(max_examples=200)
@given(st.lists(sources | urls | st.just("-"), min_size=1, max_size=5))
def test_no_two_inputs_become_one(many: list[str]) -> None:
    """And each result lies in the folder itself, under a name that can be written."""
    folder = Path("out")
    jobs, said = tried(lambda: plan(many, None, folder))
    if jobs is None:
        assert "would both become" in said
        assert any(source in said for source in many)
        alone = [plan([source], None, folder)[0].target for source in many]
        assert len(set(alone)) < len(alone)
        return
    assert [job.source for job in jobs] == many
    assert len({job.target for job in jobs}) == len(jobs)
    for job in jobs:
        assert job.target.parent == folder
        assert job.target.suffix.lower() in {*FORMATS, *SUFFIXES}


names = st.sampled_from([
    "a.mp4", "a.avi", "a.mkv", "a.MKV", "b.ts", "b.png", "c.txt", "a.part.mp4", "d/a.mp4",
    "d/a.mov", "d/a.flv", "d/a.mkv", "d/e/b.webm",
])  # fmt: skip


@settings(max_examples=60)
@given(st.sets(names, min_size=1))
def test_no_two_files_of_a_folder_become_one(tree: set[str]) -> None:
    inputs = {name for name in tree if name not in ("c.txt", "a.part.mp4")}
    with TemporaryDirectory() as root:
        for name in tree:
            path = Path(root, "in", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        out = Path(root, "out")
        jobs, said = tried(lambda: plan([f"{root}/in"], None, out))
        if jobs is None and inputs:
            assert "would both become" in said
            assert inputs & {"a.avi", "d/a.flv"}
        elif jobs is None:
            assert "no video or picture" in said
        if jobs is None:
            return
        assert {str(Path(job.source).relative_to(root + "/in")) for job in jobs} == inputs
        assert len({job.target for job in jobs}) == len(jobs) == len(inputs)
        for job in jobs:
            place = Path(job.source).relative_to(root + "/in")
            assert job.target.relative_to(out).parent == place.parent
            assert job.target.name.startswith(place.stem + ".")
