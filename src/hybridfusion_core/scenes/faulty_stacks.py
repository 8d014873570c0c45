"""Stacks of which one thing is wrong and the rest is right: for the laws of `assess`.

Sound ones hold one surface, or lonely things, well inside the stack, at steps of at most the depth of field. Nothing of
what `disturbances` does to the scenes of a training happens here unless it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.disturbances import moved
from hybridfusion_core.scenes.draw import Draw, grid, smooth_field
from hybridfusion_core.scenes.optics import CONDENSERS, Microscope
from hybridfusion_core.scenes.planes import Planes, plan_planes
from hybridfusion_core.scenes.specimens import debris
from hybridfusion_core.scenes.textures import filaments, fractal, membranes, nuclei
from hybridfusion_core.scenes.transmitted import transmitted_image
from hybridfusion_core.scenes.unstained import adherent_cells
from hybridfusion_core.scenes.volume import Widefield
from hybridfusion_core.stack import Axis, Channel, Stack

_MARGIN = 16
_OBJECTIVES = ((0.3, 1.0, 0.65), (0.45, 1.0, 0.325), (0.75, 1.0, 0.325), (0.95, 1.0, 0.1625), (1.2, 1.33, 0.1083))
_OFFSET, _FULL = 100.0, 8000.0


@dataclass(frozen=True)
class Drawn:
    """What is drawn; the faults change one of it.

    Attributes:
        slices: Z.
        size: Y and X, pixels.
        steps: the distance between slices in depths of field.
        cut: slices that are missing at the start, and at the end.
        drift: pixels by which the last slice lies off the first.
        layers: surfaces, one behind the other.
        transmitted: in truth; and what the file says.
        declared: what the file says of it.
        states_optics: the file has the aperture.
        bleach: share of the light that is gone in the last slice.
        lamp: share of the light that is lost in the corners.
        ceiling: light at which the camera is full, in parts of the brightest.
        hot: share of pixels that always read high.
        black: share of the pixels whose light is cut off.
        empty: nothing is there.
    """

    slices: int = 11
    size: int = 192
    steps: tuple[float, float] = (0.4, 1.0)
    cut: tuple[int, int] = (0, 0)
    drift: float = 0.0
    layers: int = 1
    transmitted: bool = False
    declared: bool | None = None
    states_optics: bool | None = None
    bleach: float = 0.0
    lamp: float = 0.0
    ceiling: float = math.inf
    hot: float = 0.0
    black: float = 0.0
    empty: bool = False


FAULTS: dict[str, tuple[str, Drawn]] = {
    "cut at the start": ("cut_at_start", Drawn(cut=(5, 0))),
    "cut at the end": ("cut_at_end", Drawn(cut=(0, 5))),
    "too coarse, aperture known": ("too_coarse", Drawn(slices=6, steps=(3.0, 5.0), states_optics=True)),
    "too coarse, aperture unknown": ("too_coarse", Drawn(slices=6, steps=(3.0, 5.0), states_optics=False)),
    "transmitted said to be fluorescence": ("modality", Drawn(transmitted=True, declared=False)),
    "drift of 2 px": ("drift", Drawn(drift=2.0)),
    "two layers": ("two_surfaces", Drawn(layers=2)),
    "saturated": ("saturated", Drawn(ceiling=0.5)),
    "ground cut off": ("clipped", Drawn(black=0.3)),
    "hot pixels": ("bad_pixels", Drawn(hot=1e-3)),
    "bleached by half": ("bleaching", Drawn(bleach=0.5)),
    "dark corners, transmitted": ("uneven_light", Drawn(lamp=0.6, transmitted=True)),
    "empty": ("nothing_in_focus", Drawn(empty=True)),
}


def draw_stack(seed: int, what: Drawn) -> Stack:
    """Draw one stack: Z Y X, uint16, as a microscope's file would give it."""
    draw = Draw(Generator().manual_seed(seed))
    na, index, pixel = draw.choice(_OBJECTIVES)
    microscope = Microscope(na, index, draw.uniform(0.48, 0.62), pixel, draw.choice(CONDENSERS))
    slices = what.slices + sum(what.cut)
    step = draw.uniform(*what.steps) * microscope.depth_of_field()
    planes = replace(plan_planes(slices, step), beyond=2)
    light = (
        _transmitted(draw, microscope, planes, what) if what.transmitted else _emitted(draw, microscope, planes, what)
    )
    light = light[what.cut[0] : slices - what.cut[1]]
    light = _disturbed(draw, light, what)
    photons = draw.log_uniform(300, 10_000) * (10 if what.transmitted else 1)  # a lamp is brighter than any dye
    camera = Camera(photons, draw.uniform(0.5, 2.5) / photons, ceiling=what.ceiling, hot=what.hot)
    if what.black:
        camera = replace(camera, black=float(light.flatten()[::7].quantile(what.black)), ceiling=1e9)
    counts = camera.record(draw, light)
    counts = _FULL * counts + (0.0 if what.black else _OFFSET)
    array = counts.round().clamp(0, 65535).numpy().astype(np.uint16)
    declared = what.transmitted if what.declared is None else what.declared
    stated = draw.chance(0.5) if what.states_optics is None else what.states_optics
    scale = Axis(pixel, "micrometer")
    return Stack(
        array,
        "ZYX",
        f"seed {seed}",
        (Channel("signal", transmitted=declared),),
        z=Axis(step * pixel, "micrometer"),
        y=scale,
        x=scale,
        na=na if stated else None,
    )


