"""Brightfield and phase contrast: partially coherent light through weak objects at several depths.

A phase object's contrast inverts through focus and is nearly none in focus, so that no rule which looks for the
strongest contrast finds it. **The truth** is the noise-free image at the object's own plane, and the slices' mean
where there is no object; the height is the object's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridfusion_core.scenes.contrast import local_contrast
from hybridfusion_core.scenes.draw import Draw, radial_frequency
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.scenes.light import Light, crop
from hybridfusion_core.scenes.optics import Microscope, draw_microscope
from hybridfusion_core.scenes.planes import Planes, in_focus, plan_planes
from hybridfusion_core.scenes.unstained import draw_unstained


def transmitted_image(microscope: Microscope, planes: Planes, phase: Tensor, absorption: Tensor) -> Tensor:
    """Image weak objects, to first order in both.

    Args:
        microscope: its optics.
        planes: where the objects lie.
        phase: plane y x in radians.
        absorption: plane y x, −ln of the amplitude that passes.

    Returns:
        Z y x, 1 where there is no object.
    """
    side = phase.shape[-1]
    of_absorption, of_phase = microscope.weak_object(planes.offsets(), side)
    slices = planes.imaged(torch.fft.rfft2(absorption), of_absorption)
    slices = slices + planes.imaged(torch.fft.rfft2(phase), of_phase)
    image: Tensor = 1 + torch.fft.irfft2(slices, s=(side, side))
    return image


def transmitted_light(draw: Draw, side: int, slices: int, lab: Lab = ANY_LAB) -> Light:
    """Draw an unstained or stained specimen and image it. Side with its margin, in pixels."""
    microscope = lab.draw_microscope(draw) if lab.microscopes else draw_microscope(draw)
    step = lab.draw_step(draw, slices, microscope)
    if step is None:
        step = draw.log_uniform(0.9, 4.0 if microscope.na < 0.7 else 6.0) / microscope.spread  # px of radius
    planes = plan_planes(slices, step)
    phase, absorption = draw_unstained(draw, side, planes)
    shown = phase, absorption
    if draw.chance(0.2) if lab.phase_contrast is None else lab.phase_contrast:
        # A ring turns the undeviated light by a quarter wave: phase is seen as absorption is, except for what is
        # so large that its light passes the ring too (the halo).
        passing = 1 - torch.exp(-((radial_frequency(side) * draw.uniform(20, 80)) ** 2))
        shown = -absorption, torch.fft.irfft2(torch.fft.rfft2(phase) * passing, s=(side, side))
    image = transmitted_image(microscope, planes, *shown).clamp(min=0.02)
    height, strength, overlap = in_focus(planes, phase + absorption, microscope.depth_of_field())
    image, height, strength, overlap = (crop(part) for part in (image, height, strength, overlap))
    light = Light(image, None, None, height, _detail(image, height, strength), overlap)
    return _exposed(draw, light)


def _detail(image: Tensor, height: Tensor, strength: Tensor) -> Tensor:
    """Contrast within two slices of the object's plane, where there is an object; in focus there may be none. Y X."""
    number = torch.arange(len(image), dtype=torch.float32)[:, None, None]
    seen = (local_contrast(image) * ((number - height).abs() <= 2)).amax(dim=0)
    edges = local_contrast(strength)
    return seen * (edges / (0.05 * strength.max()).clamp(min=1e-6)).clamp(max=1)


def _exposed(draw: Draw, light: Light) -> Light:
    """Stretch the slight contrast to full scale, as every viewer of such images does."""
    sample = light.image.flatten()
    low, high = (float(sample.kthvalue(max(1, int(share * len(sample)))).values) for share in (0.002, 0.998))
    contrast = draw.uniform(0.4, 1.0)
    if high - low < 1e-3:
        return light.scaled(0.5)
    gain = contrast / (high - low)
    ground = draw.uniform(0, 1 - contrast) + 0.02
    return light.scaled(gain, ground - low * gain)
