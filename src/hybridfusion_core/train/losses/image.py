"""What the losses ask of the fused image, compared with the slices that it was fused from.

`fused` is B H W and `slices` B Z H W, both in units of the variance-stabilised guide; every term is a scalar ≥ 0 that
does not depend on the order of the slices. For Z = 2 each is the formula that its source gives for a pair.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridfusion_core.model.blur import gaussian_blur
from hybridfusion_core.model.focus_measures import gradients, laplacian

_SSIM_WINDOW = 1.5  # px, standard deviation; Wang et al. 2004
_SSIM_K = (0.01, 0.03)  # K1 and K2 there


def gradient_max(fused: Tensor, slices: Tensor) -> Tensor:
    """Mean | |∇f| − max_z |∇x_z| |, with |∇x| = |∂y x| + |∂x x| by Sobel.

    Source: the texture loss of SwinFusion (Ma et al. 2022, doi:10.1109/JAS.2022.105686), there for two images.
    Weakness: the largest of several noisy gradients is mostly noise, so it prefers noisy images to averaged ones.
    """
    return (_steepness(fused) - _steepness(slices).amax(dim=1)).abs().mean()


def intensity_max(fused: Tensor, slices: Tensor) -> Tensor:
    """Mean | f − max_z x_z |.

    Source: the intensity loss of SwinFusion (doi:10.1109/JAS.2022.105686). Weakness: defocus fills dark detail with
    light, so that on a dark-textured specimen the brightest slice is the blurred one.
    """
    return (fused - slices.amax(dim=1)).abs().mean()


def log_max(fused: Tensor, slices: Tensor, sigma: float = 1.0) -> Tensor:
    """Mean | LoG f − LoG x_z* |, where z* is the slice whose Laplacian of Gaussian is largest in magnitude.

    Sources: the operator from Marr & Hildreth 1980 (doi:10.1098/rspb.1980.0020); choosing detail by its largest
    magnitude from Burt & Kolczynski 1993 (doi:10.1109/ICCV.1993.378222).

    Args:
        fused: B H W.
        slices: B Z H W.
        sigma: of the Gaussian, pixels; the larger, the less noise counts and the less fine detail.
    """
    detail = _log(slices, sigma)
    highest, lowest = detail.amax(dim=1), detail.amin(dim=1)
    return (_log(fused, sigma) - torch.where(highest >= -lowest, highest, lowest)).abs().mean()


def ssim(image: Tensor, other: Tensor, value_range: Tensor | float) -> Tensor:
    """Structural similarity in Gaussian windows of σ = 1.5 px, truncated at 5 px (Wang et al. 2004, eq. 13).

    Same as `skimage.metrics.structural_similarity(gaussian_weights=True, use_sample_covariance=False)` but for the
    borders, which are replicated here and left out there. (doi:10.1109/TIP.2003.819861)

    Args:
        image: B H W, ≥ 0 or nearly so: the formula compares means by their ratio.
        other: B H W, likewise.
        value_range: B or one number, > 0: largest minus smallest value that the images may have.

    Returns:
        B H W, at most 1, which is reached for equal images.
    """
    span = torch.as_tensor(value_range, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
    c1, c2 = ((k * span).square() for k in _SSIM_K)
    mean, other_mean = gaussian_blur(image, _SSIM_WINDOW), gaussian_blur(other, _SSIM_WINDOW)
    variances = gaussian_blur(image.square() + other.square(), _SSIM_WINDOW) - mean.square() - other_mean.square()
    covariance = gaussian_blur(image * other, _SSIM_WINDOW) - mean * other_mean
    luminance = (2 * mean * other_mean + c1) / (mean.square() + other_mean.square() + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def charbonnier_laplacian(fused: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean √(d² + ε²) − ε, where d = Lap f − Lap target, five-point Laplacian.

    Sources: Charbonnier et al. 1994 (doi:10.1109/ICIP.1994.413553) for the penalty, which is L1 that is smooth at 0;
    ε as in Lai et al. 2017 (arXiv:1704.03915). Blind to brightness and to slow gradients, which haze is made of.

    Args:
        fused: B H W.
        target: B H W.
        epsilon: below it the penalty is quadratic; guide units.
    """
    # Written so that small differences do not cancel: √(d² + ε²) − ε = d² / (√(d² + ε²) + ε).
    square: Tensor = laplacian(fused - target).square()
    return (square / (torch.sqrt(square + epsilon**2) + epsilon)).mean()


def low_frequency(fused: Tensor, slices: Tensor, sigma: float = 8.0) -> Tensor:
    """Mean | blur f − blur mean_z x_z |: background and haze come out as the mean of the slices.

    The term of this project's design; the mean over slices is the one estimate of haze that no slice biases. Inside a
    bright structure it competes with sharpness (a slice in focus is brighter than the mean), so it must count little.

    Args:
        fused: B H W.
        slices: B Z H W.
        sigma: of the Gaussian, pixels; larger than the structures that are to be kept sharp.
    """
    return gaussian_blur(fused - slices.mean(dim=1), sigma).abs().mean()


def _steepness(image: Tensor) -> Tensor:
    along_y, along_x = gradients(image)
    steepness: Tensor = along_y.abs() + along_x.abs()
    return steepness


def _log(image: Tensor, sigma: float) -> Tensor:
    found: Tensor = laplacian(gaussian_blur(image, sigma))
    return found
