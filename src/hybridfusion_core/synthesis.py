"""Synthetic focal stacks with known truth: scenes, heights, defocus and cameras.

Everything random comes from the `torch.Generator` that is handed in, so a seed is a data set.
A scene is layers of texture, each on its own height map; a layer is blurred by the distance of each slice
from it, and an opaque layer hides what lies behind it (its coverage is blurred along with it, which is
where the defocus spread effect of occluding edges comes from).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

T = TypeVar("T")
Noise = Literal["clean", "ordinary", "starved"]
NOISES: tuple[Noise, ...] = ("clean", "ordinary", "starved")

_LEVELS = 9  # blurred copies between which the blur of a pixel is interpolated
_MARGIN = 16  # px computed around the scene and dropped, because FFTs wrap


@dataclass(frozen=True)
class Scene:
    """One synthetic stack and everything that is true about it.

    Attributes:
        counts: Z Y X, what the camera recorded, float32, ≥ 0.
        truth: Y X, the noise-free all-in-focus image in the same counts.
        height: Y X, position of the surface in slices, clipped to [0, Z − 1].
        structure: Y X in [0, 1], how far the detail of the surface stands out of the noise.
        boundary: Y X, bool, within 8 px of a step in height.
        noise: typical standard deviation of the noise in counts.
    """

    counts: Tensor
    truth: Tensor
    height: Tensor
    structure: Tensor
    boundary: Tensor
    noise: float


def make_scene(slices: int, size: int, noise: Noise, generator: Generator, haze: float = 0.35) -> Scene:
    """Draw one scene.

    Args:
        slices: Z.
        size: Y and X in pixels.
        noise: "clean" 0.05–0.5 % of full scale; "ordinary" 300–5,000 photons at full scale;
            "starved" 20–100 photons.
        generator: source of all randomness.
        haze: probability of out-of-focus haze that differs from slice to slice.
    """
    draw = Draw(generator)
    side = size + 2 * _MARGIN
    blur = _draw_blur(draw, side)
    ground = draw.choice(_TEXTURES)(draw, side)
    height = draw.choice(_HEIGHTS)(draw, side, slices)
    top = height
    image = _defocus(ground, height, slices, blur)  # Z y x
    truth = ground
    if draw.uniform() < 0.45:
        cover, cover_texture, cover_height = _occluder(draw, side, slices)
        # The cover is blurred as light times coverage, and its coverage alike: α-matting of two layers.
        coverage = _defocus(cover, cover_height, slices, blur).clamp(0, 1)
        image = image * (1 - coverage) + _defocus(cover_texture * cover, cover_height, slices, blur)
        truth = truth * (1 - cover) + cover_texture * cover
        top = torch.where(cover > 0.5, cover_height, height)
    image, truth, top = (_crop(part) for part in (image, truth, top))
    image, truth, contrast = _expose(draw, image, truth)
    detail = _local_contrast(truth)
    photons, read = _camera(draw, noise)
    sd = torch.sqrt(truth.clamp(min=0) / photons + read**2)
    structure = detail.square() / (detail.square() + 0.25 * sd.square() + (0.01 * contrast) ** 2)
    if draw.uniform() < haze:
        light = _crop(_haze(draw, side, slices)) * contrast
        image = image + light
        # Only a choice of slices can be asked for: with detail comes the haze of its own slice, and where
        # there is none the mean of all is the one estimate that no slice biases.
        own = _at_height(light, top)
        truth = truth + structure * own + (1 - structure) * light.mean(dim=0)
    counts = _record(draw, image, photons, read)
    return Scene(counts, truth, top.clamp(0, slices - 1), structure, _near_step(top), float(sd.median()))


class Draw:
    """Scalars and fields from one generator."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return low ≤ x < high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log_uniform(self, low: float, high: float) -> float:
        """Return low ≤ x < high, each order of magnitude as likely as the next."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Return low ≤ n ≤ high."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, options: tuple[T, ...]) -> T:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def normal(self, *shape: int) -> Tensor:
        """Return Gaussian numbers of mean 0 and variance 1."""
        return torch.randn(shape, generator=self.generator)

    def uniforms(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator)


# Textures: (draw, side) -> y x in about [0, 1]


def _fractal(draw: Draw, side: int) -> Tensor:
    """Noise whose amplitude falls as 1/f^β."""
    return _unit(smooth_field(draw, side, draw.uniform(0.8, 2.0), 1.0))


def _nuclei(draw: Draw, side: int) -> Tensor:
    """Textured ellipses on an empty background."""
    y, x = _grid(side)
    image = torch.zeros(side, side)
    chromatin = 0.6 + 0.4 * _fractal(draw, side)
    spread = draw.log_uniform(3, 14)
    for _ in range(draw.integer(2, max(3, int(0.5 * (side / (2.5 * spread)) ** 2) + 2))):
        angle, ratio = draw.uniform(0, math.pi), draw.uniform(0.6, 1.0)
        dy, dx = y - draw.uniform(0, side), x - draw.uniform(0, side)
        radius = spread * draw.uniform(0.7, 1.4)
        u = (dx * math.cos(angle) + dy * math.sin(angle)) / radius
        v = (dy * math.cos(angle) - dx * math.sin(angle)) / (radius * ratio)
        edge = draw.uniform(0.5, 1.5) / radius
        inside = torch.sigmoid((1 - torch.sqrt(u * u + v * v + 1e-9)) / edge)
        image = torch.maximum(image, inside * chromatin * draw.uniform(0.3, 1.0))
    return image + draw.uniform(0, 0.1)


def _membranes(draw: Draw, side: int) -> Tensor:
    """Bright lines between the cells of a Voronoi mosaic, with some cytoplasm."""
    first, second = _voronoi(draw, side, draw.log_uniform(8, 30))
    width = draw.uniform(0.7, 2.0)
    line = torch.exp(-0.5 * ((second - first) / (2 * width)) ** 2)
    return line * (0.6 + 0.4 * _fractal(draw, side)) + draw.uniform(0, 0.3) * _fractal(draw, side)


def _dead_leaves(draw: Draw, side: int) -> Tensor:
    """Opaque discs of power-law size dropped upon each other: sharp edges at every scale (Lee et al. 2001)."""
    y, x = _grid(side)
    image = torch.full((side, side), draw.uniform())
    count = 120
    radii = 2.0 / torch.sqrt(draw.uniforms(count) * (1 - (2.0 / (side / 3)) ** 2) + (2.0 / (side / 3)) ** 2)
    centres = draw.uniforms(count, 2) * side
    shades = draw.uniforms(count)
    square = draw.uniform() < 0.3
    grain = draw.uniform(0, 0.3) * (_fractal(draw, side) - 0.5)
    for radius, centre, shade in zip(radii.flip(0), centres, shades, strict=True):
        dy, dx = (y - centre[0]).abs(), (x - centre[1]).abs()
        distance = torch.maximum(dy, dx) if square else torch.sqrt(dy * dy + dx * dx)
        cover = (radius - distance + 0.5).clamp(0, 1)  # half a pixel of anti-aliasing
        image = image * (1 - cover) + shade * cover
    return (image + grain).clamp(min=0)


def _filaments(draw: Draw, side: int) -> Tensor:
    """Level lines of smooth fields: thin curved fibres."""
    image = torch.zeros(side, side)
    for _ in range(draw.integer(2, 6)):
        field = smooth_field(draw, side, 2.2, draw.uniform(0.5, 1.0))
        slope = torch.sqrt(sum((part.square() for part in torch.gradient(field)), torch.zeros(()))) + 1e-4
        distance = (field - draw.uniform(-1, 1)).abs() / slope  # px from the level line
        image = torch.maximum(image, torch.exp(-0.5 * (distance / draw.uniform(0.6, 1.4)) ** 2) * draw.uniform(0.3, 1))
    return image + draw.uniform(0, 0.1)


def _empty(draw: Draw, side: int) -> Tensor:
    """Even light: a field without specimen."""
    return torch.full((side, side), draw.uniform(0.05, 1))


def _photograph(draw: Draw, side: int) -> Tensor:
    """A random piece of a photograph that scikit-image carries."""
    picture = draw.choice(_photographs())
    scale = draw.choice((1, 1, 2))
    span = side * scale
    top, left = draw.integer(0, picture.shape[0] - span), draw.integer(0, picture.shape[1] - span)
    piece = picture[top : top + span, left : left + span]
    piece = torch.nn.functional.avg_pool2d(piece[None, None], scale)[0, 0] if scale > 1 else piece
    turned: Tensor = torch.rot90(piece, draw.integer(0, 3))
    return turned


_TEXTURES: tuple[Callable[[Draw, int], Tensor], ...] = (
    _fractal,
    _nuclei,
    _nuclei,
    _membranes,
    _dead_leaves,
    _dead_leaves,
    _filaments,
    _photograph,
    _empty,
)


@lru_cache(maxsize=1)
def _photographs() -> tuple[Tensor, ...]:
    from skimage import data  # noqa: PLC0415 - slow to import, needed for training alone

    names = ("camera", "brick", "grass", "gravel", "moon", "page", "coins", "text")
    pictures = (np.asarray(getattr(data, name)(), dtype=np.float32) / 255 for name in names)
    return tuple(torch.from_numpy(picture) for picture in pictures if min(picture.shape) >= 300)


# Heights: (draw, side, slices) -> y x in slices


def _flat(draw: Draw, side: int, slices: int) -> Tensor:
    """Every point at one depth, perhaps tilted."""
    y, x = _grid(side)
    tilt = draw.uniform(-1, 1) * slices / side / 2
    turn = draw.uniform(0, math.tau)
    return draw.uniform(0, slices - 1) + tilt * (math.cos(turn) * (y - side / 2) + math.sin(turn) * (x - side / 2))


def _rolling(draw: Draw, side: int, slices: int) -> Tensor:
    """Smooth hills through the whole depth."""
    field = smooth_field(draw, side, draw.uniform(2.0, 3.0), 1.0)
    return (0.5 + 0.3 * draw.uniform(0.5, 1.2) * field).clamp(-0.1, 1.1) * (slices - 1)


def _terraces(draw: Draw, side: int, slices: int) -> Tensor:
    """Steps between level grounds."""
    field = smooth_field(draw, side, 2.5, 1.0)
    steps = draw.integer(2, 4)
    index = torch.bucketize(field, torch.linspace(-1, 1, steps + 1)[1:-1])
    return draw.uniforms(steps)[index] * (slices - 1)


_HEIGHTS: tuple[Callable[[Draw, int, int], Tensor], ...] = (_flat, _rolling, _rolling, _terraces)


def _occluder(draw: Draw, side: int, slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Opaque discs in front of the ground: coverage, texture and height, y x each."""
    y, x = _grid(side)
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
    texture = draw.choice(_TEXTURES)(draw, side)
    return cover, texture * draw.uniform(0.5, 1.5), height


