"""The image that the slices' own sharpness asks for, made so that noise is no sharpness.

Everything works on the variance-stabilised guide. There, noise adds the same known energy to every slice, however
bright; that energy is taken off before slices are compared.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from hybridfusion_core.model.focus_measures import laplacian_energy, tenengrad

FocusMeasure = Literal["tenengrad", "laplacian"]

_MEASURES = {"tenengrad": tenengrad, "laplacian": laplacian_energy}
# Mean energy of white noise of variance one, and the relative variance of that mean per independent pixel of the
# window: the sum of the squared kernels, and what squared Gaussians correlated by those kernels leave.
_NOISE_ENERGY = {"tenengrad": 0.375, "laplacian": 20.0}
_NOISE_SPREAD = {"tenengrad": 3.66, "laplacian": 3.38}
_SURE_SDS = 3.0  # energies within so many standard deviations of noise alone are not told apart


def focus_weights(
    guide: Tensor, noise: Tensor, measure: FocusMeasure = "tenengrad", window: float = 3.0, exponent: float = 4.0
) -> Tensor:
    """Share of each slice in the soft target.

    q_z = e_z^γ / Σ_z e_z^γ with e_z = max(E_z − E_noise, 3 sd(E_noise)), where E_z is the focus energy in a Gaussian
    window (Tenengrad: Krotkov 1988; Laplacian energy: Nayar & Nakagawa 1994) and γ the exponent. Where no slice
    stands out of the noise all get the same share.

    Args:
        guide: B Z H W, variance-stabilised.
        noise: B, standard deviation of the noise in `guide`, ≥ 0.
        measure: of focus.
        window: standard deviation of the window, pixels, > 0.
        exponent: sharpness γ, > 0; the larger, the closer to choosing one slice.

    Returns:
        B Z H W in [0, 1], sums to one over Z; carries no gradient.
    """
    with torch.no_grad():
        of_noise = _NOISE_ENERGY[measure] * noise.to(guide.dtype).square()[:, None, None]
        relative_sd = math.sqrt(_NOISE_SPREAD[measure] / (4 * math.pi * window**2))
        least = (_SURE_SDS * relative_sd * of_noise).clamp(min=torch.finfo(guide.dtype).tiny)
        excess = [(_MEASURES[measure](plane, window) - of_noise).maximum(least) for plane in guide.unbind(dim=1)]
        return (exponent * torch.stack(excess, dim=1).log()).softmax(dim=1)


def soft_target(guide: Tensor, share: Tensor) -> Tensor:
    """Σ_z q_z x_z: the slices mixed by their shares. B Z H W each -> B H W."""
    return (share * guide).sum(dim=1)
