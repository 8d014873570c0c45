"""Classical measures of focus: what a slice's own gradients say about its sharpness.

All take the variance-stabilised guide, in which shot noise is equally strong everywhere.
"""

from __future__ import annotations

import math

import torch
from scipy.special import gammainccinv
from torch import Tensor
from torch.nn import functional

_TRUNCATE = 3.0  # standard deviations at which a Gaussian kernel is cut
SMOOTHING = 4.0  # px; the window of the shipped Tenengrad and Laplacian methods
DETECTION_SMOOTHING = 3.0  # px; the window in which structure is told from noise
WHITE_NOISE_ENERGY = 2 * 0.5 * 0.375  # gradient energy of white noise of variance 1: Σ slope² × Σ smooth², twice
FALSE_ALARMS = 1e-6  # share of structureless pixels in which some slice of the stack passes for structure


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur the last two axes; borders are replicated.

    Args:
        image: … H W.
        sigma: standard deviation in pixels; 0 returns the image.
    """
    if sigma <= 0:
        return image
    radius = kernel_radius(sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = image.reshape(-1, 1, *image.shape[-2:])  # … H W -> n 1 H W
    x = functional.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = functional.conv2d(x, kernel[None, None, :, None])
    x = functional.conv2d(x, kernel[None, None, None, :])
    return x.reshape(image.shape)


def kernel_radius(sigma: float) -> int:
    """Pixels from which `gaussian_blur` takes values."""
    return math.ceil(_TRUNCATE * sigma)


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel derivatives along Y and X, scaled to the slope of a ramp; borders are replicated.

    Args:
        image: … H W.

    Returns:
        Two tensors … H W.
    """
    smooth = image.new_tensor([0.25, 0.5, 0.25])
    slope = image.new_tensor([-0.5, 0.0, 0.5])
    x = functional.pad(image.reshape(-1, 1, *image.shape[-2:]), (1, 1, 1, 1), mode="replicate")
    along_y = functional.conv2d(x, (slope[:, None] * smooth[None, :])[None, None])
    along_x = functional.conv2d(x, (smooth[:, None] * slope[None, :])[None, None])
    return along_y.reshape(image.shape), along_x.reshape(image.shape)


def laplacian(image: Tensor) -> Tensor:
    """Five-point Laplacian; borders are replicated. … H W."""
    kernel = image.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    x = functional.pad(image.reshape(-1, 1, *image.shape[-2:]), (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(x, kernel[None, None]).reshape(image.shape)


def tenengrad(guide: Tensor, sigma: float = SMOOTHING) -> Tensor:
    """Squared Sobel gradient, averaged over a Gaussian window (Tenenbaum 1970; Krotkov 1988).

    Args:
        guide: … H W.
        sigma: of the window, pixels.

    Returns:
        … H W, ≥ 0.
    """
    return gaussian_blur(gradient_energy(guide), sigma)


def gradient_energy(guide: Tensor) -> Tensor:
    """Squared Sobel gradient. … H W, ≥ 0."""
    along_y, along_x = gradients(guide)
    return along_y.square() + along_x.square()


def laplacian_energy(guide: Tensor, sigma: float = SMOOTHING) -> Tensor:
    """Squared Laplacian, averaged over a Gaussian window (Nayar & Nakagawa 1994 sum its magnitude). … H W, ≥ 0."""
    return gaussian_blur(laplacian(guide).square(), sigma)


def has_structure(guide: Tensor, noise: Tensor) -> Tensor:
    """Where any slice shows more than noise: elsewhere nothing is in focus.

    The gradient energy of white noise of variance s², averaged over a Gaussian window, has a gamma distribution of mean
    m·s² whose shape is the number of independent gradients in the window. Structure is what noise exceeds in
    `FALSE_ALARMS` of the pixels, in any of the slices: the more slices, the higher. Slow haze has hardly any gradient
    and does not count.

    Args:
        guide: B Z H W.
        noise: B, standard deviation of the noise in `guide`.

    Returns:
        B H W, bool.
    """
    energy = torch.zeros_like(guide[:, 0])
    for plane in guide.unbind(dim=1):  # slice by slice: scratch memory of one
        energy = torch.maximum(energy, tenengrad(plane, DETECTION_SMOOTHING))
    # The window averages 4πσ² pixels; overlapping Sobel kernels leave one in 4.7 independent, by the tail of white
    # noise beyond 1 in 10⁴ (measured; by its variance it is one in 3.7, but its tail is heavier than a gamma's).
    shape = 4 * math.pi * DETECTION_SMOOTHING**2 / 4.7
    exceeded = float(gammainccinv(shape, FALSE_ALARMS / guide.shape[1])) / shape
    threshold = exceeded * WHITE_NOISE_ENERGY * noise.square()
    return energy > threshold[:, None, None]
