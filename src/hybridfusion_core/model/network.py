"""HybridFusionNet: scores every slice of a stack at every pixel.

A dilated CNN at full resolution sees fine detail, shifted-window Swin-V2 blocks see its neighbourhood (on patches of
the CNN's features, on a coarse level, or on both), and after each block every slice learns the mean and the maximum
over Z of its own location. The coarse level also says where anything is in focus at all.
No operation depends on the size or the position of the tile beyond `NetworkConfig.halo`, and none on the
number or the order of the slices. What the scores become is `posterior`'s business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridfusion_core.model.blur import gaussian_blur
from hybridfusion_core.model.coarse import CoarseLevel, upsampled
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.exchange import exchanged, pooled
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY, gradient_energy
from hybridfusion_core.model.parameters import Parameters
from hybridfusion_core.model.posterior import Scores
from hybridfusion_core.model.swin import SwinBlock

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


def network_of(parameters: Parameters) -> HybridFusionNet:
    """Build a network from its weights, ready to run."""
    network = HybridFusionNet(parameters.config)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in parameters.arrays.items()})
    return network.eval()


def parameters_of(network: HybridFusionNet) -> Parameters:
    """Copy a network's weights."""
    arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}
    return Parameters(network.config, arrays)
