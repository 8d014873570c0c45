"""What the network's scores become: posterior, weights, the fused image and the maps that explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hybridfusion_core.model.arrays import Array, greatest, like, namespace, softmax, tiny
from hybridfusion_core.model.focus_measures import has_structure

if TYPE_CHECKING:
    from hybridfusion_core.model.network import HybridFusionNet

# Probability above which something is said to be in focus. Less than one half: a structure that is missed is lost to
# every map, and around real beads no ring appeared down to a tenth (docs/real_stacks.md).
IN_FOCUS = 0.3
_HEIGHT_REACH = 2  # slices around the most probable one that the height is averaged over
_SUREST = 1e-6  # nothing is surer than one in a million
_CONFIDENT_REACH = 1  # slices around the most probable one that confidence counts


class Scores(NamedTuple):
    """Two scores per slice and pixel, B Z H W each, and one per pixel, B H W; any real value."""

    focus: Array  # higher is sharper; its softmax over Z is the focus posterior
    spread: Array  # focus + spread: its softmax over Z gives the fusion weights
    in_focus: Array | None = None  # logit of anything being in focus; None: the network was not made to know


def focus_posterior(scores: Scores, temperature: Array | float = 1.0) -> Array:
    """Turn focus scores into probabilities that sum to one over the stack.

    Args:
        scores: focus of B Z H W, any real value; higher means sharper.
        temperature: > 0; above 1 the network was too sure of itself.

    Returns:
        B Z H W in [0, 1]. For Z = 2 this equals the sigmoid decision mask of a pair.
    """
    return softmax(scores.focus / temperature, axis=1)


def fusion_weights(scores: Scores) -> Array:
    """Turn both scores into the weights that fuse the slices: B Z H W in [0, 1], sum one over Z."""
    return softmax(scores.focus + scores.spread, axis=1)


def in_focus_probability(scores: Scores, line: Array) -> Array:
    """How probable it is that anything is in focus at a pixel: B H W in [0, 1].

    Args:
        scores: of a network that says it.
        line: slope and intercept, calibrated after training; see `HybridFusionNet.in_focus_line`.
    """
    if scores.in_focus is None:
        raise ValueError("the network does not say whether anything is in focus")
    return _sigmoid(line[0] * scores.in_focus + line[1])


def expected_height(posterior: Array, positions: Array | None = None) -> Array:
    """Mean position under the posterior within ±2 slices of its maximum.

    Args:
        posterior: B Z H W, sums to one over Z.
        positions: Z, of the slices in any unit; their indices by default.

    Returns:
        B H W, in the unit of `positions`. Restricting the mean keeps it from falling between two surfaces.
    """
    slices = _numbers(posterior)
    mass = posterior * (abs(slices - most_probable(posterior)[:, None]) <= _HEIGHT_REACH)
    where = slices if positions is None else positions[None, :, None, None]
    known = namespace(posterior).clip(mass.sum(axis=1), min=tiny(posterior))  # 0 of pixels that are blocked everywhere
    return (mass * where).sum(axis=1) / known


def where_in_focus(network: HybridFusionNet, scores: Scores, guide: Array, noise: Array) -> Array:
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


def fuse_soft(weights: Array, slices: Array) -> Array:
    """Σ w·x, clipped to what was measured: a convex combination must not leave it by rounding.

    Args:
        weights: B Z H W, sum one over Z.
        slices: B Z H W counts.

    Returns:
        B H W, counts.
    """
    # Around the first slice, because counts may be large against their differences.
    base = slices[:, :1]
    fused = base[:, 0] + (weights * (slices - base)).sum(axis=1)
    xp = namespace(slices)
    return xp.minimum(xp.maximum(fused, xp.min(slices, axis=1)), xp.max(slices, axis=1))


def fuse_valid(weights: Array, slices: Array, valid: Array) -> Array:
    """As `fuse_soft`, with no weight for NaN and infinite pixels; NaN where no slice has one.

    Args:
        weights: B Z H W.
        slices: B Z H W counts.
        valid: B Z H W, bool.
    """
    # A weight that is left alone may be tiny; it still has to count for everything.
    xp, least = namespace(weights), tiny(weights)
    share = (weights + least) * valid
    share = share / xp.clip(share.sum(axis=1)[:, None], min=least)
    known = xp.any(valid, axis=1)
    instead = xp.where(known, xp.max(xp.where(valid, slices, -xp.inf), axis=1), 0)  # has no weight, whatever it is
    return xp.where(known, fuse_soft(share, xp.where(valid, slices, instead[:, None])), xp.nan)


def most_probable(posterior: Array) -> Array:
    """Index of the most probable slice, the first one of equals: B Z H W -> B H W."""
    return greatest(posterior, axis=1)


def decision_mask(posterior: Array, structure: Array) -> Array:
    """Most probable slice, counted from 1; 0 where nothing is in focus.

    Args:
        posterior: B Z H W.
        structure: B H W, bool; False where nothing is in focus.

    Returns:
        B H W, int32.
    """
    xp = namespace(posterior)
    return xp.astype(xp.where(structure, most_probable(posterior) + 1, 0), xp.int32)


def height_map(posterior: Array, structure: Array, positions: Array | None = None) -> Array:
    """Expected position within ±2 slices of the most probable one; NaN where nothing is in focus.

    Args:
        posterior: B Z H W.
        structure: B H W, bool.
        positions: Z, in µm; slice indices by default.

    Returns:
        B H W, in the unit of `positions`.
    """
    xp = namespace(posterior)
    return xp.where(structure, expected_height(posterior, positions), xp.nan)


def confidence_map(posterior: Array, structure: Array, line: Array | None = None) -> Array:
    """Probability that the decision is right to within one slice; NaN where nothing is in focus. B H W in [0, 1].

    Args:
        posterior: B Z H W, sum one over Z.
        structure: B H W, bool.
        line: slope and intercept of the logit, calibrated after training; see `HybridFusionNet.confidence_line`. None
            takes the posterior's share within one slice of the decision as it is.
    """
    xp = namespace(posterior)
    near = abs(_numbers(posterior) - most_probable(posterior)[:, None]) <= _CONFIDENT_REACH
    share = xp.clip((posterior * near).sum(axis=1), max=1)
    if line is not None:
        share = xp.clip(share, min=_SUREST, max=1 - _SUREST)
        share = _sigmoid(line[0] * (xp.log(share) - xp.log1p(-share)) + line[1])
    return xp.where(structure, share, xp.nan)


def noise_gain(weights: Array) -> Array:
    """Standard deviation of the fused noise over that of one slice: √Σw². B Z H W -> B H W in (0, 1]."""
    return namespace(weights).sqrt((weights**2).sum(axis=1))


def _numbers(posterior: Array) -> Array:
    """Numbers of the slices, from 0: 1 Z 1 1."""
    xp = namespace(posterior)
    return like(xp.arange(posterior.shape[1], dtype=posterior.dtype), posterior)[None, :, None, None]


def _sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), which never overflows."""
    return 0.5 * namespace(x).tanh(0.5 * x) + 0.5
