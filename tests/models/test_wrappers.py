"""The wrappers with engines that only look at what they get."""

import numpy as np
import pytest

from stream_unmask.backends.function import FunctionEngine
from stream_unmask.models.enhancer import ENHANCER, Enhancer
from stream_unmask.models.inpainter import INPAINTER, Inpainter
from stream_unmask.models.profile import PAPER, PROFILES
from stream_unmask.models.segmenter import SEGMENTER, Segmenter
from stream_unmask.models.tensors import from_images, from_masks, to_images, to_masks

SHAPE = (PAPER.height, PAPER.width)
RNG = np.random.default_rng(0)


def pictures(count: int) -> list[np.ndarray]:
    return list(RNG.integers(0, 256, (count, *SHAPE, 3), np.uint8))


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


def test_the_segmenter_gives_each_face_its_map() -> None:
    engine = FunctionEngine(SEGMENTER, lambda faces: faces[:, :1])
    faces = pictures(3)
    masks = Segmenter(engine)(faces)
    for face, mask in zip(faces, masks, strict=True):
        assert mask.shape == SHAPE
        assert np.allclose(mask, face[..., 0] / 255, atol=1e-6)


def test_the_inpainter_never_sees_what_the_map_covers() -> None:
    seen: list[np.ndarray] = []

    def engine(hidden: np.ndarray) -> np.ndarray:
        seen.append(hidden)
        return np.full_like(hidden, 2.0)

    faces, masks = pictures(2), list(RNG.random((2, *SHAPE), np.float32))
    masks[0][40:90] = 1
    painted = Inpainter(FunctionEngine(INPAINTER, engine))(faces, masks)
    for face, mask, hidden in zip(faces, masks, seen[0], strict=True):
        wanted = face / 255 * (1 - mask[..., None])
        assert np.allclose(hidden.transpose(1, 2, 0), wanted, atol=1e-6)
    assert not seen[0][0, :, 40:90].any()
    assert all((image == 255).all() for image in painted)  # a linear output is clamped


def test_the_enhancer_changes_brightness_alone() -> None:
    engine = FunctionEngine(ENHANCER, lambda luma: luma * np.float32(0.5))
    grey = np.full((*SHAPE, 3), 100, np.uint8)
    (darker,) = Enhancer(engine)([grey])
    assert np.abs(darker.astype(int) - 50).max() <= 1

    (same,) = Enhancer(FunctionEngine(ENHANCER, lambda luma: luma))(faces := pictures(1))
    assert np.abs(same.astype(int) - faces[0]).max() <= 3  # what the way to YCrCb and back costs


def test_the_enhancer_clamps() -> None:
    engine = FunctionEngine(ENHANCER, lambda luma: luma * 9 - 1)
    black, white = np.zeros((*SHAPE, 3), np.uint8), np.full((*SHAPE, 3), 250, np.uint8)
    dark, light = Enhancer(engine)([black, white])
    assert dark.max() == 0
    assert light.min() == 255


@pytest.mark.parametrize("spec", [SEGMENTER, INPAINTER, ENHANCER])
def test_contracts_fit_the_profile(spec: object) -> None:
    for tensor in (*spec.inputs, *spec.outputs):  # type: ignore[attr-defined]
        assert tensor.shape[0] is None
        assert tensor.shape[2:] == SHAPE


def test_the_paper_profile() -> None:
    assert PROFILES["paper"].size == (176, 208)
    assert PAPER.eyes.tolist() == [[68.5, pytest.approx(106.3)], [107.5, pytest.approx(106.3)]]
