"""The specimen of the organoid sample: hollow epithelia, the walls between their cells, and their nuclei.

Lengths are µm, vectors (y, x, z) with +z towards the objective. An epithelium is star-shaped: a radius for
every direction from its centre, charted on a map of the sphere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, smooth_field

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Epithelium:
    """One epithelium, star-shaped around its centre. Lengths in µm, vectors (y, x, z), +z towards the objective.

    Attributes:
        centre: where the directions start.
        chart: 6 v u over Lambert's equal-area projection of all directions, front pole in the middle: radius of
            the middle of the epithelium, its normal (y, x, z), and of the cell there the distance to the nearest
            wall and how much membrane dye it took up.
        width, height: half of the box that holds it, in the plane and along z.
        thickness: of the epithelium.
        nuclei: of its cells.
    """

    centre: Vector
    chart: Tensor
    thickness: float
    width: float
    height: float
    nuclei: tuple[Nucleus, ...]


@dataclass(frozen=True)
class Nucleus:
    """A textured ellipsoid: centre, long axis and a second one (unit vectors), half axes, light and grain.

    `spots` is n 5: centre relative to the nucleus (y, x, z), size, and light (chromocentres > 0, nucleoli < 0).
    """

    centre: Vector
    long: Vector
    wide: Vector
    half: Vector
    light: float
    spots: Tensor
    grain: Tensor

    @property
    def reach(self) -> float:
        """Radius of the sphere that holds it."""
        return 1.25 * max(self.half)


def draw_epithelia(draw: Draw, field: float, depth: float) -> list[Epithelium]:
    """One organoid with buds, two cysts and two small spheroids, turned by chance."""
    # Place in parts of the field, reach in parts of it, centre and half height in parts of the depth, buds.
    plan = (
        (0.44, 0.43, 0.41, 0.08, 0.78, 4),
        (0.77, 0.75, 0.15, 0.00, 0.55, 0),
        (0.20, 0.81, 0.10, 0.22, 0.44, 0),
        (0.85, 0.21, 0.08, 0.10, 0.30, 0),
        (0.92, 0.49, 0.05, 0.42, 0.28, 0),
    )
    turns, mirrored = draw.integer(0, 3), draw.integer(0, 1)
    grain = smooth_field(draw, 512, 1.1, 1.0)
    bodies = []
    for down, right, reach, middle, half, buds in plan:
        y, x = down - 0.5 + draw.uniform(-0.02, 0.02), right - 0.5 + draw.uniform(-0.02, 0.02)
        x = -x if mirrored else x
        for _ in range(turns):
            y, x = x, -y
        centre = ((y + 0.5) * field, (x + 0.5) * field, middle * depth)
        bodies.append(_body(draw, centre, reach * field, half * depth, buds, grain))
    return bodies


def _body(draw: Draw, centre: Vector, reach: float, half: float, buds: int, grain: Tensor) -> Epithelium:
    shape = _Shape.drawn(draw, reach, half, buds)
    radius = float(shape.axes[1])
    thickness = min(11.0, 0.4 * min(radius, half))
    area = 4 * math.pi * ((2 * (radius * half) ** 1.6 + radius**3.2) / 3) ** (1 / 1.6)  # Thomsen's formula
    cells = _cells(draw, shape, max(12, int(area / 72)))  # µm² a cell
    chart, extent = _chart(draw, shape, cells, side=max(64, int(4 * radius / 0.45)))
    outwards = _unit(shape.steepness(_unit(cells)))
    nuclei = [_nucleus(draw, cell, out, thickness, grain) for cell, out in zip(cells, outwards, strict=True)]
    for _ in range(len(cells) // 50):  # what dead cells leave in the lumen
        place = cells[draw.integer(0, len(cells) - 1)] * draw.uniform(0.2, 0.8)
        nuclei.append(_fragment(draw, place, grain))
    width, height = float(extent[:2].max()) + thickness, float(extent[2]) + thickness
    return Epithelium(centre, chart, thickness, width, height, tuple(nuclei))


@dataclass(frozen=True)
class _Shape:
    """Radius by direction: a flattened ellipsoid with buds and dents."""

    axes: Tensor  # 3: half axes along y, x, z in µm
    buds: Tensor  # n 5: direction, strength (dents < 0), sharpness

    @classmethod
    def drawn(cls, draw: Draw, reach: float, half: float, buds: int) -> _Shape:
        """Draw buds around the rim and shallow dents everywhere, all within reach (µm)."""
        rows = []
        turn = draw.uniform(0, math.tau)
        for _ in range(buds):
            turn += math.tau / buds * draw.uniform(0.6, 1.4)
            rise, strength = draw.uniform(-0.2, 0.3), draw.uniform(0.3, 1.0)
            rows.append([math.sin(turn), math.cos(turn), rise, strength, draw.log_uniform(7, 28)])
        for _ in range(7):
            rows.append([*draw.normal(3).tolist(), draw.uniform(-0.14, 0.1), draw.uniform(2.0, 7.0)])
        table = torch.tensor(rows)
        table[:, :3] /= table[:, :3].norm(dim=1, keepdim=True)
        radius = reach / (1.1 + float(table[:, 3].max()))
        return cls(torch.tensor([radius * draw.uniform(0.85, 1.1), radius, half]), table)

    def radius(self, direction: Tensor) -> Tensor:
        """Radius in µm. Unit vectors n 3 -> n."""
        swelling = 1 + self._swellings(direction).sum(dim=1)
        radius: Tensor = swelling / (direction / self.axes).norm(dim=1)
        return radius

    def steepness(self, direction: Tensor) -> Tensor:
        """Outward normal, 1 long where it points away from the centre and longer on slopes. n 3 -> n 3."""
        swellings = self._swellings(direction)
        # Logarithmic derivative of the radius, of which only the part along the sphere counts.
        slope = (swellings * self.buds[:, 4]) @ self.buds[:, :3] / (1 + swellings.sum(dim=1, keepdim=True))
        slope = slope - direction / self.axes**2 / (direction / self.axes).square().sum(dim=1, keepdim=True)
        return direction - (slope - (slope * direction).sum(dim=1, keepdim=True) * direction)

    def _swellings(self, direction: Tensor) -> Tensor:
        """What each bud adds. n 3 -> n buds."""
        near = direction @ self.buds[:, :3].T
        return self.buds[:, 3] * torch.exp(self.buds[:, 4] * (near - 1))


def _cells(draw: Draw, shape: _Shape, count: int) -> Tensor:
    """Spread cells evenly over the surface by Lloyd's iteration on random points of it. -> n 3, µm."""
    direction = _unit(draw.normal(60 * count, 3))
    radius = shape.radius(direction)
    area = radius.square() * shape.steepness(direction).norm(dim=1)  # per solid angle
    points = (direction * radius[:, None])[draw.uniforms(len(area)) < area / area.max()].numpy()
    centres = points[:count]
    for _ in range(3):
        owner = KDTree(centres).query(points)[1]
        number = np.bincount(owner, minlength=len(centres))[:, None].clip(1)
        centres = np.stack([np.bincount(owner, points[:, axis], len(centres)) for axis in range(3)], axis=1) / number
    return torch.from_numpy(np.asarray(centres, dtype=np.float32))


