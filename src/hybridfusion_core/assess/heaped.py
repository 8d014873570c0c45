"""Whether pixels are heaped at the highest or lowest value, as where a detector cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PILE = 4.0  # times as many at the last value as at the one before it
_FEWEST = 20  # pixels in a pile


def piled(counts: list[NDArray[Any]], *, top: bool) -> float:
    """Share of the pixels that are heaped at one end of the values; 0 where the values just end.

    Args:
        counts: any shapes.
        top: the highest value, or the lowest.
    """
    pooled = np.concatenate([each.ravel() for each in counts])
    values, numbers = np.unique(pooled, return_counts=True)
    if len(values) < 3:
        return 0.0
    if top:
        values, numbers = values[::-1], numbers[::-1]
    # A value alone says nothing of a heap where values are sparse: compared with as wide a stretch beside it.
    gaps = np.abs(np.diff(values[:64].astype(np.float64)))
    width = float(np.median(gaps))
    beside = np.abs(values[:64].astype(np.float64) - float(values[0]))
    near = numbers[:64][(beside > 0) & (beside <= 3 * width)]
    usual = float(near.mean()) if near.size else 0.0
    return float(numbers[0] / pooled.size) if numbers[0] >= _FEWEST and numbers[0] > _PILE * usual else 0.0
