"""Read regions of compressed or tiled TIFF through tifffile's zarr view, mended where it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from hybridfusion_core.io.region import normalised
from hybridfusion_core.io.tiff.full_series import full_axes, full_shape, zarr_store
from hybridfusion_core.stack import ArrayLike


def tiled(series: Any, level: int = 0) -> tuple[ArrayLike, tuple[int, ...]]:
    """Return an array of all axes of a series, and the lengths of what it decodes as a whole.

    Args:
        series: tifffile.TiffPageSeries.
        level: of its pyramid.
    """
    full: Any = zarr.open_array(zarr_store(series, level), mode="r")
    at = series.levels[level]
    if at.keyframe.imagelength > 1:
        return full, full.chunks
    # Of planes one row high, the view with all axes finds the first tile only (tifffile 2026.3 and 2026.11).
    axes, shape = full_axes(at), full_shape(at)
    kept = [index for index, length in enumerate(shape) if length > 1 or axes[index] in "YX"]
    short = tifffile.TiffPageSeries(
        list(at.pages),
        shape=tuple(shape[index] for index in kept),
        dtype=at.dtype,
        axes="".join(axes[index] for index in kept),
        parent=at.parent,
        kind=at.kind,
    )
    array: Any = zarr.open_array(zarr_store(short), mode="r")
    return Unsqueezed(array, full.shape, tuple(kept)), full.chunks


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
