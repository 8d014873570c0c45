"""What goes wrong between specimen and camera, each rarely: most scenes have none of it.

All of them keep the truth one that a choice of slices can give: what lies in every slice alike (vignetting,
dust) lies in the truth too, and what differs from slice to slice is there as the slice has it that is in focus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.draw import Draw, grid
from hybridfusion_core.scenes.light import Light, at_height
from hybridfusion_core.scenes.textures import window

_LOST = 0.03  # of the longer stacks of those kinds, a slice that is constant throughout
_SHARE = 0.42  # of the scenes in which anything goes wrong at all


def disturb(draw: Draw, light: Light, camera: Camera) -> tuple[Light, Camera]:
    """Let up to two things go wrong, in a good third of the scenes: each one in about 7 % of them."""
    if not draw.chance(_SHARE):
        return light, camera
    for _ in range(draw.integer(1, 2)):
        if draw.chance(len(_OF_LIGHT) / (len(_OF_LIGHT) + len(_OF_CAMERA))):
            light = draw.choice(_OF_LIGHT)(draw, light)
        else:
            camera = draw.choice(_OF_CAMERA)(draw, camera, light)
    return light, camera


def expose_hard(draw: Draw, camera: Camera, light: Light) -> Camera:
    """Cut off both ends, as over a range of 16 bits they often are: the ground at zero, the brightest cores."""
    low = float(light.image.flatten()[::7].median())
    if draw.chance(0.2):
        noise = float(camera.deviation(torch.tensor(low)))
        camera = replace(camera, black=max(0.0, low + draw.uniform(-1.5, 2.5) * noise))
    if draw.chance(0.12):
        top = low + (float(light.image.amax()) - low) * draw.log_uniform(0.15, 0.9)
        camera = replace(camera, ceiling=top - camera.black)
    return camera


def lose_slice(draw: Draw, light: Light) -> int | None:
    """Which slice of a longer stack shows nothing, as when a lamp was off or a shutter stayed open: rarely one."""
    slices = len(light.image)
    return draw.integer(0, slices - 1) if slices > 3 and draw.chance(_LOST) else None


# Of the light


def vignette(draw: Draw, light: Light) -> Light:
    """Light falls off from some point of the field."""
    y, x = grid(light.image.shape[-1])
    side = light.image.shape[-1]
    square = (y - draw.uniform(0, side)) ** 2 + (x - draw.uniform(0, side)) ** 2
    return replace(light.scaled(1 - draw.uniform(0.1, 0.5) * square / square.max()), contrast=light.contrast)


def drift(draw: Draw, light: Light) -> Light:
    """Slices differ in brightness, by chance or in a trend such as bleaching."""
    slices = light.image.shape[0]
    gains = torch.exp(draw.log_uniform(0.01, 0.12) * draw.normal(slices))
    if draw.chance(0.5):
        gains = gains * torch.exp(-draw.uniform(0, 0.8) * torch.linspace(0, 1, slices))
        gains = gains.flip(0) if draw.chance(0.5) else gains
    return light.by_slice(gains)


def shift(draw: Draw, light: Light) -> Light:
    """The stage moves between slices: mostly by parts of a pixel, at times by a few."""
    slices, side = light.image.shape[0], light.image.shape[-1]
    spread = draw.uniform(0.1, 0.5) if draw.chance(0.75) else draw.uniform(0.5, 2.0)
    moves = spread * draw.normal(slices, 2)
    moves -= moves[slices // 2].clone()
    image = moved(light.image, moves)
    if light.sharp is None:
        return replace(light, image=image)

    def own(plane: Tensor) -> Tensor:
        return at_height(moved(plane.expand(slices, side, side), moves), light.height)

    return replace(light, image=image, sharp=own(light.sharp), even=None if light.even is None else own(light.even))


def dust(draw: Draw, light: Light) -> Light:
    """Specks near the camera, equally sharp in all slices: detail that tells nothing about focus."""
    side = light.image.shape[-1]
    y, x = grid(side)
    shade = torch.ones(side, side)
    for _ in range(draw.integer(1, 5)):
        radius, edge = draw.log_uniform(1.5, 10), draw.uniform(0.4, 1.5)
        middle, depth = (draw.uniform(0, side), draw.uniform(0, side)), draw.uniform(0.1, 0.6)
        rows, columns = (window(at, 2 * radius + 6, side) for at in middle)
        distance = torch.sqrt((y[rows] - middle[0]) ** 2 + (x[:, columns] - middle[1]) ** 2)
        inside = 1 - (distance - radius).abs() if draw.chance(0.4) else radius - distance  # a ring, or a disc
        form = torch.sigmoid(inside / edge)
        shade[rows, columns] *= 1 - depth * form
    slope = torch.stack(torch.gradient(shade)).square().sum(dim=0).sqrt()
    dirty = torch.nn.functional.max_pool2d(slope[None, None], 7, stride=1, padding=3)[0, 0]
    clean = 1 - (dirty / 0.03).clamp(max=1)
    made = light.scaled(shade)
    # What adds up knows what of it is in focus, dust or not.
    detail = made.detail * clean if light.focus is None else made.detail
    return replace(made, contrast=light.contrast, detail=detail)


# Of the camera


def fixed_pattern(draw: Draw, camera: Camera, light: Light) -> Camera:  # noqa: ARG001
    """Pixels differ in gain."""
    return replace(camera, pattern=draw.log_uniform(0.003, 0.03))


def hot_pixels(draw: Draw, camera: Camera, light: Light) -> Camera:  # noqa: ARG001
    """A few pixels always read high."""
    return replace(camera, hot=draw.log_uniform(1e-4, 3e-3))


def saturate(draw: Draw, camera: Camera, light: Light) -> Camera:
    """The brightest structures overflow, the ground never."""
    low, high = light.image.median(), light.image.amax()
    return replace(camera, ceiling=float(low + (high - low) * draw.uniform(0.4, 0.9)) - camera.black)


def cut_black(draw: Draw, camera: Camera, light: Light) -> Camera:
    """The detector's zero lies above the background, as in many confocal images."""
    low, high = light.image.amin(), light.image.amax()
    black = float((low + draw.uniform(0, 0.1) * (high - low)).clamp(min=0))
    return replace(camera, black=black, ceiling=camera.ceiling - black)


def round_counts(draw: Draw, camera: Camera, light: Light) -> Camera:  # noqa: ARG001
    """Counts come in 8 bits, of which the picture may not use all."""
    return replace(camera, levels=draw.integer(60, 255))


_OF_LIGHT: tuple[Callable[[Draw, Light], Light], ...] = (vignette, drift, shift, dust)
_OF_CAMERA: tuple[Callable[[Draw, Camera, Light], Camera], ...] = (
    fixed_pattern,
    hot_pixels,
    saturate,
    cut_black,
    round_counts,
)


def moved(image: Tensor, moves: Tensor) -> Tensor:
    """Move each slice Z Y X by Z (y, x) pixels, interpolated; borders repeat."""
    slices, side = image.shape[0], image.shape[-1]
    y, x = grid(side)
    to_y, to_x = y - moves[:, 0, None, None], x - moves[:, 1, None, None]  # Z Y 1, Z 1 X
    where = torch.stack([to_x.expand(slices, side, side), to_y.expand(slices, side, side)], dim=-1)
    return torch.nn.functional.grid_sample(
        image[:, None], where / (side - 1) * 2 - 1, mode="bicubic", padding_mode="border", align_corners=True
    )[:, 0]
