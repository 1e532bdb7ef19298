"""The wrappers with engines that only look at what they get."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.models.enhancer import Enhancer
from stream_unmask.models.guide import guide
from stream_unmask.models.inpainter import Inpainter
from stream_unmask.models.profile import PAPER, PORTRAIT, Profile
from stream_unmask.models.segmenter import Segmenter
from stream_unmask.models.tensors import from_images, from_masks, to_images, to_masks
from stream_unmask.pipeline import appearance

RNG = np.random.default_rng(0)
ENHANCER = PAPER.enhancer
assert ENHANCER is not None


def shape(profile: Profile) -> tuple[int, int]:
    return profile.height, profile.width


def pictures(count: int, profile: Profile = PAPER) -> list[np.ndarray]:
    return list(RNG.integers(0, 256, (count, *shape(profile), 3), np.uint8))


def test_pictures_survive_the_round_trip() -> None:
    every_value = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = list(every_value)
    tensor = from_images(images)
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.flags.c_contiguous
    assert (tensor.min(), tensor.max()) == (0, 1)
    assert np.array_equal(to_images(tensor)[0], images[0])


def test_channels_stay_red_green_blue() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    assert from_images([red])[0].mean((1, 2)).tolist() == [1, 0, 0]


def test_values_beyond_the_range_are_clamped() -> None:
    (image,) = to_images(np.float32([-3, 0.5, 7]).reshape(1, 3, 1, 1))
    assert image[0, 0].tolist() == [0, 128, 255]


def test_maps_survive_the_round_trip() -> None:
    masks = list(RNG.random((3, 5, 4), np.float32))
    tensor = from_masks(masks)
    assert tensor.shape == (3, 1, 5, 4)
    assert all(np.array_equal(*pair) for pair in zip(to_masks(tensor), masks, strict=True))


def test_the_segmenter_gives_each_face_its_maps(profile: Profile) -> None:
    engine = FunctionEngine(profile.segmenter, lambda faces: faces[:, : profile.maps])
    faces = pictures(3, profile)
    found = Segmenter(engine)(faces)
    assert len(found) == 3
    for face, maps in zip(faces, found, strict=True):
        assert maps.shape == (profile.maps, *shape(profile))
        wanted = face[..., : profile.maps].transpose(2, 0, 1) / 255
        assert np.allclose(maps, wanted, atol=1e-6)


def test_two_threads_ask_the_segmenter_in_turns() -> None:
    """Engines take one call at a time."""
    inside, most = [0], [0]

    def look(faces: np.ndarray) -> np.ndarray:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return faces[:, :2]

    segmenter = Segmenter(FunctionEngine(PORTRAIT.segmenter, look))
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(segmenter, pictures(1, PORTRAIT)) for _ in range(4)]
        assert [len(one.result()) for one in asked] == [1] * 4
    assert most == [1]


def test_the_inpainter_never_sees_what_the_map_covers(profile: Profile) -> None:
    seen: list[np.ndarray] = []

    def engine(given: np.ndarray) -> np.ndarray:
        seen.append(given)
        return np.full_like(given[:, :3], 2.0)

    faces, masks = pictures(2, profile), list(RNG.random((2, *shape(profile)), np.float32))
    masks[0][40:90] = 1
    paint = Inpainter(FunctionEngine(profile.inpainter, engine), appearance(profile))
    painted = paint(faces, masks, [None, None])
    assert seen[0].shape[1] == profile.inpainter.inputs[0].shape[1]
    for face, mask, given in zip(faces, masks, seen[0], strict=True):
        wanted = face / 255 * (1 - mask[..., None])
        assert np.allclose(given[:3].transpose(1, 2, 0), wanted, atol=1e-6)
    assert not seen[0][0, :3, 40:90].any()
    assert all((image == 255).all() for image in painted)  # a linear output is clamped


def test_a_guided_inpainter_is_shown_the_map_and_each_faces_guide_and_guess(
    frontal: np.ndarray,
) -> None:
    seen: list[np.ndarray] = []

    def engine(given: np.ndarray) -> np.ndarray:
        seen.append(given)
        return given[:, :3]

    mesh = (PORTRAIT.eyes.mean(0) + PORTRAIT.unit * frontal).astype(np.float32)
    meshes = [mesh, None, mesh + (9, 0)]
    masks = list(RNG.random((3, *shape(PORTRAIT)), np.float32))
    paint = Inpainter(FunctionEngine(PORTRAIT.inpainter, engine), appearance(PORTRAIT))
    faces = pictures(3, PORTRAIT)
    paint(faces, masks, meshes)
    for image, given, mask, its in zip(faces, seen[0], masks, meshes, strict=True):
        assert np.array_equal(given[3], mask)
        assert paint.appearance is not None
        bare = None if its is None else paint.appearance.correction(its, mask)
        assert np.array_equal(given[4], guide(bare, PORTRAIT.size))
        shown = image.astype(np.float32) / 255
        guess = paint.appearance(shown, mask, bare).transpose(2, 0, 1)
        assert np.allclose(given[5:], guess, atol=1e-6)
    assert [given[4].any() for given in seen[0]] == [True, False, True]


def test_the_enhancer_changes_brightness_alone() -> None:
    engine = FunctionEngine(ENHANCER, lambda luma: luma * np.float32(0.5))
    grey = np.full((*shape(PAPER), 3), 100, np.uint8)
    (darker,) = Enhancer(engine)([grey])
    assert np.abs(darker.astype(int) - 50).max() <= 1

    (same,) = Enhancer(FunctionEngine(ENHANCER, lambda luma: luma))(faces := pictures(1))
    assert np.abs(same.astype(int) - faces[0]).max() <= 3  # what the way to YCrCb and back costs


def test_the_enhancer_clamps() -> None:
    engine = FunctionEngine(ENHANCER, lambda luma: luma * 9 - 1)
    black, white = (
        np.zeros((*shape(PAPER), 3), np.uint8),
        np.full((*shape(PAPER), 3), 250, np.uint8),
    )
    dark, light = Enhancer(engine)([black, white])
    assert dark.max() == 0
    assert light.min() == 255
