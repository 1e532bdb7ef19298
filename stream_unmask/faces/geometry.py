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


def affine(source: NDArray[np.floating], target: NDArray[np.floating]) -> Affine:
    """The affine that takes points (n, 2), n > 2 and not on a line, closest to others."""
    given = np.column_stack([np.asarray(source, np.float64), np.ones(len(source))])
    found, *_ = np.linalg.lstsq(given, np.asarray(target, np.float64), rcond=None)
    return np.ascontiguousarray(found.T)


def invert(matrix: Affine) -> Affine:
    """The affine that undoes `matrix`."""
    (a, b, x), (c, d, y) = matrix.tolist()
    det = a * d - b * c
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y]])


def compose(second: Affine, first: Affine) -> Affine:
    """The affine that does `first`, then `second`."""
    both = second[:, :2] @ first
    both[:, 2] += second[:, 2]
    return both


def apply(matrix: Affine, points: NDArray[np.floating]) -> Points:
    """Points (n, 2) taken through `matrix`, as float32."""
    return (np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def scale_of(matrix: Affine) -> float:
    """How many target pixels one source pixel becomes, along one axis."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
