"""Neighbourhoods: how much they vary, and the brightest in them. Rows and columns apart."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def local_contrast(image: Tensor) -> Tensor:
    """Standard deviation in 7 × 7 neighbourhoods. … Y X -> … Y X."""
    mean = neighbourhood_mean(image, 7)
    square = neighbourhood_mean(image * image, 7)
    return (square - mean * mean).clamp(min=0).sqrt()


def neighbourhood_mean(image: Tensor, width: int) -> Tensor:
    """Mean of a square of odd width around each pixel; borders are mirrored. … Y X -> … Y X."""
    kernel = torch.full((width,), 1 / width)
    return _smoothed(image, tuple(kernel.tolist()))


def gaussian_mean(image: Tensor, sigma: float) -> Tensor:
    """Gaussian mean that rings nowhere, however bright a point is; borders are mirrored. … Y X -> … Y X."""
    reach = math.ceil(4 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    return _smoothed(image, tuple((kernel / kernel.sum()).tolist()))


def _smoothed(image: Tensor, kernel: tuple[float, ...]) -> Tensor:
    """Products with a band of weights: on a CPU some times as fast as pooling or a convolution."""
    rows, columns = (_band(size, kernel) for size in image.shape[-2:])
    return rows @ image @ columns.mT


@lru_cache(maxsize=16)
def _band(size: int, kernel: tuple[float, ...]) -> Tensor:
    reach = len(kernel) // 2
    place = torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)
    place = torch.where(place < 0, -place, place)
    place = torch.where(place > size - 1, 2 * (size - 1) - place, place).clamp(0, size - 1)
    weights = torch.tensor(kernel).expand(size, -1)
    return torch.zeros(size, size).scatter_add_(1, place, weights)


def neighbourhood_maximum(image: Tensor, width: int) -> Tensor:
    """Largest value in a square of odd width around each pixel. … Y X -> … Y X."""
    return _widest(_widest(image, width, -1), width, -2)


def _widest(image: Tensor, width: int, axis: int) -> Tensor:
    """Along one axis, by doubling: ten times as fast as pooling on a CPU."""
    size = image.shape[axis]
    edges = torch.arange(-(width // 2), size + width // 2).clamp(0, size - 1)
    most, covered = image.index_select(axis, edges), 1
    while covered < width:
        by = min(covered, width - covered)
        length = most.shape[axis] - by
        most = torch.maximum(most.narrow(axis, 0, length), most.narrow(axis, by, length))
        covered += by
    return most
