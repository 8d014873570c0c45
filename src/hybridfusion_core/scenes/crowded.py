"""Crowded tissue of low contrast: packed nuclear envelopes and nuclei, cell walls, chromosomes, granules, mitochondria.

What the isolated kind teaches, that a thing's glow is not in focus, must not teach that nothing is. Lengths are pixels
in all three directions; emission is plane y x, ≥ 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, smooth_field, unit_field
from hybridfusion_core.scenes.heights import flat, rolling
from hybridfusion_core.scenes.isolated import body
from hybridfusion_core.scenes.planes import Planes
from hybridfusion_core.scenes.textures import fibre, voronoi


def crowded(draw: Draw, side: int, planes: Planes) -> Tensor:
    """One sort of tissue, through the stack or a part of it."""
    return draw.choice(_TISSUES)(draw, side, planes)


def packed(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Round cells in a rolling sheet, or in two: their envelopes, or their filled nuclei."""
    spacing = draw.log_uniform(14, 48)
    points = _packing(draw, side, spacing)
    radius = spacing * draw.uniform(0.32, 0.48)
    sheet = _sheet(draw, side, planes)
    middle = sheet[points[:, 0].long() % side, points[:, 1].long() % side] * planes.step
    middle = middle + draw.uniform(0, 0.4) * radius * draw.normal(len(points))
    stain = 0.5 + 0.5 * draw.uniforms(len(points))
    shell = draw.chance(0.65)
    thick = draw.uniform(0.7, 2.0)
    flatness = draw.uniform(0.5, 1.2)
    volume = torch.zeros(planes.count, side, side)
    fill = 0.0 if draw.chance(0.5) else draw.uniform(0, 0.3)
    grain = (0.7 + 0.2 * smooth_field(draw, side, 1.2, 1.0)).clamp(0.1, 1.5)
    line = torch.arange(math.ceil(radius * 1.2) + 4, dtype=torch.float32)
    across = torch.cat([-line.flip(0)[:-1], line])
    depths = planes.depths()
    for (y, x), z, bright in zip(points.tolist(), middle.tolist(), stain.tolist(), strict=True):
        half = max(flatness * radius, 1.2 * planes.apart)  # its equator is not missed between planes
        near = torch.nonzero((depths - z).abs() < half + 2 * thick + planes.apart)[:, 0]
        if not len(near):
            continue
        own = radius * draw.uniform(0.85, 1.1)
        rows, columns = (round(y) + across).long() % side, (round(x) + across).long() % side
        square = (across[:, None] + round(y) - y) ** 2 + (across + round(x) - x) ** 2
        dz = (depths[near] - z)[:, None, None] * (own / half)
        outside = torch.sqrt(square + dz**2 + 1e-6) - own
        if shell:
            form = torch.exp(-0.5 * (outside / thick) ** 2) + fill * torch.sigmoid(-outside / 0.7)
        else:
            form = torch.sigmoid(-outside / 0.6)
        volume[near[:, None, None], rows[:, None], columns] += bright * form
    return volume * grain


def walls(draw: Draw, side: int, planes: Planes) -> Tensor:
    """An epithelium's cell walls, as tall as some slices."""
    first, second = voronoi(draw, side // 2, draw.log_uniform(4.5, 17))
    beside = torch.nn.functional.interpolate((second - first)[None, None], size=(side, side), mode="bilinear")[0, 0]
    texture = torch.exp(-0.5 * (beside / draw.uniform(0.7, 1.8)) ** 2)
    texture = texture * (0.6 + 0.4 * unit_field(draw, side, 1.2)) + draw.uniform(0, 0.15)
    return _tall(draw, texture, side, planes)


def chromosomes(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Thick curved bodies, few of them, here and there."""
    volume = torch.zeros(planes.count, side, side)
    width = draw.uniform(1.5, 5)
    for _ in range(draw.integer(1, 3)):
        field = smooth_field(draw, side, draw.uniform(2.2, 2.8), 1.0)
        slope = torch.stack(torch.gradient(field)).square().sum(dim=0).sqrt() + 2e-3
        line = torch.exp(-0.5 * ((field - draw.uniform(-0.8, 0.8)).abs() / slope / width) ** 2)
        here = (4 * (unit_field(draw, side, 2.5) - draw.uniform(0.3, 0.55))).clamp(0, 1)
        volume += draw.uniform(0.4, 1) * planes.splat(line * here, _sheet(draw, side, planes))
    return volume * (0.7 + 0.2 * smooth_field(draw, side, 1.4, 1.0)).clamp(0.1, 1.5)


def granules(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Clusters of many small bodies, as a Golgi or vesicles are."""
    volume = torch.zeros(planes.count, side, side)
    size = draw.log_uniform(0.8, 3.5)
    for _ in range(draw.integer(1, 5)):
        middle = draw.uniforms(2) * side
        spread, height = draw.uniform(5, 30), draw.uniform(-0.5, planes.slices - 0.5) * planes.step
        bright = math.exp(-draw.uniform(0, 2))
        for _ in range(draw.integer(5, 24)):
            y, x = (middle + spread * draw.normal(2)).tolist()
            z = height + 0.4 * spread * draw.uniform(0, 1) * float(draw.normal(1))
            body(draw, volume, planes, [y, x, z], size * draw.uniform(0.7, 1.4), bright * draw.uniform(0.2, 1), None)
    return volume


def mitochondria(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Short bent threads within a cell or two, over their own out-of-focus light."""
    volume = torch.zeros(planes.count, side, side)
    cell = (5 * (unit_field(draw, side, 2.6) - draw.uniform(0.3, 0.6))).clamp(0, 1)
    for _ in range(draw.integer(2, 4)):
        threads = fibre(draw, side) * (4 * (unit_field(draw, side, 1.6) - 0.5)).clamp(0, 1)
        volume += draw.uniform(0.3, 1) * planes.splat(threads * cell, _sheet(draw, side, planes))
    return volume


def _sheet(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Height y x in slices; some of it may lie beyond the stack."""
    height = draw.choice((flat, rolling, rolling))(draw, side, planes.slices)
    return height * draw.uniform(0.8, 1.3) - draw.uniform(0, 0.3) * (planes.slices - 1) * draw.choice((0, 1))


def _packing(draw: Draw, side: int, spacing: float) -> Tensor:
    """Places n 2 on a jittered hexagonal lattice."""
    rows, columns = max(2, round(side / (0.87 * spacing))), max(2, round(side / spacing))
    y = (torch.arange(rows)[:, None] + 0.5).expand(rows, columns) * (side / rows)
    x = (torch.arange(columns)[None] + 0.5 * (torch.arange(rows) % 2)[:, None]) * (side / columns)
    place = torch.stack([y, x.expand(rows, columns)], dim=-1).reshape(-1, 2)
    kept = draw.uniforms(len(place)) < draw.uniform(0.6, 1.0)
    return (place + 0.14 * spacing * draw.normal(*place.shape))[kept] % side


def _tall(draw: Draw, texture: Tensor, side: int, planes: Planes) -> Tensor:
    """Put a texture y x into a layer as thick as some planes around a sheet."""
    height = planes.position(_sheet(draw, side, planes))
    half = draw.uniform(0.6, 1 + 0.25 * planes.slices) * planes.each
    number = torch.arange(planes.count, dtype=torch.float32)[:, None, None]
    return texture * (half + 0.5 - (number - height).abs()).clamp(0, 1)


_TISSUES: tuple[Callable[[Draw, int, Planes], Tensor], ...] = (
    packed,
    packed,
    packed,
    walls,
    walls,
    chromosomes,
    granules,
    mitochondria,
)
