"""A volume as planes of light: at which depths they lie, and what a microscope makes of them.

Planes lie at equal distances, several to a slice where slices are few; some lie beyond the first and the last slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import filtered, gaussian_transfer

_BEYOND = 4  # planes before the first slice and after the last


@dataclass(frozen=True)
class Planes:
    """Where planes lie.

    Attributes:
        slices: Z.
        step: between two slices, in pixels.
        each: planes to a slice.
        beyond: planes before the first slice, and after the last.
    """

    slices: int
    step: float
    each: int
    beyond: int = _BEYOND

    @property
    def count(self) -> int:
        """How many planes there are."""
        return (self.slices - 1) * self.each + 1 + 2 * self.beyond

    @property
    def apart(self) -> float:
        """Pixels between two planes."""
        return self.step / self.each

    def depths(self) -> Tensor:
        """Z position of each plane in pixels, 0 at the first slice."""
        return (torch.arange(self.count, dtype=torch.float32) - self.beyond) * self.apart

    def position(self, height: Tensor | float) -> Tensor:
        """Plane number, with fraction, of a height in slices."""
        return torch.as_tensor(height) * self.each + self.beyond

    def height(self, position: Tensor) -> Tensor:
        """Height in slices of a plane number."""
        return (position - self.beyond) / self.each

    def offsets(self) -> Tensor:
        """Distances in pixels from a plane to a slice that occur, slice minus plane, ascending."""
        furthest = self.count - 1 - self.beyond
        return torch.arange(-furthest, furthest + 1, dtype=torch.float32) * self.apart

    def imaged(self, planes: Tensor, transfer: Tensor) -> Tensor:
        """Sum what each slice sees of all planes.

        Args:
            planes: plane fy fx, spectra.
            transfer: offset fy fx, for `offsets`.

        Returns:
            Z fy fx, spectra.
        """
        furthest = self.count - 1 - self.beyond
        seen = []
        for index in range(self.slices):
            first = (
                furthest + index * self.each + self.beyond
            )  # offset of this slice from plane 0, downwards from there
            own = transfer[first - self.count + 1 : first + 1].flip(0)
            seen.append((own * planes).sum(dim=0))
        return torch.stack(seen)

    def splat(self, texture: Tensor, height: Tensor) -> Tensor:
        """Put a thin surface into the planes between which it lies. y x and y x in slices -> plane y x."""
        position = self.position(height).clamp(0, self.count - 1)
        number = torch.arange(self.count, dtype=torch.float32)[:, None, None]
        return texture * (1 - (number - position).abs()).clamp(min=0)


def plan_planes(slices: int, step: float) -> Planes:
    """Choose how many planes stand for one slice: four for a pair, one for a long series."""
    return Planes(slices, step, max(1, min(4, round(14 / slices))))


def in_focus(planes: Planes, light: Tensor, depth_of_field: float) -> tuple[Tensor, Tensor, Tensor]:
    """Find which plane's light stands out at each pixel.

    Args:
        planes: where they lie.
        light: plane y x, what each plane gives when in focus.
        depth_of_field: in pixels; light within it counts together.

    Returns:
        Height y x in slices of the brightest layer; the light y x in focus there; and y x, bool, where another
        layer more than 1.5 slices and a depth of field away is at least half as bright.
    """
    side = light.shape[-1]
    number = torch.arange(planes.count, dtype=torch.float32)
    away = (number[:, None] - number) * planes.apart
    sigma = 0.5 * max(planes.step * 0.75, depth_of_field)
    together = torch.exp(-0.5 * (away / sigma) ** 2)
    near = torch.einsum("pq,qyx->pyx", together, light)
    # What stands in focus is smoothed a little; where nothing is, far neighbours' heights go on.
    spectrum = torch.fft.rfft2(near)
    smooth = gaussian_transfer(side, 1.8) + 0.002 * gaussian_transfer(side, 10.0)
    score = torch.fft.irfft2(spectrum * smooth, s=(side, side))
    score = score + 1e-3 * near.mean(dim=(1, 2), keepdim=True)  # and far from everything, the field's own
    best, index = score.max(dim=0)
    beside = (number[:, None, None] - index).abs() * planes.apart
    # A parabola through the logarithms is exact for a thin layer, which the sum above made a Gaussian.
    inner = index.clamp(1, planes.count - 2)
    before, middle, after = (score.gather(0, (inner + by)[None])[0].clamp(min=1e-12).log() for by in (-1, 0, 1))
    bend = (2 * middle - before - after).clamp(min=1e-6)
    position = index + ((after - before) / (2 * bend)).clamp(-0.5, 0.5) * (index == inner)
    second = (score * (beside > 1.5 * planes.step + depth_of_field)).amax(dim=0)
    own = near.gather(0, index[None])[0]
    overlap = (second > 0.5 * best) & (best > 0.1 * best.max())
    return planes.height(position), own, overlap


def spread_sideways(plane: Tensor, sigma: float) -> Tensor:
    """Blur … y x by a Gaussian in pixels."""
    return filtered(plane, gaussian_transfer(plane.shape[-1], sigma))
