"""Photographs of masked people: their outlines, their straps, and what is learned from them."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")

from stream_unmask.faces.landmarks import anchors
from stream_unmask.models.profile import PORTRAIT, Profile
from stream_unmask.types import Face
from training import photos
from training.dataset import FaceSet
from training.photos import Photo, Photos, RealPhotos, stroke

pytestmark = pytest.mark.needs_train

SHAPE = (40, 60)
Strap = dict[str, Any]


def strap(*points: tuple[float, float], width: float = 4) -> Strap:
    return {"points": [list(point) for point in points], "width": width}


LEVEL = strap((10, 15.5), (50, 15.5))  # between two rows, so that all four are whole ones


# Straps


@pytest.mark.parametrize(("width", "wider", "rows"), [(4, 0, 4), (2, 0, 2), (4, 2, 6), (4, -2, 2)])
def test_a_strap_is_as_wide_as_told(width: float, wider: float, rows: int) -> None:
    drawn = stroke([LEVEL | {"width": width}], SHAPE, wider)
    assert drawn.shape == SHAPE
    assert drawn.dtype == np.bool_
    for x in (12, 30, 48):
        assert np.nonzero(drawn[:, x])[0].tolist() == [*range(16 - rows // 2, 16 + rows // 2)]
    columns = np.nonzero(drawn.any(0))[0]
    assert abs(columns.min() - 10) <= (width + wider) / 2 + 0.5
    assert abs(columns.max() - 50) <= (width + wider) / 2 + 0.5


def test_a_strap_follows_its_points_in_a_picture_of_any_kind() -> None:
    bent = strap((10, 10), (30, 10), (30, 30), width=3)
    drawn = stroke([bent], (*SHAPE, 3))
    assert drawn.shape == SHAPE
    assert drawn[10, 20]
    assert drawn[20, 30]
    assert not drawn[20, 20]  # it is a line, and no outline
    both = stroke([bent, LEVEL], SHAPE)
    assert np.array_equal(both, drawn | stroke([LEVEL], SHAPE))
    assert not stroke([], SHAPE).any()


def test_a_strap_thinner_than_half_a_pixel_is_not_seen() -> None:
    assert not stroke([LEVEL | {"width": 1}], SHAPE, -1).any()
    assert not stroke([LEVEL | {"width": 0.2}], SHAPE).any()


EVERYWHERE, NOWHERE = np.ones(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)


def test_where_nobody_outlined_straps_none_count() -> None:
    straps, counted = photos._straps({"polygons": []}, (*SHAPE, 3), EVERYWHERE, NOWHERE)
    assert straps.shape == counted.shape == SHAPE
    assert not straps.any()
    assert not counted.any()
    straps, counted = photos._straps({"straps": [], "unsure": []}, SHAPE, EVERYWHERE, NOWHERE)
    assert not straps.any()
    assert counted.all()  # that there are none was looked for


def test_the_rim_of_a_strap_and_what_might_be_one_do_not_count() -> None:
    unsure = [[[0, 30], [20, 30], [20, 39], [0, 39]]]
    line = strap((10, 15), (50, 15))  # whose edges halve two rows
    straps, counted = photos._straps(
        {"straps": [line], "unsure": unsure}, SHAPE, EVERYWHERE, NOWHERE
    )
    assert np.array_equal(straps, stroke([line], SHAPE))
    assert np.nonzero(straps[:, 30])[0].tolist() == [13, 14, 15, 16, 17]
    # On both sides of either edge.
    assert np.nonzero(~counted[:, 30])[0].tolist() == [12, 13, 17, 18]
    assert not counted[31:39, 1:20].any()
    assert counted[31:39, 22:].all()


def test_what_does_not_count_as_fabric_counts_as_no_strap_and_fabric_goes_first() -> None:
    ignored, fabric = NOWHERE.copy(), NOWHERE.copy()
    ignored[:, :20], fabric[:, 40:] = True, True
    label = {"straps": [LEVEL], "unsure": []}
    straps, counted = photos._straps(label, SHAPE, ~ignored, fabric)
    assert not counted[:, :20].any()
    assert not straps[:, 40:].any()
    assert straps[15, 20:40].all()


# Measuring


def photo(image: np.ndarray, straps: np.ndarray, counted: np.ndarray) -> Photo:
    """A photograph that is one upright crop."""
    nothing = np.zeros(image.shape[:2], np.bool_)
    face = Face((0, 0, PORTRAIT.width, PORTRAIT.height), PORTRAIT.eyes, 1.0)
    return Photo("one", image, nothing, ~nothing, straps, counted, (face,))


def test_precision_and_recall_of_straps_are_those_of_all_that_counts(faces: FaceSet) -> None:
    image = faces.crop(0, PORTRAIT.eyes, PORTRAIT.size).image
    true, counted = np.zeros((2, *image.shape[:2]), np.bool_)
    counted[:] = True
    true[60:64, 10:50] = True  # 160 px
    counted[:, 40:44] = False
    found = np.zeros(image.shape[:2], np.float32)
    found[60:64, 20:50] = 1  # 104 of the 144 that count
    found[100:102, 10:23] = 1  # 26 that are none
    found[150:154, :] = 0.4  # not found
    unlabelled = np.zeros_like(true)
    seen: list[int] = []

    def predict(pictures: Any) -> list[np.ndarray]:
        seen.append(len(pictures))
        assert pictures.shape[1:] == (3, *image.shape[:2])
        return [found] * len(pictures)

    both = [photo(image, true, counted), photo(image, unlabelled, unlabelled)]
    assert Photos(both, PORTRAIT).straps(predict) == pytest.approx((104 / 130, 104 / 144))
    assert seen == [2]
    # Pixels count alike, wherever they are.
    bare = photo(image, unlabelled, ~unlabelled)
    found_all = int((found > 0.5).sum())
    precision, recall = Photos([both[0], bare], PORTRAIT).straps(predict)
    assert precision == pytest.approx(104 / (130 + found_all))
    assert recall == pytest.approx(104 / 144)
    # Where there is nothing to be found and nothing was, there is no error to divide by.
    assert Photos([both[1]], PORTRAIT).straps(predict) == (0, 0)


# Learning


MASK = 12  # px below the eyes at which the mask begins


@pytest.fixture(scope="module")
def folder(faces: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the portrait five times, and maps that a segmenter left of four, of one of
    which the straps were outlined."""
    path = tmp_path_factory.mktemp("photos")
    image = faces.archive.read(faces.names[0])
    held = anchors(faces.meshes[0])
    top = round(float(held[:, 1].mean())) + MASK
    with zipfile.ZipFile(path / f"{photos.CLOSE_UPS}.zip", "w") as file:
        for name in ("mine", "theirs", "again", "bad", "held"):
            data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
            file.writestr(f"photos/{name}.png", data)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[top:] = 255
    cv2.imwrite(str(path / "map.png"), mask)
    height, width = mask.shape
    outline = [[0, top], [width - 1, top], [width - 1, height - 1], [0, height - 1]]
    line = strap((0, top - 8), (width - 1, top - 8), width=6)
    mine = {"polygons": [outline], "ignore": [], "straps": [line], "unsure": []}
    skipped = {"polygons": [], "ignore": [], "skip": True}
    (path / "labels.json").write_text(json.dumps({"mine.png": mine, "nowhere.png": skipped}))
    held_on = {"straps": [line], "unsure": []}
    (path / "straps.json").write_text(json.dumps({"held.png": held_on, "bad.png": held_on}))
    (path / "rejected.txt").write_text("bad.png\n")
    keys = ("theirs.png", "bad.png", "mine.png", "held.png", "again.png", "again.png")
    index = [{"key": key, "map": "map.png", "anchors": held.tolist()} for key in keys]
    (path / "index.json").write_text(json.dumps(index))
    return path


