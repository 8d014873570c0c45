"""Sizes of a HybridFusionNet, and what follows from them: the lattice, the halo, how much each pixel is told.

It imports no PyTorch: a tile is planned, and OpenVINO runs, without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ConfigDict, with_config

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.receptive_field import energy_reach, receptive_field

GREATEST_SCALE = math.log(100)  # of the attention's logits, as in timm and in Liu et al. 2022 (arXiv:2111.09883)
GREATEST_BIAS = 16  # of a pair of places in a window, on a logit
LEAST_SQUARE = 1e-12  # of a query: one of all zeros has no direction
LAPLACIAN_NOISE_ENERGY = 20.0  # of white noise of variance 1: the sum of the squared kernel
CELL_FEATURES = 6  # of one slice; each is told as it is, relative to the mean over Z and relative to the maximum


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
        return tuple(window for window in self.focus_windows if energy_reach(window) <= reach)

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
