"""How good a network is on scenes that it is never trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.posterior import Scores, focus_posterior, fuse_soft, fusion_weights
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.train.losses import supervised
from hybridfusion_core.train.recipe import Recipe
from hybridfusion_core.train.scene_batches import Batch, draw_batch

_VALIDATION = 1 << 41  # scenes of these steps are far from those of any training and from those of `evaluate`
_BEST_ERROR = 1e-6  # mean square; beyond 60 dB a scene is empty
_VALIDATION_BATCHES = 6


def validation_batches(recipe: Recipe, device: torch.device, lab: Lab = ANY_LAB, count: int = 0) -> list[Batch]:
    """Draw scenes that are never trained on, always the same; a count of 0 draws as many as pretraining does."""
    steps = range(count or _VALIDATION_BATCHES)
    return [draw_batch(recipe, _VALIDATION + step, device, lab) for step in steps]


def validate(network: HybridFusionNet, unseen: Sequence[Batch]) -> dict[str, float]:
    """Means over scenes that are never trained on: PSNR of the fused image in dB, height error in slices."""
    ratios, errors = [], []
    for batch in unseen:
        with torch.inference_mode():
            scores = network(batch.guide, batch.noise)
        ratios.append(_decibels(scores, batch))
        errors.append(supervised.height_l1(focus_posterior(scores), batch.height, (batch.structure > 0.5).float()))
    return {"psnr": float(torch.cat(ratios).mean()), "height": float(torch.stack(errors).mean())}


def decibels(network: HybridFusionNet, batch: Batch) -> Tensor:
    """PSNR of each scene's fused image; B."""
    with torch.inference_mode():
        return _decibels(network(batch.guide, batch.noise), batch)


def _decibels(scores: Scores, batch: Batch) -> Tensor:
    fused = fuse_soft(fusion_weights(scores), batch.counts)
    ratio: Tensor = -10 * ((fused - batch.truth).square().mean(dim=(1, 2)) + _BEST_ERROR).log10()
    return ratio
