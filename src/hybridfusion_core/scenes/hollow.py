"""A hollow organoid: an upper and a lower epithelium over each other, whose light adds up, and the truth of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes.draw import Draw, gaussian_transfer, smooth_field, unit_field
from hybridfusion_core.scenes.planes import Planes
from hybridfusion_core.scenes.textures import voronoi

_BLUR = 1.1  # px of standard deviation for each slice out of focus
_SHARP = 0.7  # px in focus


@dataclass(frozen=True)
class HollowScene:
    """A stack of a hollow organoid, and what is true about it.

    Attributes:
        counts: Z Y X, float32, about 0 … 1.
        upper: Y X, height in slices of the side at high slice numbers.
        lower: Y X, of the other side.
        sharp_upper: Y X, what the upper side alone shows in focus.
        sharp_lower: Y X, likewise.
        inside: Y X, bool, where both are in focus in the stack, and four slices apart: nearer ones blur into one.
        cells: Y X, int64, number of the cell of the upper side.
    """

    counts: Tensor
    upper: Tensor
    lower: Tensor
    sharp_upper: Tensor
    sharp_lower: Tensor
    inside: Tensor
    cells: Tensor


def hollow_scene(size: int, slices: int, generator: Generator, photons: float = 500.0) -> HollowScene:
    """Draw a hollow organoid that fills the field.

    Args:
        size: Y and X in pixels.
        slices: Z.
        generator: source of all randomness.
        photons: at full scale.
    """
    draw = Draw(generator)
    planes = Planes(slices, 4.0, 2)
    line = torch.linspace(-1, 1, size)
    radius = (line[:, None] - draw.uniform(-0.1, 0.1)) ** 2 + (line - draw.uniform(-0.1, 0.1)) ** 2
    rise = (1 - radius / draw.uniform(0.9, 1.6)).clamp(min=0).sqrt()
    bump = 0.08 * smooth_field(draw, size, 3.0, 1.0)
    half = (slices - 1) / 2
    upper = half * (1 + draw.uniform(0.75, 0.95) * rise * (1 + bump))
    lower = half * (1 - draw.uniform(0.75, 0.95) * rise * (1 - bump))
    textures, cells = zip(*(_epithelium(draw, size) for _ in range(2)), strict=True)
    shown = (rise > 0.05).float()
    light = sum(planes.splat(texture * shown, height) for texture, height in zip(textures, (upper, lower), strict=True))
    away = planes.offsets().abs() / planes.step
    transfer = torch.stack([gaussian_transfer(size, _SHARP + _BLUR * float(each)) for each in away])
    image = torch.fft.irfft2(planes.imaged(torch.fft.rfft2(torch.as_tensor(light)), transfer), s=(size, size))
    image = image.clamp(min=0) + 0.03
    counts = torch.poisson(image * photons, generator=generator) / photons
    counts = counts + 0.004 * draw.normal(*counts.shape)
    sharp = [
        torch.fft.irfft2(torch.fft.rfft2(texture * shown) * gaussian_transfer(size, _SHARP), s=(size, size))
        for texture in textures
    ]
    inside = (upper - lower > 4) & (upper < slices - 1) & (lower > 0)
    return HollowScene(counts.float(), upper, lower, sharp[0], sharp[1], inside, cells[0])


def _epithelium(draw: Draw, side: int) -> tuple[Tensor, Tensor]:
    """Cell walls, granular cytoplasm and bright spots, y x; and the number of each cell."""
    first, second = voronoi(draw, side // 2, draw.uniform(7, 11))
    beside = torch.nn.functional.interpolate((second - first)[None, None], size=(side, side), mode="bilinear")[0, 0]
    wall = torch.exp(-0.5 * (beside / 1.0) ** 2)
    grain = (0.5 * smooth_field(draw, side, 0.8, 1.0)).clamp(min=0)
    texture = 0.7 * wall + 0.35 * grain + 0.1 * unit_field(draw, side, 1.5)
    return texture * draw.uniform(0.7, 1.0), _numbered(beside > 1.0)


def _numbered(open_: Tensor) -> Tensor:
    from skimage.measure import label  # noqa: PLC0415

    return torch.from_numpy(label(open_.numpy(), connectivity=1).astype("int64"))
