"""Blur by distance from focus, for opaque surfaces: Gaussian, disc or diffraction-limited, pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, radial_frequency

BlurKind = Literal["gaussian", "disc", "diffraction"]

_LEVELS = 13  # blurred copies between which the blur of a pixel is interpolated
_FURTHEST = 13.0  # px of blur beyond which nothing is told apart


@dataclass(frozen=True)
class Blur:
    """Transfer functions for increasing defocus, and how many slices apart they are."""

    transfer: Tensor  # level fy fx
    step: float  # slices of defocus between two levels


def draw_blur(draw: Draw, side: int, per_slice: float, kinds: tuple[BlurKind, ...]) -> Blur:
    """Draw the kind of blur.

    Args:
        draw: source of randomness.
        side: of the scene in pixels.
        per_slice: standard deviation of the blur, in pixels, that one slice of defocus adds.
        kinds: to choose from.
    """
    furthest = min(_FURTHEST, 9 * per_slice)
    radii = torch.linspace(0, furthest, _LEVELS)
    frequency = radial_frequency(side)
    kind = draw.choice(kinds)
    if kind == "gaussian":
        transfer = torch.exp(-2 * (math.pi * frequency * radii[:, None, None]) ** 2)
    elif kind == "disc":
        transfer = _jinc(math.tau * frequency * 2 * radii[:, None, None])  # a disc's σ is half its radius
    else:
        transfer = diffraction_transfer(frequency, radii, draw.uniform(0.35, 0.9))
    if draw.chance(0.5):
        transfer = transfer * torch.exp(-2 * (math.pi * frequency * draw.uniform(0.2, 0.7)) ** 2)
    return Blur(transfer, step=furthest / (_LEVELS - 1) / per_slice)


def diffraction_transfer(frequency: Tensor, radii: Tensor, cutoff: float) -> Tensor:
    """Incoherent transfer function of a defocused circular pupil (Hopkins 1955, in Stokseth's approximation).

    Args:
        frequency: fy fx in cycles per pixel.
        radii: level, geometric standard deviation of the blur in pixels.
        cutoff: of the objective, cycles per pixel.
    """
    v = (frequency / cutoff).clamp(max=1)
    in_focus = 2 / math.pi * (torch.acos(v) - v * torch.sqrt(1 - v * v))
    # Geometric disc of radius 2σ whose transfer is damped towards the cut-off: J₁ of 2π f r (1 − v).
    return in_focus * _jinc(math.tau * frequency * 2 * radii[:, None, None] * (1 - v))


def defocus(layer: Tensor, height: Tensor, slices: int, blur: Blur) -> Tensor:
    """Blur each pixel by its distance from each slice. Layer and height y x -> Z y x."""
    spectrum = torch.fft.rfft2(layer)
    levels = torch.fft.irfft2(spectrum * blur.transfer, s=layer.shape)  # level y x
    planes = torch.arange(slices, dtype=layer.dtype)[:, None, None]
    position = ((planes - height).abs() / blur.step).clamp(max=_LEVELS - 1.001)  # Z y x
    below = position.long()
    # Mixed so that the variance of the blur is right: near focus a mean of two blurs would lose sharpness at once.
    share = (position.square() - below.square()) / (2 * below + 1)
    blurred: Tensor = levels.gather(0, below) * (1 - share) + levels.gather(0, below + 1) * share
    return blurred


def _jinc(argument: Tensor) -> Tensor:
    """2 J₁(a) / a, which is 1 at 0."""
    return torch.where(argument < 1e-3, 1.0, 2 * torch.special.bessel_j1(argument) / argument.clamp(min=1e-3))
