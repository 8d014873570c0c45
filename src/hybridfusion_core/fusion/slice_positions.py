"""Where a height lies among the slices of a stack: between which two, and how far from each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ON_A_SLICE = 1e-3  # slices; float32 µm are no more exact than this in a deep stack


def slice_positions(heights: NDArray[Any], z_um: NDArray[np.float64] | None, depth: int) -> NDArray[np.float64]:
    """Turn heights into positions counted in slices.

    Args:
        heights: any shape; µm if `z_um` is given, else slices counted from 0. NaN where there is none.
        z_um: position of every slice, any spacing and either direction; None takes heights for slices.
        depth: how many slices there are.

    Returns:
        float64, in [0, depth − 1]; a whole number where a height lies on a slice. NaN where there is no height, and
        where it lies outside the stack: no slice is nearer to the truth there than another.
    """
    values = np.asarray(heights, dtype=np.float64)
    if z_um is not None:
        order = np.argsort(z_um)
        values = _interpolated(values, z_um[order], order.astype(np.float64))
    whole = np.rint(values)
    values = np.where(np.abs(values - whole) < _ON_A_SLICE, whole, values)
    return np.where((values >= 0) & (values <= depth - 1), values, np.nan)


def _interpolated(values: NDArray[Any], known: NDArray[np.float64], index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Look values up between positions, and a hair beyond the first and last one, where rounding may put them."""
    if len(known) == 1:
        return np.where(np.abs(values - known[0]) < _ON_A_SLICE, index[0], np.nan)
    low, high = _ON_A_SLICE * (known[1] - known[0]), _ON_A_SLICE * (known[-1] - known[-2])
    inside = (values > known[0] - low) & (values < known[-1] + high)
    return np.where(inside, np.interp(values, known, index), np.nan)


def share_of_slice(positions: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Weight of a slice in the value at each position: linear between the two slices around it; 0 where NaN."""
    return np.asarray(np.nan_to_num(np.maximum(1 - np.abs(positions - number), 0)))
