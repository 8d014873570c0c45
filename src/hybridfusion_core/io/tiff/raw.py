"""Read regions of uncompressed TIFF planes straight from the file, row by row.

Through tifffile's zarr view a strip is the least that can be read, and many programs write a whole plane as
one strip. ImageJ writes files of more than 4 GB as one page with all planes behind it.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.region import normalised
from hybridfusion_core.io.tiff.full_series import full_axes, full_shape

_WIDE = 4  # rows are read whole if at least this part of them is wanted: fewer and larger requests


class RawPlanes:
    """Uncompressed planes as an array of all axes that the file has.

    Args:
        handle: tifffile.FileHandle, open for reading.
        offsets: byte where each plane starts.
        shape: lengths of the stored axes.
        within: how many of them, at the end, lie within a plane: 2 for Y X, 3 for Y X and samples.
        dtype: as stored, with its byte order.
    """

    def __init__(
        self, handle: Any, offsets: NDArray[np.int64], shape: tuple[int, ...], within: int, dtype: np.dtype[Any]
    ) -> None:
        self._handle = handle
        self._offsets = offsets.reshape(shape[:-within])
        self._plane = shape[-within:]
        self._lock = threading.Lock()
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        items = normalised(key, self.shape)
        leading = self._offsets.ndim
        offsets = np.asarray(self._offsets[items[:leading]])
        y, x, *samples = (_as_slice(item) for item in items[leading:])
        pixels = np.empty((offsets.size, y.stop - y.start, x.stop - x.start, *self._plane[2:]), self.dtype)
        for plane, offset in zip(pixels, offsets.flat, strict=True):
            self._read(int(offset), y.start, x, plane)
        pixels = pixels.reshape(*offsets.shape, *pixels.shape[1:])
        # What was asked for by number has no axis; steps are taken here.
        steps = (
            slice(None, None, item.step) if isinstance(item, slice) else 0 for item in items[leading : leading + 2]
        )
        return pixels[(..., *steps, *items[leading + 2 :])] if samples else pixels[(..., *steps)]

    def _read(self, offset: int, top: int, x: slice, target: NDArray[Any]) -> None:
        """Fill one plane's region, Y X or Y X S."""
        pixel = int(np.prod(self._plane[2:], dtype=np.int64)) * self.dtype.itemsize
        row = self._plane[1] * pixel
        if target.shape[1] * _WIDE >= self._plane[1]:
            rows = self._bytes(offset + top * row, len(target) * row).reshape(len(target), *self._plane[1:])
            target[...] = rows[:, x]
            return
        for line, values in enumerate(target, top):
            start = offset + line * row + x.start * pixel
            values[...] = self._bytes(start, values.size * self.dtype.itemsize).reshape(values.shape)

    def _bytes(self, start: int, count: int) -> NDArray[Any]:
        with self._lock:
            self._handle.seek(start)
            found = self._handle.read(count)
        if len(found) != count:
            raise EOFError(f"the file ends {count - len(found)} bytes too early")
        return np.frombuffer(found, self.dtype)


def _as_slice(item: int | slice) -> slice:
    return item if isinstance(item, slice) else slice(item, item + 1)


def raw_planes(series: Any) -> RawPlanes | None:
    """Return a series as `RawPlanes`, or None if its pixels are not stored as they are.

    Args:
        series: tifffile.TiffPageSeries whose extent was checked.
    """
    page = series.keyframe
    axes = full_axes(series)
    shape = full_shape(series)
    within = 3 if axes.endswith("YXS") else 2
    if page.dtype is None or not axes[-within:].startswith("YX") or not _is_plain(page):
        return None
    plane_bytes = int(np.prod(shape[-within:], dtype=np.int64)) * page.dtype.itemsize
    planes = int(np.prod(shape[:-within], dtype=np.int64))
    if series.dataoffset is not None:
        starts = series.dataoffset + plane_bytes * np.arange(planes, dtype=np.int64)
    else:
        per_page = page.nbytes // plane_bytes
        if any(each.parent is not page.parent or not _is_whole(each, page.nbytes) for each in series.pages):
            return None
        pages = np.array([each.dataoffsets[0] for each in series.pages], dtype=np.int64)
        starts = (pages[:, np.newaxis] + plane_bytes * np.arange(per_page, dtype=np.int64)).ravel()
    if starts.size != planes:
        return None
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    return RawPlanes(page.parent.filehandle, starts, shape, within, dtype)


def _is_plain(page: Any) -> bool:
    """Say whether a page's values are stored one after another, as they are."""
    whole_values = page.bitspersample == page.dtype.itemsize * 8
    return bool(page.is_contiguous and page.predictor == 1 and page.fillorder == 1 and whole_values)


def _is_whole(page: Any, size: int) -> bool:
    """Say whether the strips of a page follow each other without gaps."""
    offsets, counts = np.asarray(page.dataoffsets), np.asarray(page.databytecounts)
    return bool(np.all(offsets[:-1] + counts[:-1] == offsets[1:]) and int(counts.sum()) == size)
