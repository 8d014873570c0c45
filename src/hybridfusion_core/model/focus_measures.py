"""Classical measures of focus: what a slice's own gradients say about its sharpness.

All take the variance-stabilised guide, in which shot noise is equally strong everywhere.
"""

from __future__ import annotations

import math

import torch
from scipy.special import gammainccinv
from torch import Tensor
from torch.nn import functional

# A blur is a product with a band of weights, a few places at a time: on a CPU 2 to 3 times as fast as convolutions of
# rows, which are the fastest ones (measured, 576² px). More places at a time spend more on the band's zeros.
_BAND = 16  # places
_TRUNCATE = 3.0  # standard deviations at which a Gaussian kernel is cut
SMOOTHING = 4.0  # px; the window of the shipped Tenengrad and Laplacian methods
DETECTION_SMOOTHING = 3.0  # px; the window in which structure is told from noise
WHITE_NOISE_ENERGY = 2 * 0.5 * 0.375  # gradient energy of white noise of variance 1: Σ slope² × Σ smooth², twice
DETECTION_SCALE = 6.0  # px; what varies more slowly is out-of-focus light, however bright
DETECTION_CORE = 5  # px; what is detected spans at least so much: one bright point fills the window
# In much noise, structure that is coarser than a pixel shows after smoothing alone. Of white noise of variance 1 that
# leaves this much gradient energy, whose tail beyond 1 in 10⁴ is that of a gamma distribution of this shape (measured).
COARSE = 1.5  # px
COARSE_NOISE_ENERGY = 0.0112
_COARSE_SHAPE = 3.7
COARSE_FROM = 0.15  # noise up to which what is in focus shows without smoothing; the rest is out-of-focus light
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
    band = blur_band(gaussian_kernel(sigma, image.dtype), _BAND).to(image.device)
    height, width = image.shape[-2:]
    x = image.reshape(-1, height, width)  # … H W -> n H W
    around = (radius, radius + -width % _BAND, radius, radius + -height % _BAND)
    x = functional.pad(x, around, mode="replicate")
    for _ in range(2):  # along X, then Y
        parts = x.mT.unfold(1, band.shape[1], _BAND).mT  # n H W -> n places k H, what each product reads
        x = (band @ parts).flatten(1, 2)  # n places _BAND H -> n W H
    return x[:, :height, :width].reshape(image.shape)


def blur_band(kernel: Tensor, places: int) -> Tensor:
    """Weights of neighbouring places, each row one to the right of the one above: k -> places k+places−1."""
    row = functional.pad(kernel, (0, places))
    return row.repeat(places)[: places * (len(row) - 1)].view(places, -1)


def gaussian_kernel(sigma: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights of `gaussian_blur`, in sum one, on the CPU."""
    radius = kernel_radius(sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


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
    x = functional.pad(image.reshape(-1, 1, *image.shape[-2:]), (1, 1, 1, 1), mode="replicate")  # n 1 H+2 W+2
    smooth_x = (x[..., :-2] + x[..., 2:]).add_(x[..., 1:-1], alpha=2)  # in place: half of the time
    smooth_y = (x[..., :-2, :] + x[..., 2:, :]).add_(x[..., 1:-1, :], alpha=2)
    along_y = (smooth_x[..., 2:, :] - smooth_x[..., :-2, :]).mul_(0.125)
    along_x = (smooth_y[..., 2:] - smooth_y[..., :-2]).mul_(0.125)
    return along_y.reshape(image.shape), along_x.reshape(image.shape)


def laplacian(image: Tensor) -> Tensor:
    """Five-point Laplacian; borders are replicated. … H W."""
    x = functional.pad(image.reshape(-1, 1, *image.shape[-2:]), (1, 1, 1, 1), mode="replicate")  # n 1 H+2 W+2
    beside = x[..., 1:-1, :-2] + x[..., 1:-1, 2:] + x[..., :-2, 1:-1] + x[..., 2:, 1:-1]
    return (beside - 4 * x[..., 1:-1, 1:-1]).reshape(image.shape)


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
    `FALSE_ALARMS` of the pixels, in any of the slices: the more slices, the higher. Light that is out of focus has a
    gradient too, around everything bright, and no detail: a Gaussian mean of `DETECTION_SCALE` px is taken off before.
    Noise hides what is coarser than a pixel but shows after smoothing, so that is asked too. In little noise only
    blurred rims would be found in that way: the threshold never falls below what pixels alone show at a noise of
    `COARSE_FROM`.
    Real noise has heavier tails; what they leave is narrower than anything that the window has spread, so detections
    that do not hold a square of `DETECTION_CORE` px are dropped (a morphological opening).

    Args:
        guide: B Z H W.
        noise: B, standard deviation of the noise in `guide`.

    Returns:
        B H W, bool.
    """
    noisy = bool((noise > COARSE_FROM).any())
    energy, coarse = torch.zeros_like(guide[:, 0]), torch.zeros_like(guide[:, 0])
    for plane in guide.unbind(dim=1):  # slice by slice: scratch memory of one
        slow = gaussian_blur(plane, DETECTION_SCALE)
        energy = torch.maximum(energy, tenengrad(plane - slow, DETECTION_SMOOTHING))
        if noisy:
            smoothed = gaussian_blur(plane, COARSE) - slow
            coarse = torch.maximum(coarse, tenengrad(smoothed, DETECTION_SMOOTHING))
    alarms = FALSE_ALARMS / guide.shape[1]
    # The window averages 4πσ² pixels; overlapping Sobel kernels leave one in 4.7 independent, by the tail of white
    # noise beyond 1 in 10⁴ (measured; by its variance it is one in 3.7, but its tail is heavier than a gamma's).
    beyond = _exceeded(4 * math.pi * DETECTION_SMOOTHING**2 / 4.7, alarms) * WHITE_NOISE_ENERGY
    beyond_coarse = _exceeded(_COARSE_SHAPE, alarms) * COARSE_NOISE_ENERGY * noise.square()
    shown = energy > (beyond * noise.square())[:, None, None]
    shown |= coarse > beyond_coarse.clamp(min=beyond * COARSE_FROM**2)[:, None, None]
    found = shown.to(energy.dtype)
    return _widest(-_widest(-found)) > 0


def _exceeded(shape: float, share: float) -> float:
    """What a gamma distribution of mean 1 exceeds in so small a share."""
    return float(gammainccinv(shape, share)) / shape


def structure_reach() -> int:
    """Pixels that `has_structure` looks at around each one: mean, Sobel kernel, window and opening."""
    return kernel_radius(DETECTION_SCALE) + 1 + kernel_radius(DETECTION_SMOOTHING) + 2 * (DETECTION_CORE // 2)


def _widest(mask: Tensor) -> Tensor:
    """Largest value in a square of `DETECTION_CORE` px around each pixel. B H W."""
    return functional.max_pool2d(mask, DETECTION_CORE, stride=1, padding=DETECTION_CORE // 2)
