"""Trios: the same for the same seed, and their maps tell the truth."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_unmask.faces.crop import cut
from stream_unmask.models.profile import Profile
from training import masks, synthesis
from training.dataset import face_finder, main_face
from training.masks import PAPER_COLOURS
from training.synthesis import PlacementError, Template, Trio

TEMPLATES = Path(__file__).parents[2].parent / "shared" / "data" / "mask_templates"
Maker = Callable[[np.ndarray, np.ndarray, np.random.Generator], Trio]


@pytest.fixture(scope="module")
def aligned(profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """A portrait's crop, 0..1, and its mesh in crop pixels; of every profile."""
    portrait = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut())
    face = main_face(portrait, *face_finder())
    assert face is not None
    crop = cut(portrait, face, profile.eyes, profile.size)
    assert crop.mesh is not None
    return crop.image.astype(np.float32) / 255, crop.mesh


def laid(face: np.ndarray, mesh: np.ndarray, rng: np.random.Generator) -> Trio:
    templates = synthesis.drawn_templates()
    return synthesis.overlay(face, mesh, templates[rng.integers(len(templates))])


MAKERS = pytest.mark.parametrize("make", [synthesis.wear, synthesis.unmasked, laid])


@MAKERS
def test_a_seed_gives_the_same_trio(aligned: tuple[np.ndarray, np.ndarray], make: Maker) -> None:
    one, two = (make(*aligned, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.masked, two.masked)
    assert np.array_equal(one.mask, two.mask)
    assert np.array_equal(one.straps, two.straps)
    others = [make(*aligned, np.random.default_rng(seed)).masked for seed in range(20, 26)]
    assert any(not np.array_equal(one.masked, other) for other in others)


@MAKERS
def test_a_trio_has_the_contracts_shapes_and_ranges(
    aligned: tuple[np.ndarray, np.ndarray], make: Maker
) -> None:
    face, mesh = aligned
    kept = face.copy()
    for seed in range(12):
        trio = make(face, mesh, np.random.default_rng(seed))
        assert trio.masked.shape == trio.face.shape == face.shape
        for part in (trio.mask, trio.straps):
            assert part.shape == face.shape[:2]
            assert part.dtype == np.float32
            assert -1e-6 < part.min() <= part.max() < 1 + 1e-6
        assert np.isfinite(trio.masked).all()
        assert -0.01 <= trio.masked.min() <= trio.masked.max() <= 1.01
    assert np.array_equal(face, kept)


def unchanged_outside(trio: Trio, by: float) -> bool:
    """Whether the face is untouched where the map is 0.

    But for a few pixels of less than `by`: cleaning drops such specks from the map alone.
    """
    difference = np.abs(trio.masked - trio.face).max(2)[trio.mask == 0]
    return bool((difference > 0).sum() <= 8 and difference.max() < by)


def test_the_papers_overlays_change_what_the_map_says_and_nothing_else(
    aligned: tuple[np.ndarray, np.ndarray],
) -> None:
    face, mesh = aligned
    for template in synthesis.drawn_templates():
        trio = synthesis.overlay(face, mesh, template)
        assert unchanged_outside(trio, by=1 / 200)
        assert 0.05 < trio.mask.mean() < 0.3
        assert ((trio.mask > 0.05) & (trio.mask < 0.95)).sum() > 50  # soft along its edge
        # Solid inside: no pixel there lets the face through.
        solid = cv2.erode((trio.mask > 0.999).astype(np.uint8), np.ones((3, 3))) > 0
        swapped = synthesis.overlay(1 - face, mesh, template)
        assert np.abs(trio.masked - swapped.masked)[solid].max() < 0.01


def test_wide_masks_cover_mouth_and_chin_and_differ(
    aligned: tuple[np.ndarray, np.ndarray],
) -> None:
    face, mesh = aligned
    trios = [synthesis.wear(face, mesh, np.random.default_rng(seed)) for seed in range(30)]
    x, y = np.rint(mesh[13]).astype(int)
    assert np.mean([trio.mask[y, x] > 0.5 for trio in trios]) > 0.6  # hands may be in front
    assert np.std([trio.mask.mean() for trio in trios]) > 0.02
    assert np.std([trio.masked[trio.mask > 0.9].mean() for trio in trios]) > 0.08


def test_most_wide_masks_stand_off_the_jaw(aligned: tuple[np.ndarray, np.ndarray]) -> None:
    """As on photographs, where their edge lies a fifth of the eyes' distance beyond it and more."""
    _, mesh = aligned
    chin, face = mesh[152], float(np.hypot(*(mesh[152] - mesh[168])))
    outlines = [masks.outline(mesh, np.random.default_rng(seed)) for seed in range(60)]
    below = [(outline[:, 1].max() - chin[1]) / face for outline in outlines]
    assert 0.12 < np.median(below) < 0.35
    ring = np.float32([mesh[234], mesh[454], chin])
    bulged = masks._bulged(ring, mesh[4], face, 10.0)
    assert np.hypot(*(bulged - ring).T) == pytest.approx([0, 0, 10], abs=2)


def test_straps_are_drawn_where_they_are_said_to_be(
    aligned: tuple[np.ndarray, np.ndarray],
) -> None:
    """Beside the cloth, thin, mostly at both sides; and where one is, the skin is not seen."""
    face, mesh = aligned
    trios = [synthesis.wear(face, mesh, np.random.default_rng(seed)) for seed in range(30)]
    worn = [trio for trio in trios if trio.straps.any()]
    assert 18 < len(worn) < 30
    both = 0
    for trio in worn:
        sure = trio.straps > 0.9
        assert trio.straps.mean() < 0.1
        assert not (sure & (trio.mask > 0.1)).any()
        _, columns = np.nonzero(trio.straps > 0.5)
        both += bool(len(columns)) and columns.min() < mesh[1, 0] < columns.max()
    assert both > len(worn) / 2
    changed = [np.abs(t.masked - t.face).max(2)[t.straps > 0.9] for t in worn]
    assert np.median(np.concatenate(changed)) > 0.1


def test_overlays_have_no_straps(aligned: tuple[np.ndarray, np.ndarray]) -> None:
    assert not synthesis.overlay(*aligned, synthesis.drawn_templates()[0]).straps.any()


def test_a_mask_is_as_wide_on_the_face_in_every_crop(profile: Profile) -> None:
    """What is drawn grows with the crop: a face's mask has the same size in eye distances."""
    portrait = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut())
    face = main_face(portrait, *face_finder())
    assert face is not None
    areas = []
    for eyes, size in ((profile.eyes, profile.size), (profile.eyes * 2, (2 * profile.width, 600))):
        crop = cut(portrait, face, eyes, size)
        assert crop.mesh is not None
        picture, rng = crop.image.astype(np.float32) / 255, np.random.default_rng(5)
        worn = synthesis.wear(picture, crop.mesh, rng)
        areas.append(float(worn.mask.sum()) / float(eyes[1, 0] - eyes[0, 0]) ** 2)
    assert areas[0] == pytest.approx(areas[1], rel=0.1)


