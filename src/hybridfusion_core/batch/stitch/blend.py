"""One block of a mosaic: fields that overlap fade into each other, and outside overlaps every pixel is its field's own.

A field weighs the less the nearer its edge is, so that nothing jumps where one begins or ends. Fields lie on whole
pixels: no value is made by interpolation between pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["mean", "nearest"]
Read = Callable[[int, slice, slice], NDArray[Any]]
Part = tuple[NDArray[Any], NDArray[np.float64], slice, slice]


def blended(
    top: int,
    left: int,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    fields: Iterable[tuple[int, tuple[int, int], tuple[int, int]]],
    read: Read,
    kind: Kind,
    empty: float = 0.0,
) -> NDArray[Any]:
    """Return a block of a mosaic.

    Args:
        top: first row of the block.
        left: first column of the block.
        shape: of the block, Y X.
        dtype: of the mosaic.
        fields: number, corner (y, x) in the mosaic and size Y X of each.
        read: returns a region Y X of a field.
        kind: "mean" of what fields show, weighed by the distance to their edges; "nearest" takes what the field shows
            whose edge is farthest, since a mean of slice numbers is none.
        empty: stands where no field lies, or none knows a value.

    Returns:
        Y X.
    """
    parts = _parts(top, left, shape, fields, read)
    return _nearest(parts, shape, dtype) if kind == "nearest" else _mean(parts, shape, dtype, empty)


def _parts(
    top: int,
    left: int,
    shape: tuple[int, int],
    fields: Iterable[tuple[int, tuple[int, int], tuple[int, int]]],
    read: Read,
) -> Iterator[Part]:
    for number, corner, size in fields:
        rows, columns = (
            slice(max(at, start), min(at + length, start + extent))
            for at, length, start, extent in zip(corner, size, (top, left), shape, strict=True)
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        inside = [slice(each.start - at, each.stop - at) for each, at in zip((rows, columns), corner, strict=True)]
        y, x = (_weights(length)[each] for length, each in zip(size, inside, strict=True))
        pixels = read(number, inside[0], inside[1])
        at = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        yield pixels, y[:, None] * x, *at


def _weights(length: int) -> NDArray[np.float64]:
    index = np.arange(length)
    return np.minimum(index + 1, length - index).astype(float)


def _mean(parts: Iterable[Part], shape: tuple[int, int], dtype: np.dtype[Any], empty: float) -> NDArray[Any]:
    total, weight = np.zeros(shape), np.zeros(shape)
    for pixels, part, rows, columns in parts:
        known = np.where(np.isnan(pixels), 0.0, part)
        total[rows, columns] += np.nan_to_num(pixels.astype(float)) * known
        weight[rows, columns] += known
    mean = np.divide(total, weight, out=np.full(shape, empty, dtype=float), where=weight > 0)
    return np.asarray(mean if dtype.kind == "f" else np.rint(mean), dtype)


def _nearest(parts: Iterable[Part], shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    found, weight = np.zeros(shape, dtype), np.zeros(shape)
    for pixels, part, rows, columns in parts:
        nearer = part > weight[rows, columns]
        found[rows, columns] = np.where(nearer, pixels, found[rows, columns])
        weight[rows, columns] = np.maximum(part, weight[rows, columns])
    return found
