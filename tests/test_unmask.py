"""The paper's steps on crops, with pictures of which the right answer is known."""

import cv2
import numpy as np
import pytest

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.models.enhancer import ENHANCER, Enhancer
from stream_unmask.models.inpainter import INPAINTER, Inpainter
from stream_unmask.models.segmenter import SEGMENTER, Segmenter
from stream_unmask.unmask import Networks, clean, merge, over_mouth, relight, repaint, widen

SHAPE = (208, 176)


def disc(radius: int = 30, centre: tuple[int, int] = (88, 145)) -> np.ndarray:
    mask = np.zeros(SHAPE, np.float32)
    cv2.circle(mask, centre, radius, 1.0, -1)
    return mask


def face(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(20, 230, (*SHAPE, 3), np.uint8)


def networks(fill: float = 0.5) -> Networks:
    """A segmenter that finds nothing, an inpainter that paints one grey, an idle enhancer."""
    return Networks(
        Segmenter(FunctionEngine(SEGMENTER, lambda faces: faces[:, :1] * 0)),
        Inpainter(FunctionEngine(INPAINTER, lambda hidden: np.full_like(hidden, fill))),
        Enhancer(FunctionEngine(ENHANCER, lambda luma: luma)),
    )


def test_clean_drops_specks_and_fills_holes() -> None:
    mask = disc()
    mask[140:150, 80:95] = 0.1  # a hole
    mask[20:25, 30:36] = 0.9  # a speck
    mask[60, :] = 1  # a hair's breadth
    cleaned = clean(mask)
    assert set(np.unique(cleaned)) == {0, 1}
    assert cleaned[145, 88] == 1
    assert not cleaned[:100].any()
    assert abs(cleaned.sum() / disc().sum() - 1) < 0.02


def test_clean_keeps_two_pieces_and_nothing_of_an_empty_map() -> None:
    two = np.maximum(disc(15, (50, 140)), disc(15, (120, 140)))
    assert abs(clean(two).sum() / two.sum() - 1) < 0.03
    assert not clean(np.zeros(SHAPE, np.float32)).any()
    assert not clean(np.full(SHAPE, 0.49, np.float32)).any()
    assert clean(np.ones(SHAPE, np.float32)).all()


def test_a_piece_away_from_the_lower_face_is_dropped() -> None:
    mask = np.zeros((208, 176), np.float32)
    mask[130:170, 60:110] = 1
    worn = clean(mask)
    mask[10:40, 20:150] = 1  # a hat
    mask[195:208, 20:150] = 1  # a collar
    assert np.array_equal(clean(mask), worn)


def test_over_mouth() -> None:
    fabric = np.zeros((208, 176), np.float32)
    assert over_mouth(fabric) == 0
    fabric[126:148, 62:114] = 1
    assert over_mouth(fabric) == 0.5


def test_widen_covers_the_fabric_and_a_rim_and_ends_softly() -> None:
    fabric = disc()
    wide = widen(fabric)
    assert wide.dtype == np.float32
    assert (wide[cv2.dilate(fabric, np.ones((3, 3))) > 0] > 0.999).all()
    assert 0 <= wide.min() <= wide.max() <= 1 + 1e-6
    assert wide[145, 88 + 30 + 2] > 0.8  # the rim
    assert wide[145, 88 + 30 + 10] == 0
    soft = (wide > 0.02) & (wide < 0.98)
    assert soft.sum() > 300
    assert not widen(np.zeros(SHAPE, np.float32)).any()


def test_merge_leaves_what_the_map_does_not_cover() -> None:
    old, new, mask = face(1), face(2), widen(disc())
    merged = merge(new, old, mask)
    assert np.array_equal(merged[mask == 0], old[mask == 0])
    assert np.array_equal(merged[mask >= 1], new[mask >= 1])
    between = (mask > 0.4) & (mask < 0.6)
    low, high = np.minimum(old, new), np.maximum(old, new)
    assert ((merged >= low) & (merged <= high))[between].all()


@pytest.mark.parametrize("radius", [12, 30, 42])
@pytest.mark.parametrize("offset", [(-40, -40, -40), (25, -10, 0)])
def test_relight_takes_back_a_constant_cast(radius: int, offset: tuple[int, int, int]) -> None:
    """A fill that is off by one colour everywhere is put right, in the middle of the mask too."""
    true = cv2.GaussianBlur(face(3), (0, 0), 9)
    painted = (true.astype(int) + offset).clip(0, 255).astype(np.uint8)
    mask = widen(disc(radius))
    hidden = true.copy()
    hidden[disc(radius + 1) > 0] = (90, 160, 220)  # the cloth's colour must not get in
    lit = relight(painted, hidden, mask).astype(int)
    assert np.abs(lit - true)[mask > 0].max() <= 4


def test_relight_changes_nothing_that_is_right() -> None:
    picture = face(4)
    mask = widen(disc())
    assert np.array_equal(relight(picture, picture, mask), picture)


def test_relight_of_a_crop_that_is_all_mask() -> None:
    whole = np.ones(SHAPE, np.float32)
    assert np.array_equal(relight(face(5), face(6), whole), face(5))


def test_repaint_of_nothing() -> None:
    def fail(*_: np.ndarray) -> np.ndarray:
        raise AssertionError("no network may run")

    idle = Networks(
        Segmenter(FunctionEngine(SEGMENTER, fail)),
        Inpainter(FunctionEngine(INPAINTER, fail)),
        Enhancer(FunctionEngine(ENHANCER, fail)),
    )
    assert repaint([], [], idle) == []


def test_repaint_paints_each_face_under_its_own_map() -> None:
    faces = [np.full((*SHAPE, 3), level, np.uint8) for level in (60, 200)]
    masks = [widen(disc(20)), widen(disc(40))]
    cloth = [picture.copy() for picture in faces]
    for picture, mask in zip(cloth, masks, strict=True):
        picture[mask > 0.5] = (0, 0, 255)
    for old, mask, true, new in zip(
        cloth, masks, faces, repaint(cloth, masks, networks()), strict=True
    ):
        assert np.array_equal(new[mask == 0], old[mask == 0])
        # The painted grey was brought to the light of the face around.
        assert np.abs(new.astype(int) - true)[mask > 0.99].max() <= 6
