"""Pixels of the sensor that look like structures and do not move with the specimen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENOUGH = 4  # slices, in all of which a pixel outshines its neighbours; noise does that to one pixel in 5 to the power


def without_hot_pixels(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace pixels that outshine their four neighbours in every slice by the mean of these; Z Y X."""
    if len(counts) < _ENOUGH or min(counts.shape[1:]) < 3:
        return counts
    inner: NDArray[Any] = counts[:, 1:-1, 1:-1]
    around = (counts[:, :-2, 1:-1], counts[:, 2:, 1:-1], counts[:, 1:-1, :-2], counts[:, 1:-1, 2:])
    hot = (inner > np.maximum(np.maximum(around[0], around[1]), np.maximum(around[2], around[3]))).all(axis=0)
    if not hot.any():
        return counts
    mean = sum(each[:, hot] for each in around) / 4
    repaired = counts.copy()
    repaired[:, 1:-1, 1:-1][:, hot] = mean
    return repaired
