"""Scenes of opaque things with sharp edges, as photographs show them: several layers, each at one depth.

Two recipes. *Composed*: layers hide each other and their coverage is blurred with them, as a lens does it.
*Pasted*: every pixel of an all-in-focus picture is blurred by its own depth and nothing spreads over an edge, as
published sets of pairs are made (hard masks and Gaussian-blurred complements).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridfusion_core.scenes.blur import defocus, draw_blur
from hybridfusion_core.scenes.contrast import local_contrast
from hybridfusion_core.scenes.draw import Draw, grid, smooth_field
from hybridfusion_core.scenes.heights import flat, on_slices, rolling, terraces
from hybridfusion_core.scenes.layers import over
from hybridfusion_core.scenes.light import Light, crop, white_level
from hybridfusion_core.scenes.photographs import photograph
from hybridfusion_core.scenes.textures import Texture, dead_leaves, fractal, window

_TEXTURES: tuple[Texture, ...] = (photograph, photograph, photograph, photograph, dead_leaves, dead_leaves, fractal)


def photographic_light(draw: Draw, side: int, slices: int) -> Light:
    """Draw a picture of opaque things at several depths. Side with its margin, in pixels."""
    # A pair is taken far apart, a long series in small steps.
    per_slice = draw.log_uniform(0.6, 5.0 if slices == 2 else 3.0)
    blur = draw_blur(draw, side, per_slice, ("gaussian", "gaussian", "disc"))
    truth = draw.choice(_TEXTURES)(draw, side)
    height = draw.choice((flat, rolling, terraces, on_slices, on_slices))(draw, side, slices)
    pasted = draw.chance(0.4)
    layers = [_layer(draw, side, slices) for _ in range(draw.integer(0 if pasted else 1, 4))]
    if pasted:
        for cover, texture, own_height in layers:
            truth, height = torch.where(cover > 0.5, texture, truth), torch.where(cover > 0.5, own_height, height)
        image = defocus(truth, height, slices, blur)
    else:
        image = defocus(truth, height, slices, blur)
        for layer in layers:
            image, truth, height = over((image, truth, height), layer, blur)
    return _exposed(draw, crop(image), crop(truth), crop(height))


def _layer(draw: Draw, side: int, slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """One thing: hard coverage, texture and its height, y x each."""
    cover = draw.choice((_blob, _polygon, _polygon, _leaves))(draw, side)
    depth = draw.integer(0, slices - 1) if draw.chance(0.6) else draw.uniform(0, slices - 1)
    texture = draw.choice(_TEXTURES)(draw, side)
    return cover, texture * draw.uniform(0.6, 1.1), torch.full((side, side), float(depth))


def _blob(draw: Draw, side: int) -> Tensor:
    """Where a smooth field is high."""
    field = smooth_field(draw, side, draw.uniform(2.0, 3.0), 1.0)
    slope = 12 / side  # of the field at its level, about: makes the rim a pixel wide
    return ((field - draw.uniform(0.2, 1.2)) / slope + 0.5).clamp(0, 1)


def _polygon(draw: Draw, side: int) -> Tensor:
    """A convex shape with straight edges; with two edges a bar, with one a half plane."""
    y, x = grid(side)
    middle = draw.uniform(0, side), draw.uniform(0, side)
    edges, turn, reach = draw.integer(1, 6), draw.uniform(0, math.tau), draw.uniform(side / 12, side / 3)
    outside = torch.full((side, side), -torch.inf)
    for index in range(edges):
        angle = turn + math.tau * index / edges + draw.uniform(-0.3, 0.3)
        along = math.cos(angle) * (y - middle[0]) + math.sin(angle) * (x - middle[1])
        outside = torch.maximum(outside, along - reach * draw.uniform(0.6, 1.2))
    return (0.5 - outside).clamp(0, 1)


def _leaves(draw: Draw, side: int) -> Tensor:
    """Scattered discs of many sizes, one of them at least."""
    y, x = grid(side)
    cover = torch.zeros(side, side)
    for _ in range(draw.integer(1, 12)):
        radius, middle = draw.log_uniform(2, side / 4), (draw.uniform(0, side), draw.uniform(0, side))
        rows, columns = (window(at, radius + 1, side) for at in middle)
        distance = torch.sqrt((y[rows] - middle[0]) ** 2 + (x[:, columns] - middle[1]) ** 2)
        cover[rows, columns] = torch.maximum(cover[rows, columns], (radius - distance + 0.5).clamp(0, 1))
    return cover


def _exposed(draw: Draw, image: Tensor, truth: Tensor, height: Tensor) -> Light:
    """Scale to a full scale of one; photographs are rarely dim."""
    light = Light(
        image, truth, truth, height, local_contrast(truth), torch.zeros_like(truth, dtype=torch.bool), everywhere=True
    )
    return light.scaled(draw.uniform(0.7, 1.0) / max(white_level(truth), 0.2))
