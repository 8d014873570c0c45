"""What the network's scores become: posterior, weights, the fused image and the maps that explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hybridfusion_core.model.focus_measures import has_structure

if TYPE_CHECKING:  # the network's libraries take seconds to import, and classical methods need none of them
    from hybridfusion_core.model.network import HybridFusionNet, Scores

# Probability above which something is said to be in focus. Less than one half: a structure that is missed is lost to
# every map, and around real beads no ring appeared down to a tenth (docs/real_stacks.md).
IN_FOCUS = 0.3
_HEIGHT_REACH = 2  # slices around the most probable one that the height is averaged over
_SUREST = 1e-6  # nothing is surer than one in a million
_CONFIDENT_REACH = 1  # slices around the most probable one that confidence counts


def focus_posterior(scores: Scores, temperature: Tensor | float = 1.0) -> Tensor:
    """Turn focus scores into probabilities that sum to one over the stack.

    Args:
        scores: focus of B Z H W, any real value; higher means sharper.
        temperature: > 0; above 1 the network was too sure of itself.

    Returns:
        B Z H W in [0, 1]. For Z = 2 this equals the sigmoid decision mask of a pair.
    """
    return (scores.focus / temperature).softmax(dim=1)


def fusion_weights(scores: Scores) -> Tensor:
    """Turn both scores into the weights that fuse the slices: B Z H W in [0, 1], sum one over Z."""
    return (scores.focus + scores.spread).softmax(dim=1)


def in_focus_probability(scores: Scores, line: Tensor) -> Tensor:
    """How probable it is that anything is in focus at a pixel: B H W in [0, 1].

    Args:
        scores: of a network that says it.
        line: slope and intercept, calibrated after training; see `HybridFusionNet.in_focus_line`.
    """
    if scores.in_focus is None:
        raise ValueError("the network does not say whether anything is in focus")
    return torch.sigmoid(line[0] * scores.in_focus + line[1])


def expected_height(posterior: Tensor, positions: Tensor | None = None) -> Tensor:
    """Mean position under the posterior within ±2 slices of its maximum.

    Args:
        posterior: B Z H W, sums to one over Z.
        positions: Z, of the slices in any unit; their indices by default.

    Returns:
        B H W, in the unit of `positions`. Restricting the mean keeps it from falling between two surfaces.
    """
    slices = torch.arange(posterior.shape[1], device=posterior.device, dtype=posterior.dtype)[None, :, None, None]
    most_probable = posterior.max(dim=1, keepdim=True).indices  # faster than argmax on a CPU
    near = (slices - most_probable).abs() <= _HEIGHT_REACH
    mass = posterior * near
    where = slices if positions is None else positions[None, :, None, None]
    return (mass * where).sum(dim=1) / mass.sum(dim=1)


def where_in_focus(network: HybridFusionNet, scores: Scores, guide: Tensor, noise: Tensor) -> Tensor:
    """Where something is in focus: what the network says or, of one that says nothing, what the rule finds.

    Args:
        network: that gave the scores.
        scores: of the guide.
        guide: B Z H W.
        noise: B, standard deviation of the noise in `guide`.

    Returns:
        B H W, bool.
    """
    if scores.in_focus is None:
        return has_structure(guide, noise)
    return in_focus_probability(scores, network.in_focus_line) > IN_FOCUS


def fuse_soft(weights: Tensor, slices: Tensor) -> Tensor:
    """Σ w·x, clipped to what was measured: a convex combination must not leave it by rounding.

    Args:
        weights: B Z H W, sum one over Z.
        slices: B Z H W counts.

    Returns:
        B H W, counts.
    """
    # Around the first slice, because counts may be large against their differences.
    base = slices[:, :1]
    fused = base[:, 0] + (weights * (slices - base)).sum(dim=1)
    return torch.minimum(torch.maximum(fused, slices.amin(dim=1)), slices.amax(dim=1))


def fuse_valid(weights: Tensor, slices: Tensor, valid: Tensor) -> Tensor:
    """As `fuse_soft`, with no weight for NaN and infinite pixels; NaN where no slice has one.

    Args:
        weights: B Z H W.
        slices: B Z H W counts.
        valid: B Z H W, bool.
    """
    # A weight that is left alone may be tiny; it still has to count for everything.
    share = (weights + torch.finfo(weights.dtype).tiny) * valid
    share = share / share.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    first = valid.int().argmax(dim=1, keepdim=True)
    filled = torch.where(valid, slices, slices.gather(1, first))
    return torch.where(valid.any(dim=1), fuse_soft(share, filled), torch.nan)


def most_probable(posterior: Tensor) -> Tensor:
    """Index of the most probable slice, the first one of equals: B Z H W -> B H W."""
    return posterior.max(dim=1).indices  # what argmax gives, in a quarter of its time on a CPU (measured)


def decision_mask(posterior: Tensor, structure: Tensor) -> Tensor:
    """Most probable slice, counted from 1; 0 where nothing is in focus.

    Args:
        posterior: B Z H W.
        structure: B H W, bool; False where nothing is in focus.

    Returns:
        B H W, int32.
    """
    return torch.where(structure, most_probable(posterior) + 1, 0).int()


def height_map(posterior: Tensor, structure: Tensor, positions: Tensor | None = None) -> Tensor:
    """Expected position within ±2 slices of the most probable one; NaN where nothing is in focus.

    Args:
        posterior: B Z H W.
        structure: B H W, bool.
        positions: Z, in µm; slice indices by default.

    Returns:
        B H W, in the unit of `positions`.
    """
    return expected_height(posterior, positions).masked_fill(~structure, torch.nan)


def confidence_map(posterior: Tensor, structure: Tensor, line: Tensor | None = None) -> Tensor:
    """Probability that the decision is right to within one slice; NaN where nothing is in focus. B H W in [0, 1].

    Args:
        posterior: B Z H W, sum one over Z.
        structure: B H W, bool.
        line: slope and intercept of the logit, calibrated after training; see `HybridFusionNet.confidence_line`. None
            takes the posterior's share within one slice of the decision as it is.
    """
    slices = torch.arange(posterior.shape[1], device=posterior.device)[None, :, None, None]
    near = (slices - most_probable(posterior)[:, None]).abs() <= _CONFIDENT_REACH
    share = (posterior * near).sum(dim=1).clamp(max=1)
    if line is not None:
        share = (line[0] * share.logit(_SUREST) + line[1]).sigmoid()
    return share.masked_fill(~structure, torch.nan)


def noise_gain(weights: Tensor) -> Tensor:
    """Standard deviation of the fused noise over that of one slice: √Σw². B Z H W -> B H W in (0, 1]."""
    return weights.square().sum(dim=1).sqrt()