# Defocus


@dataclass(frozen=True)
class _Blur:
    """Transfer functions for increasing defocus, and how many slices apart they are."""

    transfer: Tensor  # level fy fx
    step: float  # slices of defocus between two levels


def _draw_blur(draw: Draw, side: int) -> _Blur:
    """Gaussian, geometric disc or diffraction-limited defocus of a drawn strength."""
    per_slice = draw.log_uniform(0.5, 2.5)  # px of blur radius per slice
    furthest = min(9.0, 6 * per_slice)
    radii = torch.linspace(0, furthest, _LEVELS)
    frequency = radial_frequency(side)
    kind = draw.integer(0, 2)
    if kind == 0:
        transfer = torch.exp(-2 * (math.pi * frequency * radii[:, None, None]) ** 2)
    elif kind == 1:
        argument = math.tau * frequency * 2 * radii[:, None, None]  # a disc's standard deviation is half its radius
        transfer = torch.where(argument < 1e-3, 1.0, 2 * torch.special.bessel_j1(argument) / argument.clamp(min=1e-3))
    else:
        transfer = diffraction_transfer(frequency, radii, draw.uniform(0.35, 0.9))
    if draw.uniform() < 0.5:
        transfer = transfer * torch.exp(-2 * (math.pi * frequency * draw.uniform(0.2, 0.7)) ** 2)
    return _Blur(transfer, step=furthest / (_LEVELS - 1) / per_slice)


