"""What is known of a tile once its slices are scored: everything that `PRODUCTS` are computed from."""

from __future__ import annotations

from dataclasses import dataclass

from hybridfusion_core.model.arrays import Array
from hybridfusion_core.model.posterior import confidence_map, decision_mask, height_map, noise_gain


@dataclass(frozen=True)
class Evidence:
    """Scores of a tile and what they mean.

    Attributes:
        posterior: B Z H W in [0, 1], sum one over Z; how probable each slice is to be the sharpest.
        weights: B Z H W, likewise; they fuse the slices.
        structure: B H W, bool; False where nothing is in focus.
        in_focus: B H W in [0, 1], float32; how probable it is that anything is. What `structure` comes from.
        numbers: Z + 1, integers: 0 for nothing, and each slice's number in the file, counted from 1.
        positions: Z, float32; of the slices in µm, or their indices in the file.
        confidence_line: see `confidence_map`; None for methods that were not calibrated.
    """

    posterior: Array
    weights: Array
    structure: Array
    in_focus: Array
    numbers: Array
    positions: Array
    confidence_line: Array | None = None

    def decision(self) -> Array:
        """Number of the most probable slice; 0 where nothing is in focus. B H W."""
        return self.numbers[decision_mask(self.posterior, self.structure)]

    def height(self) -> Array:
        """Expected position around the most probable slice; NaN where nothing is in focus. B H W."""
        return height_map(self.posterior, self.structure, self.positions)

    def confidence(self) -> Array:
        """Probability that the decision is right to within one slice; NaN where nothing is in focus. B H W."""
        return confidence_map(self.posterior, self.structure, self.confidence_line)

    def noise_gain(self) -> Array:
        """Standard deviation of the fused noise over that of one slice. B H W in (0, 1]."""
        return noise_gain(self.weights)
