"""Fluorescent specimens as planes of emission (plane y x, ≥ 0): organoids, monolayers, nuclei, filaments, debris.

Lengths are pixels in all three directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, grid, smooth_field, unit_field
from hybridfusion_core.scenes.heights import flat, rolling
from hybridfusion_core.scenes.planes import Planes
from hybridfusion_core.scenes.textures import fibre, filaments, fractal, membranes, nuclei, window

Specimen = Callable[[Draw, int, Planes], Tensor]

_COARSE = 2  # px: distances to cells are computed on every second pixel
_CELLS = 110  # at most, in one field


def organoids(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Hollow epithelia with buds, or solid spheroids; one stain: nuclei, walls of the cells, or the inner rim."""
    outside = _outline(draw, side, planes)
    hollow = draw.chance(0.75)
    thickness = draw.uniform(7, 18)
    tissue = _Tissue.grown(draw, outside, planes, thickness if hollow else math.inf)
    stain = draw.choice((_nuclear, _nuclear, _membranous, _apical)) if hollow else draw.choice((_nuclear, _membranous))
    return stain(draw, tissue, planes)


def monolayer(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Cells on one gently rolling surface, perhaps somewhat thick."""
    texture = draw.choice((nuclei, nuclei, nuclei, membranes, membranes, membranes, filaments, fractal))(draw, side)
    texture = (texture - texture.min()) * (unit_field(draw, side, 2.5) > draw.uniform(-0.5, 0.5))
    return planes.splat(texture, draw.choice((flat, rolling))(draw, side, planes.slices))


def scattered_nuclei(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Nuclei at any depth, each with its own chromatin."""
    y, x = grid(side)
    z = planes.depths()[:, None, None]
    volume = torch.zeros(planes.count, side, side)
    grain = _grain(draw, side, planes)
    typical = draw.log_uniform(3, 18)
    flatness = draw.uniform(0.4, 1.0)
    for _ in range(draw.integer(1, max(2, min(28, int(0.3 * (side / typical) ** 2))))):
        radius, middle = typical * draw.uniform(0.7, 1.3), (draw.uniform(0, side), draw.uniform(0, side))
        rows, columns = (window(at, 1.3 * radius + 3, side) for at in middle)
        turn, ratio = draw.uniform(0, math.pi), draw.uniform(0.65, 1.0)
        dy, dx = y[rows] - middle[0], x[:, columns] - middle[1]
        u = (dx * math.cos(turn) + dy * math.sin(turn)) / radius
        v = (dy * math.cos(turn) - dx * math.sin(turn)) / (radius * ratio)
        half = max(flatness * radius, planes.apart)
        w = (z - draw.uniform(-0.7, planes.slices - 0.3) * planes.step) / half
        inside = torch.sigmoid((1 - torch.sqrt(u * u + v * v + w * w + 1e-6)) * radius / draw.uniform(0.5, 1.0))
        volume[:, rows, columns] += draw.uniform(0.3, 1.0) * inside * grain[:, rows, columns] * planes.apart / half
    return volume


def fibres(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Several sets of fibres, each rolling through the depth on its own."""
    volume = torch.zeros(planes.count, side, side)
    for _ in range(draw.integer(1, 3)):
        height = draw.choice((flat, rolling))(draw, side, planes.slices)
        volume += planes.splat(fibre(draw, side) * draw.uniform(0.3, 1.0), height)
    return volume


def debris(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Beads, vesicles and dead fragments: small bright spots at any depth."""
    volume = torch.zeros(planes.count, side, side)
    size = draw.log_uniform(0.6, 2.5)
    reach = torch.arange(-6, 7)
    for _ in range(draw.integer(2, 40)):
        y, x = draw.uniform(0, side), draw.uniform(0, side)
        rows, columns = (int(y) + reach) % side, (int(x) + reach) % side
        form = torch.exp(-0.5 * ((int(y) + reach - y) ** 2 / size**2))[:, None]
        form = form * torch.exp(-0.5 * ((int(x) + reach - x) ** 2 / size**2))
        at = draw.uniform(0, planes.count - 1.001)
        below, bright = int(at), draw.log_uniform(0.2, 1.0)
        volume[below, rows[:, None], columns] += bright * (1 - at + below) * form
        volume[below + 1, rows[:, None], columns] += bright * (at - below) * form
    return volume


def nothing(draw: Draw, side: int, planes: Planes) -> Tensor:  # noqa: ARG001
    """An empty field."""
    return torch.zeros(planes.count, side, side)


# An epithelium and its cells


def _outline(draw: Draw, side: int, planes: Planes) -> Tensor:
    """About the distance to the outer surface of one to three bodies with buds, negative inside. plane y x, coarse."""
    line = torch.arange(0, side, _COARSE, dtype=torch.float32)
    y, x, z = line[:, None], line[None, :], planes.depths()[:, None, None]
    depth = (planes.slices - 1) * planes.step
    closeness = torch.zeros(planes.count, len(line), len(line))
    sharpness = draw.uniform(0.25, 0.6)  # of the neck between a body and its bud, 1/px
    for _ in range(draw.integer(1, 2)):
        radius = draw.log_uniform(16, 0.55 * side)
        middle = torch.tensor(
            [draw.uniform(0.1, 0.9) * side, draw.uniform(0.1, 0.9) * side, draw.uniform(-0.3, 1.3) * depth]
        )
        tallness = draw.uniform(0.5, 1.0)
        spheres = [(middle, radius)]
        for _ in range(draw.choice((0, 0, 1, 2, 3, 4))):
            out = torch.nn.functional.normalize(draw.normal(3), dim=0)
            bud = radius * draw.uniform(0.25, 0.5)
            spheres.append((middle + out * (radius + draw.uniform(0.0, 0.8) * bud), bud))
        for at, reach in spheres:
            across, along = (draw.uniform(0.8, 1.2) * reach for _ in range(2))
            square = ((y - at[0]) / across) ** 2 + ((x - at[1]) / along) ** 2 + ((z - at[2]) / (tallness * reach)) ** 2
            closeness += torch.exp((sharpness * reach * (1 - torch.sqrt(square + 1e-6))).clamp(max=60))
    dents = draw.uniform(0, 2) * smooth_field(draw, len(line), 2.0, 1.0)
    return -torch.log(closeness.clamp(min=1e-20)) / sharpness + dents


@dataclass(frozen=True)
class _Tissue:
    """Cells of a layer, plane y x each on the pixels' grid.

    Attributes:
        depth: distance above the middle of the layer, positive outside.
        half: half of the layer's thickness; infinite for solid tissue, whose depth is that of its surface.
        first: distance to the nearest cell's centre.
        second: to the next one's.
        stain: how much dye that cell took up.
        spacing: between the cells' centres.
    """

    depth: Tensor
    half: float
    first: Tensor
    second: Tensor
    stain: Tensor
    spacing: float

    @classmethod
    def grown(cls, draw: Draw, outside: Tensor, planes: Planes, thickness: float) -> _Tissue:
        half = thickness / 2
        depth = outside if math.isinf(half) else outside + half
        inside = (depth.abs() < half + 3) if math.isfinite(half) else depth < 3
        spacing = draw.uniform(7, 16) if math.isinf(half) else draw.uniform(0.6, 1.1) * thickness
        where = torch.nonzero(inside)  # n (plane, y, x), coarse
        place = where * torch.tensor([planes.apart, _COARSE, _COARSE])
        centres = _centres(draw, place, depth[inside], planes, spacing, half)
        first, second, stain = torch.full((3, *depth.shape), 99.0)
        if len(centres):
            distance = torch.cdist(place, centres)
            nearest, which = distance.min(dim=1)
            first[inside] = nearest
            second[inside] = distance.scatter(1, which[:, None], torch.inf).amin(dim=1).clamp(max=99)
            stain[inside] = (0.35 + 0.65 * draw.uniforms(len(centres)))[which]
        fine = [
            torch.nn.functional.interpolate(part[None], scale_factor=_COARSE, mode="bilinear")[0]
            for part in (depth, first, second)
        ]
        stain = torch.nn.functional.interpolate(stain[None], scale_factor=_COARSE, mode="nearest")[0]
        return cls(fine[0], half, fine[1], fine[2], stain.clamp(max=1), spacing)

    def share(self) -> Tensor:
        """1 in the tissue, 0 outside."""
        if math.isinf(self.half):
            return torch.sigmoid(-self.depth / 0.7)
        return torch.sigmoid((self.half - self.depth.abs()) / 0.7)


def _centres(draw: Draw, place: Tensor, depth: Tensor, planes: Planes, spacing: float, half: float) -> Tensor:
    """Choose cells' centres among places n 3, none nearer to another than half the spacing."""
    if math.isinf(half):
        candidates, volume = place[depth < -spacing / 3], spacing**3
    else:
        candidates, volume = place[depth.abs() < max(1.5, 0.2 * half)], 0.0
    if not len(candidates):
        return candidates
    voxel = planes.apart * _COARSE**2
    layer = 2 * max(1.5, 0.2 * half)
    wanted = len(candidates) * voxel / (volume or spacing**2 * layer)
    count = int(min(_CELLS, max(2, 1.6 * wanted)))
    chosen = candidates[torch.randint(len(candidates), (4 * count,), generator=draw.generator)]
    near = torch.cdist(chosen, chosen) < 0.75 * spacing
    taken: list[int] = []
    blocked = torch.zeros(len(chosen), dtype=torch.bool)
    for index in range(len(chosen)):  # dart throwing: even spacing, as cells have it
        if not blocked[index]:
            taken.append(index)
            blocked |= near[index]
        if len(taken) == count:
            break
    return chosen[taken]


def _nuclear(draw: Draw, tissue: _Tissue, planes: Planes) -> Tensor:
    """Nuclei with chromatin, and a trace of cytoplasm."""
    radius = draw.uniform(0.34, 0.46) * tissue.spacing
    body = torch.sigmoid((radius - tissue.first) / 0.6)
    return tissue.share() * (body * tissue.stain * _grain(draw, body.shape[-1], planes) + draw.uniform(0, 0.06))


def _membranous(draw: Draw, tissue: _Tissue, planes: Planes) -> Tensor:  # noqa: ARG001
    """Walls between the cells and both faces of the layer."""
    wall = torch.exp(-0.5 * ((tissue.second - tissue.first) / draw.uniform(1.4, 2.4)) ** 2)
    inner, outer = _faces(tissue, draw.uniform(0.6, 1.2))
    return tissue.share() * (wall + draw.uniform(0, 0.8) * inner + draw.uniform(0, 0.5) * outer + draw.uniform(0, 0.1))


def _apical(draw: Draw, tissue: _Tissue, planes: Planes) -> Tensor:  # noqa: ARG001
    """Actin along the lumen, weaker between the cells."""
    wall = torch.exp(-0.5 * ((tissue.second - tissue.first) / 1.6) ** 2)
    inner, outer = _faces(tissue, draw.uniform(0.8, 1.6))
    return tissue.share() * (inner * (0.5 + 0.8 * wall) + draw.uniform(0.1, 0.4) * wall + 0.1 * outer)


def _faces(tissue: _Tissue, width: float) -> tuple[Tensor, Tensor]:
    """Light at the inner and at the outer face of the layer."""
    if math.isinf(tissue.half):
        outer = torch.exp(-0.5 * ((tissue.depth + 1) / width) ** 2)
        return torch.zeros_like(outer), outer
    inner = torch.exp(-0.5 * ((tissue.depth + tissue.half - 1) / width) ** 2)
    return inner, torch.exp(-0.5 * ((tissue.depth - tissue.half + 1) / width) ** 2)


def _grain(draw: Draw, side: int, planes: Planes) -> Tensor:
    """Chromatin: a field in [0.2, 1] that changes over a few pixels in all three directions. plane y x."""
    fields = torch.stack([smooth_field(draw, side, 1.3, 1.0) for _ in range(2)])
    turn = planes.depths()[:, None, None] * draw.uniform(0.2, 0.6)
    mixed = torch.cos(turn) * fields[0] + torch.sin(turn) * fields[1]
    return (0.65 + draw.uniform(0.1, 0.25) * mixed).clamp(0.2, 1)


SPECIMENS: tuple[Specimen, ...] = (organoids, organoids, organoids, monolayer, monolayer, scattered_nuclei, fibres)
