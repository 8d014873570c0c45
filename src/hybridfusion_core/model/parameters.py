"""A network's weights as NumPy arrays: what a model file holds, and what OpenVINO's graphs are made of.

PyTorch takes seconds to import, and fusing on a CPU needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.model.config import CELL_FEATURES, NetworkConfig

_POSITION_FEATURES = 512  # hidden ones of what makes a position bias; timm's default


@dataclass(frozen=True, eq=False)
class Parameters:
    """Sizes and weights of a HybridFusionNet; nothing changes them.

    Attributes:
        config: sizes.
        arrays: float32, by the names of the network's state.
    """

    config: NetworkConfig
    arrays: Mapping[str, NDArray[np.float32]]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.arrays[name]

    @property
    def temperature(self) -> float:
        """What focus scores are divided by, > 0; see `focus_posterior`."""
        return float(self["temperature"])

    @property
    def confidence_line(self) -> NDArray[np.float32]:
        """Slope and intercept of a logit; see `confidence_map`."""
        return self["confidence_line"]

    @property
    def in_focus_line(self) -> NDArray[np.float32]:
        """Likewise; see `in_focus_probability`. Of networks with a coarse level."""
        return self["in_focus_line"]


def parameter_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of a network: what a file must hold, known before anything is built."""
    channels, dim, patch = config.channels, config.dim, config.patch
    shapes: dict[str, tuple[int, ...]] = {
        "energy_gain": (2, len(config.focus_windows), 2),
        "temperature": (),
        "confidence_line": (2,),
        **_layer("noise", channels, 1),
        **_layer("mix", channels, 3 * config.pixel_features + (channels if config.depth else 0), 1, 1),
        **_layer("head", 2, channels, 3, 3),
    }
    for index in range(len(config.dilations)):
        shapes |= _layer(f"convolutions.{index}", channels, channels if index else 1, 3, 3)
    if config.depth:
        shapes |= _layer("embed", dim, config.told_features, patch, patch)
        shapes |= _layer("expand", channels * patch**2, dim)
        for index in range(config.depth):
            shapes |= _block(f"blocks.{index}", config) | _layer(f"exchanges.{index}", dim, 3 * dim)
    if config.coarse_depth:
        side = config.token_side
        shapes |= {"in_focus_line": (2,), "coarse.embed_cells.weight": (dim, 3 * CELL_FEATURES, patch, patch)}
        shapes |= _layer("coarse.embed", dim, config.told_features, side, side)
        shapes |= _layer("coarse.expand", channels + 2, dim)
        shapes |= _layer("coarse.judge.0", dim, 2 * dim) | _layer("coarse.judge.2", 1, dim)
        for index in range(config.coarse_depth):
            shapes |= _block(f"coarse.blocks.{index}", config) | _layer(f"coarse.exchanges.{index}", dim, 3 * dim)
            shapes |= _layer(f"coarse.mixers.{index}", dim, 1, 3, 3)
    return shapes


def _layer(name: str, outputs: int, *inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def _block(name: str, config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Of a Swin-V2 block, as timm calls them."""
    dim, heads, hidden = config.dim, config.heads, int(config.dim * config.mlp_ratio)
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.attn.logit_scale": (heads, 1, 1),
        f"{name}.attn.q_bias": (dim,),
        f"{name}.attn.v_bias": (dim,),
        f"{name}.attn.qkv.weight": (3 * dim, dim),
        f"{name}.attn.cpb_mlp.2.weight": (heads, _POSITION_FEATURES),
        **_layer(f"{name}.attn.cpb_mlp.0", _POSITION_FEATURES, 2),
        **_layer(f"{name}.attn.proj", dim, dim),
        **_layer(f"{name}.norm1", dim),
        **_layer(f"{name}.mlp.fc1", hidden, dim),
        **_layer(f"{name}.mlp.fc2", dim, hidden),
        **_layer(f"{name}.norm2", dim),
    }
    return shapes
