"""What a fusion must not add, measured on specimens made for it: brightness, dark rings, a grid of windows.

The specimens are drawn once, from fixed seeds: every method is asked about the same photons. What can be measured
on any result, without knowing the specimen, is in `metrics.traces`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hybridfusion_core.evaluate.metrics.traces import window_edges
from hybridfusion_core.evaluate.metrics.truth import body_bias
from hybridfusion_core.fusion.api import fuse

_PHOTONS = 400.0
NUCLEAR_PHOTONS = (4_000.0, 400.0, 40.0)  # at a nucleus's brightest: clean, ordinary and starved


def measure_artefacts(options: dict[str, Any]) -> dict[str, float]:
    """Measure every artefact of one way to fuse.

    Args:
        options: of `fuse`.

    Returns:
        "haze bias, %": of structureless light against the mean of its stack; "nuclear means, …": see
        `nuclear_bias`, mean over the nuclei and the worst of them; "dark ring, % of amplitude": deepest
        dip of the mean radial profile around an isolated nucleus below its surroundings; "window edges, fused" and
        "…, height": mean step across the worst of 16 column phases over the median phase.
    """
    fused, height = _weak_texture(options)
    found = {"haze bias, %": haze_bias(options)}
    for photons in NUCLEAR_PHOTONS:
        errors = 100 * nuclear_bias(options, photons)
        found[f"nuclear means at {photons:.0f} photons, bias, %"] = float(errors.mean())
        found[f"nuclear means at {photons:.0f} photons, worst, %"] = float(errors[np.abs(errors).argmax()])
    return found | {
        "dark ring, % of amplitude": dark_ring(options),
        "window edges, fused": window_edges(fused),
        "window edges, height": window_edges(height),
    }


def haze_bias(options: dict[str, Any], slices: int = 9, size: int = 192) -> float:
    """Mean of fused structureless light of changing strength against the stack's mean, in percent."""
    random = np.random.default_rng(11)
    field = gaussian_filter(random.standard_normal((size, size)), 40, mode="wrap")
    field = 1 + 0.2 * field / field.std()
    profile = 0.4 + np.exp(-0.5 * ((np.arange(slices) - 3) / 2) ** 2)
    stack = random.poisson(_PHOTONS * profile[:, None, None] * field).astype(np.float32)
    return float(100 * (fuse(stack, **options).fused.mean() / stack.mean() - 1))


def dark_ring(options: dict[str, Any], slices: int = 9, size: int = 128) -> float:
    """Deepest dip of the mean radial profile around a bright disc on even ground, in percent of its amplitude."""
    random = np.random.default_rng(12)
    y, x = np.indices((size, size)) - size / 2
    radius = np.hypot(y, x)
    nucleus = np.clip(14.5 - radius, 0, 1)
    expected = np.stack([gaussian_filter(nucleus, 0.6 + 1.5 * abs(z - slices // 2)) for z in range(slices)])
    stack = random.poisson(_PHOTONS * (0.2 + expected)).astype(np.float32)
    fused = fuse(stack, **options).fused
    ring = radius.astype(int)
    profile = np.bincount(ring.ravel(), fused.ravel()) / np.bincount(ring.ravel())
    ground = float(np.median(fused[radius > 50]))
    return float(100 * max(ground - profile[15:40].min(), 0) / _PHOTONS)


def nuclear_bias(options: dict[str, Any], photons: float, slices: int = 9, size: int = 192) -> NDArray[np.float64]:
    """Error of every nucleus's mean in a widefield stack where neighbours at other depths shine into it.

    Nine nuclei of 9 to 15 px radius with chromatin texture lie at depths between the second slice and the last but
    one; light adds. Emission is blurred by its distance from the focus (Gaussian, 0.7 + 1.4 px per slice), on a
    background of a tenth of a nucleus. The truth is the noise-free light of the slice at the nucleus's own depth, its
    neighbours' haze included: a choice of slices can give that, and nothing darker.

    Args:
        options: of `fuse`.
        photons: at a nucleus's brightest.
        slices: Z.
        size: Y and X.

    Returns:
        One number per nucleus; 0.02 is 2 % too bright.
    """
    random = np.random.default_rng(14)
    y, x = np.indices((size, size))
    chromatin = gaussian_filter(random.standard_normal((size, size)), 1.5, mode="wrap")
    chromatin = 0.7 + 0.15 * (chromatin / chromatin.std()).clip(-2, 2)
    expected = np.full((slices, size, size), 0.1)
    labels, depths = np.zeros((size, size), dtype=int), []
    pitch = size / 3
    for number in range(9):
        row, column = divmod(number, 3)
        centre = (np.array([row, column]) + 0.5) * pitch + random.uniform(-0.12, 0.12, 2) * pitch
        radius = random.uniform(9, 15)
        outside = np.hypot(y - centre[0], x - centre[1]) - radius
        depths.append(int(random.integers(1, slices - 1)))
        light = chromatin * np.clip(0.5 - outside, 0, 1) * random.uniform(0.5, 1.0)
        for z in range(slices):
            expected[z] += gaussian_filter(light, 0.7 + 1.4 * abs(z - depths[-1]), mode="wrap")
        labels[outside < -2] = number + 1  # without the rim, where a pixel is part nucleus, part ground
    stack = random.poisson(photons * expected).astype(np.float32)
    truth = np.take_along_axis(expected, np.array([0, *depths])[labels][None], axis=0)[0]
    return body_bias(photons * truth, fuse(stack, **options).fused, labels)


def _weak_texture(options: dict[str, Any], slices: int = 9, size: int = 256) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fused image and height of a dim rolling surface, in which a grid of windows would show."""
    random = np.random.default_rng(13)
    texture = gaussian_filter(random.standard_normal((size, size)), 1.2, mode="wrap")
    height = gaussian_filter(random.standard_normal((size, size)), 40, mode="wrap")
    height = (slices - 1) * (height - height.min()) / np.ptp(height)
    sigmas = np.linspace(0, 8, 17)
    levels = np.stack([gaussian_filter(texture, sigma, mode="wrap") for sigma in sigmas])
    expected = np.empty((slices, size, size))
    for z in range(slices):
        level = np.clip(1.2 * np.abs(z - height) / (sigmas[1] - sigmas[0]), 0, len(sigmas) - 1).round().astype(int)
        expected[z] = np.take_along_axis(levels, level[None], axis=0)[0]
    expected = 1 + 0.15 * expected / texture.std()
    stack = random.poisson(_PHOTONS * expected.clip(0)).astype(np.float32)
    result = fuse(stack, **options)
    assert result.height_slices is not None  # noqa: S101 - no z positions, so it is in slices
    return result.fused, result.height_slices
