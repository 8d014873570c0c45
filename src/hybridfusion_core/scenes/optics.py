"""Transfer functions of a microscope, from its pupil: fluorescence, and weak objects in transmitted light.

Both are round, so one line through each tells all; and in units of the objective (frequency in NA / λ, defocus
d = Δz NA² / (n λ), which is the geometric blur radius in λ / NA) they depend on sin α = NA / n alone, and in
transmitted light on the condenser's share S of the aperture. So a few small tables serve every microscope, and a
scene's own transfer functions are read from them by interpolation.

What a detector's pixels cannot resolve never enters: objects are drawn on the pixels' own grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, radial_frequency
from hybridfusion_core.scenes.objective import Objective

# Magnification's usual companions: NA, refractive index, px in µm on a 6.5 µm camera.
_OBJECTIVES = (
    (0.15, 1.0, 1.3),
    (0.3, 1.0, 0.65),
    (0.45, 1.0, 0.65),
    (0.45, 1.0, 0.325),
    (0.75, 1.0, 0.325),
    (0.95, 1.0, 0.1625),
    (1.2, 1.33, 0.1083),
)
CONDENSERS = (0.3, 0.5, 0.7, 0.9)
_ALIKE = 1.7  # pixels of the same objective on different cameras
_DEEPEST = 24.0  # d of the last row of the table for fluorescence
_ROWS = 96
_WEAK_DEEPEST, _WEAK_ROWS = 12.0, 97


@dataclass(frozen=True)
class Microscope(Objective):
    """An objective, its light and its sampling. Lengths in µm.

    Attributes:
        condenser: its share S of the objective's aperture.
    """

    condenser: float = 1.0

    def defocus(self, pixels: Tensor) -> Tensor:
        """Turn z distances in pixels into units of the tables."""
        return pixels * (self.pixel * self.na**2 / (self.index * self.wavelength))

    def incoherent(self, distances: Tensor, side: int) -> Tensor:
        """Transfer functions of emitted light.

        Args:
            distances: n z distances in pixels; the sign does not matter.
            side: of the field in pixels.

        Returns:
            n fy fx as `rfft2` lays it out, 1 at zero frequency.
        """
        rows = (self.defocus(distances.abs()) / _DEEPEST).clamp(max=1).sqrt() * (_ROWS - 1)
        return self._read(incoherent_lines(round(self.sine, 4)), rows, side)

    def weak_object(self, distances: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Transfer functions of absorption and of phase in partially coherent light.

        Of an object exp(−μ + iφ) the image is 1 + H_abs μ + H_ph φ to first order (Streibl 1985).

        Args:
            distances: n signed z distances in pixels.
            side: of the field in pixels.

        Returns:
            H_abs (even in z) and H_ph (odd, zero in focus), n fy fx each.
        """
        rows = (self.defocus(distances.abs()) / _WEAK_DEEPEST).clamp(max=1) * (_WEAK_ROWS - 1)
        lines = weak_object_lines(round(self.sine, 4), self.condenser)
        absorption, phase = (self._read(line, rows, side) for line in lines)
        return absorption, phase * distances.sign()[:, None, None]

    def _read(self, lines: Tensor, rows: Tensor, side: int) -> Tensor:
        """Interpolate a table (row, frequency) at n rows and the frequencies of a field. -> n fy fx."""
        above = rows.long().clamp(max=len(lines) - 2)
        share = (rows - above)[:, None]
        chosen = lines[above] * (1 - share) + lines[above + 1] * share  # n frequency
        place = radial_frequency(side) * (self.wavelength / self.pixel / self.na * _RADIUS)
        place = place.clamp(max=lines.shape[1] - 1.001)
        left = place.long()
        part = place - left
        return chosen[:, left] * (1 - part) + chosen[:, left + 1] * part


def likely_objectives(pixel: float) -> tuple[tuple[float, float], ...]:
    """Aperture and refractive index of the objectives that usually go with a pixel of a size in µm."""
    fits = [(na, index) for na, index, usual in _OBJECTIVES if 1 / _ALIKE < pixel / usual < _ALIKE]
    return tuple(fits) or (min(_OBJECTIVES, key=lambda each: abs(math.log(pixel / each[2])))[:2],)


def draw_microscope(draw: Draw) -> Microscope:
    """Draw an objective, its sampling within a quarter, its colour and its condenser."""
    na, index, pixel = draw.choice(_OBJECTIVES)
    pixel *= draw.log_uniform(0.8, 1.25)
    return Microscope(na, index, draw.uniform(0.45, 0.68), pixel, draw.choice(CONDENSERS))


# Tables. Frequency in NA / λ is column / _RADIUS; the cut-off of both kinds, 2 NA / λ at most, is the last but one.

_SIDE, _RADIUS = 256, 60  # samples of the pupil plane and of the pupil's radius: products of two pupils fit


@lru_cache(maxsize=16)
def incoherent_lines(sine: float) -> Tensor:
    """Optical transfer function by row of defocus d = 24 (row / 95)² and frequency, ending in zeros.

    The autocorrelation of the pupil, by way of the line spread function.
    """
    rows = []
    for row in range(_ROWS):
        spread = torch.fft.fft2(_pupil(sine, _DEEPEST * (row / (_ROWS - 1)) ** 2)).abs().square()
        line = torch.fft.fft(spread.sum(dim=0)).real[: 2 * _RADIUS + 1]
        rows.append(line / line[0])
    return torch.nn.functional.pad(torch.stack(rows), (0, 2))


@lru_cache(maxsize=32)
def weak_object_lines(sine: float, condenser: float) -> tuple[Tensor, Tensor]:
    """Absorption and phase transfer by row of defocus d = row / 8 and frequency, ending in zeros.

    C(f) = Σ S(s) P*(s) P(s + f) / Σ S |P|² by one correlation; round, so that H_abs = −2 Re C and H_ph = −2 Im C.
    """
    source = _disc(condenser)
    absorption, phase = [], []
    for row in range(_WEAK_ROWS):
        pupil = _pupil(sine, _WEAK_DEEPEST * row / (_WEAK_ROWS - 1))
        lit = torch.fft.fft2(source * pupil).conj() * torch.fft.fft2(pupil)
        line = torch.fft.ifft(lit.sum(dim=0))[: 2 * _RADIUS + 1]
        line = line / line[0].real
        absorption.append(-2 * line.real)
        phase.append(-2 * line.imag)
    return torch.nn.functional.pad(torch.stack(absorption), (0, 2)), torch.nn.functional.pad(torch.stack(phase), (0, 2))


def _pupil(sine: float, defocus: float) -> Tensor:
    """Pupil function v u: 1 inside, with the phase of a defocus relative to the axis."""
    square = _square_radius()
    depth = (torch.sqrt((1 - sine**2 * square).clamp(min=0)) - 1) / sine**2
    return torch.polar(_disc(1.0), math.tau * defocus * depth)


def _disc(radius: float) -> Tensor:
    """1 within a radius of the pupil's, with a rim half lit. v u."""
    return (_RADIUS * (radius - _square_radius().sqrt()) + 0.5).clamp(0, 1)


@lru_cache(maxsize=1)
def _square_radius() -> Tensor:
    line = (torch.arange(_SIDE) - _SIDE // 2) / _RADIUS
    return line[:, None] ** 2 + line**2