@pytest.fixture(scope="module")
def real(folder: Path) -> Iterator[RealPhotos]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "TRAINING_LABELS", folder / "labels.json")
        patch.setattr(photos, "STRAP_LABELS", folder / "straps.json")
        patch.setattr(photos, "REJECTED", folder / "rejected.txt")
        yield RealPhotos.load(folder, folder)


def test_one_learns_from_outlines_and_from_what_nobody_rejected(real: RealPhotos) -> None:
    assert len(real.images) == len(real.maps) == len(real.counted) == 4
    assert real.by_hand == 2  # what was outlined comes first
    assert [number for number, _ in real.faces] == [0, 1, 2, 3, 3]
    for _, held in real.faces[1:]:
        assert held == pytest.approx(real.faces[0][1], abs=3)
    for maps, counted in zip(real.maps, real.counted, strict=True):
        assert maps.shape == counted.shape == (*real.images[0].shape[:2], 2)
        assert maps.dtype == counted.dtype == np.uint8
        assert set(np.unique(counted)) <= {0, 255}


def test_of_a_picture_that_a_segmenter_labelled_straps_do_not_count(real: RealPhotos) -> None:
    by_hand, held_on, *others = zip(real.maps, real.counted, strict=True)
    for maps, counted in others:
        off = (maps[..., 0] > 127) != (by_hand[0][..., 0] > 127)
        assert off.sum() <= 4  # the corners of the outline
        assert counted[..., 0].min() == 255
        assert not maps[..., 1].any()
        assert not counted[..., 1].any()
    for maps, counted in (by_hand, held_on):
        assert maps[..., 1].any()
        assert not (maps[..., 0] & maps[..., 1]).any()
        assert 0 < (counted[..., 1] == 0).mean() < 0.1  # the strap's rim
    assert np.array_equal(held_on[0][..., 1], by_hand[0][..., 1])
    assert np.array_equal(held_on[0][..., 0], others[0][0][..., 0])  # as the segmenter had it


