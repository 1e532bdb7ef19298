"""The guide: what the mesh supposes under the mask, drawn where the crop has it."""

import numpy as np

from stream_unmask.models.guide import guide
from stream_unmask.models.profile import PORTRAIT, Profile

FACE, NOSE, LIPS = 90 / 255, 170 / 255, 1.0


def placed(frontal: np.ndarray, profile: Profile = PORTRAIT) -> np.ndarray:
    """The plain mesh where the profile wants its eyes."""
    return (profile.eyes.mean(0) + profile.unit * frontal).astype(np.float32)


def at(profile: Profile, x: float, y: float) -> tuple[int, int]:
    """Row and column of a place in eye distances from the middle between the eyes."""
    middle = profile.eyes.mean(0)
    return round(middle[1] + y * profile.unit), round(middle[0] + x * profile.unit)


def test_face_nose_and_lips_lie_where_the_mesh_has_them(
    frontal: np.ndarray, profile: Profile
) -> None:
    drawing = guide(placed(frontal, profile), profile.size)
    assert drawing.shape == (profile.height, profile.width)
    assert drawing.dtype == np.float32
    places = {(0.0, 1.07): LIPS, (0.0, 0.6): NOSE, (0.8, 0.5): FACE, (-0.5, 0.0): FACE}
    for place, level in places.items():
        assert abs(drawing[at(profile, *place)] - level) < 0.1
    assert drawing[at(profile, 1.4, 0.5)] == 0
    assert drawing[at(profile, 0.0, 2.0)] == 0
    face, nose, lips = ((np.abs(drawing - level) < 0.1).sum() for level in (FACE, NOSE, LIPS))
    assert face > 5 * nose
    assert face > 5 * lips
    slopes = np.abs(np.diff(drawing, axis=0)).max(), np.abs(np.diff(drawing, axis=1)).max()
    assert max(slopes) < 0.15  # no edge that a painter could trace


def test_it_moves_with_the_mesh_to_a_fraction_of_a_pixel(frontal: np.ndarray) -> None:
    still, whole, half = (
        guide(placed(frontal) + (shift, 0), PORTRAIT.size) for shift in (0, 3, 0.5)
    )
    assert np.abs(whole[:, 3:] - still[:, :-3]).max() < 0.02
    assert (still != half).sum() > 50  # soft edges: a shake of the mesh makes no jump
    assert np.abs(still - half).max() < 0.1


def test_without_a_mesh_it_is_empty() -> None:
    drawing = guide(None, (32, 64))
    assert drawing.shape == (64, 32)
    assert not drawing.any()


def test_a_mesh_far_outside_draws_nothing(frontal: np.ndarray) -> None:
    far = placed(frontal)
    for shift in (400, -5e3, 1e9):
        assert not guide((far + shift).astype(np.float32), PORTRAIT.size).any()
    assert guide(frontal * 1e4, PORTRAIT.size).min() > 0  # so near that it is all face
