from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream_unmask.video.frame import (
    Frame,
    Orientation,
    Patch,
    from_rgb,
    orientation,
    sparse_luma,
    to_rgb,
    with_patches,
)
from stream_unmask.video.reader import Reader

FORMATS = ["yuv420p", "nv12", "yuv422p", "yuv444p", "gray", "gbrp", "yuv420p10le", "p010le"]
RNG = np.random.default_rng(5)


def picture(pixel_format: str, width: int = 64, height: int = 48) -> av.VideoFrame:
    blocks = RNG.integers(40, 215, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image))
    frame = frame.reformat(format=pixel_format, dst_colorspace=1)
    frame.pts, frame.time_base, frame.colorspace = 7, Fraction(1, 30), 1
    return frame


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Rows of bytes, without the padding at their ends."""
    found = []
    for index, plane in enumerate(frame.planes):
        parts = [part for part in frame.format.components if part.plane == index]
        width = plane.width * len(parts) * (1 if parts[0].bits == 8 else 2)
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        found.append(rows[: plane.height, :width].copy())
    return found


def flat(shape: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


def test_seconds_are_exact() -> None:
    frame = picture("yuv420p")
    assert Frame(frame).seconds == Fraction(7, 30)
    frame.pts = None
    assert Frame(frame).seconds is None


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_patch_changes_only_what_its_mask_covers(pixel_format: str) -> None:
    before = picture(pixel_format)
    untouched = planes(before)
    mask = np.zeros((20, 24), np.float32)
    mask[4:16, 4:20] = 1
    after = with_patches(before, [Patch(11, 9, flat((20, 24), (200, 60, 90)), mask)])

    for left, right in zip(untouched, planes(before), strict=True):
        assert np.array_equal(left, right)  # the decoder's picture is its own
    assert after.format.name == pixel_format
    assert (after.pts, after.time_base, after.colorspace) == (7, Fraction(1, 30), 1)
    for old, new in zip(untouched, planes(after), strict=True):
        scale_y, scale_x = 48 // old.shape[0], 64 / old.shape[1]
        rows, columns = np.nonzero(old != new)
        assert rows.min() * scale_y >= 12
        assert rows.max() * scale_y <= 25
        assert columns.min() * scale_x >= 13
        assert columns.max() * scale_x < 32
    inside = to_rgb(after)[15:23, 17:29].astype(int)
    expected = (200, 60, 90) if pixel_format != "gray" else inside[0, 0]
    assert np.abs(inside - expected).max() <= 3


def test_no_patch_is_the_picture_itself() -> None:
    frame = picture("yuv420p")
    assert with_patches(frame, []) is frame


def test_mask_blends_in_proportion() -> None:
    before = av.VideoFrame.from_ndarray(flat((32, 32), (100, 100, 100))).reformat(format="yuv444p")
    half = np.full((32, 32), 0.5, np.float32)
    after = to_rgb(with_patches(before, [Patch(0, 0, flat((32, 32), (200, 200, 200)), half)]))
    assert np.abs(after.astype(int) - 150).max() <= 1


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (5, 3)])
def test_odd_pictures_and_patches_beyond_the_edge(size: tuple[int, int]) -> None:
    before = picture("yuv420p", *size)
    big = flat((90, 90), (20, 140, 220))
    after = with_patches(before, [Patch(-10, -20, big, np.ones((90, 90), np.float32))])
    assert np.abs(to_rgb(after).astype(int) - (20, 140, 220)).max() <= 3
    outside = with_patches(before, [Patch(64, 0, big, np.ones((90, 90), np.float32))])
    for left, right in zip(planes(before), planes(outside), strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("pixel_format", ["yuyv422", "rgb24", "bgr0", "yuv420p10be"])
def test_packed_formats_come_back_planar(pixel_format: str) -> None:
    before = picture(pixel_format)
    after = with_patches(
        before, [Patch(8, 8, flat((16, 16), (10, 20, 200)), np.ones((16, 16), np.float32))]
    )
    shown, old = to_rgb(after).astype(int), to_rgb(before).astype(int)
    assert np.abs(shown[12:20, 12:20] - (10, 20, 200)).max() <= 3
    assert np.abs(shown[32:] - old[32:]).mean() < 1


def test_colour_matrix_and_range_of_the_picture_are_used() -> None:
    frame = av.VideoFrame(32, 32, "yuv420p")
    frame.colorspace, frame.color_range = 1, 1  # BT.709, limited
    red = from_rgb(flat((32, 32), (255, 0, 0)), frame)
    assert [int(plane[8, 8]) for plane in planes(red)] == [63, 102, 240]
    assert np.abs(to_rgb(red).astype(int) - (255, 0, 0)).max() <= 2
    frame.color_range = 2
    full = from_rgb(flat((32, 32), (255, 255, 255)), frame)
    assert int(planes(full)[0][8, 8]) == 255


def test_round_trip_has_no_bias() -> None:
    frame = picture("yuv420p", 128, 96)
    back = from_rgb(to_rgb(frame), frame)
    for old, new in zip(planes(frame), planes(back), strict=True):
        assert abs((new.astype(int) - old).mean()) < 0.2


def test_eight_orientations_are_undone_by_their_inverse() -> None:
    array = RNG.integers(0, 255, (4, 6, 3), np.uint8)
    seen = set()
    for bits in range(8):
        turn = Orientation(bool(bits & 1), bool(bits & 2), bool(bits & 4))
        assert np.array_equal(turn.coded(turn.upright(array)), array)
        seen.add(turn.upright(array).tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_patch_lands_where_the_viewer_sees_it(
    make_clip: Callable[..., Path], degrees: int, mirrored: bool
) -> None:
    path = make_clip(rotation=(degrees, mirrored), frames=2)
    with Reader(path) as reader:
        first = reader.first
    plain = to_rgb(first)
    coded = first.to_ndarray(format="rgb24").astype(int)
    expected = np.rot90(coded[:, ::-1] if mirrored and degrees % 180 == 0 else coded, degrees // 90)
    if mirrored and degrees % 180:
        expected = np.rot90(coded, degrees // 90)[:, ::-1]
    assert np.abs(plain - expected).mean() < 3
    image = flat((16, 20), (250, 250, 0))
    after = to_rgb(with_patches(first, [Patch(4, 30, image, np.ones((16, 20), np.float32))]))
    assert np.abs(after[34:44, 8:20].astype(int) - (250, 250, 0)).max() <= 6
    changed = np.abs(after.astype(int) - plain).max(2) > 20
    rows, columns = np.nonzero(changed)
    edges = np.array([rows.min(), rows.max(), columns.min(), columns.max()])
    assert np.abs(edges - (30, 45, 4, 23)).max() <= 1  # chroma is interpolated for display


def test_picture_without_a_matrix_is_upright() -> None:
    assert orientation(picture("yuv420p")) == Orientation()


def test_patch_checks_itself() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Patch(0, 0, flat((4, 4), (0, 0, 0)), np.ones((4, 5), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        Patch(0, 0, np.zeros((4, 4), np.uint8), np.ones((4, 4), np.float32))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "gray", "nv12"])
def test_sparse_luma_is_the_picture_seen_from_afar(pixel_format: str) -> None:
    rows = np.linspace(20, 230, 480).astype(np.uint8)
    image = np.repeat(np.repeat(rows[:, None], 640, 1)[..., None], 3, axis=2)
    picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)
    luma = sparse_luma(picture)
    assert luma is not None
    assert luma.shape == (96, 128)
    assert luma.dtype == np.uint8
    assert np.corrcoef(luma[:, 5], rows[::5])[0, 1] > 0.999
    assert 170 < int(luma.max()) - int(luma.min()) < 215


def test_rgb_has_no_luma() -> None:
    assert sparse_luma(av.VideoFrame(64, 64, "rgb24")) is None
