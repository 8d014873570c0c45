"""What a fusion must not add: brightness where there is only haze, dark rings, a grid of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hybridfusion_core.predict import fuse

_LATTICE = 16  # px; the window grid of the shipped networks
_PHOTONS = 400.0


def measure_artefacts(options: dict[str, Any]) -> dict[str, float]:
    """Measure every artefact of one way to fuse.

    Args:
        options: of `fuse`.

    Returns:
        "haze bias, %": of structureless light against the mean of its stack; "dark ring, % of amplitude":
        deepest dip of the mean radial profile around an isolated nucleus below its surroundings; "window edges,
        fused" and "…, height": mean step across the worst of 16 column phases over the median phase.
    """
    fused, height = _weak_texture(options)
    return {
        "haze bias, %": haze_bias(options),
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


def window_edges(image: NDArray[Any]) -> float:
    """Mean absolute step across the worst of the lattice's column and row phases over that of the median phase.

    Args:
        image: Y X; pixels that are no numbers are left out.

    Returns:
        1 for an image without a grid.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(np.moveaxis(image, axis, 0).astype(np.float64), axis=0))
        phases = [np.nanmean(steps[phase::_LATTICE]) for phase in range(_LATTICE)]
        ratios.append(max(phases) / max(float(np.median(phases)), 1e-12))
    return float(max(ratios))


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
