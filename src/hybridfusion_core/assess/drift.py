"""Whether the specimen moved sideways while the slices were taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.looked_at import LookedAt

_FINE, _WIDE = 1.0, 8.0  # px; detail between them is followed
_PART = 96  # px, of the squares that are followed one by one
_MOST = 24  # squares
_LEAST_ALIKE = 0.3  # correlation of two slices below which nothing is followed
_DRIFT_PX = 1.0
_SURE = 3.0  # standard errors
_LARGEST_STEP = 8.0  # px; more between two slices is a mistake of the correlation


def judge_drift(seen: LookedAt, found: Findings) -> None:
    """Follow detail from slice to slice in several squares, and say how far they all moved."""
    paths = _paths(seen)
    if not paths:
        return
    apart, error = extent(np.stack(paths))
    found.add(
        "drift",
        apart,
        "px",
        f"below {_DRIFT_PX:g}",
        f"Between two of the slices the specimen moved sideways by up to {apart:.1f} px "
        f"(± {error:.1f}, from {len(paths)} squares).",
    )
    if apart - _SURE * error > 0 and apart > _DRIFT_PX:
        found.warn(
            "drift",
            "drift",
            f"The slices lie up to {apart:.1f} px beside each other: edges come out doubled or broken where slices meet. Align "
            "them (--align shift).",
        )


def extent(paths: NDArray[np.float64]) -> tuple[float, float]:
    """Furthest distance between two slices of the squares' common path, and its standard error: n Z 2, in pixels."""
    common = np.median(paths, axis=0)
    away = np.linalg.norm(common[:, None] - common[None], axis=-1)
    a, b = np.unravel_index(int(away.argmax()), away.shape)
    each = paths[:, a] - paths[:, b]
    if len(each) == 1:
        return float(away.max()), float(away.max()) / 4  # one square: no other to compare with
    spread = 1.4826 * np.median(np.linalg.norm(each - np.median(each, axis=0), axis=-1))
    return float(away.max()), float(1.25 * spread / np.sqrt(len(each)))


def _paths(seen: LookedAt) -> list[NDArray[np.float64]]:
    found = []
    for tile in seen.tiles:
        detail = np.stack([gaussian_filter(p, _FINE) - gaussian_filter(p, _WIDE) for p in tile.guide])
        for part, structure in _parts(detail, tile.structure):
            if structure > 0.05 and len(found) < _MOST and (path := follow(part)) is not None:
                found.append(path)
    return found


def _parts(detail: NDArray[np.float32], structure: NDArray[np.bool_]) -> list[tuple[NDArray[np.float32], float]]:
    side = min(_PART, *detail.shape[1:])
    rows, columns = (range(0, size - side + 1, side) for size in detail.shape[1:])
    return [
        (detail[:, y : y + side, x : x + side], float(structure[y : y + side, x : x + side].mean()))
        for y in rows
        for x in columns
    ]


def follow(detail: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Path of the detail in Z Y X: Z 2 in pixels, or None if it cannot be followed through all slices."""
    window = np.hanning(detail.shape[1])[:, None] * np.hanning(detail.shape[2])
    seen = (detail - detail.mean(axis=(1, 2), keepdims=True)) * window
    size = np.sqrt(np.square(seen).sum(axis=(1, 2))) + 1e-12
    steps = [np.zeros(2)]
    for z in range(1, len(seen)):
        shift = phase_cross_correlation(seen[z], seen[z - 1], upsample_factor=20, normalization=None)[0]
        moved = np.roll(seen[z - 1], tuple(np.round(shift).astype(int)), axis=(0, 1))
        alike = float((moved * seen[z]).sum() / (size[z] * size[z - 1]))
        if alike < _LEAST_ALIKE or np.abs(shift).max() > _LARGEST_STEP:
            return None
        steps.append(shift)
    return np.cumsum(steps, axis=0)
