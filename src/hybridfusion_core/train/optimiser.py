"""What changes in a training: the weights, what the optimisers remember, and the average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.train.recipe import Recipe

_LEAST_MATRIX = 8  # rows and columns of a weight from which on it is trained as a matrix


@dataclass(frozen=True)
class Learner:
    """A network and those who change it.

    The matrices of the tokens are trained by Muon (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982), all else by
    AdamW. Muon's steps are scaled like AdamW's, so both take one learning rate.
    """

    network: HybridFusionNet
    optimisers: dict[str, Optimizer]
    average: AveragedModel | None

    @classmethod
    def of(cls, network: HybridFusionNet, recipe: Recipe) -> Self:
        """Begin with a network, as the recipe says."""
        rate, decay = recipe.learning_rate, recipe.weight_decay
        matrices = [part for part in network.parameters() if part.ndim == 2 and min(part.shape) >= _LEAST_MATRIX]
        others = [part for part in network.parameters() if all(part is not matrix for matrix in matrices)]
        optimisers: dict[str, Optimizer] = {"adamw": torch.optim.AdamW(others, lr=rate, weight_decay=decay)}
        if matrices:  # a very small network has none
            optimisers["muon"] = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        return cls(network, optimisers, average_of(network, recipe.ema) if recipe.ema else None)

    @property
    def result(self) -> HybridFusionNet:
        """What is validated, calibrated and saved."""
        return self.network if self.average is None else cast(HybridFusionNet, self.average.module)

    def learn(self, loss: Tensor, rate: float, clip: float) -> None:
        """Take one step down the gradient of a scalar loss, with gradients of at most `clip` in norm."""
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def parts(self) -> dict[str, Any]:
        """All that has a state, by name."""
        parts = {"network": self.network, **self.optimisers}
        return parts if self.average is None else {**parts, "average": self.average}


def average_of(network: HybridFusionNet, decay: float) -> AveragedModel:
    """Exponential moving average of a network's weights; `update_parameters` after each step.

    The decay of update n is min(decay, (1 + n)/(10 + n)): a short training is not dominated by where it started.

    Args:
        network: copied; its buffers are followed, not averaged.
        decay: in [0, 1).
    """

    def update(average: Any, current: Any, count: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(average, current, count)

    return AveragedModel(network, multi_avg_fn=update)
