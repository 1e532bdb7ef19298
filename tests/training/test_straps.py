"""Straps are drawn from a mask's corners to where an ear begins, and end there."""

import numpy as np
import pytest

from stream_unmask.models.profile import PORTRAIT
from stream_unmask.types import Crop, Points
from training import masks, straps
from training.dataset import FaceSet
from training.masks import LEFT_CONTOUR, RIGHT_CONTOUR

BLUE = np.array([0.3, 0.5, 0.9], np.float32)


@pytest.fixture(scope="module")
def crop(faces: FaceSet) -> Crop:
    return faces.crop(0, PORTRAIT.eyes, PORTRAIT.size)


def outline(mesh: Points) -> Points:
    """A mask that covers nose to chin and leaves the cheeks."""
    (left, nose, right), low = mesh[[205, 4, 425]], mesh[152]
    return np.stack([left, nose, right, right + (0, low[1] - right[1]), low, (left[0], low[1])])


def worn(crop: Crop, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert crop.mesh is not None
    picture = crop.image.astype(np.float32) / 255
    rng = np.random.default_rng(seed)
    return straps.worn(picture, crop.mesh, outline(crop.mesh), BLUE, rng)


def test_they_are_the_same_for_a_seed(crop: Crop) -> None:
    for first, second in zip(worn(crop, 3), worn(crop, 3), strict=True):
        assert np.array_equal(first, second)
    assert not np.array_equal(worn(crop, 3)[1], worn(crop, 4)[1])


def test_only_they_and_their_shadow_change_the_picture(crop: Crop) -> None:
    unit = masks.unit(np.asarray(crop.mesh))
    for seed in range(20):
        picture, share, shade = worn(crop, seed)
        assert picture.shape == crop.image.shape
        assert picture.dtype == share.dtype == np.float32
        assert 0 <= share.min() <= share.max() <= 1
        changed = np.abs(picture - crop.image / np.float32(255)).max(2) > 1 / 255
        rows, columns = np.nonzero(share > 0.5)
        far = np.ones_like(changed)
        for y, x in zip(rows, columns, strict=True):
            near = int(9 * unit)
            far[max(y - near, 0) : y + near + 1, max(x - near, 0) : x + near + 1] = False
        assert not (changed & far).any()
        assert 0 < shade.min() <= shade.max() <= 1
        lit = crop.image / np.float32(255) * shade[..., None]
        assert np.abs(picture - lit)[share == 0].max() < 1e-5


def test_they_are_thin_and_end_at_the_ears(crop: Crop) -> None:
    mesh = np.asarray(crop.mesh)
    unit, shares = masks.unit(mesh), [worn(crop, seed)[1] for seed in range(60)]
    contour = mesh[[*LEFT_CONTOUR, *RIGHT_CONTOUR]]
    columns = [found for share in shares if len(found := np.nonzero(share.any(0))[0])]
    assert len(columns) > 50
    # Not on the wall beside the head: an ear reaches no farther out.
    assert min(found.min() for found in columns) > contour[:, 0].min() - 25 * unit
    assert max(found.max() for found in columns) < contour[:, 0].max() + 25 * unit
    areas = np.array([share.sum() for share in shares]) / unit**2
    assert 20 < np.median(areas) < 400  # of some 5,000 that a mask has


def test_both_sides_have_some_most_often(crop: Crop) -> None:
    middle = round(float(np.asarray(crop.mesh)[4, 0]))
    sides = [
        (share[:, :middle].any(), share[:, middle:].any())
        for share in (worn(crop, seed)[1] for seed in range(200))
    ]
    assert 0.7 < np.mean([both == (True, True) for both in sides]) < 0.95


def test_where_a_mask_has_no_side_there_is_none(crop: Crop) -> None:
    assert crop.mesh is not None
    picture = crop.image.astype(np.float32) / 255
    line = np.repeat(crop.mesh[[4]], 4, 0)  # all of it in the middle
    share = straps.worn(picture, crop.mesh, line, BLUE, np.random.default_rng(0))[1]
    assert not share.any()