def test_photographs_come_with_both_maps_and_where_they_count(
    real: RealPhotos, profile: Profile
) -> None:
    size, eyes = (profile.height, profile.width), round(float(profile.eyes[0, 1]))
    kinds = []
    for seed in range(12):
        picture, maps, counted = real.photographed(np.random.default_rng(seed), profile)
        assert picture.shape == (*size, 3)
        assert maps.shape == counted.shape == (2, *size)
        for part in (picture, maps, counted):
            assert part.dtype == np.float32
            assert 0 <= part.min() <= part.max() <= 1
        # The map came along with the face: from below its eyes on.
        assert maps[0, : eyes - round(0.4 * profile.unit)].max() < 0.5
        assert maps[0, eyes + round(1.1 * profile.unit)].min() > 0.5
        assert counted[0].min() == 1
        kinds.append(bool(counted[1].any()))
        assert maps[1].any() == kinds[-1]  # straps, in what was labelled by hand alone
    assert 0 < sum(kinds) < 12
    first, again = (real.photographed(np.random.default_rng(3), profile) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))


def test_maps_lie_where_they_are_in_the_picture(profile: Profile) -> None:
    """Of a light corner in a dark picture, which is outlined, and a light dot, which is a strap."""
    corner, dot = np.zeros((2, 300, 300), np.bool_)
    corner[150:, 130:] = True
    dot[80:110, 60:90] = True
    image = np.where((corner | dot)[..., None], np.uint8(200), np.uint8(50)).repeat(3, 2)
    held = np.float32([(115, 120), (185, 120)])
    maps, counted = photos._bytes(corner, dot), photos._bytes(~dot, ~corner)
    real = RealPhotos([image], [maps], [counted], [(0, held)], by_hand=1)
    flipped = []
    for seed in range(8):
        picture, found, counts = real.photographed(np.random.default_rng(seed), profile)
        light = picture.mean(2) > picture.mean(2).mean()
        assert (light == (found.max(0) > 0.5)).mean() > 0.97
        assert np.abs(found + counts[::-1] - 1).max() < 0.01
        columns = found[0].mean(0)
        flipped.append(bool(columns[0] > columns[-1]))
    assert 0 < sum(flipped) < 8


# What people outlined


@pytest.mark.parametrize(
    "path", [photos.TRAINING_LABELS, photos.STRAP_LABELS, photos.OWN_LABELS], ids=lambda p: p.stem
)
def test_every_strap_is_a_line_with_a_width(path: Path) -> None:
    labels = json.loads(path.read_text(encoding="utf-8"))
    outlined = {key: label for key, label in labels.items() if "straps" in label}
    straps = [(key, strap) for key, label in outlined.items() for strap in label["straps"]]
    assert len(straps) > 50
    for key, one in straps:
        points = np.array(one["points"], np.float64)
        assert points.ndim == 2, key
        assert points.shape[0] >= 2, key
        assert points.shape[1] == 2, key
        assert np.isfinite(points).all(), key
        assert -50 < points.min() <= points.max() < 10_000, key
        assert np.linalg.norm(np.diff(points, axis=0), axis=1).sum() > 1, key
        assert 0 < one["width"] < 60, key
    for key, label in outlined.items():
        for outline in label["unsure"]:
            points = np.array(outline, np.float64)
            assert points.shape[0] >= 3, key
            assert points.shape[1] == 2, key
            assert np.isfinite(points).all(), key
    assert all("straps" in label for label in labels.values() if "unsure" in label)


def test_no_photograph_is_outlined_twice() -> None:
    """Not to learn from and to choose checkpoints by, nor straps beside a whole label."""
    files = (photos.TRAINING_LABELS, photos.STRAP_LABELS, photos.OWN_LABELS)
    keys = [key for path in files for key in json.loads(path.read_text(encoding="utf-8"))]
    assert len(keys) == len(set(keys))
