"""Plane geometry of face alignment: similarities as (2, 3) float64 matrices.

Points are (x, y) with pixel centres at integers. Pure functions; no picture is touched here.
"""

import numpy as np
from numpy.typing import NDArray

from stream_unmask.types import Points

Affine = NDArray[np.float64]


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> Affine:
    """The rotation, scale and shift that takes points (n, 2), n > 1, closest to others.

    Least squares; two points land exactly.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    p, q = a - a.mean(0), b - b.mean(0)
    cross = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    real, imaginary = np.array([(p * q).sum(), cross.sum()]) / (p * p).sum()
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([linear, b.mean(0) - linear @ a.mean(0)])


def invert(matrix: Affine) -> Affine:
    """The affine that undoes `matrix`."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose(second: Affine, first: Affine) -> Affine:
    """The affine that does `first`, then `second`."""
    return np.column_stack(
        [second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]]
    )


def apply(matrix: Affine, points: NDArray[np.floating]) -> Points:
    """Points (n, 2) taken through `matrix`, as float32."""
    return (np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def scale_of(matrix: Affine) -> float:
    """How many target pixels one source pixel becomes, along one axis."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
