"""Fluorescence: light that adds up from all depths through the microscope's own transfer functions.

Emission does not hide what lies behind it. The height is that of the brightest layer in focus at a pixel.

**The truth** is the noise-free light that is recorded at the object's own height, with the out-of-focus light of
the other layers, where something is in focus; and the mean over the slices where nothing is. The section alone,
without out-of-focus light, would be nobody's slice: no choice of slices can give it, and a network that is asked
for it learns to darken instead of to choose. For the same reason the structureless background is the slices' mean:
it is the estimate which no slice biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridfusion_core.scenes.draw import Draw, radial_frequency, smooth_field
from hybridfusion_core.scenes.focus import Focus, focus_of
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.scenes.light import MARGIN, Light, crop, white_level
from hybridfusion_core.scenes.optics import Microscope, draw_microscope
from hybridfusion_core.scenes.planes import Planes, plan_planes, spread_sideways
from hybridfusion_core.scenes.specimens import SPECIMENS, debris, nothing


@dataclass(frozen=True)
class Widefield:
    """How emission planes become slices.

    Attributes:
        microscope: its optics.
        planes: where the emission lies.
        aberration: blur in pixels that each pixel of depth adds, as a mismatch of refractive index does.
        section: depth in pixels from which light is kept, as a confocal's pinhole does; infinite in widefield.
    """

    microscope: Microscope
    planes: Planes
    aberration: float = 0.0
    section: float = math.inf

    def image(self, emission: Tensor, margin: int = 0) -> tuple[Tensor, Focus]:
        """Form the slices, linear in the emission.

        Args:
            emission: plane y x.
            margin: pixels to drop.

        Returns:
            Z Y X, and what of it is in focus.
        """
        side = emission.shape[-1]
        offsets = self.planes.offsets()
        transfer = self.microscope.incoherent(offsets, side)
        if math.isfinite(self.section):
            transfer = transfer * torch.exp(-((offsets / self.section) ** 2))[:, None, None]
        passing = self._broadening(side) if self.aberration else None
        depth, core = self.microscope.depth_of_field(), self.microscope.core()
        return focus_of(self.planes, emission, transfer, depth, core, margin, passing)

    def _broadening(self, side: int) -> Tensor:
        """Loss of sharpness with depth below the first plane. plane fy fx."""
        depth = (self.planes.depths() - self.planes.depths()[0])[:, None, None]
        return torch.exp(-2 * (math.pi * radial_frequency(side) * self.aberration * depth) ** 2)


def volume_light(draw: Draw, side: int, slices: int, lab: Lab = ANY_LAB) -> Light:
    """Draw a fluorescent specimen and image it. Side with its margin, in pixels."""
    optics = _draw_widefield(draw, slices, lab)
    planes = optics.planes
    emission = _draw_emission(draw, side, planes)
    emission = emission * _attenuation(draw, emission)
    if draw.chance(0.5):  # seen from the other side
        emission = emission.flip(0)
    image, focus = optics.image(emission, MARGIN)
    light = Light(image, None, None, focus.height, focus.bright, focus.overlap, focus=focus)
    if draw.chance(0.35):
        light = light.by_slice(torch.exp(-draw.uniform(0, 0.5) * torch.linspace(0, 1, slices)))
    return _exposed(draw, light, side, lit=not lab.cameras)


def _draw_widefield(draw: Draw, slices: int, lab: Lab) -> Widefield:
    microscope = lab.draw_microscope(draw) if lab.microscopes else draw_microscope(draw)
    step = lab.draw_step(draw, slices, microscope)
    if step is None:
        # Objectives of high aperture are stepped more coarsely in units of their blur.
        step = draw.log_uniform(0.9, 4.0 if microscope.na < 0.7 else 6.0) / microscope.spread  # px of radius
    planes = plan_planes(slices, step)
    aberration = draw.uniform(0, 1.0) / (planes.count * planes.apart) if draw.chance(0.3) else 0.0
    section = draw.uniform(0.6, 1.5) * planes.step if draw.chance(0.12) else math.inf
    return Widefield(microscope, planes, aberration, section)


def _draw_emission(draw: Draw, side: int, planes: Planes) -> Tensor:
    """One specimen, at times with debris or a second specimen, at times an empty field. plane y x."""
    if draw.chance(0.04):
        return nothing(draw, side, planes)
    emission = _normalised(draw.choice(SPECIMENS)(draw, side, planes))
    if draw.chance(0.2):
        emission = emission + draw.log_uniform(0.2, 1.0) * _normalised(debris(draw, side, planes))
    if draw.chance(0.15):
        emission = emission + draw.log_uniform(0.2, 1.0) * _normalised(draw.choice(SPECIMENS)(draw, side, planes))
    return emission


def _normalised(emission: Tensor) -> Tensor:
    return emission / emission.sum(dim=0).max().clamp(min=1e-6)


def _attenuation(draw: Draw, emission: Tensor) -> Tensor:
    """Light lost in what lies nearer to the objective. plane y x in (0, 1]."""
    if draw.chance(0.5) or not emission.any():
        return torch.ones(())
    tissue = spread_sideways(emission.cumsum(dim=0), 4.0)
    return torch.exp(-draw.uniform(0.2, 1.2) * tissue / tissue.max())


def _exposed(draw: Draw, light: Light, side: int, lit: bool) -> Light:
    """Scale to a full scale of one, over a background that may be black, even or slightly uneven (or is not lit)."""
    top = white_level(light.at_height())
    contrast = draw.log_uniform(0.3, 1.0) if draw.chance(0.3) else 1.0
    if not light.detail.any():
        top, contrast = 1.0, 0.0
    background = draw.choice((0.0, draw.uniform(0, 0.05), draw.uniform(0, 0.3))) * max(contrast, 0.3)
    background = background if lit else 0.0
    light = light.scaled(contrast / top, background)
    if draw.chance(0.3):  # medium that glows unevenly, the same in all slices
        glow = crop(smooth_field(draw, side, 3.0, 1.0).clamp(-2, 2) + 2) / 4
        light = light.plus((background * 0.5 * glow).expand_as(light.image))
    return light
