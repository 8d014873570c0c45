"""HybridFusionNet: scores every slice of a stack at every pixel.

A dilated CNN at full resolution sees fine detail, shifted-window Swin-V2 blocks see its neighbourhood (on patches of
the CNN's features, on a coarse level, or on both), and after each block every slice learns the mean and the maximum
over Z of its own location. The coarse level also says where anything is in focus at all.
No operation depends on the size or the position of the tile beyond `NetworkConfig.halo`, and none on the
number or the order of the slices. What the scores become is `blend`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import ConfigDict, with_config
from torch import Tensor, nn

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.coarse import CELL_FEATURES, CoarseLevel, coarse_tokens_behind, told_behind, upsampled
from hybridfusion_core.model.exchange import exchanged, pooled
from hybridfusion_core.model.focus_measures import (
    WHITE_NOISE_ENERGY,
    gaussian_blur,
    gradient_energy,
    kernel_radius,
)
from hybridfusion_core.model.swin import SwinBlock


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a HybridFusionNet; saved with its weights.

    Attributes:
        channels: features of the full-resolution CNN branch.
        dim: features of a token.
        heads: attention heads.
        depth: Swin-V2 blocks on patches of full resolution; every second one is shifted by half a window. 0 leaves
            what they would see to the coarse level.
        window: side of an attention window in tokens.
        patch: side of a token in pixels, or in cells of the coarse level.
        dilations: one 3 × 3 convolution of the CNN branch each.
        mlp_ratio: hidden features of a block's MLP over `dim`.
        focus_windows: standard deviations, in pixels, of the windows in which the network is told each slice's
            gradient energy relative to the sharpest slice's; () tells it nothing. Windows that reach no farther than
            the convolutions are told to the tokens too; wider ones, which would widen the halo, to the head alone.
        coarse_depth: Swin-V2 blocks on the coarse level, likewise shifted; 0 leaves that level out, and with it what it
            says about being in focus.
        coarse_bin: side in pixels of a cell of the coarse level.
    """

    channels: int = 8
    dim: int = 32
    heads: int = 2
    depth: int = 2
    window: int = 8
    patch: int = 2
    dilations: tuple[int, ...] = (1, 2, 4)
    mlp_ratio: float = 2.0
    focus_windows: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0)
    coarse_depth: int = 0
    coarse_bin: int = 2

    def __post_init__(self) -> None:
        for name in ("channels", "dim", "heads", "window", "patch", "coarse_bin"):
            if getattr(self, name) < 1:
                raise UserInputError(
                    f"NetworkConfig: {name} is {getattr(self, name)}; expected at least 1. Raise {name}."
                )
        if min(self.depth, self.coarse_depth) < 0 or self.depth + self.coarse_depth < 1:
            raise UserInputError(
                f"NetworkConfig: depth is {self.depth} and coarse_depth {self.coarse_depth}; expected at least one "
                "block on one of the levels. Raise depth."
            )
        if self.dim % self.heads:
            fitting = [heads for heads in range(1, self.dim + 1) if self.dim % heads == 0]
            raise UserInputError(
                f"NetworkConfig: dim {self.dim} cannot be shared by {self.heads} heads; expected heads to divide dim. "
                f"Choose heads from {fitting}."
            )
        if self.window % 2:
            raise UserInputError(
                f"NetworkConfig: window is {self.window}; expected an even number, because every second block is "
                f"shifted by half a window. Choose {self.window - 1 or 2} or {self.window + 1}."
            )
        if not self.dilations or min(self.dilations) < 1:
            raise UserInputError(
                f"NetworkConfig: dilations are {self.dilations}; expected at least one, each 1 or more. "
                "The default is (1, 2, 4)."
            )
        if self.focus_windows and min(self.focus_windows) <= 0:
            raise UserInputError(
                f"NetworkConfig: focus_windows are {self.focus_windows}; expected each above 0 px. "
                "The default is (1.0, 2.0, 4.0, 6.0); () tells the network no gradient energy."
            )
        if self.mlp_ratio * self.dim < 1:
            raise UserInputError(
                f"NetworkConfig: mlp_ratio {self.mlp_ratio} leaves an MLP without hidden features; "
                f"expected at least {1 / self.dim}. The default is 2.0."
            )

    @property
    def lattice(self) -> int:
        """Side in pixels of the grid on which windows fall; tiles start at its multiples."""
        return self.window * self.token_side

    @property
    def token_side(self) -> int:
        """Side in pixels of a token of the coarsest level."""
        return self.patch * (self.coarse_bin if self.coarse_depth else 1)

    def shifted(self, block: int) -> bool:
        """Whether a block's windows are shifted by half: every second one's are."""
        return block % 2 == 1

    @property
    def near_windows(self) -> tuple[float, ...]:
        """The focus windows that the tokens are told of."""
        reach = sum(self.dilations)
        return tuple(window for window in self.focus_windows if _energy_reach(window) <= reach)

    @property
    def told_features(self) -> int:
        """Features of a slice's pixel that tokens are told: the CNN's, the guide itself and the near energies."""
        return self.channels + 1 + len(self.near_windows)

    @property
    def cell_features(self) -> int:
        """Features of a slice's cell on the coarse level; 0 without one."""
        return 3 * CELL_FEATURES if self.coarse_depth else 0

    @property
    def pixel_features(self) -> int:
        """Features of a slice's pixel: the CNN's, the guide itself and the relative energies."""
        return self.channels + 1 + len(self.focus_windows)

    @property
    def halo(self) -> int:
        """Pixels around a tile's core that its result depends on, rounded up to the lattice."""
        return -(-receptive_field(self) // self.lattice) * self.lattice


def receptive_field(config: NetworkConfig) -> int:
    """Farthest distance in pixels, along one axis, from which a pixel's score is influenced.

    Exact: the interval of inputs of every pixel of one lattice cell is followed back through the network
    (axes are independent, so a square of twice this distance plus one holds all inputs).

    Returns:
        The maximum over all phases of the lattice, in pixels.
    """
    features = sum(config.dilations)  # of what the tokens are told: `near_windows` reach no farther
    direct = max([features, *(_energy_reach(window) for window in config.focus_windows)])  # of what the head is told
    reach = 0
    for phase in range(config.lattice):
        ends = [phase - 1 - direct, phase + 2 + direct]
        if config.depth:
            low, high = _tokens_behind(config, phase - 1, phase + 2)  # the head's 3 × 3
            ends += [low - features, high + features]
        if config.coarse_depth:
            ends += told_behind(config, *coarse_tokens_behind(config, phase - 1, phase + 2))
        reach = max(reach, phase - min(ends), max(ends) - 1 - phase)
    return reach


def token_reach(config: NetworkConfig) -> int:
    """How far beyond a core of whole lattice cells lie tokens that its scores depend on; whole cells, pixels.

    Of the coarse level where there is one.
    """
    behind = coarse_tokens_behind if config.coarse_depth else _tokens_behind
    low, high = behind(config, -1, config.lattice + 1)  # the head's 3 × 3
    return -(-max(-low, high - config.lattice) // config.lattice) * config.lattice


def _tokens_behind(config: NetworkConfig, low: int, high: int) -> tuple[int, int]:
    """Interval of pixels, half-open, whose tokens pixels [low, high) depend on; followed back through the blocks."""
    low, high = low // config.patch, -(-high // config.patch)  # pixels -> tokens
    for block in reversed(range(config.depth)):
        offset = config.window // 2 if config.shifted(block) else 0
        low = (low - offset) // config.window * config.window + offset
        high = -(-(high - offset) // config.window) * config.window + offset
    return low * config.patch, high * config.patch  # tokens -> pixels


def _energy_reach(window: float) -> int:
    """Pixels that the gradient energy in a window depends on: of the Sobel kernel and the Gaussian."""
    return 1 + kernel_radius(window)


class Scores(NamedTuple):
    """Two scores per slice and pixel, B Z H W each, and one per pixel, B H W; any real value."""

    focus: Tensor  # higher is sharper; its softmax over Z is the focus posterior
    spread: Tensor  # focus + spread: its softmax over Z gives the fusion weights
    in_focus: Tensor | None = None  # logit of anything being in focus; None: the network was not made to know


_SMALL = 0.02  # standard deviation of weights whose layer should start by changing little

# Of each window's energy on focus (first row) and spread: at noise 1, and per logarithm of the noise. About what a few
# steps of training give to a network of nothing else.
_INITIAL_GAIN = torch.tensor([[[0.8, -0.1]], [[-0.15, -0.1]]])


class HybridFusionNet(nn.Module):
    """CNN branch and shifted-window Swin-V2 branch, one set of weights for any number of slices.

    Args:
        config: sizes.

    Initialisation: convolutions and linear layers as PyTorch's defaults; the norm gains of timm's residual
    post-norm blocks start at 1 (timm's 0 leaves the blocks without gradient); exchanges and the last layer at
    σ = 0.02; the gradient energies' gains so that the untrained network selects as soft Tenengrad does, harder where
    there is less noise.
    """

    temperature: Tensor
    confidence_line: Tensor
    in_focus_line: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim, patch = config.channels, config.dim, config.patch
        self.noise = nn.Linear(1, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels if index else 1, channels, 3, padding=dilation, dilation=dilation)
            for index, dilation in enumerate(config.dilations)
        )
        if config.depth:
            self.embed = nn.Conv2d(config.told_features, dim, patch, stride=patch)
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim,
                config.heads,
                config.window,
                shifted=config.shifted(index),
                mlp_ratio=config.mlp_ratio,
            )
            for index in range(config.depth)
        )
        self.exchanges = nn.ModuleList(nn.Linear(3 * dim, dim) for _ in range(config.depth))
        if config.depth:
            self.expand = nn.Linear(dim, channels * patch**2)
        self.mix = nn.Conv2d(3 * config.pixel_features + (channels if config.depth else 0), channels, 1)
        self.head = nn.Conv2d(channels, 2, 3, padding=1)
        # Of each window's energy on focus and spread: at noise 1, and per logarithm of the noise.
        self.energy_gain = nn.Parameter(_INITIAL_GAIN.repeat(1, len(config.focus_windows), 1))
        self.register_buffer("temperature", torch.ones(()))  # of the posterior, calibrated after training
        # Slope and intercept that make the posterior's share near the decision a probability; calibrated likewise.
        self.register_buffer("confidence_line", torch.tensor([1.0, 0.0]))
        for exchange in self.exchanges:
            assert isinstance(exchange, nn.Linear)  # noqa: S101 - narrows the type
            nn.init.normal_(exchange.weight, std=_SMALL)  # added to the tokens: they keep their size through the depth
        nn.init.normal_(self.head.weight, std=_SMALL)
        if config.coarse_depth:
            self.coarse = CoarseLevel(config)
            # Slope and intercept that make the logit a probability; calibrated after training.
            self.register_buffer("in_focus_line", torch.tensor([1.0, 0.0]))

    def forward(self, guide: Tensor, noise: Tensor, z_chunk: int | None = None) -> Scores:
        """Score every slice at every pixel.

        Slices pass each stage in chunks, so that beside tokens and CNN features of the tile only one
        chunk's intermediate values are kept. Sums over Z run slice by slice: the chunk changes nothing.

        Args:
            guide: B Z H W, variance-stabilised and normalised; H and W multiples of the lattice.
            noise: B, standard deviation of the noise in `guide`, > 0.
            z_chunk: slices per chunk; all at once by default.

        Returns:
            Focus and spread, B Z H W each; with a coarse level, in focus or not, B H W.
        """
        batch, slices = guide.shape[:2]
        noise_bias = self.noise(noise.log()[:, None])  # B -> B C
        energy_gain = self.energy_gain_at(noise)  # B 2 K
        step = z_chunk or slices
        energies = self._relative_energies(guide, noise, step).split(step, dim=1)  # B z K H W
        features = [
            torch.cat([self._features(chunk, noise_bias), chunk.flatten(0, 1)[:, None], energy.flatten(0, 1)], dim=1)
            for chunk, energy in zip(guide.split(step, dim=1), energies, strict=True)
        ]  # each (B z) C+1+K H W
        tokens = self._tokens(features, batch)
        coarse, judged = self._coarse(guide, noise, features)
        of_own, of_mean, of_maximum, of_tokens = self.mixing()
        mean, maximum = pooled(features, batch)  # B C+1+K H W each
        # The same exchange at full resolution. Mean and maximum are the same for every slice: mixed in once.
        others = nn.functional.conv2d(mean, of_mean, self.mix.bias) + nn.functional.conv2d(maximum, of_maximum)
        heads = []
        for near, far, farther in zip(features, tokens, coarse, strict=True):
            mixed = nn.functional.conv2d(near, of_own)
            direct = self._by_energy(near, energy_gain)
            if far is not None:
                up = nn.functional.pixel_shuffle(self.expand(far).permute(0, 3, 1, 2), self.config.patch)
                mixed = mixed + nn.functional.conv2d(up, of_tokens)  # (B z) C H W
            if farther is not None:
                said, scored = self.coarse.say(farther).split([self.config.channels, 2], dim=1)
                mixed, direct = mixed + said, direct + scored
            mixed = mixed.unflatten(0, (batch, -1)) + others[:, None]  # (B z) C H W -> B z C H W
            scored = self.head(torch.relu(mixed).flatten(0, 1)) + direct
            heads.append(scored.unflatten(0, (batch, -1)))  # (B z) 2 H W -> B z 2 H W
        scores = torch.cat(heads, dim=1)
        in_focus = None if judged is None else upsampled(judged[:, None], self.config.token_side)[:, 0]
        return Scores(scores[:, :, 0], scores[:, :, 1], in_focus)

    def _tokens(self, features: list[Tensor], batch: int) -> list[Tensor | None]:
        """Tokens of each chunk of features, (B z) C+1+K H W, after all blocks: (B z) h w D; None if there are none."""
        if not self.config.depth:
            return [None] * len(features)
        told = self.config.told_features
        tokens = [self.embed(chunk[:, :told]).permute(0, 2, 3, 1) for chunk in features]  # (B z) C H W -> (B z) h w D
        for block, exchange in zip(self.blocks, self.exchanges, strict=True):
            for index, chunk in enumerate(tokens):
                tokens[index] = block(chunk)
            mean, maximum = pooled(tokens, batch)
            for index, chunk in enumerate(tokens):
                tokens[index] = exchanged(exchange, chunk, mean, maximum)
        return [*tokens]

    def _coarse(
        self, guide: Tensor, noise: Tensor, features: list[Tensor]
    ) -> tuple[list[Tensor | None], Tensor | None]:
        """Tokens of the coarse level for each chunk, and its logit of being in focus; None without such a level."""
        if not self.config.coarse_depth:
            return [None] * len(features), None
        tokens, judged = self.coarse(guide, noise, features)
        return [*tokens], judged

    def _relative_energies(self, guide: Tensor, noise: Tensor, step: int = 1) -> Tensor:
        """Logarithm of each slice's gradient energy over that of the sharpest slice at this pixel.

        Noise adds its own energy to every slice, so where there is nothing but noise all are near 0. Full precision
        always: differences of small energies are what counts.

        Args:
            guide: B Z H W.
            noise: B.
            step: slices at a time.

        Returns:
            B Z K H W, ≤ 0.
        """
        batch, slices, height, width = guide.shape
        windows = self.config.focus_windows
        levels = guide.new_empty(batch, slices, len(windows), height, width)
        floor = (WHITE_NOISE_ENERGY * noise.square())[:, None, None, None]
        with torch.autocast(guide.device.type, enabled=False):
            for first in range(0, slices, step):  # scratch memory of so many
                part = slice(first, first + step)
                energy = gradient_energy(guide[:, part])
                for window, sigma in enumerate(windows):
                    levels[:, part, window] = torch.log(gaussian_blur(energy, sigma) + floor)
        return levels - levels.amax(dim=1, keepdim=True)

    def _features(self, guide: Tensor, noise_bias: Tensor) -> Tensor:
        chunk = guide.shape[1]
        x = guide.flatten(0, 1)[:, None]  # B z H W -> (B z) 1 H W
        first, *others = self.convolutions
        x = first(x) + noise_bias.repeat_interleave(chunk, dim=0)[:, :, None, None]
        x = torch.relu(x)
        for convolution in others:
            x = x + torch.relu(convolution(x))
        return x

    def energy_gain_at(self, noise: Tensor) -> Tensor:
        """What each window's energy adds to both scores at a noise: B -> B 2 K."""
        return self.energy_gain[..., 0] + noise.log()[:, None, None] * self.energy_gain[..., 1]

    def mixing(self) -> tuple[Tensor, ...]:
        """The weights of `mix` for a slice's own features, their mean and maximum over Z, and its tokens."""
        sizes = [self.config.pixel_features] * 3 + [self.config.channels if self.config.depth else 0]
        weights: tuple[Tensor, ...] = self.mix.weight.split(sizes, dim=1)
        return weights

    def _by_energy(self, near: Tensor, energy_gain: Tensor) -> Tensor:
        """What the energies alone add to both scores. Near (B z) C+1+K H W, gain B 2 K; (B z) 2 H W."""
        energies = near[:, self.config.channels + 1 :].unflatten(0, (energy_gain.shape[0], -1))
        return torch.einsum("bzkhw,bjk->bzjhw", energies, energy_gain).flatten(0, 1)
