"""Series of a TIFF with all their axes, also those of length 1, which say what a file's other axes are not.

tifffile gave them by methods until 2026.5.2, and since then by asking for the series once more.
"""

from __future__ import annotations

from typing import Any


def full_series(file: Any) -> list[Any]:
    """Return the series of a `tifffile.TiffFile`, one `TiffPageSeries` each."""
    series = file.series
    return list(series(squeeze=False)) if callable(series) else list(series)


def full_axes(series: Any) -> str:
    """Return one letter for each axis of a series that `full_series` gave."""
    return str(series.get_axes(squeeze=False) if hasattr(series, "get_axes") else series.axes)


def full_shape(series: Any) -> tuple[int, ...]:
    """Return the length of each axis of a series that `full_series` gave."""
    shape = series.get_shape(squeeze=False) if hasattr(series, "get_shape") else series.shape
    return tuple(int(length) for length in shape)


def zarr_store(series: Any, level: int = 0) -> Any:
    """Return a store that zarr reads a level of a series from, with all its axes."""
    return series.aszarr(level=level, **({"squeeze": False} if hasattr(series, "get_axes") else {}))
