"""Unsupervised losses by name: which terms, how much each counts, and their parameters.

Weights are for the guide's units, in which the contrast of a field is one. Where they come from is in docs/losses.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, with_config
from torch import Tensor

from hybridfusion_core.train.losses import image, mask
from hybridfusion_core.train.losses.targets import FocusMeasure, focus_weights, soft_target

PresetName = Literal["baseline", "natural", "organoid"]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class TermWeights:
    """How much each unsupervised term counts; a term of weight 0 is not computed.

    Attributes:
        gradient_max: | |∇f| − max_z |∇x_z| |.
        intensity_max: | f − max_z x_z |.
        log_max: | LoG f − LoG of largest magnitude |.
        ssim: 1 − SSIM(f, soft target).
        laplacian: Charbonnier(Lap f − Lap soft target).
        low_frequency: | blur f − blur mean_z x |.
        imbalance: (2 mean m − 1)² for a pair.
        ambiguity: mean m (1 − m) for a pair.
        total_variation: TV(m) for a pair.
    """

    gradient_max: NonNegativeFloat = 0.0
    intensity_max: NonNegativeFloat = 0.0
    log_max: NonNegativeFloat = 0.0
    ssim: NonNegativeFloat = 0.0
    laplacian: NonNegativeFloat = 0.0
    low_frequency: NonNegativeFloat = 0.0
    imbalance: NonNegativeFloat = 0.0
    ambiguity: NonNegativeFloat = 0.0
    total_variation: NonNegativeFloat = 0.0


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Preset:
    """An unsupervised loss.

    Attributes:
        weights: of the terms.
        measure: of focus, for the soft target.
        window: in which focus is measured, standard deviation in pixels.
        exponent: of the focus energy; the larger, the closer the soft target is to choosing one slice.
        log_sigma: of the Laplacian of Gaussian, pixels.
        low_sigma: of the blur that `low_frequency` compares under, pixels.
    """

    weights: TermWeights = field(default_factory=TermWeights)
    measure: FocusMeasure = "tenengrad"
    window: PositiveFloat = 3.0
    exponent: PositiveFloat = 4.0
    log_sigma: PositiveFloat = 1.0
    low_sigma: PositiveFloat = 8.0

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Σ weight × term, a scalar."""
        return torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()


PRESETS: dict[PresetName, Preset] = {
    "baseline": Preset(TermWeights(gradient_max=1.0, intensity_max=1.0, imbalance=0.1)),
    "natural": Preset(TermWeights(log_max=1.0, ssim=1.0, ambiguity=0.02, total_variation=0.3)),
    "organoid": Preset(TermWeights(laplacian=1.0, low_frequency=0.03, total_variation=1.0, ambiguity=0.02)),
}


def unsupervised_terms(
    preset: Preset, guide: Tensor, posterior: Tensor, noise: Tensor, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Every term that the preset gives weight to, unweighted, by its name in `TermWeights`.

    Counts a·x + b have the same guide (`intensity.FieldStatistics`) and therefore the same loss.

    Args:
        preset: which terms, and their parameters.
        guide: B Z H W, variance-stabilised and normalised; Z of at least 2.
        posterior: B Z H W in [0, 1], sums to one over Z; the mask terms are about it.
        noise: B, standard deviation of the noise in `guide`, > 0.
        weights: B Z H W, sum one over Z: what the slices are fused with. By default the posterior itself.

    Returns:
        Scalars ≥ 0. Gradients reach `posterior` and `weights`.
    """
    fused = ((posterior if weights is None else weights) * guide).sum(dim=1)
    if preset.weights.ssim or preset.weights.laplacian:
        share = focus_weights(guide, noise, preset.measure, preset.window, preset.exponent)
        target = soft_target(guide, share)
    terms = {
        "gradient_max": lambda: image.gradient_max(fused, guide),
        "intensity_max": lambda: image.intensity_max(fused, guide),
        "log_max": lambda: image.log_max(fused, guide, preset.log_sigma),
        "ssim": lambda: _dissimilarity(fused, target, guide, noise),
        "laplacian": lambda: image.charbonnier_laplacian(fused, target),
        "low_frequency": lambda: image.low_frequency(fused, guide, preset.low_sigma),
        "imbalance": lambda: mask.imbalance(posterior),
        "ambiguity": lambda: mask.ambiguity(posterior),
        "total_variation": lambda: mask.total_variation(posterior),
    }
    asked = [part.name for part in fields(TermWeights) if getattr(preset.weights, part.name) > 0]
    return {name: terms[name]() for name in asked}


def _dissimilarity(fused: Tensor, target: Tensor, guide: Tensor, noise: Tensor) -> Tensor:
    """1 − SSIM, on values that begin at 0 and span what the slices span: the guide itself has negative ones."""
    lowest, highest = guide.amin(dim=(1, 2, 3)), guide.amax(dim=(1, 2, 3))
    span = (highest - lowest).maximum(noise.to(guide.dtype))  # an empty field has no range but its noise
    base = lowest[:, None, None]
    return (1 - image.ssim(fused - base, target - base, span)).mean()
