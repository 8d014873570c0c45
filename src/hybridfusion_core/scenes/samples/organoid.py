"""A synthetic widefield z-stack of an organoid, and the truth about where its surface lies.

The specimen's light stands in layers of 2 µm; each slice is the sum of all layers, each blurred by its distance
from the slice and dimmed by the tissue above it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.scenes.blur import diffraction_transfer
from hybridfusion_core.scenes.draw import Draw, radial_frequency
from hybridfusion_core.scenes.samples.epithelium import Epithelium, Nucleus, Vector, draw_epithelia
from hybridfusion_core.stack import Axis, Channel, Stack

_PIXEL_UM = 0.325  # 6.5 µm camera pixels behind a 20× objective
_Z_STEP_UM = 4.0
_LAYER_UM = 2.0  # well below the depth of field
_NA = 0.45
_INDEX = 1.36
_MARGIN = 32  # px around the field, because FFTs wrap
_WAVELENGTHS_UM = (0.461, 0.600)
_ELECTRONS = (2600.0, 1900.0)  # at the brightest structures
_BACKGROUND = 0.02  # of the brightest
_COUNTS_PER_ELECTRON, _OFFSET, _READ_NOISE = 2.0, 100.0, 1.6
_ATTENUATION_UM = 90.0  # tissue that takes 63 % of the light
_CHANNELS = (Channel("DAPI", "0099FF", transmitted=False), Channel("membrane", "FF33CC", transmitted=False))


def organoid_stack(size: int = 1024, slices: int = 12, seed: int = 0) -> Stack:
    """Draw a widefield z-stack of hollow epithelia.

    Args:
        size: Y and X in pixels of 0.325 µm, at least 64.
        slices: Z, 4 µm apart, at least 2.
        seed: of everything random.

    Returns:
        C Z Y X, uint16, channels "DAPI" and "membrane", with physical scale.

    Raises:
        UserInputError: too small.
    """
    return organoid_with_surface(size, slices, seed)[0]


def organoid_with_surface(size: int = 1024, slices: int = 12, seed: int = 0) -> tuple[Stack, NDArray[np.float32]]:
    """Draw what `organoid_stack` draws, with the truth about it.

    Returns:
        The stack, and Y X, float32: the slice (0-based, with fraction) in which the middle of the uppermost
        epithelium lies; NaN where there is none.
    """
    if size < 64 or slices < 2:
        raise UserInputError(
            f"An organoid of {size} pixels and {slices} slices was asked for; expected at least 64 pixels and 2 "
            "slices. Ask for more."
        )
    draw = Draw(Generator().manual_seed(seed))
    depth = max(_Z_STEP_UM * (slices - 1), 12.0)
    bodies = draw_epithelia(draw, size * _PIXEL_UM, depth)
    image, surface = _image(bodies, size + 2 * _MARGIN, slices)
    counts = _record(draw, image[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
    pixel = Axis(_PIXEL_UM, "micrometer")
    stack = Stack(counts, "CZYX", "organoid", _CHANNELS, z=Axis(_Z_STEP_UM, "micrometer"), y=pixel, x=pixel)
    return stack, surface[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].numpy()


def _image(bodies: list[Epithelium], side: int, slices: int) -> tuple[Tensor, Tensor]:
    """Light that arrives, C Z y x, and the surface, y x in slices."""
    line = (torch.arange(side) - _MARGIN) * _PIXEL_UM
    highest = max(body.centre[2] + body.height for body in bodies)
    lowest = min(body.centre[2] - body.height for body in bodies)
    layers = range(math.ceil(highest / _LAYER_UM), math.floor(lowest / _LAYER_UM) - 1, -1)  # from the objective on
    per_slice = round(_Z_STEP_UM / _LAYER_UM)
    furthest = max(layers[0], per_slice * (slices - 1) - layers[-1])
    transfers = [_transfers(side, wavelength, furthest + 1) for wavelength in _WAVELENGTHS_UM]
    spectra = torch.zeros(2, slices, side, side // 2 + 1, dtype=torch.complex64)
    above = torch.zeros(side, side)  # µm of tissue
    surface = torch.full((side, side), torch.nan)
    before = torch.full((side, side), torch.inf)
    for layer in layers:
        light, offset = _layer(bodies, layer * _LAYER_UM, line)
        light *= torch.exp(-above / _ATTENUATION_UM)
        above += _LAYER_UM * light[2]
        share = torch.where(before.isfinite(), offset / (offset - before), 0.0)
        surface = torch.where(surface.isnan() & (offset <= 0), (layer + share) * _LAYER_UM / _Z_STEP_UM, surface)
        before = offset
        spectrum = torch.fft.rfft2(light[:2])
        for index in range(slices):
            away = abs(per_slice * index - layer)
            for channel, transfer in enumerate(transfers):
                spectra[channel, index].addcmul_(spectrum[channel], transfer[away])
    return torch.fft.irfft2(spectra, s=(side, side)).clamp(min=0), surface


def _layer(bodies: list[Epithelium], z: float, line: Tensor) -> tuple[Tensor, Tensor]:
    """Light of the nuclei, light of the membranes and share of tissue (3 y x), and distance above the epithelium."""
    side = len(line)
    light = torch.zeros(3, side, side)
    offset = torch.full((side, side), torch.inf)
    for body in bodies:
        if abs(z - body.centre[2]) < body.height:
            _add_epithelium(body, z, line, light, offset)
            for nucleus in body.nuclei:
                _add_nucleus(nucleus, body.centre, z, line, light[0])
    return light, offset


def _add_epithelium(body: Epithelium, z: float, line: Tensor, light: Tensor, offset: Tensor) -> None:
    """Add a cut through an epithelium at height z, in place."""
    down, across = (_span(middle, body.width, len(line)) for middle in body.centre[:2])
    y, x = line[down, None] - body.centre[0], line[None, across] - body.centre[1]
    height = z - body.centre[2]
    distance = torch.sqrt(y * y + x * x + height * height).clamp(min=1e-3)
    radius, *normal = _look_up(body.chart[:4], y, x, height, distance)
    # Of the way along the ray from the centre to the surface, the part along the normal.
    t = (distance - radius) * ((normal[0] * y + normal[1] * x + normal[2] * height) / distance)
    half = body.thickness / 2
    v, u = torch.nonzero(t.abs() < half + 2, as_tuple=True)
    depth = t[v, u]
    # Walls stand along the normal: the foot of the perpendicular tells between which cells a point lies.
    place = torch.stack([y[v, 0], x[0, u], torch.full_like(depth, height)])
    foot = place - depth * torch.stack([part[v, u] for part in normal])
    wall, dye = _look_up(body.chart[4:], foot[0], foot[1], foot[2], foot.square().sum(dim=0).sqrt())
    tissue = torch.sigmoid((half - depth.abs()) / 0.4)
    lateral = torch.exp(-0.5 * (wall / 0.4) ** 2)
    apical = torch.exp(-0.5 * ((depth + half - 0.8) / 1.0) ** 2)
    basal = torch.exp(-0.5 * ((depth - half + 0.8) / 1.0) ** 2)
    belt = 0.45 + 0.8 * torch.exp(-0.5 * ((depth + half - 1.5) / 1.6) ** 2)  # junctions lie near the lumen
    v, u = v + down.start, u + across.start
    light[0, v, u] += 0.03 * tissue
    light[1, v, u] += tissue * dye * (lateral * belt + 0.35 * apical + 0.10 * basal + 0.05)
    light[2, v, u] = torch.maximum(light[2, v, u], tissue)
    offset[down, across] = torch.minimum(offset[down, across], t)


def _look_up(chart: Tensor, y: Tensor, x: Tensor, z: Tensor | float, distance: Tensor) -> Tensor:
    """Read a chart in the direction of y, x, z. -> C and their shape."""
    # Lambert's projection in the units of grid_sample: 1 at the pole that looks away.
    scale = math.sqrt(0.5) / torch.sqrt((distance * (distance + z)).clamp(min=1e-3))
    where = torch.stack(torch.broadcast_tensors(x * scale, y * scale), dim=-1)
    where = where.reshape(1, 1, -1, 2)
    return torch.nn.functional.grid_sample(chart[None], where, align_corners=True).reshape(len(chart), *distance.shape)


def _add_nucleus(nucleus: Nucleus, centre: Vector, z: float, line: Tensor, light: Tensor) -> None:
    """Add a cut through a nucleus at height z, in place."""
    height = z - centre[2] - nucleus.centre[2]
    if abs(height) > nucleus.reach:
        return
    middle = [centre[axis] + nucleus.centre[axis] for axis in range(2)]
    down, across = (_span(place, nucleus.reach, len(light)) for place in middle)
    y, x = line[down, None] - middle[0], line[None, across] - middle[1]
    a, b, c = nucleus.half
    along, aside = (y * axis[0] + x * axis[1] + height * axis[2] for axis in (nucleus.long, nucleus.wide))
    square = y * y + x * x + height * height
    third = (square - along * along - aside * aside).clamp(min=0)
    q = torch.sqrt((along / a) ** 2 + (aside / b) ** 2 + third / c**2)
    step = round(z / _LAYER_UM) * 7 % 60  # every layer has a grain of its own
    grain = nucleus.grain[step : step + q.shape[0], : q.shape[1]]
    body = torch.sigmoid((1 - q) * c / 0.3 + 0.4 * grain)
    chromatin = 0.55 * (1 + 0.3 * grain)
    for v, u, w, size, strength in nucleus.spots.tolist():
        away = (y - v) ** 2 + (x - u) ** 2 + (height - w) ** 2 / 4  # at least a layer high
        chromatin = chromatin + 0.55 * strength * torch.exp(-0.5 * away / size**2)
    light[down, across] += nucleus.light * body * chromatin.clamp(min=0.05)


def _span(middle: float, reach: float, side: int) -> slice:
    """Pixels within reach of a place, in µm."""
    first = math.floor((middle - reach) / _PIXEL_UM) + _MARGIN
    last = math.ceil((middle + reach) / _PIXEL_UM) + _MARGIN
    return slice(min(max(first, 0), side), min(max(last, 0), side))


def _transfers(side: int, wavelength: float, count: int) -> Tensor:
    """Transfer functions for 0 … count − 1 layers of defocus. -> count fy fx."""
    frequency = torch.linspace(0, math.sqrt(0.5), 8192)[None]  # they are round: one line of each is enough
    spread = torch.arange(count) * (_LAYER_UM * math.tan(math.asin(_NA / _INDEX)) / 2 / _PIXEL_UM)
    # Aberrations smooth the rings that a perfect lens would draw.
    smooth = torch.exp(-2 * (math.pi * frequency * 0.45 * spread[:, None, None]) ** 2)
    lines = smooth * diffraction_transfer(frequency, spread, 2 * _NA / wavelength * _PIXEL_UM)
    place = (radial_frequency(side) * (8191 / math.sqrt(0.5))).round().long()
    return lines[:, 0, place]


def _record(draw: Draw, image: Tensor) -> NDArray[np.uint16]:
    """What the camera makes of the light. C Z Y X -> the same, counts."""
    size = image.shape[-1]
    line = torch.linspace(-1, 1, size)
    lamp = 1 - 0.12 * (line[:, None] ** 2 + line**2) / 2
    counts = np.empty(image.shape, dtype=np.uint16)
    for channel, electrons in enumerate(_ELECTRONS):
        # Whatever the seed draws is exposed alike; every fourth pixel is enough to find its brightest.
        brightest = float(image[channel, :, ::4, ::4].flatten().quantile(0.9995))
        for index, plane in enumerate(image[channel]):
            expected = electrons * lamp * (plane / brightest + _BACKGROUND)
            recorded = torch.poisson(expected, generator=draw.generator) + _READ_NOISE * draw.normal(size, size)
            counts[channel, index] = (_OFFSET + _COUNTS_PER_ELECTRON * recorded).round().clamp(0, 65535).numpy()
    return counts
