"""What the losses ask of the focus posterior alone, whatever the slices show.

For a pair the posterior is (m, 1 − m) with the decision mask m in [0, 1]; each term equals its pair formula there.
"""

from __future__ import annotations

from torch import Tensor


def total_variation(mask: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of a mask (anisotropic; Rudin, Osher & Fatemi 1992).

    ½ Σ_z (mean |∂y p_z| + mean |∂x p_z|): a step from one slice to another counts once. For a pair: TV(m).

    Args:
        mask: B Z H W in [0, 1]; H and W of at least 2.

    Returns:
        Scalar ≥ 0; 0 for a mask that is the same everywhere.
    """
    return 0.5 * mask.shape[1] * (mask.diff(dim=-1).abs().mean() + mask.diff(dim=-2).abs().mean())


def disagreement(mask: Tensor, other: Tensor) -> Tensor:
    """Total variation distance between two masks, ½ mean Σ_z |p_z − q_z|: the share of the decision that moves.

    Of the same scene under windows that fall elsewhere it is what the windows' grid shows.

    Args:
        mask: B Z H W in [0, 1], sums to one over Z.
        other: likewise.

    Returns:
        Scalar in [0, 1].
    """
    return 0.5 * (mask - other).abs().sum(dim=1).mean()


def ambiguity(mask: Tensor) -> Tensor:
    """How far a mask is from choosing one slice per pixel.

    ½ Σ_z mean p_z (1 − p_z), half the Gini impurity. For a pair: mean m (1 − m).

    Args:
        mask: B Z H W in [0, 1], sums to one over Z.

    Returns:
        Scalar: 0 for a binary mask, ½ (1 − 1/Z) where every slice counts the same.
    """
    return 0.5 * (mask * (1 - mask)).sum(dim=1).mean()


def imbalance(mask: Tensor) -> Tensor:
    """How far a mask is from giving every slice the same area: it keeps one slice from taking everything.

    (Z Σ_z q_z² − 1) / (Z − 1), where q_z is the mean of p_z over the plane. For a pair: (2 mean m − 1)², which is 1
    for a mask that is 0 or 1 everywhere and 0 for one that is half each. It does not ask whether the specimen *is*
    in focus in one slice alone.

    Args:
        mask: B Z H W in [0, 1], sums to one over Z; Z of at least 2.

    Returns:
        Scalar in [0, 1].
    """
    slices = mask.shape[1]
    area = mask.mean(dim=(-2, -1))  # B Z
    return ((slices * area.square().sum(dim=1) - 1) / (slices - 1)).mean()
