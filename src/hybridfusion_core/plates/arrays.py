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
        index: C Z, which of them stands where; -1 for zeros.
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
            read = {int(each): self._planes[(int(each), *rest)] for each in np.unique(chosen) if each >= 0}
            zeros = np.zeros(region.shape[1:], self.dtype)
            region = np.stack([read.get(int(each), zeros) for each in chosen.flat])
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


class JoinedChannels:
    """Stacks of one channel each as an array C Z Y X.

    Args:
        parts: array of each channel and the letters of its axes, of which T and C, where they are there, have length
            1; None for a channel of zeros. One at least has an array.
    """

    def __init__(self, parts: Sequence[tuple[ArrayLike, str] | None]) -> None:
        self._parts = tuple(parts)
        first, letters = next(part for part in parts if part is not None)
        lengths = dict(zip(letters, first.shape, strict=True))
        self.shape: tuple[int, ...] = (len(self._parts), *(lengths.get(letter, 1) for letter in "ZYX"))
        self.dtype: np.dtype[Any] = first.dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        c, z, y, x = normalised(key, self.shape)
        if not isinstance(c, slice):
            return self._read(range(self.shape[0])[c], z, y, x)
        return np.stack([self._read(each, z, y, x) for each in range(self.shape[0])[c]])

    def _read(self, channel: int, z: Any, y: Any, x: Any) -> NDArray[Any]:
        part = self._parts[channel]
        if part is None:
            return np.array(np.broadcast_to(np.zeros((), self.dtype), self.shape[1:])[z, y, x])
        array, letters = part
        wanted = {"T": 0, "C": 0, "Z": z, "Y": y, "X": x}
        region = np.asarray(array[tuple(wanted[letter] for letter in letters)])
        kept = [letter for letter in letters if isinstance(wanted[letter], slice)]
        region = region.transpose([kept.index(letter) for letter in "ZYX" if letter in kept])
        # An image of one slice has no Z.
        return region if "Z" in letters or not isinstance(z, slice) else region[np.newaxis][z]
