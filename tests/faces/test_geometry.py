import math

import numpy as np
import pytest

from stream_unmask.faces.geometry import apply, compose, invert, scale_of, similarity

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