def _emitted(draw: Draw, microscope: Microscope, planes: Planes, what: Drawn) -> Tensor:
    side = what.size + 2 * _MARGIN
    emission = torch.zeros(planes.count, side, side)
    if what.empty:
        return 0.05 + torch.zeros(planes.slices, what.size, what.size)
    lowest, highest = _reach(draw, planes, what)
    for number in range(what.layers):
        if what.layers == 1 and draw.chance(0.2):
            inner = replace(planes, beyond=planes.beyond)
            dots = debris(draw, side, inner)
            keep = (torch.arange(planes.count) >= planes.position(lowest)) & (
                torch.arange(planes.count) <= planes.position(highest)
            )
            emission += dots * keep[:, None, None]
            if not emission.any():
                emission[planes.count // 2] = nuclei(draw, side)
            continue
        # Lonely nuclei seldom lie behind each other: two layers that are meant to be seen fill the field.
        textures = (
            (nuclei, nuclei, membranes, filaments, fractal) if what.layers == 1 else (membranes, filaments, fractal)
        )
        texture = draw.choice(textures)(draw, side)
        texture = texture - texture.min()
        texture = texture / texture.max()
        if what.layers == 2:
            middle = (0.2, 0.8)[number] * (planes.slices - 1)
            height = (middle + 0.3 * smooth_field(draw, side, 2.5, 1.0)).clamp(0.7, planes.slices - 1.7)
        else:
            field = smooth_field(draw, side, 2.5, 1.0)
            height = (0.5 + 0.2 * draw.uniform(0.2, 1.2) * field).clamp(0, 1) * (highest - lowest) + lowest
        emission += planes.splat(texture, height)
    image, _ = Widefield(microscope, planes).image(emission, _MARGIN)
    image = image / image.flatten().kthvalue(int(0.999 * image.numel())).values.clamp(min=1e-6)
    return image.clamp(min=0) + draw.log_uniform(0.005, 0.1)


def _reach(draw: Draw, planes: Planes, what: Drawn) -> tuple[float, float]:
    """Lowest and highest slice of the specimen: inside, or largely in what is cut off."""
    if what.cut[0]:
        return 1.5, what.cut[0] + 0.5 * what.slices
    if what.cut[1]:
        return 0.5 * what.slices, planes.slices - 2.5
    middle, half = 0.5 * (planes.slices - 1), draw.uniform(0.1, 0.5) * (planes.slices - 5)
    return middle - half, middle + half


def _transmitted(draw: Draw, microscope: Microscope, planes: Planes, what: Drawn) -> Tensor:
    side = what.size + 2 * _MARGIN
    phase = adherent_cells(draw, side, planes)
    middle = planes.position(0.5 * (planes.slices - 1) + draw.uniform(-1.5, 1.5))
    thin = phase.sum(dim=0)
    phase = torch.zeros_like(phase)
    phase[int(middle)] = thin * (draw.log_uniform(0.5, 1.2) / thin.max().clamp(min=1e-6))
    absorption = phase * draw.choice((0.02, 0.05, draw.uniform(0.05, 0.4)))
    image = transmitted_image(microscope, planes, phase, absorption).clamp(min=0.02)
    return 0.5 * image[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _disturbed(draw: Draw, light: Tensor, what: Drawn) -> Tensor:
    z = torch.linspace(0, 1, len(light))
    if what.drift:
        turn = draw.uniform(0, math.tau)
        light = moved(light, what.drift * z[:, None] * torch.tensor([[math.sin(turn), math.cos(turn)]]).float())
    if what.bleach:
        light = light * (1 - what.bleach) ** z[:, None, None]
    if what.lamp:
        y, x = grid(light.shape[-1])
        square = (y / light.shape[-1] - 0.5) ** 2 + (x / light.shape[-1] - 0.5) ** 2
        light = light * (1 - what.lamp * 2 * square)
    return light
