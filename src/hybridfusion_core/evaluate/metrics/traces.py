"""Traces that a method leaves in a result, measurable where no truth is known.

Real specimens have edges, dark rims and specks of their own: compare a method's figure with those of other methods
and of the slices' mean on the same stack, not with zero.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, median_filter
from skimage.filters import threshold_otsu

LATTICES = (16, 32)  # px; the window grids of the shipped networks
_SPECK = 5  # px; side of the neighbourhood that a speck differs from
_LEAST_BODY = 60  # px; area of a body whose surroundings are looked at
_NEAR, _FAR = 3, 20  # px outside a body's edge: where its ring is, and where its ground is


def window_edges(image: NDArray[Any]) -> float:
    """Mean absolute step across the worst of a lattice's column and row phases over that of the median phase.

    Args:
        image: Y X; NaN and infinite pixels are left out.

    Returns:
        Of the worse lattice, of those with at least four windows a side. 1 for an image without a grid; NaN if it is
        flat, or too small.
    """
    ratios = [_edges(image, lattice) for lattice in LATTICES if min(image.shape) >= 4 * lattice]
    return float(max(ratios)) if ratios else np.nan


def _edges(image: NDArray[Any], lattice: int) -> float:
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(np.moveaxis(image, axis, 0).astype(np.float64), axis=0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a phase without a single number gives NaN
            phases = np.array([np.nanmean(steps[phase::lattice]) for phase in range(lattice)])
        middle = float(np.median(phases))
        ratios.append(float(phases.max()) / middle if middle > 0 else np.nan)
    return max(ratios)


def speckle(decision: NDArray[Any], slices: int) -> float:
    """Share of decided pixels that stand out of their neighbourhood.

    A speck is further from the median of its 5 × 5 px than a tenth of the stack's depth (for a pair: the other image).

    Args:
        decision: Y X, slice counted from 1; 0 where nothing is in focus.
        slices: Z.

    Returns:
        0 to 1; NaN if nothing was decided.
    """
    decided = decision > 0
    if not decided.any():
        return np.nan
    values = decision.astype(np.float64)
    return float((np.abs(values - median_filter(values, _SPECK)) > 0.1 * (slices - 1))[decided].mean())


def dark_ring(fused: NDArray[Any], guide: NDArray[Any]) -> float:
    """Deepest dip of the mean profile around isolated bright bodies, below their ground.

    Bodies are what exceeds Otsu's threshold in the smoothed guide, at least 60 px and at most a tenth of the plane
    large, with no other body and no border within 20 px of most of their rim. The profile runs over the distance from
    the rim; ground is its median from 15 to 20 px.

    Args:
        fused: Y X, counts.
        guide: Y X, where bodies are looked for; the mean of the slices, so that every method is asked about the
            same ones.

    Returns:
        Mean over bodies in parts of the body's amplitude, 0 for no dip; NaN without isolated bodies.
    """
    smooth = gaussian_filter(np.asarray(guide, dtype=np.float64), 2)
    if np.ptp(smooth) <= 0:
        return np.nan
    bodies, count = label(smooth > threshold_otsu(smooth))
    if not count:
        return np.nan
    outside, nearest = distance_transform_edt(bodies == 0, return_indices=True)
    owner = bodies[tuple(nearest)]  # the body whose rim is nearest
    areas = np.bincount(bodies.ravel(), minlength=count + 1)
    dips = [
        dip
        for body in range(1, count + 1)
        if _LEAST_BODY <= areas[body] <= 0.1 * bodies.size
        if (dip := _dip(fused, bodies == body, (owner == body) & (outside > 0), outside)) is not None
    ]
    return float(np.mean(dips)) if dips else np.nan


def _dip(
    fused: NDArray[Any], body: NDArray[np.bool_], around: NDArray[np.bool_], outside: NDArray[np.float64]
) -> float | None:
    distance = np.ceil(outside[around]).astype(np.intp)
    pixels = np.bincount(distance, minlength=_FAR + 1)[1 : _FAR + 1]
    # Around a lone body each ring is longer than the one before; a neighbour or the border cuts them short.
    if pixels[-1] < 0.75 * (pixels[0] + 2 * np.pi * (_FAR - 1)):
        return None
    sums = np.bincount(distance, fused[around].astype(np.float64), minlength=_FAR + 1)[1 : _FAR + 1]
    profile = sums / pixels
    ground = float(np.median(profile[14:]))
    amplitude = float(fused[body].mean(dtype=np.float64)) - ground
    return max(ground - float(profile[_NEAR - 1 : 15].min()), 0.0) / amplitude if amplitude > 0 else None
