"""The appearance model: small ones whose faces are known, and the shipped one.

The small ones know four smooth components on a grid of 5 x 6 vertices. Since these are functions of
the place on the face, their faces can be drawn without the code that is tested.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_unmask.models import appearance
from stream_unmask.models.appearance import SCALE, Appearance, Correction, scaled, surroundings
from stream_unmask.models.profile import PAPER, PORTRAIT
from stream_unmask.pipeline import appearance as shipped

COLUMNS, ROWS = 5, 6
CELL = 10  # texels from vertex to vertex
WIDTH, HEIGHT = 144, 160
VERTICES = np.arange(3, 468, 15)[: COLUMNS * ROWS]
FIRST = (1.4, 1.3)  # texel on which the first vertex lies
SHAPE = np.float32(FIRST + CELL * np.stack(np.mgrid[:ROWS, :COLUMNS][::-1], 2).reshape(-1, 2))
CELLS = [row * COLUMNS + column for row in range(ROWS - 1) for column in range(COLUMNS - 1)]
TRIANGLES = np.int16(
    [(a, a + 1, a + COLUMNS + 1) for a in CELLS]
    + [(a, a + COLUMNS + 1, a + COLUMNS) for a in CELLS]
)
DEVIATIONS = np.full(4, 0.3, np.float32)
NONE_NEEDED = Correction(*(np.zeros(s, np.float32) for s in ((936,), (936, 1), (2, 936))))
# From texels to pixels: enlarged, and a little sheared.
GROWN, MOVED = 2.1 * np.array([[1, 0.1], [-0.08, 1]]), np.array([25, 28])
FACE = (0.1, -0.08, 0.07, 0.1)  # how much of each component
MIDDLE = 80  # the row below which most tests hide the face


def parts(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n, 3) and components (4, n, 3) at places (n, 2) in texels."""
    x, y = ((at - FIRST) / ((COLUMNS - 1) * CELL, (ROWS - 1) * CELL)).T
    one, none = np.ones_like(x), np.zeros_like(x)
    mean = np.stack([0.5 + 0.1 * y, 0.4 + 0.1 * x, 0.4 + 0.05 * np.cos(6 * y)], 1)
    light, side = np.stack([one] * 3, 1), np.stack([2 * x - 1] * 3, 1)
    warmth, stain = np.stack([one, none, -one], 1), np.stack([none, np.cos(2 * np.pi * y), none], 1)
    return mean.astype(np.float32), np.float32([light, side, warmth, stain])


def empty(shape: np.ndarray = SHAPE, triangles: np.ndarray = TRIANGLES) -> Appearance:
    """A model that knows nothing but its texels."""
    vertices, nothing = VERTICES[: len(shape)], np.zeros((1, 1, 3), np.float32)
    deviations = np.ones(1, np.float32)
    return Appearance(vertices, shape, triangles, nothing[0], nothing, deviations, NONE_NEEDED)


@pytest.fixture(scope="module")
def model() -> Appearance:
    mean, components = parts(empty().texels.at)
    return Appearance(VERTICES, SHAPE, TRIANGLES, mean, components, DEVIATIONS, NONE_NEEDED)


def meshed(points: np.ndarray) -> np.ndarray:
    """A whole mesh with the used vertices at points (v, 2), and the others anywhere."""
    mesh = np.random.default_rng(0).uniform(0, HEIGHT, (468, 2))
    mesh[VERTICES[: len(points)]] = points
    return mesh.astype(np.float32)


MESH = meshed(SHAPE @ GROWN.T + MOVED)
# A mesh varies by the width of its chin, which a mask makes look narrower by half of that, and one
# pixel higher.
CHIN = np.float32(SHAPE[:, 1] > SHAPE[:, 1].mean())
WIDER, LOWERED = np.zeros((468, 2), np.float32), np.zeros((468, 2), np.float32)
WIDER[VERTICES, 0] = CHIN * (SHAPE[:, 0] - SHAPE[:, 0].mean()) / CELL
LOWERED[VERTICES, 1] = CHIN
LEARNED = Correction(
    MESH.reshape(-1), (WIDER / (WIDER**2).sum()).reshape(-1, 1),
    np.stack([WIDER.reshape(-1) / 2, LOWERED.reshape(-1)]),
)  # fmt: skip


