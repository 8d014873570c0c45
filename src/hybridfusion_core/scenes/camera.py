"""From light to counts: shot and read noise, what the detector adds or cuts off, and its steps.

Light is in units of full scale; so are the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw

Noise = Literal["clean", "ordinary", "starved"]
NOISES: tuple[Noise, ...] = ("clean", "ordinary", "starved")

_NOISELESS = 1e6  # photons from which on shot noise is left out


@dataclass(frozen=True)
class Camera:
    """A detector.

    Attributes:
        photons: at full scale.
        read: standard deviation of its read noise, in parts of full scale.
        pattern: standard deviation of the pixels' fixed gains.
        hot: share of pixels that always read high.
        ceiling: light at which it saturates.
        levels: steps between 0 and full scale to which counts are rounded; 0: none.
        pedestal: even light that makes shot noise and is taken off again: the ground of transmitted light, whose
            slight contrast is what fills the scale.
        black: light taken off before counts are cut at zero, as a confocal's detector offset does.
        rows: standard deviation of the rows' offsets, other ones in each slice, in parts of full scale.
        columns: standard deviation of the columns' offsets, the same in all slices, in parts of full scale.
    """

    photons: float
    read: float
    pattern: float = 0.0
    hot: float = 0.0
    ceiling: float = float("inf")
    levels: int = 0
    pedestal: float = 0.0
    black: float = 0.0
    rows: float = 0.0
    columns: float = 0.0

    def limit(self, light: Tensor) -> Tensor:
        """Return what is left of the light once black is taken off and full wells overflow."""
        return (light - self.black).clamp(min=0).clamp(max=self.ceiling) if self.limits else light

    @property
    def limits(self) -> bool:
        """Whether it cuts light off at either end."""
        return self.black > 0 or self.ceiling < float("inf")

    def deviation(self, light: Tensor) -> Tensor:
        """Standard deviation of the noise for an amount of light."""
        rounding = 1 / 12 / self.levels**2 if self.levels else 0.0
        lines = self.rows**2 + self.columns**2
        return torch.sqrt((light.clamp(min=0) + self.pedestal) / self.photons + self.read**2 + lines + rounding)

    def record(self, draw: Draw, image: Tensor) -> Tensor:
        """Expose a stack Z Y X."""
        image = image.clamp(min=0)
        if self.pattern:
            image = image * (1 + self.pattern * draw.normal(*image.shape[1:])).clamp(min=0)
        if self.photons < _NOISELESS:
            expected = (image + self.pedestal) * self.photons
            image = torch.poisson(expected, generator=draw.generator) / self.photons - self.pedestal
        image = image + self.read * draw.normal(*image.shape)
        if self.rows:
            image = image + self.rows * draw.normal(len(image), image.shape[1], 1)
        if self.columns:
            image = image + self.columns * draw.normal(image.shape[2])
        if self.hot:
            image = image + (draw.uniforms(*image.shape[1:]) < self.hot) * draw.uniforms(*image.shape[1:])
        if self.limits:
            image = (image - self.black).clamp(0, self.ceiling)
        if self.levels:
            image = (image * self.levels).round().clamp(min=0) / self.levels
        return image.float()


_PHOTONS: dict[tuple[str, Noise], tuple[float, float]] = {
    ("isolated", "clean"): (3e4, 2e5),
    ("isolated", "ordinary"): (1e3, 1e4),
    ("isolated", "starved"): (40, 500),
    ("crowded", "clean"): (2e3, 4e4),
    ("crowded", "ordinary"): (60, 600),
    ("crowded", "starved"): (5, 50),
}


def _scientific(draw: Draw, fewest: float, most: float) -> Camera:
    """A camera with the lines and hot pixels of its sensor, at times with its zero above the darkest counts."""
    photons = draw.log_uniform(fewest, most)
    read = draw.log_uniform(0.5, 5) / photons
    lined, hot = draw.chance(0.4), draw.chance(0.3)
    return Camera(
        photons,
        read,
        rows=read * draw.uniform(0, 0.6) if lined else 0.0,
        columns=read * draw.uniform(0, 0.8) if lined else 0.0,
        hot=draw.log_uniform(1e-4, 2e-3) if hot else 0.0,
    )


def draw_camera(draw: Draw, noise: Noise, kind: str) -> Camera:
    """Draw a camera of a noise regime.

    "clean" has 0.05–0.5 % of full scale; "ordinary" 300–5,000 photons at full scale, or for photographs 0.5 to 5
    of 255 levels more often than not; "starved" 20–100 photons. In transmitted light full scale is a sixth of
    the light, and six times as many photons arrive. `_PHOTONS` has what arrives from lonely things and crowded tissue.
    """
    if kind in ("isolated", "crowded"):
        return _scientific(draw, *_PHOTONS[kind, noise])
    if noise == "clean":
        return Camera(1e7, draw.log_uniform(5e-4, 5e-3))
    if noise == "ordinary" and kind == "photographic" and draw.chance(0.6):
        return Camera(1e7, draw.uniform(0.5, 5) / 255)
    photons = draw.log_uniform(300, 5_000) if noise == "ordinary" else draw.log_uniform(20, 100)
    read = draw.uniform(0, 2) / photons
    return Camera(6 * photons, read, pedestal=5.0) if kind == "transmitted" else Camera(photons, read)
