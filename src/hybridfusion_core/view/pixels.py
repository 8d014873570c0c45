"""Counts and maps as pixels that can be looked at: grey levels, colours, and pictures with a caption.

Outputs keep their values; contrast is stretched for looking only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.palette import NOTHING, SCALE


@dataclass(frozen=True)
class Picture:
    """One picture with its caption; uint8, Y X or Y X 3."""

    caption: str
    pixels: NDArray[np.uint8]


def limits(image: NDArray[Any]) -> tuple[float, float]:
    """Values to show as black and as white; NaN and infinity count as nothing."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite.astype(np.float64), (0.3, 99.8)))
    return (low, high) if high > low else (low - 1, high + 1)


def grey(image: NDArray[Any], low: float, span: float) -> NDArray[np.uint8]:
    """Grey levels from `low` to `low + span`; any shape and real dtype, NaN becomes black."""
    scaled = 255 * (image.astype(np.float64, copy=False) - low) / span
    return np.nan_to_num(scaled, nan=0.0).clip(0, 255).round().astype(np.uint8)


def coloured(values: NDArray[Any], top: float, name: str = SCALE) -> NDArray[np.uint8]:
    """Colours from 0 to `top`, and that of `NOTHING` where a value is NaN or infinite: Y X -> Y X 3."""
    from matplotlib import colormaps  # noqa: PLC0415 - slow to import, needed for pages alone

    known = np.isfinite(values)
    picture = 255 * colormaps[name](np.where(known, values, 0) / max(top, 1e-12))[..., :3]
    picture[~known] = NOTHING
    return np.asarray(picture.round(), dtype=np.uint8)
