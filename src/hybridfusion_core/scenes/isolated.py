"""Lonely things on dark ground, over the whole range of a 16-bit camera: beads, nuclei, debris, some clumped.

Their heights reach from two slices before the first to two slices after the last, so that some are in focus nowhere.
Lengths are pixels in all three directions; emission is plane y x, ≥ 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, smooth_field
from hybridfusion_core.scenes.planes import Planes

_RANGE = 6.2  # natural logarithm of the brightest thing over the dimmest: a factor of 500
_FIELD = 192**2  # px that the numbers of things are for
_OUTSIDE = 2.0  # slices beyond either end of the stack where things still lie


def isolated(draw: Draw, side: int, planes: Planes) -> Tensor:
    """A few to some five dozen things of one or of several kinds."""
    volume = torch.zeros(planes.count, side, side)
    grain = 0.65 + draw.uniform(0.08, 0.4) * smooth_field(draw, side, draw.uniform(0.8, 1.6), 1.0)
    forms = draw.choice(
        (("bead",), ("bead",), ("nucleus",), ("debris",), ("bead", "debris"), ("nucleus", "debris"), _ALL)
    )
    bead, nucleus, spread = draw.log_uniform(0.8, 8), draw.log_uniform(7, 26), draw.uniform(0, _RANGE)
    level = draw.chance(0.4)  # things that sank to one ground
    ground = draw.uniform(-0.7, planes.slices - 0.3)
    for _ in range(round(draw.log_uniform(3, 60) * side**2 / _FIELD)):
        form = draw.choice(forms)
        radius = bead if form == "bead" else nucleus if form == "nucleus" else draw.log_uniform(0.6, 2.5)
        radius *= draw.uniform(0.75, 1.3)
        height = ground + draw.uniform(-0.5, 0.5) if level else draw.uniform(-_OUTSIDE, planes.slices - 1 + _OUTSIDE)
        bright = math.exp(-draw.uniform(0, spread))
        at = [draw.uniform(0, side), draw.uniform(0, side), height * planes.step]
        for _ in range(1 if form == "nucleus" or draw.chance(0.85) else draw.integer(2, 5)):  # clumps
            body(draw, volume, planes, at, radius, bright, grain if form == "nucleus" else None)
            at = [at[0] + 1.8 * radius * float(draw.normal(1)), at[1] + 1.8 * radius * float(draw.normal(1)), at[2]]
    return volume


def body(
    draw: Draw, volume: Tensor, planes: Planes, at: list[float], radius: float, bright: float, grain: Tensor | None
) -> None:
    """Add a ball, or with grain a nucleus: a turned ellipsoid with chromatin. Volume plane y x is changed."""
    side = volume.shape[-1]
    flat, ratio, turn = (
        (1.0, 1.0, 0.0) if grain is None else (draw.uniform(0.3, 1), draw.uniform(0.65, 1), draw.uniform(0, math.pi))
    )
    half = max(flat * radius, planes.apart)
    dy, rows = _around(at[0], radius + 2, side)
    dx, columns = _around(at[1], radius + 2, side)
    near = torch.nonzero((planes.depths() - at[2]).abs() < 1.4 * half)[:, 0]
    if not len(near):
        return
    dz = (planes.depths()[near] - at[2])[:, None, None] / half
    u = dy[:, None] * math.cos(turn) + dx * math.sin(turn)
    v = (dx * math.cos(turn) - dy[:, None] * math.sin(turn)) / ratio
    sideways = torch.sqrt(u * u + v * v + 1e-6) / radius
    if half > planes.apart:
        inside = ((1 - torch.sqrt(sideways**2 + dz**2)) * radius + 0.5).clamp(0, 1) * (planes.apart / half)
    else:  # thinner than planes are apart: shared between two
        inside = ((1 - sideways) * radius + 0.5).clamp(0, 1) * (1 - dz.abs()).clamp(min=0)
    if grain is not None:
        inside = inside * grain[rows[:, None], columns].clamp(0.15, 1.3)
    volume[near[:, None, None], rows[:, None], columns] += bright * min(1.0, radius) * inside


def _around(middle: float, reach: float, side: int) -> tuple[Tensor, Tensor]:
    """Distances to a place along one axis, and the pixels they belong to; what leaves one side enters at the other."""
    reach = min(reach, side / 2 - 1)
    index = torch.arange(math.floor(middle - reach), math.ceil(middle + reach) + 1)
    return index - middle, index % side


_ALL = ("bead", "nucleus", "debris")
