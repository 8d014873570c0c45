"""Fluorescence through a mounting that the objective was not made for: lonely things, or crowded tissue.

Light adds up from all depths, from far outside the picture too. `focus` says what of it is in focus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hybridfusion_core.scenes.crowded import crowded
from hybridfusion_core.scenes.draw import Draw, smooth_field
from hybridfusion_core.scenes.focus import focus_of
from hybridfusion_core.scenes.isolated import isolated
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.scenes.light import Light
from hybridfusion_core.scenes.mounting import draw_mounting, mounted_transfer
from hybridfusion_core.scenes.optics import draw_microscope
from hybridfusion_core.scenes.planes import Planes

_WIDE = 40  # px around the picture from which light comes in
_BEYOND = 2.5  # slices before the first and after the last from which light comes
_DIM = 0.02  # of a body's own light: a picture that shows only the tails of some is not stretched to full scale

Tissue = Callable[[Draw, int, Planes], Tensor]


def isolated_light(draw: Draw, size: int, slices: int, lab: Lab = ANY_LAB) -> Light:
    """Beads, nuclei and debris on dark ground. Size of the picture, in pixels, without margin."""
    light = _additive(draw, size, slices, lab, isolated, sectioned=0.2, closest=0.8)
    if draw.chance(0.06):  # nothing but a glow
        light = light.scaled(0.0)
    ground = draw.choice((0.0, draw.log_uniform(1e-4, 1e-2), draw.log_uniform(1e-3, 0.1)))
    return _on_ground(draw, _exposed(light, max(_DIM, float(light.image.max())), 1.0), ground, lab)


def crowded_light(draw: Draw, size: int, slices: int, lab: Lab = ANY_LAB) -> Light:
    """Tissue of low contrast. Size of the picture, in pixels, without margin."""
    light = _additive(draw, size, slices, lab, crowded, sectioned=0.4, closest=0.4)
    sample = light.image.flatten()
    top = float(sample.kthvalue(int(0.998 * len(sample))).values)
    ground = draw.choice((0.0, draw.uniform(0, 0.1), draw.uniform(0, 0.5)))
    return _on_ground(draw, _exposed(light, top, draw.uniform(0.4, 1.0)), ground, lab)


def _additive(draw: Draw, size: int, slices: int, lab: Lab, tissue: Tissue, sectioned: float, closest: float) -> Light:
    side = size + 2 * _WIDE  # sizes that FFTs like
    microscope = lab.draw_microscope(draw) if lab.microscopes else draw_microscope(draw)
    step = lab.draw_step(draw, slices, microscope)
    if step is None:
        step = draw.log_uniform(closest, max(1.5, min(8.0, 60 / slices))) / microscope.spread  # px of radius
    each = max(1, min(3, round(12 / slices)))
    planes = Planes(slices, step, each, beyond=math.ceil(_BEYOND * each))
    waves = draw_mounting(draw, microscope).waves(microscope)
    transfer = mounted_transfer(microscope, waves, planes.offsets(), side)
    if draw.chance(sectioned):
        depth = draw.uniform(0.7, 2.0) * max(step, microscope.depth_of_field())
        transfer = transfer * torch.exp(-((planes.offsets() / depth) ** 2))[:, None, None]
    emission = tissue(draw, side, planes)
    margin = (side - size) // 2
    image, focus = focus_of(planes, emission, transfer, microscope.depth_of_field(), microscope.core(), margin)
    light = Light(image, None, None, focus.height, focus.bright, focus.overlap, focus=focus)
    if draw.chance(0.3):  # bleaching
        light = light.by_slice(torch.exp(-draw.uniform(0, 0.5) * torch.linspace(0, 1, slices)))
    return light


def _exposed(light: Light, top: float, contrast: float) -> Light:
    return replace(light.scaled(contrast / max(top, 1e-6)), contrast=contrast)


def _on_ground(draw: Draw, light: Light, ground: float, lab: Lab) -> Light:
    """Lay light over even or uneven ground, and sometimes over a glow that changes from slice to slice."""
    slices, size = len(light.image), light.image.shape[-1]
    light = light.scaled(1.0, 0.0 if lab.cameras else ground)
    if draw.chance(0.3):
        field = (smooth_field(draw, size, 3.0, 1.0).clamp(-2, 2) + 2) / 4
        profile = torch.ones(slices)
        if draw.chance(0.5):
            planes = torch.linspace(0, 1, slices)
            profile = torch.exp(-0.5 * ((planes - draw.uniform(-0.3, 1.3)) / draw.uniform(0.2, 0.8)) ** 2)
        light = light.plus(draw.log_uniform(0.1, 1.0) * max(ground, 1e-3) * profile[:, None, None] * field)
    return light
