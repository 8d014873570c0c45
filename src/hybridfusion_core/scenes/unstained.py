"""Unstained specimens as planes of phase and absorption (plane y x each, in radians and in −ln of amplitude).

Lengths are pixels. Phases stay below about one radian: the optics are those of weak objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, grid, smooth_field
from hybridfusion_core.scenes.heights import flat
from hybridfusion_core.scenes.planes import Planes
from hybridfusion_core.scenes.specimens import debris, organoids
from hybridfusion_core.scenes.textures import window

Unstained = Callable[[Draw, int, Planes], Tensor]


def draw_unstained(draw: Draw, side: int, planes: Planes) -> tuple[Tensor, Tensor]:
    """Draw one specimen with dirt around it: phase and absorption, plane y x each."""
    if draw.chance(0.04):
        empty = torch.zeros(planes.count, side, side)
        return empty, empty
    phase = draw.choice((adherent_cells, adherent_cells, round_cells, round_cells, organoid_body))(draw, side, planes)
    phase = phase * (draw.log_uniform(0.15, 0.8) / phase.sum(dim=0).max().clamp(min=1e-6))
    # From living cells, which hardly absorb, to stained sections, which hardly do anything else.
    absorption = phase * draw.choice((0.0, 0.0, draw.uniform(0.01, 0.08), draw.uniform(0.05, 0.4)))
    if draw.chance(0.12):
        phase, absorption = 0.2 * phase, 0.5 * phase
    if draw.chance(0.25):
        dirt = debris(draw, side, planes)
        phase, absorption = phase + draw.uniform(0, 0.3) * dirt, absorption + draw.uniform(0, 0.1) * dirt
    return phase, absorption


def adherent_cells(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Flat cells with nuclei and granules, spread on one surface."""
    return planes.splat(_cells(draw, side, draw.log_uniform(12, 45), flatness=1.0), flat(draw, side, planes.slices))


def round_cells(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Rounded cells, a few together at each of several depths: a suspension, or a loose spheroid."""
    phase = torch.zeros(planes.count, side, side)
    size = draw.log_uniform(6, 20)
    for _ in range(draw.integer(1, 4)):
        height = torch.full((side, side), draw.uniform(-0.3, planes.slices - 0.7))
        phase += planes.splat(_cells(draw, side, size, flatness=0.5), height)
    return phase


def organoid_body(draw: Draw, side: int, planes: Planes) -> Tensor:
    """An organoid: its cells refract as much as they would shine."""
    return organoids(draw, side, planes) * planes.apart


def _cells(draw: Draw, side: int, size: float, flatness: float) -> Tensor:
    """Optical thickness y x of cells of about a radius in one plane; 0.5 is round, 1 flat at the rim."""
    y, x = grid(side)
    thickness = torch.zeros(side, side)
    fine = smooth_field(draw, side, 0.9, 1.0)
    granules = (fine - draw.uniform(0.8, 1.8)).clamp(min=0) * draw.uniform(0, 0.25)
    raised = draw.uniform(0.1, 0.5)
    for _ in range(draw.integer(1, max(1, min(14, int(0.4 * (side / size) ** 2))))):
        radius, middle = size * draw.uniform(0.7, 1.3), (draw.uniform(0, side), draw.uniform(0, side))
        rows, columns = (window(at, 1.6 * radius + 2, side) for at in middle)
        dy, dx = y[rows] - middle[0], x[:, columns] - middle[1]
        angle, distance = torch.atan2(dy, dx), torch.sqrt(dy * dy + dx * dx)
        rim = torch.full_like(angle, radius)
        if flatness == 1.0:  # spread cells have corners and processes, round ones do not
            for lobes in range(2, 6):
                rim += radius * draw.uniform(0, 0.4 / lobes) * torch.cos(lobes * angle + draw.uniform(0, math.tau))
        dome = (1 - (distance / rim).square()).clamp(min=0) ** flatness
        nucleus = torch.sigmoid((0.42 * radius - torch.sqrt((dy - 0.1 * radius) ** 2 + dx * dx)) / 0.8)
        body = dome * (1 + 0.06 * fine[rows, columns] + granules[rows, columns]) + raised * nucleus * dome
        for _ in range(draw.integer(1, 3)):  # nucleoli
            v, u = (draw.uniform(-0.25, 0.25) * radius for _ in range(2))
            spot = torch.exp(-0.5 * ((dy - v) ** 2 + (dx - u) ** 2) / max(0.8, 0.07 * radius) ** 2)
            body = body + raised * spot * dome
        thickness[rows, columns] = torch.maximum(thickness[rows, columns], draw.uniform(0.6, 1.0) * body)
    return thickness
