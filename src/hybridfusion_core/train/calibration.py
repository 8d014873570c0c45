"""After a training: what makes probabilities of a network's scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.posterior import confidence_map, focus_posterior, most_probable, where_in_focus
from hybridfusion_core.scenes.lab import ANY_LAB, Lab
from hybridfusion_core.train.recipe import Recipe
from hybridfusion_core.train.scene_batches import Batch, draw_batch

_CALIBRATION = 1 << 40  # scenes of these steps are far from those of any training and from those of `evaluate`
_CALIBRATED_FROM = 5  # slices
_THINNED = 7  # one of so many pixels: neighbours err together
_SUREST = 1e-6
_RIDGE = 1.0  # pixels' worth of trust in the logit as it is


def calibrate(network: HybridFusionNet, recipe: Recipe, scenes: int = 48, lab: Lab = ANY_LAB) -> None:
    """Set what makes probabilities of scores, so that confidence and "in focus" keep their word best.

    The confidence claims how probable it is that the decision is right to within one slice. Its Brier score (Brier
    1950, Monthly Weather Review 78, 1) over unseen pixels that a fusion would decide about and whose height is known
    is evaluated on a grid of temperatures (temperature scaling: Guo et al. 2017, arXiv:1706.04599). "In focus" gets a
    line on its logit (Platt 1999, Advances in Large Margin Classifiers), fitted on the same scenes first, because it
    says about which pixels a fusion decides.
    """
    device = network.temperature.device
    batches = [draw_batch(recipe, _CALIBRATION + step, device, lab) for step in range(scenes)]
    if network.config.coarse_depth:
        calibrate_in_focus(network, batches)
    candidates = torch.exp(torch.linspace(math.log(0.5), math.log(6), 51))
    total = torch.zeros(len(candidates))
    for batch in batches:
        with torch.inference_mode():
            scores = network(batch.guide, batch.noise)
            asked = where_in_focus(network, scores, batch.guide, batch.noise) & (batch.structure > 0.5)
            right = (most_probable(scores.focus) - batch.height).abs() <= 1
            for index, candidate in enumerate(candidates):
                sure = confidence_map(focus_posterior(scores, candidate), asked)[asked]
                total[index] += (sure - right[asked].float()).square().sum().cpu()
    network.temperature.fill_(candidates[int(total.argmin())])
    calibrate_confidence(network, recipe, scenes, lab)


def calibrate_confidence(network: HybridFusionNet, recipe: Recipe, scenes: int = 48, lab: Lab = ANY_LAB) -> None:
    """Fit the line under which confidence is the share of decisions that are right to within one slice.

    One temperature serves kinds of scenes that err in opposite ways: sharp layers are surer than it says, crowded
    volumes less. So all kinds of the recipe count alike here, and only stacks of at least five slices: in shallower
    ones nearly every slice lies within one of the right one.
    """
    device = network.temperature.device
    least = min(_CALIBRATED_FROM, recipe.depth[1])
    kinds = dict.fromkeys((kind for kind, share in recipe.scenes.items() if share), 1.0)
    deep = replace(recipe, scenes=kinds, depth=(max(least, recipe.depth[0]), recipe.depth[1]))
    shares, rights = [], []
    for step in range(scenes):
        batch = draw_batch(deep, _CALIBRATION + step, device, lab)
        with torch.inference_mode():
            scores = network(batch.guide, batch.noise)
            asked = where_in_focus(network, scores, batch.guide, batch.noise) & (batch.structure > 0.5)
            share = confidence_map(focus_posterior(scores, network.temperature), asked)[asked]
            right = (most_probable(scores.focus) - batch.height).abs()[asked] <= 1
        shares.append(share[::_THINNED].double().cpu())
        rights.append(right[::_THINNED].double().cpu())
    network.confidence_line.copy_(_logistic_line(torch.cat(shares).logit(_SUREST), torch.cat(rights)))


def calibrate_in_focus(network: HybridFusionNet, batches: Sequence[Batch]) -> None:
    """Fit the line under which "in focus" is a probability: by Newton's method, where scenes are sure."""
    logits, truths = [], []
    for batch in batches:
        with torch.inference_mode():
            said = network(batch.guide, batch.noise).in_focus
        assert said is not None  # noqa: S101 - narrows the type
        sure = batch.in_focus_weight > 0.5
        logits.append(said[sure].double().cpu())
        truths.append((batch.in_focus[sure] > 0.5).double().cpu())
    network.in_focus_line.copy_(_logistic_line(torch.cat(logits), torch.cat(truths)))


def _logistic_line(logit: Tensor, truth: Tensor) -> Tensor:
    """Slope and intercept under which a logit fits the truth best; Newton's method, with steps that never climb.

    Args:
        logit: n, float64.
        truth: n, 0 or 1.
    """
    inputs = torch.stack([logit, torch.ones_like(logit)], dim=1)
    as_it_is = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def loss(line: Tensor) -> Tensor:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ line, truth, reduction="sum")
        return entropy + 0.5 * _RIDGE * (line - as_it_is).square().sum()

    line = torch.zeros(2, dtype=torch.float64)
    for _ in range(20):
        probability = torch.sigmoid(inputs @ line)
        gradient = inputs.T @ (probability - truth) + _RIDGE * (line - as_it_is)
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs
        step = torch.linalg.solve(curvature + _RIDGE * torch.eye(2, dtype=torch.float64), gradient)
        while loss(line - step) > loss(line) and bool(step.abs().max() > 1e-9):
            step = step / 2
        line = line - step
    return line
