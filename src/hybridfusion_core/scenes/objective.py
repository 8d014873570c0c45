"""What an objective's few numbers say of its light: cone, depth of field, width in focus. It imports no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """An objective and its sampling. Lengths in µm.

    Attributes:
        na: numerical aperture.
        index: of refraction.
        wavelength: in vacuum.
        pixel: of the image, in the specimen.
    """

    na: float
    index: float
    wavelength: float
    pixel: float

    @property
    def sine(self) -> float:
        """Sine of the half angle of the cone of light."""
        return self.na / self.index

    @property
    def spread(self) -> float:
        """Radius of the cone of light, in pixels per pixel of defocus."""
        return math.tan(math.asin(self.sine))

    def depth_of_field(self) -> float:
        """λn/NA² + n px/NA, in pixels (Inoué's sum of the diffraction's and the pixels' shares)."""
        return self.wavelength * self.index / self.na**2 / self.pixel + self.index / self.na

    def core(self) -> float:
        """Standard deviation, in pixels, of a Gaussian about as wide as the point spread in focus; one at least."""
        return max(1.0, 0.22 * self.wavelength / self.na / self.pixel)


def refractive_index(na: float) -> float:
    """Refractive index of the usual immersion of an objective of some aperture: air, water, oil."""
    return next(index for index, most in ((1.0, 0.98), (1.33, 1.27), (1.518, 1.51), (1.78, 1.75)) if na <= most)
