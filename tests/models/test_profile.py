"""The profiles: where a face lies in the crop, and what the networks promise."""

import numpy as np
import pytest

from stream_unmask.models.profile import PAPER, PORTRAIT, PROFILES, Profile


def test_each_is_found_by_its_name() -> None:
    assert {name: found.name for name, found in PROFILES.items()} == {n: n for n in PROFILES}
    assert PROFILES["paper"] is PAPER
    assert PROFILES["portrait"] is PORTRAIT


def test_the_papers_crop() -> None:
    assert PAPER.size == (176, 208)
    assert PAPER.eyes.tolist() == [[68.5, pytest.approx(106.3)], [107.5, pytest.approx(106.3)]]
    assert PAPER.unit == 39


def test_the_portraits_crop_shows_the_mask_larger() -> None:
    assert (PORTRAIT.unit / PAPER.unit) ** 2 == pytest.approx(2.7, abs=0.05)
    assert PORTRAIT.width % 32 == PORTRAIT.height % 32 == 0  # what its networks ask for


def test_a_face_is_upright_in_the_middle_of_the_crop(profile: Profile, frontal: np.ndarray) -> None:
    left, right = profile.eyes
    assert left[1] == right[1]
    assert abs(left[0] + right[0] - (profile.width - 1)) <= 1  # mirrored, it is where it was
    mesh = profile.eyes.mean(0) + profile.unit * frontal
    assert (mesh > 0).all()
    assert (mesh < profile.size).all()


def test_windows_are_told_in_eye_distances(profile: Profile) -> None:
    rows, columns = profile.window(0.0, 1.5, 0.5)
    (left, y), (right, _) = profile.eyes
    assert (columns.start, columns.stop) == (round(left), round(right))
    assert (rows.start, rows.stop) == (round(y), round(y + 1.5 * profile.unit))


def test_the_papers_windows_are_those_that_it_was_tuned_with() -> None:
    assert PAPER.window(0.505, 1.633, 0.667) == (slice(126, 170), slice(62, 114))


def test_every_engine_has_the_size_of_the_crop_and_a_free_batch(profile: Profile) -> None:
    specs = [
        profile.segmenter,
        profile.inpainter,
        *([profile.enhancer] if profile.enhancer else []),
    ]
    assert [spec.name for spec in specs] == [
        f"{profile.name}_{network}" for network in ("segmenter", "inpainter", "enhancer")
    ][: len(specs)]
    for spec in specs:
        for (tensor,) in (spec.inputs, spec.outputs):
            assert tensor.shape[0] is None
            assert tensor.shape[2:] == (profile.height, profile.width)
        assert not spec.precise


def channels(profile: Profile) -> list[tuple[int | None, int | None]]:
    specs = (profile.segmenter, profile.inpainter, profile.enhancer)
    return [(s.inputs[0].shape[1], s.outputs[0].shape[1]) for s in specs if s is not None]


def test_channels_in_and_out() -> None:
    assert channels(PAPER) == [(3, 1), (3, 3), (1, 1)]
    assert channels(PORTRAIT) == [(3, 2), (9, 3)]  # straps, too; map, guide, guess; no enhancer