def test_negatives_have_an_empty_map(aligned: tuple[np.ndarray, np.ndarray]) -> None:
    trios = [synthesis.unmasked(*aligned, np.random.default_rng(seed)) for seed in range(10)]
    assert not any(trio.mask.any() or trio.straps.any() for trio in trios)
    changed = [not np.array_equal(trio.face, trio.masked) for trio in trios]
    assert any(changed)
    assert not all(changed)


def collapsed(mesh: np.ndarray) -> np.ndarray:
    return np.repeat(mesh[:1], 468, 0)


def tiny(mesh: np.ndarray) -> np.ndarray:
    return (mesh - 80) * 0.1 + 80


def outside(mesh: np.ndarray) -> np.ndarray:
    return mesh + (400, 0)


def huge(mesh: np.ndarray) -> np.ndarray:
    return (mesh - mesh.mean(0)) * 6 + mesh.mean(0)


@pytest.mark.parametrize("spoil", [collapsed, tiny, outside, huge])
def test_a_mask_that_does_not_fit_is_refused(
    aligned: tuple[np.ndarray, np.ndarray], spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    face, mesh = aligned
    with pytest.raises(PlacementError):
        synthesis.overlay(face, spoil(mesh).astype(np.float32), synthesis.drawn_templates()[0])


def check(templates: list[Template]) -> None:
    """Three masks in four colours, placed by six points that lie in their pictures."""
    assert len(templates) == 12 == 3 * len(PAPER_COLOURS)
    for template in templates:
        height, width, channels = template.rgba.shape
        assert channels == 4
        assert 0 <= template.rgba.min() <= template.rgba.max() <= 1
        assert template.points.shape == (6, 2)
        assert (template.points >= -0.1 * width).all()
        assert (template.points <= 1.1 * max(width, height)).all()
    tones = [t.rgba[..., :3][t.rgba[..., 3] > 0.9].mean(0) for t in templates[:4]]
    gaps = [np.abs(a - b).max() for i, a in enumerate(tones) for b in tones[:i]]
    assert min(gaps) > 0.1


def test_twelve_templates_are_drawn() -> None:
    check(synthesis.drawn_templates())


def test_a_library_of_templates(aligned: tuple[np.ndarray, np.ndarray]) -> None:
    if not TEMPLATES.is_dir():
        pytest.skip(f"there is no {TEMPLATES}")
    templates = synthesis.load_templates(TEMPLATES)
    check(templates)
    for template in templates:
        trio = synthesis.overlay(*aligned, template)
        assert unchanged_outside(trio, by=0.1)


def test_a_folder_without_templates(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        synthesis.load_templates(tmp_path)
