"""The coarse level: Swin-V2 blocks on a binned guide, which see far at next to no cost.

Two things need more view than fine detail gives. Whether anything is in focus at a pixel at all: the blurred rim of
something bright has gradients far above the noise. And which slice light belongs to that is in focus nowhere: beside
a structure it is that structure's. Tokens hold what can be said of a cell cheaply, and what comes out is interpolated
between tokens, so that neither cells nor windows show.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybridfusion_core.model.config import CELL_FEATURES, LAPLACIAN_NOISE_ENERGY, NetworkConfig
from hybridfusion_core.model.exchange import exchanged, fold, pooled
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY, gradient_energy, laplacian
from hybridfusion_core.model.swin import SwinBlock

_SMALL = 0.02  # standard deviation of weights whose layer should start by changing little


class CoarseLevel(nn.Module):
    """Tokens of a binned guide and what they say.

    Args:
        config: sizes.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.embed = nn.Conv2d(config.told_features, dim, config.token_side, stride=config.token_side)
        self.embed_cells = nn.Conv2d(3 * CELL_FEATURES, dim, config.patch, stride=config.patch, bias=False)
        self.blocks = nn.ModuleList(
            SwinBlock(dim, config.heads, config.window, shifted=config.shifted(index), mlp_ratio=config.mlp_ratio)
            for index in range(config.coarse_depth)
        )
        # Depthwise, across the borders of windows: without it each window would be a world of its own.
        self.mixers = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(config.coarse_depth))
        self.exchanges = nn.ModuleList(nn.Linear(3 * dim, dim) for _ in range(config.coarse_depth))
        self.expand = nn.Linear(dim, config.channels + 2)
        self.judge = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, 1))
        for layer in (*self.mixers, *self.exchanges, self.expand):
            assert isinstance(layer, nn.Conv2d | nn.Linear)  # noqa: S101 - narrows the type
            nn.init.normal_(layer.weight, std=_SMALL)
            assert layer.bias is not None  # noqa: S101 - narrows the type
            nn.init.zeros_(layer.bias)

    def forward(self, guide: Tensor, noise: Tensor, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Look at a stack.

        Args:
            guide: B Z H W; H and W multiples of the lattice.
            noise: B, standard deviation of the noise in `guide`, > 0.
            features: of the pixels of each chunk of slices, (B z) F H W; the first ones are told to the tokens.

        Returns:
            Tokens of each chunk of slices, (B z) h w D; and, in focus or not, a logit per token, B h w.
        """
        batch, step = len(noise), len(features[0]) // len(noise)
        cells = relative(cell_features(guide, noise, self.config.coarse_bin, step)).split(step, dim=1)  # B z 3F h w
        tokens = []
        for near, chunk in zip(features, cells, strict=True):
            told = self.embed(near[:, : self.embed.in_channels]) + self.embed_cells(chunk.flatten(0, 1))
            tokens.append(told.permute(0, 2, 3, 1))  # (B z) D h w -> (B z) h w D
        for block, mixer, exchange in zip(self.blocks, self.mixers, self.exchanges, strict=True):
            for index, chunk in enumerate(tokens):
                attended = block(chunk)
                tokens[index] = attended + mixer(attended.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            mean, maximum = pooled(tokens, batch)
            for index, chunk in enumerate(tokens):
                tokens[index] = exchanged(exchange, chunk, mean, maximum)
        mean, maximum = pooled(tokens, batch)
        return tokens, self.judge(torch.cat([mean, maximum], dim=-1))[..., 0]

    def say(self, tokens: Tensor) -> Tensor:
        """What tokens (B z) h w D say to every pixel around them: (B z) C+2 H W, for the mixture and both scores."""
        return upsampled(self.expand(tokens).permute(0, 3, 1, 2), self.config.token_side)


def upsampled(values: Tensor, factor: int) -> Tensor:
    """Interpolate between the centres of cells, bilinearly: n C h w -> n C H W."""
    if factor == 1:
        return values
    return functional.interpolate(values, scale_factor=float(factor), mode="bilinear", align_corners=False)


def cell_features(guide: Tensor, noise: Tensor, side: int, step: int = 1) -> Tensor:
    """What each slice shows in cells of the plane, in units of its noise.

    Brightness over the field's median (asinh: from noise to four decades above it); logarithms of mean gradient energy,
    Laplacian energy and greatest gradient energy at a pixel's size; and of the gradient energy of the guide binned
    once and twice, in which structure shows that noise hides from a pixel. Full precision always.

    Args:
        guide: B Z H W; H and W multiples of twice the side.
        noise: B, > 0.
        side: of a cell, pixels.
        step: slices at a time.

    Returns:
        B Z F h w.
    """
    batch, slices, height, width = guide.shape
    cells = guide.new_empty(batch, slices, CELL_FEATURES, height // side, width // side)
    with torch.autocast(guide.device.type, enabled=False):
        for first in range(0, slices, step):
            part = slice(first, first + step)
            x = guide[:, part] / noise[:, None, None, None]
            binned = functional.avg_pool2d(x, side)
            energy = gradient_energy(x)
            twice = gradient_energy(functional.avg_pool2d(binned, 2)).repeat_interleave(2, -1).repeat_interleave(2, -2)
            measured = (
                functional.avg_pool2d(energy, side) / WHITE_NOISE_ENERGY,
                functional.avg_pool2d(laplacian(x).square(), side) / LAPLACIAN_NOISE_ENERGY,
                functional.max_pool2d(energy, side) / WHITE_NOISE_ENERGY,
                # Binning leaves a share of the noise's variance.
                gradient_energy(binned) * (side**2 / WHITE_NOISE_ENERGY),
                twice * (4 * side**2 / WHITE_NOISE_ENERGY),
            )
            cells[:, part, 0] = 0.5 * torch.asinh(binned)
            for index, values in enumerate(measured, 1):
                cells[:, part, index] = 0.5 * torch.log1p(values)
    return cells


def relative(cells: Tensor) -> Tensor:
    """Features as they are, less their mean and less their maximum over Z: B Z F h w -> B Z 3F h w."""
    slices = cells.unbind(dim=1)
    mean = fold(torch.add, slices) / len(slices)  # in slice order, whatever the chunks
    return torch.cat([cells, cells - mean[:, None], cells - cells.amax(dim=1, keepdim=True)], dim=2)
