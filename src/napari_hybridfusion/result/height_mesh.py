"""A height map as vertices and triangles; it knows of arrays alone, and of no window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampled:
    """A plane with fewer rows and columns than there are.

    Attributes:
        values: Y X, float32.
        rows: where its rows lie, in pixels of the whole plane.
        columns: where its columns lie.
        whole: rows and columns of the whole plane.
    """

    values: NDArray[np.float32]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    whole: tuple[int, int]


@dataclass(frozen=True)
class Relief:
    """A surface with places in a picture.

    Attributes:
        vertices: N × (Z Y X), float32: Z as the heights are, Y and X in pixels of the whole plane.
        faces: M × 3 indices of vertices.
        texcoords: N × (X Y), float32, in [0, 1] from edge to edge of the picture: X from its left, Y from its bottom,
            where napari's textures begin.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.intp]
    texcoords: NDArray[np.float32]


def sampled(levels: Sequence[Any], at: tuple[int, ...], longest: int) -> Sampled:
    """Read a plane with at most so many rows and columns.

    Args:
        levels: … Y X and smaller copies of it, NumPy or dask.
        at: index of the plane along the other axes.
        longest: rows or columns at most.
    """
    whole = levels[0].shape[-2:]
    level = next((each for each in reversed(levels) if max(each.shape[-2:]) >= min(longest, max(whole))), levels[0])
    step = -(-max(level.shape[-2:]) // longest)
    plane = np.asarray(level[(*at, slice(None, None, step), slice(None, None, step))], dtype=np.float32)
    rows, columns = (
        (np.arange(0, length, step) + 0.5) * size / length - 0.5
        for length, size in zip(level.shape[-2:], whole, strict=True)
    )
    return Sampled(plane, rows, columns, whole)


def relief_of(heights: Sampled) -> Relief:
    """Return the surface of heights; a hole where a height is NaN, and no faces if all are."""
    places = np.meshgrid(heights.rows, heights.columns, indexing="ij")
    vertices = np.stack([heights.values, *places], axis=-1).reshape(-1, 3)
    faces = _triangles(np.isfinite(heights.values))
    # The edges of a picture are half a pixel outside the middle of its pixels.
    texcoords = (vertices[:, :0:-1] + 0.5) / np.array(heights.whole[::-1])
    texcoords[:, 1] = 1 - texcoords[:, 1]
    # Vertices without a height are in no face, but no graphics card takes NaN.
    return Relief(np.nan_to_num(vertices).astype(np.float32), faces, texcoords.astype(np.float32))


def _triangles(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return two triangles for each four neighbours of a grid, without those that have an unknown corner."""
    corner = np.arange(known.size).reshape(known.shape)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    faces = np.concatenate([np.stack(each, axis=-1).reshape(-1, 3) for each in ((a, b, c), (b, d, c))])
    return np.asarray(faces[known.ravel()[faces].all(axis=1)])