def _chart(draw: Draw, shape: _Shape, cells: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Chart of a body, and how far its surface reaches along y, x and z."""
    line = torch.linspace(-2, 2, side)
    v, u = torch.meshgrid(line, line, indexing="ij")
    square = (v * v + u * u).clamp(max=4)
    stretch = torch.sqrt(1 - square / 4)
    direction = _unit(torch.stack([v * stretch, u * stretch, 1 - square / 2], dim=-1).reshape(-1, 3))
    radius = shape.radius(direction)[:, None]
    points = direction * radius
    distance, index = KDTree(cells.numpy()).query(points.numpy(), k=2)
    apart = (cells[index[:, 0]] - cells[index[:, 1]]).norm(dim=1)
    wall = torch.from_numpy(distance[:, 1] ** 2 - distance[:, 0] ** 2).float() / (2 * apart)  # to the bisecting plane
    dye = torch.exp(0.25 * draw.normal(len(cells)))[index[:, 0]]
    chart = torch.cat([radius, _unit(shape.steepness(direction)), wall[:, None], dye[:, None]], dim=1)
    return chart.T.reshape(6, side, side).contiguous(), points.abs().amax(dim=0)


def _fragment(draw: Draw, place: Tensor, grain: Tensor) -> Nucleus:
    """A condensed ball."""
    size = draw.uniform(0.7, 1.8)
    return Nucleus(
        _vector(place),
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (size, size, size),
        draw.uniform(0.6, 2.0),
        torch.empty(0, 5),
        grain,
    )


def _nucleus(draw: Draw, cell: Tensor, out: Tensor, thickness: float, grain: Tensor) -> Nucleus:
    """The nucleus of the cell at a place whose outward normal is given."""
    aside = _unit(torch.linalg.cross(out, draw.normal(3)))
    dividing = draw.uniform() < 0.03
    if dividing:  # a condensed plate at the lumen
        half, light, shift = (1.3, 4.2, 3.0), 2.2, -0.25
    else:
        half = (min(4.3, 0.38 * thickness) * draw.uniform(0.85, 1.1), draw.uniform(3.0, 3.9), draw.uniform(2.6, 3.3))
        light, shift = math.exp(draw.uniform(-0.35, 0.35)), draw.uniform(-0.06, 0.14)
    count = 0 if dividing else draw.integer(3, 7)
    spots = torch.cat(
        [
            draw.normal(count, 3) * 1.3,
            0.4 + 0.5 * draw.uniforms(count, 1),
            torch.where(draw.uniforms(count, 1) < 0.7, 0.9, -0.6),
        ],
        dim=1,
    )
    top, left = draw.integer(0, 400), draw.integer(0, 400)
    return Nucleus(
        _vector(cell + shift * thickness * out), _vector(out), _vector(aside), half, light, spots, grain[top:, left:]
    )


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length one. … 3 -> … 3."""
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return unit


def _vector(numbers: Tensor) -> Vector:
    y, x, z = numbers.tolist()
    return y, x, z
