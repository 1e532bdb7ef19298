import math

import numpy as np
import pytest

from stream_unmask.faces.geometry import affine, apply, compose, invert, scale_of, similarity

EYES = np.array([(68.5, 106.3), (107.5, 106.3)])
PAIRS = [
    np.array([(203.0, 101.5), (246.0, 104.0)]),
    np.array([(10.25, -4.0), (10.25, 30.0)]),  # on its side
    np.array([(900.0, 40.0), (500.0, 90.0)]),  # upside down
    EYES,
]


@pytest.mark.parametrize("source", PAIRS)
def test_a_similarity_takes_two_points_exactly(source):
    matrix = similarity(source, EYES)
    assert np.allclose(source @ matrix[:, :2].T + matrix[:, 2], EYES, atol=1e-9)
    # No shear and no mirror: what is left is a turn times a scale.
    (a, b), (c, d) = matrix[:, :2]
    assert (a, b) == (d, -c)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_a_similarity_keeps_angles_and_knows_its_scale():
    angle, scale = math.radians(30), 2.5
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    matrix = similarity(EYES, EYES @ turn.T + (7, -3))
    assert np.allclose(matrix, np.column_stack([turn, (7, -3)]))
    assert scale_of(matrix) == pytest.approx(2.5)


def squared_error(matrix, source, target):
    return float(((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum())


def test_many_points_that_fit_land_exactly():
    source = np.random.default_rng(0).uniform(-5, 90, (19, 2))
    wanted = similarity(PAIRS[0], EYES)
    target = source @ wanted[:, :2].T + wanted[:, 2]
    assert np.allclose(similarity(source, target), wanted, atol=1e-9)


def test_of_many_points_that_do_not_fit_the_squares_are_least():
    """No similarity beside the one that is found comes closer, and a mirror is never taken."""
    rng = np.random.default_rng(1)
    source = rng.uniform(-5, 90, (19, 2))
    target = 1.7 * source[:, ::-1] * (-1, 1) + rng.normal(0, 4, (19, 2))  # turned by 90 degrees
    found = similarity(source, target)
    (a, b), (c, d) = found[:, :2]
    assert (a, b) == (d, -c)
    assert scale_of(found) == pytest.approx(1.7, rel=0.05)
    least = squared_error(found, source, target)
    for turn in (complex(1.002, 0), complex(0.998, 0), complex(1, 2e-3), complex(1, -2e-3)):
        other = complex(a, c) * turn
        linear = np.array([[other.real, -other.imag], [other.imag, other.real]])
        shift = target.mean(0) - linear @ source.mean(0)
        assert squared_error(np.column_stack([linear, shift]), source, target) > least
    for shift in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        moved = found + np.column_stack([np.zeros((2, 2)), shift])
        assert squared_error(moved, source, target) > least


@pytest.mark.parametrize("source", PAIRS)
def test_invert_undoes(source):
    matrix = similarity(source, EYES)
    assert np.allclose(compose(invert(matrix), matrix), np.eye(2, 3), atol=1e-9)
    assert np.allclose(compose(matrix, invert(matrix)), np.eye(2, 3), atol=1e-9)


def test_compose_does_the_first_first():
    grow = np.array([[2.0, 0, 0], [0, 2.0, 0]])
    move = np.array([[1.0, 0, 5], [0, 1.0, 0]])
    points = np.array([(1.0, 1.0), (3.0, 0.0)])
    assert np.allclose(apply(compose(move, grow), points), [(7, 2), (11, 0)])
    assert np.allclose(apply(compose(grow, move), points), [(12, 2), (16, 0)])
    assert np.allclose(apply(compose(move, grow), points), apply(move, apply(grow, points)))


def test_apply_gives_float32_points():
    moved = apply(np.eye(2, 3), np.arange(6.0).reshape(3, 2))
    assert moved.dtype == np.float32
    assert moved.shape == (3, 2)


def test_an_affine_takes_points_anywhere():
    """Also where no similarity does: squeezed and sheared."""
    source = np.random.default_rng(0).uniform(-5, 90, (9, 2))
    wanted = np.array([[0.8, 0.1, 4], [-0.2, 1.1, -7]])
    target = source @ wanted[:, :2].T + wanted[:, 2]
    assert np.allclose(affine(source, target), wanted, atol=1e-9)
    assert squared_error(similarity(source, target), source, target) > 1


def test_of_points_that_do_not_fit_an_affine_leaves_the_least_squares():
    rng = np.random.default_rng(2)
    source, target = rng.normal(0, 30, (2, 12, 2))
    best = affine(source, target)
    for nudge in rng.normal(0, 0.02, (40, 2, 3)):
        assert squared_error(best, source, target) < squared_error(best + nudge, source, target)
