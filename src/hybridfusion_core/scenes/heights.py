"""Height maps: at which slice each point of a surface lies. Each takes (draw, side, slices) and gives y x in slices."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, grid, smooth_field

Height = Callable[[Draw, int, int], Tensor]


def flat(draw: Draw, side: int, slices: int) -> Tensor:
    """Every point at one depth, perhaps tilted."""
    y, x = grid(side)
    tilt = draw.uniform(-1, 1) * slices / side / 2
    turn = draw.uniform(0, math.tau)
    return draw.uniform(0, slices - 1) + tilt * (math.cos(turn) * (y - side / 2) + math.sin(turn) * (x - side / 2))


def rolling(draw: Draw, side: int, slices: int) -> Tensor:
    """Smooth hills through the whole depth."""
    field = smooth_field(draw, side, draw.uniform(2.0, 3.0), 1.0)
    return (0.5 + 0.3 * draw.uniform(0.5, 1.2) * field).clamp(-0.1, 1.1) * (slices - 1)


def terraces(draw: Draw, side: int, slices: int) -> Tensor:
    """Steps between level grounds."""
    field = smooth_field(draw, side, 2.5, 1.0)
    steps = draw.integer(2, 4)
    index = torch.bucketize(field, torch.linspace(-1, 1, steps + 1)[1:-1])
    return draw.uniforms(steps)[index] * (slices - 1)


def on_slices(draw: Draw, side: int, slices: int) -> Tensor:
    """Steps between grounds that each lie exactly on a slice, as a photographer focuses on one thing after another."""
    return terraces(draw, side, slices).round()


HEIGHTS: tuple[Height, ...] = (flat, rolling, rolling, terraces)
