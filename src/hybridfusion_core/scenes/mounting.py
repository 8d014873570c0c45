"""What light passes on its way that the objective was not made for: the mounting medium and a cover glass.

Both leave spherical aberration, so that out-of-focus light is brighter on one side of focus than on the other (Gibson
and Lanni 1992, J. Opt. Soc. Am. A 9, 154). The point spread stays round: it is computed along one line, by Hankel
transforms, for exactly the distances that a scene has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, radial_frequency
from hybridfusion_core.scenes.optics import Microscope

_GLASS = 1.5255  # refractive index of cover glass
_MEDIA = (1.33, 1.38, 1.42, 1.46, 1.515)  # water, tissue, clearing agents, glycerol, oil-like resins
_MOST = 2.5  # waves from valley to peak; more is hardly an image
_REACH, _RADII = 68.0, 420  # of the point spread, in λ / NA, and samples of it
_PUPIL, _FREQUENCIES = 256, 513  # samples of the pupil's radius and of frequencies from 0 to 2 NA / λ


@dataclass(frozen=True)
class Mounting:
    """Layers that the objective does not expect.

    Attributes:
        index: refractive index of the mounting medium.
        depth: of it above the specimen, in µm.
        glass: µm by which the cover glass is too thick; negative: too thin.
        strength: waves from valley to peak that are left of both, as a correction collar or a plate's bottom leaves
            more or less; None: what the layers give, at most `_MOST`.
    """

    index: float
    depth: float
    glass: float
    strength: float | None = None

    def waves(self, microscope: Microscope) -> Tensor:
        """Phase error at `_PUPIL` radii of the pupil, in waves, less its piston and its best defocus."""
        radius = _pupil_radii()
        height = microscope.na * radius

        def path(index: float) -> Tensor:  # through a layer, along the axis as long as the layer is thick
            return torch.sqrt(index**2 - height**2)

        own = path(microscope.index)
        error = self.depth * path(self.index) + self.glass * path(_GLASS)
        ground = torch.stack([torch.ones_like(own), own], dim=1) * radius.sqrt()[:, None]
        fit = torch.linalg.lstsq(ground, (error * radius.sqrt())[:, None]).solution
        left = (error - fit[0] - fit[1] * own) / microscope.wavelength
        span = max(float(left.max() - left.min()), 1e-6)
        strength = min(span, _MOST) if self.strength is None else self.strength
        waves: Tensor = (left * (strength / span)).float()
        return waves


EVEN = Mounting(index=1.33, depth=0.0, glass=0.0, strength=0.0)


def draw_mounting(draw: Draw, microscope: Microscope) -> Mounting:
    """Draw a mounting, a third of them as the objective expects it.

    Dry objectives of low aperture look through plates whose bottoms are up to a millimetre thick.
    """
    if draw.chance(0.3):
        return EVEN
    fits = tuple(index for index in _MEDIA if index > microscope.na + 0.02)
    glass = draw.log_uniform(60, 1000) if microscope.na < 0.5 else draw.log_uniform(2, 60)
    strength = draw.log_uniform(0.1, 2.0) if draw.chance(0.6) else None
    return Mounting(draw.choice(fits), draw.log_uniform(2, 150), glass if draw.chance(0.5) else -glass, strength)


def mounted_transfer(microscope: Microscope, waves: Tensor, distances: Tensor, side: int) -> Tensor:
    """Transfer functions of emitted light under an aberration.

    Args:
        microscope: its optics.
        waves: phase error over the pupil's radius, from `Mounting.waves`.
        distances: n z distances in pixels, slice minus plane; with an aberration their sign matters.
        side: of the field in pixels.

    Returns:
        n fy fx as `rfft2` lays it out, 1 at zero frequency.
    """
    radius = _pupil_radii().float()
    to_radius, to_frequency = _hankel()
    axial = (torch.sqrt(1 - (microscope.sine * radius) ** 2) - 1) / microscope.sine**2
    phase = math.tau * (microscope.defocus(distances)[:, None] * axial + waves)
    spread = (torch.cos(phase) @ to_radius).square() + (torch.sin(phase) @ to_radius).square()  # n radius
    lines = spread @ to_frequency  # which fades the point spread out: cut off, it would ring
    lines = torch.nn.functional.pad(lines / lines[:, :1], (0, 2))
    scale = microscope.wavelength / microscope.pixel / microscope.na * (_FREQUENCIES - 1) / 2
    place = (radial_frequency(side)[: side // 2 + 1] * scale).clamp(max=_FREQUENCIES).flatten()
    left = place.long()
    half = torch.lerp(lines.index_select(1, left), lines.index_select(1, left + 1), place - left)
    mirrored = torch.arange(side)  # rows of negative frequency are those of positive frequency
    return half.view(len(lines), side // 2 + 1, -1).index_select(1, torch.minimum(mirrored, side - mirrored))


@lru_cache(maxsize=1)
def _pupil_radii() -> Tensor:
    return (torch.arange(_PUPIL, dtype=torch.float64) + 0.5) / _PUPIL


@lru_cache(maxsize=1)
def _hankel() -> tuple[Tensor, Tensor]:
    """From the pupil's radius to the point spread's, and from there to frequency, both with their surface elements."""
    pupil = _pupil_radii()
    spread = (torch.arange(_RADII, dtype=torch.float64) + 0.5) * (_REACH / _RADII)
    frequency = torch.linspace(0, 2, _FREQUENCIES, dtype=torch.float64)
    to_radius = torch.special.bessel_j0(math.tau * pupil[:, None] * spread) * pupil[:, None] / _PUPIL
    fade = ((_REACH - spread) / (0.3 * _REACH)).clamp(max=1).square()
    to_frequency = torch.special.bessel_j0(math.tau * spread[:, None] * frequency) * (spread * fade)[:, None]
    return to_radius.float(), to_frequency.float()
