"""Projections along Z, which decide nothing, and the rule by which fused values become counts again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean(counts: NDArray[Any]) -> NDArray[Any]:
    """Mean of Z Y X over the slices, in their dtype."""
    return to_dtype(counts.mean(axis=0, dtype=np.float64), counts.dtype)


def maximum(counts: NDArray[Any]) -> NDArray[Any]:
    """Largest value of Z Y X over the slices."""
    return np.asarray(counts.max(axis=0))


def total(counts: NDArray[Any]) -> NDArray[np.float32]:
    """Sum of Z Y X over the slices, which no integer type need hold."""
    return np.asarray(counts.sum(axis=0, dtype=np.float64), dtype=np.float32)


def to_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round for integer images only, and only at the very end."""
    return np.asarray(np.rint(values) if dtype.kind in "iu" else values).astype(dtype)
