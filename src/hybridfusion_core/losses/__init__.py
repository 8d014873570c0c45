"""What training asks of the network: pure terms, and presets that say how much each counts.

`supervised` compares with the truth of synthetic stacks, `image` with the slices themselves, `mask` looks at the
focus posterior alone. `targets` makes the image that the slices' own sharpness asks for. `presets` adds the
unsupervised terms up; formulas, sources and pictures are in docs/losses.md. The weights of the supervised terms
live in the training configuration.
"""

from hybridfusion_core.losses.image import (
    charbonnier_laplacian,
    gradient_max,
    intensity_max,
    log_max,
    low_frequency,
    ssim,
)
from hybridfusion_core.losses.mask import ambiguity, disagreement, imbalance, total_variation
from hybridfusion_core.losses.presets import PRESETS, Preset, PresetName, TermWeights, unsupervised_terms
from hybridfusion_core.losses.supervised import (
    expected_height,
    focus_cross_entropy,
    glow,
    gradient_l1,
    height_l1,
    in_focus_cross_entropy,
    l1,
    local_mean_l1,
)
from hybridfusion_core.losses.targets import FocusMeasure, focus_weights, soft_target

__all__ = [
    "PRESETS",
    "FocusMeasure",
    "Preset",
    "PresetName",
    "TermWeights",
    "ambiguity",
    "charbonnier_laplacian",
    "disagreement",
    "expected_height",
    "focus_cross_entropy",
    "focus_weights",
    "glow",
    "gradient_l1",
    "gradient_max",
    "height_l1",
    "imbalance",
    "in_focus_cross_entropy",
    "intensity_max",
    "l1",
    "local_mean_l1",
    "log_max",
    "low_frequency",
    "soft_target",
    "ssim",
    "total_variation",
    "unsupervised_terms",
]
