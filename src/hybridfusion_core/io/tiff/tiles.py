"""Read regions of compressed or tiled TIFF through tifffile's zarr view, mended where it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from hybridfusion_core.io.region import normalised
from hybridfusion_core.stack import ArrayLike


def tiled(series: Any, level: int = 0) -> tuple[ArrayLike, tuple[int, ...]]:
    """Return an array of all axes of a series, and the lengths of what it decodes as a whole.

    Args:
        series: tifffile.TiffPageSeries.
        level: of its pyramid.
    """
    full: Any = zarr.open_array(series.aszarr(level=level, squeeze=False), mode="r")
    at = series.levels[level]
    if at.keyframe.imagelength > 1:
        return full, full.chunks
    # Of planes one row high, the view with all axes finds the first tile only (tifffile 2026.3).
    short: Any = zarr.open_array(series.aszarr(level=level, squeeze=True), mode="r")
    axes, kept = at.get_axes(squeeze=False), at.get_axes(squeeze=True)
    return Unsqueezed(short, full.shape, tuple(axes.index(axis) for axis in kept)), full.chunks


class Unsqueezed:
    """An array under a shape with more axes of one element.

    Args:
        array: without these axes.
        shape: with them.
        kept: where each axis of the array stands in the shape, ascending.
    """

    def __init__(self, array: Any, shape: tuple[int, ...], kept: tuple[int, ...]) -> None:
        self._array, self._kept = array, kept
        self.shape = shape
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        items = normalised(key, self.shape)
        pixels = np.asarray(self._array[tuple(items[axis] for axis in self._kept)])
        lengths = (len(range(item.start, item.stop, item.step)) for item in items if isinstance(item, slice))
        return pixels.reshape(tuple(lengths))
