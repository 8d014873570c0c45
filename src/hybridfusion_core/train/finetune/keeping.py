"""How much of what a fine-tuning changed is kept: all, a part of the way, or nothing, so that no model gets worse.

Weights are judged while they are trained, and the best of twenty judgements has luck in it. So the end is judged anew,
on scenes of the laboratory that nothing was trained on or chosen by: the weights along the straight line from the start
to what was trained (Wortsman et al. 2022, arXiv:2109.01903), each against the start, scene by scene.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.scenes.lab import ANY_LAB
from hybridfusion_core.train.finetune.training_mix import Lessons
from hybridfusion_core.train.finetune.training_state import FORGOTTEN
from hybridfusion_core.train.scene_batches import draw_batch
from hybridfusion_core.train.validation import decibels

SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way; the farthest of equals is kept
_SCENES_FROM = 1 << 43  # steps far from those that train, validate or calibrate
_BATCHES = 16
_SURE = 1.64  # standard errors by which a gain must exceed nothing: one chance in twenty


@dataclass(frozen=True)
class Kept:
    """What a fine-tuning ends with.

    Attributes:
        network: the weights.
        share: of the way from the start, 0 to 1.
        gain: decibels over the start on the laboratory's scenes, what is forgotten of familiar ones taken off; mean.
        error: its standard error.
    """

    network: HybridFusionNet
    share: float
    gain: float
    error: float


def kept(start: HybridFusionNet, tuned: HybridFusionNet, lessons: Lessons, device: torch.device) -> Kept:
    """Choose how far to go: as far as gains most, if that is surely a gain; otherwise not at all.

    Args:
        start: what was tuned.
        tuned: of the same sizes.
        lessons: what scenes are drawn from.
        device: where both run.
    """
    shares = {share: on_the_line(start, tuned, share) for share in SHARES}
    gains, lost = dict.fromkeys(shares, torch.zeros(0)), dict.fromkeys(shares, torch.zeros(0))
    for recipe, lab, found in ((lessons.own, lessons.lab, gains), (lessons.familiar, ANY_LAB, lost)):
        for step in range(_BATCHES):
            batch = draw_batch(recipe, _SCENES_FROM + step, device, lab)
            before = decibels(start, batch)
            for share, network in shares.items():
                found[share] = torch.cat([found[share], (decibels(network, batch) - before).cpu()])
    best = max(shares, key=lambda share: _gain(gains[share], lost[share]))
    gain, error = _gain(gains[best], lost[best]), float(gains[best].std()) / math.sqrt(len(gains[best]))
    if gain <= _SURE * error:
        return Kept(copy.deepcopy(start), 0.0, 0.0, error)
    return Kept(shares[best], best, gain, error)


def _gain(own: Tensor, familiar: Tensor) -> float:
    return float(own.mean()) - FORGOTTEN * max(0.0, -float(familiar.mean()))


def on_the_line(start: HybridFusionNet, tuned: HybridFusionNet, share: float) -> HybridFusionNet:
    """Weights a share of the way from the start to the tuned ones; buffers are the tuned ones'."""
    network = copy.deepcopy(tuned)
    with torch.no_grad():
        for own, first in zip(network.parameters(), start.parameters(), strict=True):
            own.copy_(torch.lerp(first.to(own), own, share))
    return network
