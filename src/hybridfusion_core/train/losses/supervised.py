"""What pretraining on synthetic stacks asks of the network, where the true image and height are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hybridfusion_core.model.blur import gaussian_blur
from hybridfusion_core.model.posterior import expected_height


def l1(fused: Tensor, truth: Tensor) -> Tensor:
    """Mean |fused − truth|. B H W each."""
    return (fused - truth).abs().mean()


def gradient_l1(fused: Tensor, truth: Tensor) -> Tensor:
    """Mean |∇fused − ∇truth| over forward differences. B H W each."""
    error = fused - truth
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def local_mean_l1(fused: Tensor, truth: Tensor, sigma: float = 3.0) -> Tensor:
    """Mean |blur(fused − truth)|: the mean of a body of a few pixels keeps its brightness.

    In a starved stack averaging slices that are a little out of focus saves more noise than it costs sharpness, and
    every pixel's error falls while bright bodies lose light to their surroundings. Noise averages out under the blur,
    that loss does not.

    Args:
        fused: B H W.
        truth: B H W.
        sigma: of the Gaussian, pixels.
    """
    return gaussian_blur(fused - truth, sigma).abs().mean()


def glow(fused: Tensor, truth: Tensor, noise: Tensor, sigma: float = 2.0) -> Tensor:
    """Mean log(1 + |blur(fused − truth)| / half the noise): light that does not belong there, however dim the ground.

    Errors on dark ground are nothing beside a bright body's, and everything to who measures the ground. The logarithm
    lets neither decide alone.

    Args:
        fused: B H W, on the scale of the variance-stabilised guide.
        truth: B H W, likewise.
        noise: B, standard deviation of the noise there.
        sigma: of the Gaussian, pixels.
    """
    error = gaussian_blur(fused - truth, sigma).abs()
    return torch.log1p(error / (0.5 * noise)[:, None, None]).mean()


def focus_cross_entropy(logits: Tensor, height: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy between the focus posterior and the true height.

    The target shares its mass linearly between the two slices next to the true height, so that the expected
    slice of a perfect posterior is the true height.

    Args:
        logits: B Z H W.
        height: B H W, in slices, clipped to [0, Z − 1].
        weight: B H W, ≥ 0: how much each pixel counts.
    """
    slices = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)[None, :, None, None]
    target = (1 - (slices - height[:, None]).abs()).clamp(min=0)
    entropy = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    return (weight * entropy).sum() / weight.sum().clamp(min=1e-6)


def in_focus_cross_entropy(logits: Tensor, in_focus: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy between what the network says of "anything in focus here" and the truth.

    Args:
        logits: B H W.
        in_focus: B H W in [0, 1].
        known: B H W, ≥ 0: how much each pixel counts; 0 where the scene does not say.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, in_focus, reduction="none")
    return (known * entropy).sum() / known.sum().clamp(min=1e-6)


def height_l1(posterior: Tensor, height: Tensor, weight: Tensor) -> Tensor:
    """Mean |expected − true height| in slices, weighted per pixel. B Z H W, B H W, B H W."""
    error: Tensor = (expected_height(posterior) - height).abs()
    return (weight * error).sum() / weight.sum().clamp(min=1e-6)
