"""Textures: what a surface looks like where it is in focus. Each takes (draw, side) and gives y x in about [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, grid, smooth_field, unit_field
from hybridfusion_core.scenes.photographs import photograph

Texture = Callable[[Draw, int], Tensor]


def fractal(draw: Draw, side: int) -> Tensor:
    """Noise whose amplitude falls as 1/f^β."""
    return unit_field(draw, side, draw.uniform(0.8, 2.0))


def nuclei(draw: Draw, side: int) -> Tensor:
    """Textured ellipses on an empty background."""
    y, x = grid(side)
    image = torch.zeros(side, side)
    chromatin = 0.6 + 0.4 * fractal(draw, side)
    spread = draw.log_uniform(3, 14)
    for _ in range(draw.integer(2, max(3, int(0.5 * (side / (2.5 * spread)) ** 2) + 2))):
        angle, ratio = draw.uniform(0, math.pi), draw.uniform(0.6, 1.0)
        radius, middle = spread * draw.uniform(0.7, 1.4), (draw.uniform(0, side), draw.uniform(0, side))
        rows, columns = (window(at, radius + 8, side) for at in middle)
        dy, dx = y[rows] - middle[0], x[:, columns] - middle[1]
        u = (dx * math.cos(angle) + dy * math.sin(angle)) / radius
        v = (dy * math.cos(angle) - dx * math.sin(angle)) / (radius * ratio)
        edge = draw.uniform(0.5, 1.5) / radius
        inside = torch.sigmoid((1 - torch.sqrt(u * u + v * v + 1e-9)) / edge)
        bright = inside * chromatin[rows, columns] * draw.uniform(0.3, 1.0)
        image[rows, columns] = torch.maximum(image[rows, columns], bright)
    return image + draw.uniform(0, 0.1)


def membranes(draw: Draw, side: int) -> Tensor:
    """Bright lines between the cells of a Voronoi mosaic, with some cytoplasm."""
    first, second = voronoi(draw, side, draw.log_uniform(8, 30))
    width = draw.uniform(0.7, 2.0)
    line = torch.exp(-0.5 * ((second - first) / (2 * width)) ** 2)
    return line * (0.6 + 0.4 * fractal(draw, side)) + draw.uniform(0, 0.3) * fractal(draw, side)


def dead_leaves(draw: Draw, side: int) -> Tensor:
    """Opaque discs of power-law size dropped upon each other: sharp edges at every scale (Lee et al. 2001)."""
    y, x = grid(side)
    image = torch.full((side, side), draw.uniform())
    count = 120
    radii = 2.0 / torch.sqrt(draw.uniforms(count) * (1 - (2.0 / (side / 3)) ** 2) + (2.0 / (side / 3)) ** 2)
    centres = (draw.uniforms(count, 2) * side).tolist()
    shades = draw.uniforms(count).tolist()
    square = draw.chance(0.3)
    grain = draw.uniform(0, 0.3) * (fractal(draw, side) - 0.5)
    for radius, centre, shade in zip(radii.tolist(), centres, shades, strict=True):
        rows, columns = (window(at, radius + 1, side) for at in centre)
        dy, dx = (y[rows] - centre[0]).abs(), (x[:, columns] - centre[1]).abs()
        distance = torch.maximum(dy, dx) if square else torch.sqrt(dy * dy + dx * dx)
        cover = (radius - distance + 0.5).clamp(0, 1)  # half a pixel of anti-aliasing
        image[rows, columns] = image[rows, columns] * (1 - cover) + shade * cover
    return (image + grain).clamp(min=0)


def filaments(draw: Draw, side: int) -> Tensor:
    """Level lines of smooth fields: thin curved fibres."""
    image = torch.zeros(side, side)
    for _ in range(draw.integer(2, 6)):
        image = torch.maximum(image, fibre(draw, side) * draw.uniform(0.3, 1))
    return image + draw.uniform(0, 0.1)


def fibre(draw: Draw, side: int) -> Tensor:
    """One set of curved fibres of one width."""
    field = smooth_field(draw, side, 2.2, draw.uniform(0.5, 1.0))
    slope = torch.sqrt(sum((part.square() for part in torch.gradient(field)), torch.zeros(()))) + 1e-4
    distance = (field - draw.uniform(-1, 1)).abs() / slope  # px from the level line
    return torch.exp(-0.5 * (distance / draw.uniform(0.6, 1.4)) ** 2)


def even(draw: Draw, side: int) -> Tensor:
    """Even light: a field without specimen."""
    return torch.full((side, side), draw.uniform(0.05, 1))


# Weighted by repetition: nuclei and hard edges matter most.
TEXTURES: tuple[Texture, ...] = (
    fractal,
    nuclei,
    nuclei,
    membranes,
    dead_leaves,
    dead_leaves,
    filaments,
    photograph,
    photograph,
    even,
)


def window(middle: float, reach: float, side: int) -> slice:
    """Pixels within reach of a place along one axis."""
    return slice(min(max(0, math.floor(middle - reach)), side - 1), max(1, min(side, math.ceil(middle + reach) + 1)))


def voronoi(draw: Draw, side: int, spacing: float) -> tuple[Tensor, Tensor]:
    """Distances y x to the nearest and second nearest of random points."""
    points = draw.uniforms(max(4, int((side / spacing) ** 2)), 2) * side
    y, x = grid(side)
    distance = torch.sqrt((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2)  # y x n
    nearest = distance.topk(2, dim=-1, largest=False).values
    return nearest[..., 0], nearest[..., 1]
