"""What of the light in a stack comes from something that is in focus, and from which slice: for light that adds up.

A plane of emission is *near* a slice within half a step of it, or within half the depth of field where slices are
closer than that. At a pixel, a slice shows the near planes' own light, where they emit it, and the out-of-focus light
of all the others. In focus is what has the larger part in the light or in the local contrast, in some slice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybridfusion_core.scenes.contrast import (
    gaussian_mean,
    local_contrast,
    neighbourhood_maximum,
    neighbourhood_mean,
)
from hybridfusion_core.scenes.draw import gaussian_transfer
from hybridfusion_core.scenes.planes import Planes

_INSIDE = 0.1, 0.35  # of the brightest near light within reach: below the one a rim, above the other the thing itself
_WINDOW = 15  # px across which the contrast that is left is compared with what could be
_SHARP = 0.6  # of it that is sharp
_EVEN, _UNTOLD = 0.03, 0.35  # relative contrast below which light is even, and the share it is given at most
_CRISP = 4  # power of the glow by which slices share what lies between two structures
_NEIGHBOURS = 9  # px across which that is looked for


@dataclass(frozen=True)
class Focus:
    """What is in focus, and what surrounds it.

    Attributes:
        share: y x in [0, 1], part of the light or of the local contrast that comes from what is in focus.
        height: y x in slices, not clipped, of what is in focus; beside it, of what glows most there.
        bright: y x, light or local contrast of what is in focus, in units of the image.
        glow: Z y x, the light that what is in focus in a slice sends there at most, over all slices.
        lost: y x, the same of what is in focus in no slice.
        overlap: y x, bool, something else is in focus in another slice, about as bright.
    """

    share: Tensor
    height: Tensor
    bright: Tensor
    glow: Tensor
    lost: Tensor
    overlap: Tensor

    def scaled(self, gain: float | Tensor) -> Focus:
        """Multiply all light by a gain (a number, or y x)."""
        return replace(self, bright=self.bright * gain, glow=self.glow * gain, lost=self.lost * gain)

    def choice(self, least: Tensor | float) -> Tensor:
        """Which slices make the picture where nothing is in focus. Z y x, sums to one over Z.

        Beside a structure, as far as its light reaches, its own slice; beyond, and in the light of what is in focus
        nowhere, all slices alike.

        Args:
            least: light that no longer matters, y x or a number > 0.
        """
        power = (self.glow / self.glow.amax(dim=0).clamp(min=1e-12)).pow(_CRISP)
        reached = self.glow.amax(dim=0) / (self.glow.amax(dim=0) + self.lost + least)
        return reached * power / power.sum(dim=0).clamp(min=1e-12) + (1 - reached) / len(self.glow)


def near_weights(planes: Planes, depth_of_field: float) -> Tensor:
    """How far each plane is in focus in each slice. Z plane in [0, 1]."""
    reach = max(0.5, 0.5 * depth_of_field / planes.step)
    return (2 - _apart(planes).abs() / reach).clamp(0, 1)


def slice_weights(planes: Planes, depth_of_field: float) -> Tensor:
    """How each plane's light is shared among the slices in which it is in focus. Z plane.

    Between two slices linearly, so that heights can be read back; nothing is left beyond the ends.
    """
    apart = _apart(planes)
    inside = near_weights(planes, depth_of_field).amax(dim=0)
    shared = (1 - apart.abs()).clamp(min=0)
    shared[0] = torch.where(apart[0] < 0, 1.0, shared[0])
    shared[-1] = torch.where(apart[-1] > 0, 1.0, shared[-1])
    return shared * inside


def focus_of(
    planes: Planes,
    emission: Tensor,
    transfer: Tensor,
    depth_of_field: float,
    core: float,
    margin: int = 0,
    passing: Tensor | None = None,
) -> tuple[Tensor, Focus]:
    """Image planes of emission and find what is in focus.

    Args:
        planes: where they lie.
        emission: plane y x.
        transfer: offset fy fx, for `planes.offsets()`.
        depth_of_field: in pixels.
        core: standard deviation of a Gaussian as wide as the point spread in focus, pixels.
        margin: to drop.
        passing: plane fy fx, what is left of each plane's frequencies on the way, if not all.

    Returns:
        Slices Z Y X without background, and what is in focus.
    """
    side = emission.shape[-1]
    inner = (..., slice(margin, side - margin), slice(margin, side - margin))
    lit = torch.nonzero(emission.flatten(1).any(dim=1))[:, 0]
    if not len(lit):
        empty = torch.zeros(planes.slices, side - 2 * margin, side - 2 * margin)
        nothing = torch.zeros_like(empty[0])
        return empty, Focus(nothing, nothing, nothing, empty, nothing, nothing > 0)
    spectra = torch.fft.rfft2(emission[lit])
    if passing is not None:
        spectra = spectra * passing[lit]
    spectra = torch.stack([spectra.real, spectra.imag], dim=1)  # plane 2 fy fx: transfer is real
    near = near_weights(planes, depth_of_field)[:, lit]
    recorded = torch.zeros(2, planes.slices, *spectra.shape[1:])  # of all planes, and of the near ones
    for index in range(planes.slices):
        for plane, passes, weight in zip(
            spectra, _passes(planes, transfer, lit, index), near[index].tolist(), strict=True
        ):
            recorded[0, index].addcmul_(plane, passes)
            if weight > 0:
                recorded[1, index].addcmul_(plane, passes, value=weight)
    slices, blurred = _images(recorded, side)[(slice(None), *inner)].clamp(min=0)
    weights = torch.cat([near, slice_weights(planes, depth_of_field)[:, lit]])
    placed = torch.einsum("zp,pyx->zyx", weights, emission[lit][inner])
    emitted, placed = gaussian_mean(placed, core).chunk(2)
    glow, lost = (part[inner] for part in _glow(planes, spectra, lit, transfer, depth_of_field))
    share, bright = _in_focus(emitted, blurred, (slices - blurred).clamp(min=0))
    height, overlap = _height(torch.where(share > 0.1, _at_their_middle(placed), glow), planes, depth_of_field)
    return slices, Focus(share, height, bright, glow, lost, overlap & (share > 0.1))


def _at_their_middle(placed: Tensor) -> Tensor:
    """Light by slice, with the middle of what is as tall as several slices a little brighter. Z y x."""
    number = torch.arange(len(placed), dtype=torch.float32)
    spread = torch.exp(-0.5 * ((number[:, None] - number) / 1.5) ** 2)
    return placed + 0.05 * torch.einsum("zk,kyx->zyx", spread, placed)


def _in_focus(emitted: Tensor, near: Tensor, haze: Tensor) -> tuple[Tensor, Tensor]:
    """Share and brightness of what is in focus in some slice.

    Args:
        emitted: Z y x, light of the near planes where they emit it.
        near: Z y x, the same as it is recorded.
        haze: Z y x, recorded light of all other planes.

    Returns:
        y x each.
    """
    contrast, ideal, rival = (local_contrast(part).square() for part in (near, emitted, haze))
    of_light = emitted / (emitted + haze).clamp(min=1e-9)
    of_contrast = contrast / (contrast + rival).clamp(min=1e-12)
    around = neighbourhood_maximum(emitted, _NEIGHBOURS).clamp(min=1e-9)
    inside = ((emitted / around - _INSIDE[0]) / (_INSIDE[1] - _INSIDE[0])).clamp(0, 1)
    # Light from half-way between two slices, or through a bad mounting, may be sharp in none.
    least = (0.1 * _EVEN * emitted).square().clamp(min=1e-12)
    left = neighbourhood_mean(contrast, _WINDOW)
    sharp = (left + least) / (neighbourhood_mean(ideal, _WINDOW) + least)
    sharp = (sharp.sqrt() / _SHARP).clamp(max=1)
    # Even light from a plane in focus looks like light from anywhere: not to be told.
    textured = left.sqrt() > _EVEN * emitted
    of_light = of_light.clamp(max=_UNTOLD).where(~textured, of_light)
    bright = torch.maximum(emitted * sharp, contrast.sqrt()) * inside
    share = torch.maximum(of_light, of_contrast) * inside * sharp * (bright > 1e-4 * bright.max())
    return share.amax(dim=0), bright.amax(dim=0)


def _height(asked: Tensor, planes: Planes, depth_of_field: float) -> tuple[Tensor, Tensor]:
    """Where most light comes from, in slices, and whether as much comes from elsewhere. Z y x -> y x each."""
    number = torch.arange(len(asked), dtype=torch.float32)[:, None, None]
    best, most = asked.max(dim=0)
    away = (number - most).abs()
    nearby = asked * (away <= 1)
    height = (nearby * number).sum(dim=0) / nearby.sum(dim=0).clamp(min=1e-12)
    second = (asked * (away * planes.step > 1.5 * planes.step + depth_of_field)).amax(dim=0)
    return height, second > 0.5 * best


def _glow(
    planes: Planes, spectra: Tensor, lit: Tensor, transfer: Tensor, depth_of_field: float
) -> tuple[Tensor, Tensor]:
    """Most light, over the slices, of what is in focus in each slice, Z y x, and in none, y x. On half the grid."""
    side = spectra.shape[-2]
    half = side // 2
    rows = torch.cat([torch.arange(half // 2), torch.arange(side - half // 2, side)])
    low = spectra[..., rows, : half // 2 + 1]
    # Tapered, since a picture that is cut off in frequency rings.
    small = transfer[:, rows, : half // 2 + 1] * gaussian_transfer(half, 1.0)
    shared = slice_weights(planes, depth_of_field)[:, lit]
    shared = torch.cat([shared, 1 - shared.sum(dim=0, keepdim=True)])  # the last: in focus nowhere
    most = torch.zeros(planes.slices + 1, half, half)
    for index in range(planes.slices):
        groups = torch.zeros(planes.slices + 1, *low.shape[1:])
        for plane, passes, weights in zip(low, _passes(planes, small, lit, index), shared.T.tolist(), strict=True):
            for group, weight in enumerate(weights):
                if weight > 1e-3:
                    groups[group].addcmul_(plane, passes, value=weight)
        most = torch.maximum(most, _images(groups, half))
    most = most * (half / side) ** 2
    large = torch.nn.functional.interpolate(most[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    return large[:-1], large[-1]


def _passes(planes: Planes, transfer: Tensor, lit: Tensor, index: int) -> list[Tensor]:
    """Transfer fy fx from each lit plane to one slice."""
    return [transfer[planes.count - 1 + index * planes.each - plane] for plane in lit.tolist()]


def _images(spectra: Tensor, side: int) -> Tensor:
    """… 2 fy fx, real and imaginary parts, to … y x."""
    images: Tensor = torch.fft.irfft2(torch.complex(spectra[..., 0, :, :], spectra[..., 1, :, :]), s=(side, side))
    return images


def _apart(planes: Planes) -> Tensor:
    """Slices from each slice to each plane. Z plane."""
    height = planes.height(torch.arange(planes.count, dtype=torch.float32))
    return height - torch.arange(planes.slices, dtype=torch.float32)[:, None]