def diffraction_transfer(frequency: Tensor, radii: Tensor, cutoff: float) -> Tensor:
    """Incoherent transfer function of a defocused circular pupil (Hopkins 1955, in Stokseth's approximation).

    Args:
        frequency: fy fx in cycles per pixel.
        radii: level, geometric standard deviation of the blur in pixels.
        cutoff: of the objective, cycles per pixel.
    """
    v = (frequency / cutoff).clamp(max=1)
    in_focus = 2 / math.pi * (torch.acos(v) - v * torch.sqrt(1 - v * v))
    # Geometric disc of radius 2σ whose transfer is damped towards the cut-off: J₁ of 2π f r (1 − v).
    argument = math.tau * frequency * 2 * radii[:, None, None] * (1 - v)
    jinc = torch.where(argument < 1e-3, 1.0, 2 * torch.special.bessel_j1(argument) / argument.clamp(min=1e-3))
    return in_focus * jinc


def _defocus(layer: Tensor, height: Tensor, slices: int, blur: _Blur) -> Tensor:
    """Blur each pixel by its distance from each slice. Layer and height y x -> Z y x."""
    spectrum = torch.fft.rfft2(layer)
    levels = torch.fft.irfft2(spectrum * blur.transfer, s=layer.shape)  # level y x
    planes = torch.arange(slices, dtype=layer.dtype)[:, None, None]
    position = ((planes - height).abs() / blur.step).clamp(max=_LEVELS - 1.001)  # Z y x
    below = position.long()
    share = position - below
    blurred: Tensor = levels.gather(0, below) * (1 - share) + levels.gather(0, below + 1) * share
    return blurred


# Light and camera


