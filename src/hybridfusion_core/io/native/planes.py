"""A scene as an array T C Z Y X that is read slice by slice."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.native.scene import NativeReader
from hybridfusion_core.io.region import normalised


class ScenePlanes:
    """Axes T C Z Y X of one scene; the libraries are not safe in threads, so one thread reads at a time.

    Args:
        reader: of the file.
        index: of the scene.
    """

    def __init__(self, reader: NativeReader, index: int) -> None:
        scene = reader.scenes[index]
        self._reader = reader
        self._index = index
        self._lock = threading.Lock()
        self.shape: tuple[int, ...] = scene.shape
        self.dtype: np.dtype[Any] = np.dtype(scene.dtype)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        items = normalised(key, self.shape)
        whole = [item if isinstance(item, slice) else slice(item, item + 1) for item in items]
        t, c, z = (range(item.start, item.stop, item.step or 1) for item in whole[:3])
        y, x = whole[3:]
        inside = (..., slice(None, None, y.step), slice(None, None, x.step))
        lengths = [len(range(item.start, item.stop, item.step or 1)) for item in whole]
        region = np.empty(lengths, self.dtype)
        if region.size:
            for at, time in enumerate(t):
                for level, height in enumerate(z):
                    region[at, :, level] = self._read(time, height, list(c), y, x)[inside]
        return region[tuple(slice(None) if isinstance(item, slice) else 0 for item in items)]

    def _read(self, t: int, z: int, channels: list[int], y: slice, x: slice) -> NDArray[Any]:
        rows, columns = slice(y.start, y.stop), slice(x.start, x.stop)
        with self._lock:
            pixels = self._reader.read(self._index, t, z, channels, rows, columns)
        expected = (len(channels), rows.stop - rows.start, columns.stop - columns.start)
        if pixels.shape != expected or pixels.dtype != self.dtype:
            raise ValueError(f"{pixels.shape} {pixels.dtype} was read where {expected} {self.dtype} was announced")
        return pixels
