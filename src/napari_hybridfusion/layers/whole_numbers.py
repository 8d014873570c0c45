"""Whole numbers of the types that NumPy chooses by itself, as floating-point pixels with the very same values."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError

_ALL_FIT = ("int8",)
_MOST_FIT = ("int64", "uint64")
_EXACT = 2**53  # up to here float64 holds every whole number


def as_floats(array: Any, name: str) -> Any:
    """Return pixels that can be fused: whole numbers of no supported type as float64, all others as they are.

    Nothing is read.

    Args:
        array: any axes; NumPy, dask, zarr.
        name: of the layer, for the message.

    Returns:
        The same array, or a dask array of float64 that raises `UserInputError` when a number is read that would change.
    """
    kind = np.dtype(array.dtype).name
    if kind not in (*_ALL_FIT, *_MOST_FIT):
        return array

    def exact(block: NDArray[Any]) -> NDArray[np.float64]:
        if kind in _MOST_FIT and block.size and (block.max() > _EXACT or block.min() < -_EXACT):
            raise UserInputError(
                f"The layer {name!r} holds whole numbers above 2^53 ({kind}), which cannot be fused without loss. "
                "Scale them down and convert them to float64 first."
            )
        return block.astype(np.float64)

    blocks = lazy(array)
    empty = np.empty((0,) * blocks.ndim, np.float64)
    return da.map_blocks(exact, blocks, dtype=np.float64, meta=empty)  # type: ignore[no-untyped-call]


def lazy(array: Any) -> da.Array:
    """Return an array as dask's, nothing of it read."""
    if isinstance(array, da.Array):
        return array
    # Without a name dask would read every pixel to make one.
    found: da.Array = da.from_array(array, name=False)  # type: ignore[no-untyped-call]
    return found
