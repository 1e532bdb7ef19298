"""The paper's steps on crops, with pictures of which the right answer is known."""

import cv2
import numpy as np
import pytest

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.guide import guide
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PAPER, PORTRAIT, Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.pipeline import appearance
from stream_unmask.unmask import (
    Networks,
    clean,
    completed,
    finish,
    merge,
    over_mouth,
    relight,
    repaint,
    textured,
    widen,
)

REACH = 0.256  # in eye distances, as `repaint` relights


def empty(profile: Profile) -> np.ndarray:
    return np.zeros((profile.height, profile.width), np.float32)


def spot(profile: Profile, x: float, y: float) -> tuple[int, int]:
    """Column and row of a place in eye distances from the middle between the eyes."""
    column, row = profile.eyes.mean(0) + (x * profile.unit, y * profile.unit)
    return round(float(column)), round(float(row))


def disc(profile: Profile, radius: float = 0.77, x: float = 0.0, y: float = 1.0) -> np.ndarray:
    """Cloth over the mouth, in eye distances."""
    mask = empty(profile)
    cv2.circle(mask, spot(profile, x, y), round(radius * profile.unit), 1.0, -1)
    return mask


def box(profile: Profile, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """A filled rectangle, in eye distances."""
    mask = empty(profile)
    cv2.rectangle(mask, spot(profile, left, top), spot(profile, right, bottom), 1.0, -1)
    return mask


def face(profile: Profile, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(20, 230, (profile.height, profile.width, 3), np.uint8)


def networks(profile: Profile, fill: float = 0.5) -> Networks:
    """A segmenter that finds nothing, an inpainter that paints one grey, an idle enhancer."""

    def find(faces: np.ndarray) -> np.ndarray:
        return np.zeros((len(faces), profile.maps, *faces.shape[2:]), np.float32)

    def paint(given: np.ndarray) -> np.ndarray:
        return np.full_like(given[:, :3], fill)

    inpainter = Inpainter(FunctionEngine(profile.inpainter, paint), appearance(profile))
    segmenter = Segmenter(FunctionEngine(profile.segmenter, find))
    if profile.enhancer is None:
        return Networks(profile, segmenter, inpainter)
    enhancer = Enhancer(FunctionEngine(profile.enhancer, lambda luma: luma))
    return Networks(profile, segmenter, inpainter, enhancer)


def test_clean_drops_specks_and_fills_holes(profile: Profile) -> None:
    mask = disc(profile)
    mask[box(profile, -0.2, 0.85, 0.2, 1.1) > 0] = 0.1  # a hole
    mask[box(profile, -0.9, -0.8, -0.8, -0.7) > 0] = 0.9  # a speck
    mask[spot(profile, 0, -0.4)[1], :] = 1  # a hair's breadth
    cleaned = clean(mask, profile)
    assert set(np.unique(cleaned)) == {0, 1}
    x, y = spot(profile, 0, 1)
    assert cleaned[y, x] == 1
    assert not cleaned[: spot(profile, 0, 0)[1]].any()
    assert abs(cleaned.sum() / disc(profile).sum() - 1) < 0.02


def test_clean_keeps_two_pieces_and_nothing_of_an_empty_map(profile: Profile) -> None:
    two = np.maximum(disc(profile, 0.38, x=-0.9, y=0.9), disc(profile, 0.38, x=0.9, y=0.9))
    assert abs(clean(two, profile).sum() / two.sum() - 1) < 0.03
    assert not clean(empty(profile), profile).any()
    assert not clean(empty(profile) + 0.49, profile).any()
    assert clean(empty(profile) + 1, profile).all()


def test_a_piece_away_from_the_lower_face_is_dropped(profile: Profile) -> None:
    mask = box(profile, -0.7, 0.6, 0.6, 1.6)
    worn = clean(mask, profile)
    hat = box(profile, -1.0, -1.0, 1.0, -0.3)
    collar = box(profile, -1.0, 2.1, 1.0, 2.4)
    assert hat.sum() > 0.5 * profile.unit**2
    assert collar.sum() > 0.5 * profile.unit**2
    assert np.array_equal(clean(np.maximum(mask, np.maximum(hat, collar)), profile), worn)


def test_over_mouth(profile: Profile) -> None:
    assert over_mouth(empty(profile), profile) == 0
    assert over_mouth(empty(profile) + 1, profile) == 1
    upper_half = box(profile, -1.2, -0.5, 1.2, (0.505 + 1.633) / 2)
    assert over_mouth(upper_half, profile) == pytest.approx(0.5, abs=0.03)
    assert over_mouth(box(profile, -1.2, -0.9, 1.2, 0.4), profile) == 0  # over the nose bridge


def test_straps_are_repainted_with_the_fabric() -> None:
    fabric, straps = disc(PORTRAIT), box(PORTRAIT, 0.6, 0.5, 1.3, 0.6)
    sure, unsure = completed(fabric, np.stack([fabric, 0.8 * straps]), PORTRAIT), 0.45 * straps
    assert np.array_equal(sure, np.maximum(fabric, straps))
    assert sure.dtype == np.float32
    assert np.array_equal(completed(fabric, np.stack([fabric, unsure]), PORTRAIT), fabric)


def test_what_does_not_hang_on_the_fabric_is_no_strap() -> None:
    fabric, glasses = disc(PORTRAIT), box(PORTRAIT, -1.0, -0.1, 1.0, 0.05)
    assert np.array_equal(completed(fabric, np.stack([fabric, glasses]), PORTRAIT), fabric)


@pytest.mark.parametrize(("gap", "its"), [(0.1, True), (0.3, False)])
def test_a_strap_goes_on_beyond_a_lock_of_hair_but_not_far(gap: float, its: bool) -> None:
    fabric = box(PORTRAIT, -0.6, 0.5, 0.6, 1.6)
    straps = box(PORTRAIT, 0.6 + gap, 0.5, 1.3, 0.6)
    found = completed(fabric, np.stack([fabric, straps]), PORTRAIT)
    assert np.array_equal(found, np.maximum(fabric, straps) if its else fabric)
    shade = np.stack([np.maximum(fabric, straps), empty(PORTRAIT)])  # cloth ends where it ends
    assert np.array_equal(completed(fabric, shade, PORTRAIT), fabric)


@pytest.mark.parametrize("sure", [0.1, 0.4])
def test_cloth_half_seen_is_repainted_where_it_hangs_on_the_fabric(
    profile: Profile, sure: float
) -> None:
    fabric, shade = disc(profile), box(profile, -0.4, 1.5, 0.4, 1.9)
    collar = box(profile, -0.6, 2.3, 0.6, 2.5)
    maps = np.maximum(fabric, sure * np.maximum(shade, collar))[None]
    wanted = np.maximum(fabric, shade) if sure > 0.3 else fabric
    found = completed(fabric, maps, profile)
    assert (found != wanted).sum() < 0.1 * (shade > fabric).sum()  # all but the corners


def test_straps_alone_are_no_mask() -> None:
    """What wears a mask is told by the fabric: `clean` never sees the straps' map."""
    maps = np.stack([empty(PORTRAIT), empty(PORTRAIT) + 1])
    fabric = clean(maps[0], PORTRAIT)
    assert over_mouth(fabric, PORTRAIT) == 0


def test_widen_covers_the_fabric_and_a_rim_and_ends_softly(profile: Profile) -> None:
    fabric = disc(profile)
    wide = widen(fabric, profile)
    assert wide.dtype == np.float32
    assert (wide[cv2.dilate(fabric, np.ones((3, 3))) > 0] > 0.999).all()
    assert 0 <= wide.min() <= wide.max() <= 1 + 1e-6
    x, y = spot(profile, 0, 1)
    edge = x + round(0.77 * profile.unit)
    assert wide[y, edge + round(0.05 * profile.unit)] > 0.8  # the rim
    assert wide[y, edge + round(0.26 * profile.unit)] == 0
    soft = (wide > 0.02) & (wide < 0.98)
    assert soft.sum() > 7 * profile.unit
    assert not widen(empty(profile), profile).any()


def test_merge_leaves_what_the_map_does_not_cover(profile: Profile) -> None:
    old, new, mask = face(profile, 1), face(profile, 2), widen(disc(profile), profile)
    merged = merge(new, old, mask)
    assert np.array_equal(merged[mask == 0], old[mask == 0])
    assert np.array_equal(merged[mask >= 1], new[mask >= 1])
    between = (mask > 0.4) & (mask < 0.6)
    low, high = np.minimum(old, new), np.maximum(old, new)
    assert between.any()
    assert ((merged >= low) & (merged <= high))[between].all()


@pytest.mark.parametrize("radius", [0.3, 0.77, 1.08])
@pytest.mark.parametrize("offset", [(-40, -40, -40), (25, -10, 0)])
def test_relight_takes_back_a_constant_cast(
    profile: Profile, radius: float, offset: tuple[int, int, int]
) -> None:
    """A fill that is off by one colour everywhere is put right, in the middle of the mask too."""
    true = cv2.GaussianBlur(face(profile, 3), (0, 0), 9)
    painted = (true.astype(int) + offset).clip(0, 255).astype(np.uint8)
    mask = widen(disc(profile, radius), profile)
    hidden = true.copy()
    hidden[cv2.dilate(disc(profile, radius), np.ones((3, 3))) > 0] = (90, 160, 220)  # cloth
    lit = relight(painted, hidden, mask, REACH * profile.unit).astype(int)
    assert np.abs(lit - true)[mask > 0].max() <= 4


def test_relight_changes_nothing_that_is_right(profile: Profile) -> None:
    picture, mask = face(profile, 4), widen(disc(profile), profile)
    assert np.array_equal(relight(picture, picture, mask, REACH * profile.unit), picture)


def test_relight_of_a_crop_that_is_all_mask(profile: Profile) -> None:
    painted, whole = face(profile, 5), empty(profile) + 1
    assert np.array_equal(relight(painted, face(profile, 6), whole, 10), painted)


def test_light_is_carried_as_far_as_told() -> None:
    """A face that is bright on one side: the farther light reaches, the flatter the fill."""
    half = np.full((PORTRAIT.height, PORTRAIT.width, 3), 60, np.uint8)
    half[:, PORTRAIT.width // 2 :] = 180
    painted, mask = np.full_like(half, 120), disc(PORTRAIT)
    _, y = spot(PORTRAIT, 0, 1)
    slopes = []
    for reach in (8, 60):
        row = relight(painted, half, mask, reach)[y, :, 0].astype(int)
        slopes.append(row[spot(PORTRAIT, 0.6, 1)[0]] - row[spot(PORTRAIT, -0.6, 1)[0]])
    assert slopes[0] > 80
    assert 0 < slopes[1] < 0.7 * slopes[0]


def test_repaint_of_nothing(profile: Profile) -> None:
    def fail(*_: np.ndarray) -> np.ndarray:
        raise AssertionError("no network may run")

    idle = Networks(
        profile,
        Segmenter(FunctionEngine(profile.segmenter, fail)),
        Inpainter(FunctionEngine(profile.inpainter, fail)),
    )
    assert repaint([], [], [], idle) == []


def test_repaint_paints_each_face_under_its_own_map(profile: Profile) -> None:
    shape = (profile.height, profile.width, 3)
    faces = [np.full(shape, level, np.uint8) for level in (60, 200)]
    masks = [widen(disc(profile, radius), profile) for radius in (0.5, 1.0)]
    cloth = [picture.copy() for picture in faces]
    for picture, mask in zip(cloth, masks, strict=True):
        picture[mask > 0.9] = (0, 0, 255)
    done = repaint(cloth, masks, [None, None], networks(profile))
    for old, mask, true, new in zip(cloth, masks, faces, done, strict=True):
        assert np.array_equal(new[mask == 0], old[mask == 0])
        # The painted grey was brought to the light of the face around.
        assert np.abs(new.astype(int) - true)[mask > 0.99].max() <= 6


def test_the_fill_fades_out_towards_the_crops_border(profile: Profile) -> None:
    """A gaiter goes on beyond the crop: what is painted ends in no line there."""
    gaiter = np.zeros((profile.height, profile.width), np.float32)
    gaiter[profile.height // 2 :] = 1
    before = np.full((*gaiter.shape, 3), 40, np.uint8)
    painted = np.full_like(before, 220)
    after = finish(painted, before, gaiter, profile)[..., 0].astype(int)
    middle = after[:, profile.width // 2]
    assert after[-1, :].max() < 70  # it was 220 up to the last row
    assert after[:, 0].max() < 70
    assert middle[-1 - round(0.3 * profile.unit)] > 210
    assert np.abs(np.diff(middle[profile.height // 2 :])).max() < 30


def test_repaint_takes_each_faces_mesh_to_the_inpainter(frontal: np.ndarray) -> None:
    seen: list[np.ndarray] = []

    def paint(given: np.ndarray) -> np.ndarray:
        seen.append(given)
        return given[:, :3]

    mesh = (PORTRAIT.eyes.mean(0) + PORTRAIT.unit * frontal).astype(np.float32)
    meshes = [mesh, mesh + (0, 12)]
    inpainter = Inpainter(FunctionEngine(PORTRAIT.inpainter, paint), appearance(PORTRAIT))
    masks = [widen(disc(PORTRAIT), PORTRAIT)] * 2
    parts = Networks(PORTRAIT, networks(PORTRAIT).segmenter, inpainter)
    repaint([face(PORTRAIT)] * 2, masks, meshes, parts)
    (given,) = seen
    assert inpainter.appearance is not None
    for index, its in enumerate(meshes):
        bare = inpainter.appearance.correction(its, masks[index])
        assert np.array_equal(given[index, 4], guide(bare, PORTRAIT.size))
        assert np.array_equal(given[index, 3], masks[index])


def test_what_was_painted_is_enhanced_where_a_network_does_that(profile: Profile) -> None:
    """Its noise is seen in the paper's profile, and in the other nobody asks for it."""
    plain = networks(profile)
    sharper = Networks(profile, plain.segmenter, plain.inpainter, plain.enhancer)
    if profile.enhancer is not None:
        steps = np.indices((profile.height, profile.width)).sum(0) % 2 * np.float32(0.2)
        engine = FunctionEngine(profile.enhancer, lambda luma: luma + steps)
        sharper = Networks(profile, plain.segmenter, plain.inpainter, Enhancer(engine))
    flat, mask = np.full((profile.height, profile.width, 3), 128, np.uint8), disc(profile)
    (done,) = repaint([flat], [mask], [None], sharper)
    rough = float(np.abs(np.diff(done[mask > 0.99].astype(int), axis=0)).mean())
    assert rough > 20 if profile.enhanced else rough < 2


def grainy(profile: Profile, deviation: float) -> np.ndarray:
    """Plain skin as a camera with so much grain, of 255, has it."""
    noise = np.random.default_rng(3).normal(0, deviation, (profile.height, profile.width, 1))
    return (150 + noise.repeat(3, axis=2)).clip(0, 255).astype(np.uint8)


def roughness(picture: np.ndarray, where: np.ndarray) -> float:
    grey = picture.mean(2)
    return float(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.6))[where].mean())


def test_a_smooth_fill_gets_the_grain_of_the_skin_beside_it() -> None:
    mask, face = widen(disc(PORTRAIT), PORTRAIT), grainy(PORTRAIT, 3)
    flat = np.full_like(face, 150)
    done = textured(flat, face, mask, PORTRAIT)
    before, after, skin = (
        roughness(flat, mask > 0.9), roughness(done, mask > 0.9), roughness(face, mask == 0),
    )  # fmt: skip
    assert before < 1e-9
    assert 0.3 * skin < after < skin
    assert abs(float(done.mean()) - 150) < 0.5  # neither lighter nor darker
    assert np.array_equal(done, textured(flat, face, mask, PORTRAIT))  # it doesn't flicker


def test_a_fill_that_is_rough_enough_stays_as_it_is() -> None:
    mask = widen(disc(PORTRAIT), PORTRAIT)
    fill = grainy(PORTRAIT, 4)
    assert np.array_equal(textured(fill, grainy(PORTRAIT, 1), mask, PORTRAIT), fill)


def test_where_no_skin_is_seen_nothing_is_known_of_its_grain() -> None:
    everywhere, fill = np.ones_like(empty(PORTRAIT)), np.full_like(face(PORTRAIT), 90)
    assert np.array_equal(textured(fill, face(PORTRAIT), everywhere, PORTRAIT), fill)


def test_the_papers_profile_has_its_enhancer_for_that() -> None:
    mask, fill = widen(disc(PAPER), PAPER), np.full_like(face(PAPER), 150)
    assert np.array_equal(textured(fill, grainy(PAPER, 3), mask, PAPER), fill)
