"""Two halves of the photons: what a second exposure would have shown, as far as noise goes.

A count y of gain g and noise variance v(y) is taken for N = v/g² photons above an even floor, which read noise is part
of; each photon falls into one half or the other. The halves y ± g (2k − N), k ~ Binomial(N, ½), have independent noise
of variance 2v each (thinning of a Poisson process; with no gain found, Gaussian noise is split in the same way).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.model.noise import FieldStatistics, NoiseModel

_GAUSSIAN_FROM = 1e4  # photons from which on a binomial is drawn as a normal number


def halves(
    counts: NDArray[Any], model: NoiseModel, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split counts of any shape into two with independent noise, both at the counts' own level.

    Args:
        counts: any real dtype.
        model: their noise.
        random: says which photon falls where.
    """
    values = counts.astype(np.float32)
    variance = model.variance + model.gain * np.maximum(values - model.low, 0)
    apart = np.sqrt(variance) * random.standard_normal(values.shape, dtype=np.float32)
    if model.gain > 0:
        photons = np.round(variance / model.gain**2)
        few = photons < _GAUSSIAN_FROM
        drawn = random.binomial(photons[few].astype(np.int64), 0.5)
        apart[few] = model.gain * (2 * drawn - photons[few])
    return values + apart, values - apart


def of_halves(statistics: FieldStatistics) -> FieldStatistics:
    """What a half is normalised with: its noise has twice the variance."""
    models = tuple(replace(each, variance=2 * each.variance, gain=2 * each.gain) for each in statistics.models)
    root = float(np.sqrt(2.0))  # the stabilised guide is in units of its own noise
    return replace(statistics, models=models, centre=statistics.centre / root, scale=max(statistics.scale / root, 1.0))
