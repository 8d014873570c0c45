"""Stored arrays as a `Stack` wants them: only TCZYX, native byte order, failures explained."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.stack import ArrayLike

DecodeUnit = tuple[int, int, int, int, int]


class RegionView:
    """A stored array under other axes, read by region.

    Args:
        array: what is stored; indexed with whole numbers and slices only.
        letters: one per stored axis: T, C, Z, Y, X, or "-" for an axis of length 1 that is not shown.
        name: what to call the file in messages.
        channels: how many of C to show (alpha stands last and is left out).
    """

    def __init__(self, array: ArrayLike, letters: str, name: str, channels: int | None = None) -> None:
        lengths = [
            channels if channels is not None and letter == "C" else int(length)
            for letter, length in zip(letters, array.shape, strict=True)
        ]
        self._array = array
        self._letters = letters
        self._name = name
        self.axes = letters.replace("-", "")
        self.shape = tuple(length for letter, length in zip(letters, lengths, strict=True) if letter != "-")
        self.dtype = np.dtype(array.dtype).newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        region = normalised(key, self.shape)
        items = iter(region)
        stored = tuple(0 if letter == "-" else next(items) for letter in self._letters)
        place = f"{self._name}: the pixels at {axes_text(self.axes, region)}"
        damage = "intact data. The file is damaged or cut short: copy or export it again."
        with guarded(f"{place} cannot be read", damage):  # any codec of any format may fail in its own way
            try:
                return np.asarray(self._array[stored], dtype=self.dtype)
            except MemoryError as error:
                raise UserInputError(
                    f"{place} do not fit into memory; expected parts of the image that do. Its strips or chunks are "
                    "too large: save it in tiles, or use a larger computer."
                ) from error

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        del copy  # what was read is always a copy
        return np.asarray(self[...], dtype=dtype)


class ComputedPlanes:
    """An array T C Z Y X whose regions are computed when they are read.

    Args:
        shape: lengths of T C Z Y X.
        dtype: of its pixels.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """Number of axes: five."""
        return len(self.shape)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        items = normalised(key, self.shape)
        t, c, z, rows, columns = (
            range(*each.indices(size)) if isinstance(each, slice) else range(each, each + 1)
            for each, size in zip(items, self.shape, strict=True)
        )
        y, x = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        made = np.empty((len(t), len(c), len(z), len(rows), len(columns)), self.dtype)
        for i, at in enumerate(t):
            for j, channel in enumerate(c):
                for k, number in enumerate(z):  # a slice's share of memory, not a stack's
                    made[i, j, k] = self._plane(at, channel, number, y, x)[:: rows.step, :: columns.step]
        found: NDArray[Any] = made[tuple(slice(None) if isinstance(each, slice) else 0 for each in items)]
        return found

    def _plane(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Compute a region of one plane, Y X."""
        raise NotImplementedError


def decode_unit(letters: str, chunks: tuple[int, ...], shape: tuple[int, int, int, int, int]) -> DecodeUnit:
    """Return what a chunked array decodes as a whole, T C Z Y X.

    Args:
        letters: one per stored axis, as for `RegionView`.
        chunks: lengths of a chunk along the stored axes.
        shape: T C Z Y X of the stack.
    """
    found = dict(zip(letters, chunks, strict=True))
    t, c, z, y, x = (min(int(found.get(letter, 1)), length) for letter, length in zip("TCZYX", shape, strict=True))
    return t, c, z, y, x


def normalised(key: Any, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    """Turn a basic index into one whole number or slice per axis, all within the shape.

    Raises:
        IndexError: too many indices, or one outside the shape.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    if len(items) - items.count(Ellipsis) > len(shape):
        raise IndexError(f"{len(items)} indices for an array of shape {shape}")
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + 1)
    items += [slice(None)] * (len(shape) - len(items))
    return tuple(_item(item, length) for item, length in zip(items, shape, strict=True))


def _item(item: Any, length: int) -> int | slice:
    if isinstance(item, slice):
        start, stop, step = item.indices(length)
        if step < 1:
            raise IndexError(f"step {step} is not possible; read forwards and turn the result around")
        return slice(start, max(start, stop), step)
    index = operator.index(item)
    if not -length <= index < length:
        raise IndexError(f"index {index} is outside an axis of length {length}")
    return index % length


def axes_text(axes: str, region: tuple[int | slice, ...]) -> str:
    """Describe a region for a message: "Z=3, Y=0:512"."""
    parts = (
        f"{axis}={item.start}:{item.stop}" if isinstance(item, slice) else f"{axis}={item}"
        for axis, item in zip(axes, region, strict=True)
    )
    return ", ".join(parts)
