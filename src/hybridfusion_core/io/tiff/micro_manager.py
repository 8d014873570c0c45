"""Take the positions of a Micro-Manager acquisition apart: tifffile gives them as one axis of one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile

from hybridfusion_core.io.tiff.full_series import full_axes, full_shape


def apart(all_series: Sequence[Any], names: Sequence[str]) -> Iterator[Any]:
    """Yield every image of a TIFF, each position of a Micro-Manager stack as one of its own.

    Args:
        all_series: of tifffile.TiffPageSeries.
        names: of the images, as the OME-XML states them in the order of positions.
    """
    for series in all_series:
        axes = full_axes(series)
        if series.kind != "mmstack" or "R" not in axes:
            yield series
            continue
        shape, at = full_shape(series), axes.index("R")
        within = len(series.keyframe.shape)  # axes of a page; all others stand before them
        if at >= len(shape) - within or shape[at] == 1:
            yield series
            continue
        planes = np.empty(len(series.pages), object)
        planes[:] = list(series.pages)
        planes = planes.reshape(shape[:-within])
        for position in range(shape[at]):
            yield tifffile.TiffPageSeries(
                list(planes.take(position, axis=at).ravel()),
                shape=shape[:at] + shape[at + 1 :],
                dtype=series.dtype,
                axes=axes[:at] + axes[at + 1 :],
                parent=series.parent,
                name=names[position] if position < len(names) else "",
                kind=series.kind,
            )
