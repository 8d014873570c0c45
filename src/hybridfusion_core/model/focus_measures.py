"""Classical measures of focus: what a slice's own gradients say about its sharpness.

All take the variance-stabilised guide, in which shot noise is equally strong everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import lazy_loader
import numpy as np

from hybridfusion_core.model.arrays import Array, namespace
from hybridfusion_core.model.blur import gaussian_blur, kernel_radius

# A network that says what is in focus needs neither, and they take 0.3 s to import.
ndimage = lazy_loader.load("scipy.ndimage", suppress_warning=True)
special = lazy_loader.load("scipy.special", suppress_warning=True)

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


def gradients(image: Array) -> tuple[Array, Array]:
    """Sobel derivatives along Y and X, scaled to the slope of a ramp; borders are replicated.

    Args:
        image: … H W.

    Returns:
        Two arrays … H W.
    """
    x = _edged(image)
    smooth_x = x[..., :-2] + x[..., 2:]
    smooth_y = x[..., :-2, :] + x[..., 2:, :]
    for _ in range(2):  # in place: half of the time
        smooth_x += x[..., 1:-1]
        smooth_y += x[..., 1:-1, :]
    along_y = smooth_x[..., 2:, :] - smooth_x[..., :-2, :]
    along_x = smooth_y[..., 2:] - smooth_y[..., :-2]
    along_y *= 0.125
    along_x *= 0.125
    return along_y, along_x


def laplacian(image: Array) -> Array:
    """Five-point Laplacian; borders are replicated. … H W."""
    x = _edged(image)
    beside = x[..., 1:-1, :-2] + x[..., 1:-1, 2:] + x[..., :-2, 1:-1] + x[..., 2:, 1:-1]
    return beside - 4 * x[..., 1:-1, 1:-1]


def _edged(image: Array) -> Array:
    """Repeat the outermost pixels once on all sides: … H W -> … H+2 W+2."""
    if isinstance(image, np.ndarray):
        return np.pad(image, ((0, 0),) * (image.ndim - 2) + ((1, 1), (1, 1)), mode="edge")
    from torch.nn.functional import pad

    height, width = image.shape[-2:]
    edged = pad(image.reshape(-1, 1, height, width), (1, 1, 1, 1), mode="replicate")
    return edged.reshape(*image.shape[:-2], height + 2, width + 2)


def tenengrad(guide: Array, sigma: float = SMOOTHING) -> Array:
    """Squared Sobel gradient, averaged over a Gaussian window (Tenenbaum 1970; Krotkov 1988).

    Args:
        guide: … H W.
        sigma: of the window, pixels.

    Returns:
        … H W, ≥ 0.
    """
    return gaussian_blur(gradient_energy(guide), sigma)


def gradient_energy(guide: Array) -> Array:
    """Squared Sobel gradient. … H W, ≥ 0."""
    along_y, along_x = gradients(guide)
    return along_y**2 + along_x**2


def laplacian_energy(guide: Array, sigma: float = SMOOTHING) -> Array:
    """Squared Laplacian, averaged over a Gaussian window (Nayar & Nakagawa 1994 sum its magnitude). … H W, ≥ 0."""
    return gaussian_blur(laplacian(guide) ** 2, sigma)


def has_structure(guide: Array, noise: Array) -> Array:
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
    energies: list[Array] = []
    for z in range(guide.shape[1]):  # slice by slice: scratch memory of one
        energies = greater(energies, structure_energies(guide[:, z], noisy=noisy))
    return exceeds_noise(energies, noise, guide.shape[1])


def structure_energies(plane: Array, *, noisy: bool) -> list[Array]:
    """What `has_structure` looks at in one slice: B H W each.

    Args:
        plane: B H W.
        noisy: some noise is above `COARSE_FROM`, so that what shows after smoothing is looked at too.
    """
    slow = gaussian_blur(plane, DETECTION_SCALE)
    energies = [tenengrad(plane - slow, DETECTION_SMOOTHING)]
    if noisy:
        energies.append(tenengrad(gaussian_blur(plane, COARSE) - slow, DETECTION_SMOOTHING))
    return energies


def greater(energies: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """The greater one of each pair; of none and some, those."""
    if not (energies and others):
        return [*energies, *others]
    return [namespace(each).maximum(each, other) for each, other in zip(energies, others, strict=True)]


def exceeds_noise(energies: Sequence[Array], noise: Array, slices: int) -> Array:
    """Where the greatest energies of all slices exceed what noise leaves in them; see `has_structure`.

    Args:
        energies: B H W each, the greatest ones of what `structure_energies` gives.
        noise: B.
        slices: how many there are.

    Returns:
        B H W, bool.
    """
    alarms = FALSE_ALARMS / slices
    # The window averages 4πσ² pixels; overlapping Sobel kernels leave one in 4.7 independent, by the tail of white
    # noise beyond 1 in 10⁴ (measured; by its variance it is one in 3.7, but its tail is heavier than a gamma's).
    beyond = _exceeded(4 * math.pi * DETECTION_SMOOTHING**2 / 4.7, alarms) * WHITE_NOISE_ENERGY
    variance = (noise**2)[:, None, None]
    shown = energies[0] > beyond * variance
    if len(energies) > 1:
        beyond_coarse = _exceeded(_COARSE_SHAPE, alarms) * COARSE_NOISE_ENERGY * variance
        shown |= energies[1] > beyond_coarse.clip(min=beyond * COARSE_FROM**2)
    return _opened(shown)


def _exceeded(shape: float, share: float) -> float:
    """What a gamma distribution of mean 1 exceeds in so small a share."""
    return float(special.gammainccinv(shape, share)) / shape


def structure_reach() -> int:
    """Pixels that `has_structure` looks at around each one: mean, Sobel kernel, window and opening."""
    return kernel_radius(DETECTION_SCALE) + 1 + kernel_radius(DETECTION_SMOOTHING) + 2 * (DETECTION_CORE // 2)


def _opened(found: Array) -> Array:
    """Leave out what does not hold a square of `DETECTION_CORE` px; B H W, bool."""
    if isinstance(found, np.ndarray):
        size = (1, DETECTION_CORE, DETECTION_CORE)
        return ndimage.grey_opening(found.astype(np.uint8), size, mode="nearest").astype(bool)
    from torch.nn.functional import max_pool2d

    def widest(mask: Array) -> Array:
        return max_pool2d(mask, DETECTION_CORE, stride=1, padding=DETECTION_CORE // 2)

    return widest(-widest(-found.float())) > 0
