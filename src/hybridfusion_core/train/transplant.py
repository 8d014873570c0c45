"""Weights of one network in the shape of another, so that a training need not begin anew when sizes change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.network import HybridFusionNet


def transplanted(network: HybridFusionNet, config: NetworkConfig) -> HybridFusionNet:
    """Make a network of other levels that begins where a trained one stands.

    What both have is copied. If the new one has tokens on the coarse level alone and the old one at full resolution
    alone, they are moved there: a coarse token begins as the mean of the fine tokens in its cell would, as far as
    linear layers can. All else starts at random.

    Args:
        network: trained.
        config: sizes of the new one; they may differ in `depth`, `coarse_depth` and `coarse_bin`.

    Raises:
        UserInputError: other sizes differ too.
    """
    old = network.config
    if replace(old, depth=config.depth, coarse_depth=config.coarse_depth, coarse_bin=config.coarse_bin) != config:
        raise UserInputError(
            f"The training asks for {config}, the model that it starts from has {old}; expected the same sizes but for "
            "depth, coarse_depth and coarse_bin, because weights fit no others. Leave [network] out, or start."
        )
    made = HybridFusionNet(config)
    kept = network.state_dict()
    if old.depth and not old.coarse_depth and config.coarse_depth and not config.depth:
        kept = _moved(network, config)
    fitting = {
        name: kept[name] for name, own in made.state_dict().items() if name in kept and kept[name].shape == own.shape
    }
    made.load_state_dict(fitting, strict=False)
    return made


def _moved(network: HybridFusionNet, config: NetworkConfig) -> dict[str, Tensor]:
    """State with the fine tokens' parts under the names and in the shapes of the coarse level's."""
    state, side, patch = network.state_dict(), config.token_side, config.patch
    *_, of_tokens = network.mixing()
    moved = {f"coarse.{name}": value for name, value in state.items() if name.startswith(("blocks.", "exchanges."))}
    if side % patch == 0:
        cells = side // patch  # fine tokens along a coarse one's side
        moved["coarse.embed.weight"] = state["embed.weight"].tile(1, 1, cells, cells) / cells**2
        moved["coarse.embed.bias"] = state["embed.bias"]
    # What the pixels of a patch are told, on average, passed on by the mixture.
    expand = state["expand.weight"].unflatten(0, (-1, patch**2)).mean(dim=1)  # C D
    bias = state["expand.bias"].unflatten(0, (-1, patch**2)).mean(dim=1)
    through = of_tokens.detach()[:, :, 0, 0]
    scores = HybridFusionNet(config).coarse.expand  # both scores begin at random, and small
    moved["coarse.expand.weight"] = torch.cat([through @ expand, scores.weight.detach()[-2:]])
    moved["coarse.expand.bias"] = torch.cat([through @ bias, scores.bias.detach()[-2:]])
    untold = {"mix.weight": state["mix.weight"][:, : 3 * config.pixel_features]}
    return {**state, **untold, **moved}