def _expose(draw: Draw, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, float]:
    """Scale to a full scale of one with some background; returns the contrast too."""
    top = truth.flatten().kthvalue(int(0.998 * truth.numel())).values.clamp(min=1e-3)
    contrast = draw.log_uniform(0.3, 1.0) if draw.uniform() < 0.3 else 1.0
    background = draw.uniform(0, 0.3) * contrast
    if draw.uniform() < 0.3:  # dark specimens on bright ground
        image, truth = (top - image).clamp(min=0), (top - truth).clamp(min=0)
    return (image / top * contrast + background, truth / top * contrast + background, contrast)


def _haze(draw: Draw, side: int, slices: int) -> Tensor:
    """Structureless light whose strength changes from slice to slice, Z y x, contrast 1."""
    field = _unit(smooth_field(draw, side, 3.0, 1.0))
    planes = torch.linspace(0, 1, slices)
    centre, width = draw.uniform(-0.3, 1.3), draw.uniform(0.2, 0.8)
    profile = torch.exp(-0.5 * ((planes - centre) / width) ** 2)
    if draw.uniform() < 0.5:
        profile = 1 - profile
    return draw.uniform(0.1, 1.0) * profile[:, None, None] * (0.6 + 0.4 * field)


def _camera(draw: Draw, noise: Noise) -> tuple[float, float]:
    """Photons at full scale and read noise as a part of full scale."""
    if noise == "clean":
        return 1e7, draw.log_uniform(5e-4, 5e-3)
    photons = draw.log_uniform(300, 5_000) if noise == "ordinary" else draw.log_uniform(20, 100)
    return photons, draw.uniform(0, 2) / photons


def _record(draw: Draw, image: Tensor, photons: float, read: float) -> Tensor:
    """Shot and read noise, in units of full scale. Z y x."""
    expected = image.clamp(min=0) * photons
    shot = torch.poisson(expected, generator=draw.generator) if photons < 1e6 else expected
    return (shot / photons + read * draw.normal(*image.shape)).float()


# Small parts


def _grid(side: int) -> tuple[Tensor, Tensor]:
    line = torch.arange(side, dtype=torch.float32)
    return line[:, None], line[None, :]


def radial_frequency(side: int) -> Tensor:
    """Radial frequency in cycles per pixel, as `rfft2` lays it out."""
    return torch.sqrt(torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side)[None, :] ** 2)


def smooth_field(draw: Draw, side: int, slope: float, sd: float) -> Tensor:
    """Random field of zero mean whose amplitude falls with frequency to the power −slope."""
    frequency = radial_frequency(side)
    spectrum = torch.fft.rfft2(draw.normal(side, side)) * frequency.clamp(min=1 / side) ** -slope
    spectrum[0, 0] = 0
    field = torch.fft.irfft2(spectrum, s=(side, side))
    scaled: Tensor = sd * field / field.std()
    return scaled


def _unit(field: Tensor) -> Tensor:
    return (0.5 + 0.25 * field).clamp(0, 1)


def _voronoi(draw: Draw, side: int, spacing: float) -> tuple[Tensor, Tensor]:
    """Distances to the nearest and second nearest of random points."""
    points = draw.uniforms(max(4, int((side / spacing) ** 2)), 2) * side
    y, x = _grid(side)
    distance = torch.sqrt((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2)  # y x n
    nearest = distance.topk(2, dim=-1, largest=False).values
    return nearest[..., 0], nearest[..., 1]


def _crop(field: Tensor) -> Tensor:
    return field[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _local_contrast(image: Tensor) -> Tensor:
    """Standard deviation in 7 × 7 neighbourhoods."""
    x = torch.nn.functional.pad(image[None, None], (3, 3, 3, 3), mode="reflect")
    mean = torch.nn.functional.avg_pool2d(x, 7, stride=1)
    square = torch.nn.functional.avg_pool2d(x * x, 7, stride=1)
    return (square - mean * mean).clamp(min=0).sqrt()[0, 0]


def _at_height(light: Tensor, height: Tensor) -> Tensor:
    """Z y x at a height y x, interpolated between slices."""
    position = height.clamp(0, light.shape[0] - 1)
    below = position.long().clamp(max=max(light.shape[0] - 2, 0))
    share = position - below
    lower, upper = light.gather(0, below[None])[0], light.gather(0, (below + 1).clamp(max=light.shape[0] - 1)[None])[0]
    return lower * (1 - share) + upper * share


def _near_step(height: Tensor) -> Tensor:
    """Within 8 px of a jump of more than one slice."""
    jump = torch.zeros_like(height, dtype=torch.bool)
    jump[1:] |= (height[1:] - height[:-1]).abs() > 1
    jump[:, 1:] |= (height[:, 1:] - height[:, :-1]).abs() > 1
    return torch.nn.functional.max_pool2d(jump[None, None].float(), 17, stride=1, padding=8)[0, 0] > 0