def drawn(face: tuple[float, ...] = FACE, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The picture of a face whose mesh is MESH, shifted; beyond the mesh its colours go on."""
    at = np.stack(np.mgrid[:HEIGHT, :WIDTH][::-1], 2).reshape(-1, 2) - MOVED - shift
    mean, components = parts(at @ np.linalg.inv(GROWN).T)
    return (mean + np.tensordot(np.float32(face), components, 1)).reshape(HEIGHT, WIDTH, 3)


MEAN = drawn((0, 0, 0, 0))


def hides(*where: slice) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[where] = 1
    return mask


LOWER = hides(slice(MIDDLE, None))
ALL, NONE = hides(slice(None)), hides(slice(0))


def off(guess: np.ndarray, wanted: np.ndarray, where: np.ndarray = ALL) -> float:
    """The largest difference in colour well inside the face, where a map says."""
    inner = (guess[..., 3] > 0.99) & (where > 0)
    assert inner.sum() > 500
    return float(np.abs(guess[..., :3] - wanted)[inner].max())


def filled(points: np.ndarray, grown: float = 0) -> np.ndarray:
    """Where the outline of the grid lies in a picture, `grown` pixels wider; negative: narrower."""
    number = np.arange(len(SHAPE)).reshape(ROWS, COLUMNS)
    rim = [*number[0], *number[1:, -1], *number[-1, -2::-1], *number[-2:0:-1, 0]]
    area = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(area, [np.rint(points[rim] * 16).astype(np.int32)], 1, shift=4)
    brush = np.ones((2 * round(abs(grown)) + 1,) * 2, np.uint8)
    how = cv2.dilate if grown > 0 else cv2.erode
    return how(area, brush, borderType=cv2.BORDER_REPLICATE) > 0


@pytest.mark.parametrize("face", [FACE, (-0.1, 0.1, 0.0, -0.1), (0.0, 0.12, -0.08, 0.1)])
@pytest.mark.parametrize(
    "mask", [LOWER, hides(slice(None), slice(72)), hides(slice(60, 100), slice(40, 110))]
)
def test_the_hidden_part_is_guessed_from_what_is_seen(
    model: Appearance, face: tuple[float, ...], mask: np.ndarray
) -> None:
    picture = drawn(face)
    guess = model(picture, mask, MESH)
    assert guess.shape == (HEIGHT, WIDTH, 4)
    assert guess.dtype == np.float32
    assert off(guess, MEAN, mask) > 0.1  # it is not the mean that is guessed
    assert off(guess, picture, mask) < 0.02


def test_what_the_map_covers_counts_for_nothing(model: Appearance) -> None:
    picture, masks = drawn(), [LOWER, hides(slice(None), slice(73))]
    for seed in range(8):
        rng = np.random.default_rng(seed)
        places, axes = rng.uniform((40, 60), (100, 120)), rng.uniform(40, 90, 2)
        masks.append(cv2.ellipse(hides(slice(0)), (places, axes, 30), 1.0, -1))
    masks += [cv2.GaussianBlur(mask, (0, 0), 3) for mask in masks]
    noise = np.random.default_rng(0).random(picture.shape, np.float32)
    for mask in masks:
        guess = model(picture, mask, MESH)
        assert off(guess, picture) < 0.05  # all else does count
        for under in (np.zeros_like(noise), noise):
            other = np.where(mask[..., None] > 0, under, picture)
            assert np.array_equal(model(other, mask, MESH), guess)


def test_soft_edges_of_the_map_are_not_looked_at(model: Appearance) -> None:
    """A pixel that is hidden in part shows cloth in part."""
    picture, mask = drawn(), LOWER.copy()
    mask[MIDDLE - 20 : MIDDLE] = 0.3
    other = picture.copy()
    other[MIDDLE - 20 :] = 0
    assert np.array_equal(model(other, mask, MESH), model(picture, mask, MESH))


def test_of_a_face_that_is_not_seen_the_mean_is_guessed(model: Appearance) -> None:
    assert off(model(drawn(), ALL, MESH), MEAN) < 0.005


def test_without_a_mesh_what_is_seen_goes_on(model: Appearance) -> None:
    picture = drawn()
    guess = model(picture, LOWER, None)
    assert guess.shape == (HEIGHT, WIDTH, 4)
    assert guess.dtype == np.float32
    assert not guess[..., 3].any()
    assert np.abs(guess[: MIDDLE - 3, :, :3] - picture[: MIDDLE - 3]).max() < 0.01
    last = picture[MIDDLE - 1]
    assert np.abs(guess[MIDDLE : MIDDLE + 10, :, :3] - last).max() < 0.1
    assert not model(picture, ALL, None).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_mesh_that_is_no_mesh_is_none(model: Appearance, value: float) -> None:
    broken = MESH.copy()
    broken[1, 0] = value  # not even one of those that are used
    assert np.array_equal(model(drawn(), LOWER, broken), model(drawn(), LOWER, None))


def test_the_guess_ends_softly_within_the_face(model: Appearance) -> None:
    points = MESH[VERTICES]
    share = model(drawn(), LOWER, MESH)[..., 3]
    assert share[filled(points, -20)].min() > 0.99
    assert not share[~filled(points, 4)].any()
    assert share[~filled(points)].max() < 0.2  # it has fallen before the face ends
    row = share[MIDDLE]
    left, right = np.nonzero(row)[0][[0, -1]]
    assert (np.diff(row[left:MIDDLE]) > -1e-6).all()
    assert (np.diff(row[MIDDLE:right]) < 1e-6).all()
    assert np.abs(np.diff(share, axis=0)).max() < 0.15  # no edge that a painter could trace
    assert np.abs(np.diff(share, axis=1)).max() < 0.15


def test_beyond_the_face_is_what_is_seen_there(model: Appearance) -> None:
    """A face on a blue wall, and a map on both: skin ends, and the wall begins, at the mesh."""
    points, wall = MESH[VERTICES], np.float32([0.1, 0.2, 0.9])
    picture = np.where(filled(points)[..., None], drawn(), wall)
    for mask in (NONE, LOWER, hides(slice(None), slice(72))):
        guess = model(picture, mask, MESH)[..., :3]
        assert np.abs(guess - wall)[~filled(points, 5)].max() < 0.03
        assert np.abs(guess - drawn())[filled(points, -8)].max() < 0.04
        # In between are colours of both: none is mixed with black.
        light = np.minimum(wall, drawn().min((0, 1)))
        assert (guess > light - 0.05).all()


def test_the_guess_lies_on_the_face_to_a_fraction_of_a_pixel(model: Appearance) -> None:
    for shift in ((0, 0), (1, 0), (0, 1), (0.5, 1.5)):
        points = MESH[VERTICES] + shift
        share = model(drawn(), ALL, meshed(points))[..., 3]
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        found = np.array([(x * share).sum(), (y * share).sum()]) / share.sum()
        assert np.abs(found - points.mean(0)).max() < 0.3


@pytest.mark.parametrize("shift", [(2, 0), (0, -4), (-6, 8)])
def test_it_moves_with_the_face(model: Appearance, shift: tuple[int, int]) -> None:
    def moved(picture: np.ndarray) -> np.ndarray:
        return np.roll(picture, shift[::-1], (0, 1))

    guess = model(drawn(), LOWER, MESH)
    again = model(moved(drawn()), moved(LOWER), MESH + np.float32(shift))
    inner = filled(MESH[VERTICES] + shift, -8)
    assert np.abs(again - moved(guess))[inner].max() < 1e-3
    assert np.abs(again - guess)[inner].max() > 0.01


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_what_is_strange_hardly_counts(
    model: Appearance, monkeypatch: pytest.MonkeyPatch, colour: float
) -> None:
    """A bar over the eyes says nothing about the chin."""
    picture = drawn()
    barred = picture.copy()
    barred[50:60, 40:105] = colour

    def change() -> float:
        return off(model(barred, LOWER, MESH), model(picture, LOWER, MESH)[..., :3], LOWER)

    robust = change()
    monkeypatch.setattr(appearance, "_ROUNDS", 1)
    assert change() > 0.05
    assert robust < 0.45 * change()


def test_a_mirrored_mesh_shows_its_back_and_is_not_drawn(model: Appearance) -> None:
    mirrored = (WIDTH - 1, 0) + MESH * np.float32([-1, 1])
    assert not model(drawn()[:, ::-1].copy(), LOWER, mirrored)[..., 3].any()


def test_what_is_turned_away_is_neither_drawn_nor_looked_at(model: Appearance) -> None:
    """The right half of the grid is folded back behind the left one, and ends left of it."""
    points = MESH[VERTICES].reshape(ROWS, COLUMNS, 2).copy()
    fold = points[:, 2:3]
    points[:, 3:] = fold - 1.5 * (points[:, 3:] - fold)
    picture = drawn()
    guess = model(picture, LOWER, meshed(points.reshape(-1, 2)))
    inner = (guess[..., 3] > 0.9) & (LOWER > 0)
    assert inner.sum() > 300
    assert np.abs(guess[..., :3] - picture)[inner].max() < 0.02
    end = int(points[..., 0].min()) + 15
    assert end < points[:, 0, 0].min() - 3
    assert not guess[:, :end, 3].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_triangles_in_one_place_the_last_one_is_drawn(order: tuple[int, int]) -> None:
    shape = np.float32([(1, 1), (31, 1), (1, 31), (41, 1), (71, 1), (41, 31)])
    triangles = np.arange(6, dtype=np.int16).reshape(2, 3)[list(order)]
    texels = empty(shape, triangles).texels
    red, blue = np.float32([1, 0, 0]), np.float32([0, 0, 1])
    mean = np.where(texels.at[:, :1] < 36, red, blue)
    known = mean, mean[None], DEVIATIONS[:1]
    model = Appearance(VERTICES[:6], shape, triangles, *known, NONE_NEEDED)
    one = np.float32([(20, 20), (120, 20), (20, 120)])
    guess = model(drawn(), ALL, meshed(np.concatenate([one, one])))
    assert guess[50, 50].tolist() == pytest.approx([*(blue, red)[order[0]], 1], abs=1e-3)


@pytest.mark.parametrize("shift", [(-50, 0), (50, 0), (0, -60), (0, 60)])
def test_of_a_face_that_leaves_the_picture_the_rest_is_guessed(
    model: Appearance, shift: tuple[int, int]
) -> None:
    """The border, repeated, is not its face: only what the picture shows is looked at."""
    picture, moved = drawn(shift=shift), meshed(MESH[VERTICES] + shift)
    x, y = round(72 + 0.8 * shift[0]), round(MIDDLE + 0.8 * shift[1])
    mask = hides(slice(y - 15, y + 15), slice(x - 15, x + 15))
    guess = model(picture, mask, moved)
    inner = filled(moved[VERTICES], -20)
    assert inner[[0, -1]].any() or inner[:, [0, -1]].any()
    assert guess[..., 3][inner].min() > 0.99  # where the picture ends the face goes on
    assert (inner & (mask > 0)).sum() > 300
    assert np.abs(guess[..., :3] - picture)[inner & (mask > 0)].max() < 0.02


@pytest.mark.parametrize("shift", [(300, 0), (0, -300), (-5e3, 5e3), (1e9, 1e9)])
def test_a_face_outside_the_picture_is_not_drawn(
    model: Appearance, shift: tuple[float, float]
) -> None:
    guess = model(drawn(), LOWER, MESH + np.float32(shift))
    assert np.array_equal(guess, model(drawn(), LOWER, None))


def test_a_face_may_be_larger_than_the_picture(model: Appearance) -> None:
    middle = MESH[VERTICES].mean(0)
    guess = model(drawn(), NONE, middle + (MESH - middle) * np.float32(1e4))
    assert np.isfinite(guess).all()
    assert guess[..., 3].min() > 0.99
    assert np.ptp(guess, axis=(0, 1)).max() < 0.01  # all of it is one place of the face


def test_whatever_comes_it_is_a_picture(model: Appearance) -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        picture = rng.random((HEIGHT, WIDTH, 3), np.float32)
        mask = cv2.resize(rng.random((4, 3), np.float32), (WIDTH, HEIGHT)).round(1)
        size = (0.4, 10, 40, 400, 4e5)[seed % 5]
        mesh = rng.normal(0, size, (468, 2)) + rng.uniform(-50, 200, 2)
        mesh[VERTICES] += rng.choice([0, 0.1, 1]) * size * (SHAPE - SHAPE.mean(0)) / CELL
        if seed % 3 == 0:  # many vertices in one place, or in one line
            mesh = np.rint(mesh / 4) * 4
        guess = model(picture, mask, mesh.astype(np.float32))
        assert guess.shape == (HEIGHT, WIDTH, 4)
        assert np.isfinite(guess).all()
        assert guess.min() >= 0
        assert guess.max() <= 1 + 1e-6


def test_a_guess_is_as_light_as_a_picture_can_be(model: Appearance) -> None:
    """Where what is seen grows lighter towards the part that is hidden."""
    picture, right = drawn((0.25, 0.5, 0, 0)), hides(slice(None), slice(75, None))
    assert picture[:, :75].max() < 1 < picture[:, 85:105].max()
    guess = model(picture.clip(0, 1), right, MESH)
    assert guess.max() <= 1 + 1e-6
    assert off(guess, picture.clip(0, 1), right) < 0.06


@pytest.mark.parametrize("size", [(112, 128), (37, 51), (64, 20)])
def test_what_is_seen_is_continued_smoothly(size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(0)
    seen = np.ones((height, width), np.float32)
    seen[height // 4 : height // 2, 5 : width // 2] = 0
    seen[:, -width // 3 :] = 0
    even = np.float32([0.2, 0.7, 0.4])
    picture = np.where(seen[..., None] > 0, even, rng.random((height, width, 3), np.float32))
    assert np.abs(surroundings(picture, seen) - even).max() < 1e-3

    y, x = np.mgrid[:height, :width] / np.float32(max(size))
    slope = np.stack([x, y, 1 - x], 2).astype(np.float32)
    found = surroundings(slope, seen)
    assert found.shape == slope.shape
    assert found.dtype == np.float32
    assert np.array_equal(found[seen > 0], slope[seen > 0])
    assert found.min() >= slope[seen > 0].min() - 0.02
    assert found.max() <= slope[seen > 0].max() + 0.02
    hole = np.s_[height // 4 : height // 2, 5 : width // 2]
    assert np.abs(found - slope)[hole].max() < 0.15
    assert max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1)) < 0.12  # no edge


def test_where_nothing_is_seen_nothing_goes_on() -> None:
    picture = np.ones((32, 48, 3), np.float32)
    assert not surroundings(picture, np.zeros((32, 48), np.float32)).any()
    one = np.zeros((32, 48), np.float32)
    one[3, 40] = 1
    assert np.abs(surroundings(picture / 2, one) - 0.5).max() < 1e-3


def test_a_texture_is_what_a_picture_shows_of_a_face(model: Appearance) -> None:
    """Of a picture at SCALE, in which pixels are twice as large."""
    small = cv2.resize(drawn(), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    mean, components = parts(model.texels.at)
    wanted = mean + np.tensordot(np.float32(FACE), components, 1)
    assert np.abs(model.texture(small, scaled(MESH)) - wanted).max() < 0.01


def test_a_point_keeps_its_place_when_the_picture_is_made_smaller() -> None:
    ramp = np.tile(np.arange(WIDTH, dtype=np.float32), (HEIGHT, 1))
    small = cv2.resize(ramp, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    points = np.float32([(10, 20), (33.3, 0.5), (100.25, 70)])
    x, y = scaled(points).T[:, None]
    assert np.allclose(cv2.remap(small, x, y, cv2.INTER_LINEAR), points[:, 0], atol=0.05)


def test_a_stored_model_is_the_same(model: Appearance, tmp_path: Path) -> None:
    mean, components = parts(model.texels.at)
    scales = np.abs(components).max((1, 2)) / 127
    np.savez(
        tmp_path / "model.npz",
        vertices=VERTICES.astype(np.int16), shape=SHAPE, triangles=TRIANGLES,
        mean=mean.astype(np.float16), scales=scales, deviations=DEVIATIONS,
        components=np.rint(components / scales[:, None, None]).astype(np.int8),
        mesh_mean=LEARNED.mean, mesh_directions=LEARNED.directions.astype(np.float16),
        mesh_offsets=LEARNED.offsets.astype(np.float16),
    )  # fmt: skip
    loaded = Appearance.load(tmp_path / "model.npz")
    guess = loaded(drawn(), LOWER, MESH)
    assert guess.dtype == np.float32
    assert np.abs(guess - model(drawn(), LOWER, MESH)).max() < 5e-3
    assert np.abs(loaded.correction(MESH, ALL) - LEARNED(MESH, ALL)).max() < 0.05


def test_a_mesh_is_corrected_by_how_it_lies_under_its_mask() -> None:
    for wider in (0, 0.7, -2):
        mesh = MESH + np.float32(wider) * WIDER
        corrected = LEARNED(mesh, ALL)
        assert corrected.shape == (468, 2)
        assert corrected.dtype == np.float32
        assert np.abs(corrected - mesh - wider / 2 * WIDER - LOWERED).max() < 1e-3
        assert np.array_equal(LEARNED(mesh, NONE), mesh)  # what is seen lies where it was found
    right = LEARNED(MESH, hides(slice(None), slice(72, None))) - MESH
    assert not right[MESH[:, 0] < 40].any()
    assert right[MESH[:, 0] > 100].any()


def test_the_correction_of_an_unusual_mesh_is_bounded() -> None:
    """Three deviations from the mean, not nine: so far nothing was learned."""
    for wider in (9, 99):
        mesh = MESH + np.float32(wider) * WIDER
        assert np.abs(LEARNED(mesh, ALL) - mesh - 1.5 * WIDER - LOWERED).max() < 1e-2


def test_the_shipped_model_knows_skin() -> None:
    assert shipped(PAPER) is None
    model = shipped(PORTRAIT)
    assert model is not None
    mesh = np.zeros((468, 2), np.float32)
    middle = np.float32(PORTRAIT.size) / 2
    mesh[model._vertices] = (model._shape - model._shape.mean(0)) / SCALE + middle
    width, height = PORTRAIT.size
    grey = np.full((height, width, 3), 0.5, np.float32)
    mean = model(grey, np.ones((height, width), np.float32), mesh)
    inner = mean[mean[..., 3] > 0.99][:, :3]
    assert 0.1 < len(inner) / (width * height) < 0.5
    assert 0.05 < inner.min() < inner.max() < 0.95
    red, green, blue = inner.mean(0)
    assert red > green > blue

    # From the upper half of a darker face follows a darker chin.
    mask = np.zeros((height, width), np.float32)
    mask[height // 2 :] = 1
    darker = model(0.7 * mean[..., :3], mask, mesh)
    ratio = darker[170:190, 100:124, :3].mean() / mean[170:190, 100:124, :3].mean()
    assert 0.6 < ratio < 0.8
