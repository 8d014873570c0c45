"""Random numbers and random fields, all from one `torch.Generator`, and the Fourier grid that they live on.

Fields are periodic: what leaves one side comes in on the other, as the FFTs that blur them assume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor

T = TypeVar("T")


class Draw:
    """Scalars and fields from one generator."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def fork(self) -> Draw:
        """Return a stream of its own, so that what it is used for leaves later draws of this one as they were."""
        return Draw(Generator().manual_seed(int(torch.randint(1 << 62, (), generator=self.generator))))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return low ≤ x < high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log_uniform(self, low: float, high: float) -> float:
        """Return low ≤ x < high, each order of magnitude as likely as the next."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Return low ≤ n ≤ high."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def normal(self, *shape: int) -> Tensor:
        """Return Gaussian numbers of mean 0 and variance 1."""
        return torch.randn(shape, generator=self.generator)

    def uniforms(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator)


def grid(side: int) -> tuple[Tensor, Tensor]:
    """Pixel indices as a column y 1 and a row 1 x."""
    line = torch.arange(side, dtype=torch.float32)
    return line[:, None], line[None, :]


def radial_frequency(side: int) -> Tensor:
    """Radial frequency in cycles per pixel, as `rfft2` lays it out."""
    return torch.sqrt(torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side)[None, :] ** 2)


def filtered(image: Tensor, transfer: Tensor) -> Tensor:
    """Pass images … y x through a transfer function (… fy fx, laid out as `rfft2` does)."""
    side = image.shape[-1]
    through: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * transfer, s=(side, side))
    return through


def gaussian_transfer(side: int, sigma: float) -> Tensor:
    """Transfer function fy fx of a Gaussian blur with a standard deviation in pixels."""
    return torch.exp(-2 * (math.pi * radial_frequency(side) * sigma) ** 2)


def smooth_field(draw: Draw, side: int, slope: float, sd: float) -> Tensor:
    """Random field of zero mean whose amplitude falls with frequency to the power −slope."""
    frequency = radial_frequency(side)
    spectrum = torch.fft.rfft2(draw.normal(side, side)) * frequency.clamp(min=1 / side) ** -slope
    spectrum[0, 0] = 0
    field = torch.fft.irfft2(spectrum, s=(side, side))
    scaled: Tensor = sd * field / field.std()
    return scaled


def unit_field(draw: Draw, side: int, slope: float) -> Tensor:
    """Smooth field in [0, 1] around one half."""
    return (0.5 + 0.25 * smooth_field(draw, side, slope, 1.0)).clamp(0, 1)
