"""Scenes of opaque layers, each on its own height map, under incoherent light: the all-round kind.

A layer is blurred by the distance of each slice from it, and an opaque layer hides what lies behind it: its
coverage is blurred along with it, which is where the defocus spread effect of occluding edges comes from.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hybridfusion_core.scenes.blur import Blur, defocus, draw_blur
from hybridfusion_core.scenes.contrast import local_contrast
from hybridfusion_core.scenes.draw import Draw, grid, unit_field
from hybridfusion_core.scenes.heights import HEIGHTS
from hybridfusion_core.scenes.light import Light, crop, white_level
from hybridfusion_core.scenes.textures import TEXTURES


def layered_light(draw: Draw, side: int, slices: int, haze: float) -> Light:
    """Draw a ground, perhaps with discs in front of it, perhaps with haze.

    Args:
        draw: source of randomness.
        side: of the field with its margin, in pixels.
        slices: Z.
        haze: probability of out-of-focus haze that differs from slice to slice.
    """
    blur = draw_blur(draw, side, draw.log_uniform(0.5, 2.5), ("gaussian", "gaussian", "disc", "diffraction"))
    ground = draw.choice(TEXTURES)(draw, side)
    height = draw.choice(HEIGHTS)(draw, side, slices)
    image, truth = defocus(ground, height, slices, blur), ground  # Z y x, y x
    if draw.chance(0.45):
        cover, cover_texture, cover_height = _discs(draw, side, slices)
        image, truth, height = over((image, truth, height), (cover, cover_texture, cover_height), blur)
    light = _exposed(draw, crop(image), crop(truth), crop(height))
    apart = draw.fork()  # so that the same seed with and without haze is the same scene
    if apart.chance(haze):
        light = light.plus(crop(_haze(apart, side, slices)) * light.contrast)
    return light


def over(
    below: tuple[Tensor, Tensor, Tensor], cover: tuple[Tensor, Tensor, Tensor], blur: Blur
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay an opaque layer over what there is, by α-matting of blurred light and blurred coverage.

    Args:
        below: image Z y x, truth y x, height y x.
        cover: coverage, texture and height, y x each.
        blur: of the optics.

    Returns:
        Image, truth and height of both together.
    """
    (image, truth, height), (coverage, texture, own_height) = below, cover
    slices = image.shape[0]
    seen = defocus(coverage, own_height, slices, blur).clamp(0, 1)
    return (
        image * (1 - seen) + defocus(texture * coverage, own_height, slices, blur),
        truth * (1 - coverage) + texture * coverage,
        torch.where(coverage > 0.5, own_height, height),
    )


def _discs(draw: Draw, side: int, slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Opaque discs in front of the ground: coverage, texture and height, y x each."""
    y, x = grid(side)
    cover = torch.zeros(side, side)
    height = torch.zeros(side, side)
    nearest = torch.full((side, side), torch.inf)
    for _ in range(draw.integer(1, 4)):
        radius = draw.uniform(6, side / 4)
        squeeze = draw.uniform(0.6, 1.6)
        dy, dx = (y - draw.uniform(0, side)) * squeeze, x - draw.uniform(0, side)
        outside = torch.sqrt(dy * dy + dx * dx) - radius
        # Beyond its rim a disc still blurs: there the nearest disc's height counts.
        height = torch.where(outside < nearest, draw.uniform(0, slices - 1), height)
        nearest = torch.minimum(nearest, outside)
        cover = torch.maximum(cover, (0.5 - outside).clamp(0, 1))
    texture = draw.choice(TEXTURES)(draw, side)
    return cover, texture * draw.uniform(0.5, 1.5), height


def _exposed(draw: Draw, image: Tensor, truth: Tensor, height: Tensor) -> Light:
    """Scale to a full scale of one with some background."""
    top = white_level(truth)
    light = Light(image, truth, truth, height, local_contrast(truth), torch.zeros_like(truth, dtype=torch.bool))
    contrast = draw.log_uniform(0.3, 1.0) if draw.chance(0.3) else 1.0
    background = draw.uniform(0, 0.3) * contrast
    if draw.chance(0.3):  # dark specimens on bright ground
        turned = (top - truth).clamp(min=0)
        light = replace(light, image=(top - image).clamp(min=0), sharp=turned, even=turned)
    return replace(light.scaled(contrast / top, background), contrast=contrast)


def _haze(draw: Draw, side: int, slices: int) -> Tensor:
    """Structureless light whose strength changes from slice to slice, Z y x, contrast 1."""
    field = unit_field(draw, side, 3.0)
    planes = torch.linspace(0, 1, slices)
    centre, width = draw.uniform(-0.3, 1.3), draw.uniform(0.2, 0.8)
    profile = torch.exp(-0.5 * ((planes - centre) / width) ** 2)
    if draw.chance(0.5):
        profile = 1 - profile
    return draw.uniform(0.1, 1.0) * profile[:, None, None] * (0.6 + 0.4 * field)
