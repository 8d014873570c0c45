"""Two photographs of fallen leaves: opaque near leaves before a far ground, one of them in focus in each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hybridfusion_core.scenes.blur import diffraction_transfer
from hybridfusion_core.scenes.draw import Draw, radial_frequency, smooth_field
from hybridfusion_core.stack import Stack

_SIZE = 520  # px
_MARGIN = 32  # px around it, because FFTs wrap


def pair_stack(seed: int = 0) -> Stack:
    """Draw two photographs of fallen leaves: the first focused on a near twig, the second on the ground.

    Args:
        seed: of everything random.

    Returns:
        Z Y X, uint8, 2 × 520 × 520, without physical scale.
    """
    draw = Draw(Generator().manual_seed(seed))
    side = _SIZE + 2 * _MARGIN
    ground = 0.16 + 0.05 * smooth_field(draw, side, 1.0, 1.0)
    _drop_leaves(draw, ground, torch.ones_like(ground), 420, (22.0, 60.0))
    near, cover = torch.zeros(side, side), torch.zeros(side, side)
    _drop_leaves(draw, near, cover, 5, (130.0, 210.0))
    transfer = diffraction_transfer(radial_frequency(side), torch.tensor([0.0, 4.5]), 0.95)
    sharp_ground, soft_ground = _filtered(ground, transfer)
    sharp_near, soft_near = _filtered(near, transfer)
    sharp_cover, soft_cover = _filtered(cover, transfer).clamp(0, 1)
    light = torch.stack([sharp_near + (1 - sharp_cover) * soft_ground, soft_near + (1 - soft_cover) * sharp_ground])
    light = light[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    counts = (235 * light + draw.normal(*light.shape)).round().clamp(0, 255)
    return Stack(counts.to(torch.uint8).numpy(), "ZYX", "pair")


def _drop_leaves(draw: Draw, image: Tensor, cover: Tensor, count: int, lengths: tuple[float, float]) -> None:
    """Lay leaves upon each other, in place. Image and coverage y x in [0, 1]."""
    side = len(image)
    grain = smooth_field(draw, side, 0.8, 1.0)
    for _ in range(count):
        length = draw.log_uniform(*lengths)
        y, x = draw.uniform(0, side), draw.uniform(0, side)
        down, across = (slice(max(0, int(at - length)), min(side, int(at + length))) for at in (y, x))
        v, u = torch.arange(side)[down, None] - y, torch.arange(side)[None, across] - x
        turn, shade = draw.uniform(0, math.tau), draw.uniform(0.25, 0.85)
        leaf = _Leaf(length, math.cos(turn), math.sin(turn), draw.uniform(0.3, 0.55))
        shadow = 0.55 * torch.sigmoid(leaf.inside(v - 0.06 * length, u - 0.06 * length) / (0.03 * length))
        inside = (leaf.inside(v, u) + 0.5).clamp(0, 1)  # half a pixel of anti-aliasing
        tone = (shade * leaf.relief(v, u) * (1 + 0.09 * grain[down, across])).clamp(0.02, 1)
        under = image[down, across] * (1 - shadow * cover[down, across])
        image[down, across] = under * (1 - inside) + tone * inside
        cover[down, across] = torch.maximum(cover[down, across], inside)


@dataclass(frozen=True)
class _Leaf:
    """A leaf of a length in px, turned by an angle given as cosine and sine, and its width per length."""

    length: float
    cosine: float
    sine: float
    width: float

    def _own(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along the midrib and across it, −1 … 1 from stalk to tip."""
        half = self.length / 2
        return (u * self.cosine + v * self.sine) / half, (v * self.cosine - u * self.sine) / half

    def inside(self, v: Tensor, u: Tensor) -> Tensor:
        """About the distance to the rim in px, positive inside. Offsets from the middle in px -> y x."""
        along, across = self._own(v, u)
        rim = self.width * (1 - along.square()).clamp(min=0) ** 0.8 * (1 - 0.35 * along)
        return torch.where(along.abs() < 1, rim - across.abs(), -across.abs() - 1e-2) * (self.length / 2)

    def relief(self, v: Tensor, u: Tensor) -> Tensor:
        """Brightness relative to the shade: one half lit, pale veins."""
        along, across = self._own(v, u)
        tilt = 0.12 * torch.tanh(12 * across)
        midrib = torch.exp(-0.5 * (across / (0.02 * (1.3 - along))) ** 2)
        phase = 7 * (along - 0.9 * across.abs())
        side_veins = torch.exp(-0.5 * ((phase - phase.round()) / 0.07) ** 2)
        return 0.85 + tilt + 0.35 * midrib + 0.18 * side_veins - 0.1 * torch.cos(math.tau * phase)


def _filtered(image: Tensor, transfer: Tensor) -> Tensor:
    """Pass an image y x through transfer functions n fy fx -> n y x."""
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * transfer, s=image.shape)
    return filtered
