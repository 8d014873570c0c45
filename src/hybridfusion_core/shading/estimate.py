"""A flat field estimated over the fields of a plate: what lights them alike, whatever stands in each.

Of every field a small copy of the mean over its slices; over the fields the median of these, each divided by its own
level, since specimens stand elsewhere in each field and the light does not. What is left of single specimens is
smoothed by a polynomial of fourth degree, as light falls off slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.stack import Stack

_SIDE = 64  # px, of a small copy
_FEWEST = 8  # fields; specimens of fewer do not average out
_DEGREE = 4
_DIMMEST = 0.05  # of the mean


def small_copy(stack: Stack) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and the darkest over slices of small copies of the first time point, C Y X each."""
    _, channels, depth, rows, columns = stack.shape
    side = max(1, -(-max(rows, columns) // _SIDE))
    shape = (rows // side, columns // side)
    means, least = np.zeros((channels, *shape), np.float32), np.full((channels, *shape), np.inf, np.float32)
    for c in range(channels):
        for z in range(depth):
            counts = stack.read(0, c, [z], slice(0, shape[0] * side), slice(0, shape[1] * side))[0]
            small = counts.astype(np.float32).reshape(shape[0], side, shape[1], side).mean(axis=(1, 3))
            means[c] += small / depth
            least[c] = np.minimum(least[c], small)
    return means, least


def estimated(
    copies: list[tuple[NDArray[np.float32], NDArray[np.float32]]], plane: tuple[int, int], *, dark: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return flat field C Y X, mean 1, and dark level C 1 1 of a plate.

    Args:
        copies: what `small_copy` gave of its fields.
        plane: Y and X of the fields.
        dark: estimate what the camera counts in the dark: the darkest place of any field; otherwise zero.

    Raises:
        UserInputError: there are too few fields, or they show no light.
    """
    if len(copies) < _FEWEST:
        raise UserInputError(
            f"--flat-field auto found {len(copies)} fields; expected {_FEWEST} at least, because the specimens of "
            "fewer do not average out. Give a picture of the light with --flat-field FILE."
        )
    means = np.stack([mean for mean, _ in copies])  # F C y x
    level = np.min([least.min(axis=(1, 2)) for _, least in copies], axis=0)[:, None, None]
    level = level if dark else np.zeros_like(level)
    light = means - level
    own = np.median(light, axis=(2, 3), keepdims=True)
    if (own <= 0).any():
        raise UserInputError(
            "--flat-field auto found fields without any light above the dark; expected some in each channel. Give a "
            "picture of the light with --flat-field FILE, or leave it out."
        )
    typical = np.median(light / own, axis=0)
    flat = np.stack([_smooth(each, plane) for each in typical])
    flat /= flat.mean(axis=(1, 2), keepdims=True)
    return np.maximum(flat, _DIMMEST).astype(np.float32), level.astype(np.float32)


def _smooth(typical: NDArray[np.floating], plane: tuple[int, int]) -> NDArray[np.float64]:
    """Fit a polynomial to a small copy, and give its values over the plane."""
    rows, columns = typical.shape
    side = max(1, -(-max(plane) // _SIDE))

    def terms(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
        return np.stack([np.multiply.outer(y**i, x**j) for i, j in powers], axis=-1)

    def place(at: NDArray[Any], size: int) -> NDArray[np.float64]:
        return np.asarray(2 * at / max(size - 1, 1) - 1, np.float64)

    small = terms(
        *(place((np.arange(n) + 0.5) * side - 0.5, size) for n, size in zip((rows, columns), plane, strict=True))
    )
    matrix, values, weights = small.reshape(rows * columns, -1), typical.ravel(), np.ones(rows * columns)
    for _ in range(5):  # what stands out is a specimen
        found = np.linalg.lstsq(matrix * weights[:, None], values * weights, rcond=None)[0]
        miss = values - matrix @ found
        spread = 1.4826 * np.median(np.abs(miss)) + 1e-6
        weights = np.sqrt(1 / (1 + (miss / (2 * spread)) ** 2))
    whole: NDArray[np.float64] = terms(*(place(np.arange(n), n) for n in plane)) @ found
    return whole
