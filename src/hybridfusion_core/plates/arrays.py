"""Arrays seen in another way, read by region: planes at the places where they belong, one time point, some channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.region import normalised
from hybridfusion_core.io.slice_files import PictureStack
from hybridfusion_core.stack import ArrayLike


class PlaneGrid:
    """Grey planes as an array C Z Y X, some of them at several places.

    Args:
        planes: Z Y X, as `PictureStack` reads them.
        index: C Z, which of them stands where.
    """

    def __init__(self, planes: PictureStack, index: NDArray[np.int64]) -> None:
        self._planes = planes
        self._index = index
        self.shape: tuple[int, ...] = (*index.shape, *planes.shape[1:])
        self.dtype: np.dtype[Any] = planes.dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        c, z, *rest = normalised(key, self.shape)
        chosen = np.asarray(self._index[c, z])
        region = np.empty((0, *self.shape[2:]), self.dtype)[(slice(None), *rest)]
        if chosen.size:
            # A slice that serves many places is decoded once.
            read = {int(each): self._planes[(int(each), *rest)] for each in np.unique(chosen)}
            region = np.stack([read[int(each)] for each in chosen.flat])
        return region.reshape(*chosen.shape, *region.shape[1:])


class AtIndex:
    """An array without one of its axes, at one place of it."""

    def __init__(self, array: ArrayLike, at: int, index: int) -> None:
        self._array, self._at, self._index = array, at, index
        self.shape: tuple[int, ...] = (*array.shape[:at], *array.shape[at + 1 :])
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, key: Any, /) -> Any:
        items = normalised(key, self.shape)
        return self._array[(*items[: self._at], self._index, *items[self._at :])]


class AtIndices:
    """An array with some places of one axis only, in another order if need be."""

    def __init__(self, array: ArrayLike, at: int, chosen: Sequence[int]) -> None:
        self._array, self._at, self._chosen = array, at, tuple(chosen)
        self.shape: tuple[int, ...] = (*array.shape[:at], len(chosen), *array.shape[at + 1 :])
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, key: Any, /) -> Any:
        items = normalised(key, self.shape)
        wanted = items[self._at]
        before, after = items[: self._at], items[self._at + 1 :]
        if not isinstance(wanted, slice):
            return self._array[(*before, self._chosen[wanted], *after)]
        parts = [np.asarray(self._array[(*before, slice(each, each + 1), *after)]) for each in self._chosen[wanted]]
        place = sum(isinstance(item, slice) for item in before)
        return np.concatenate(parts, axis=place)
