"""Small pictures of fused fields for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from imagecodecs import jpeg_encode
from numpy.typing import NDArray

from hybridfusion_core.io.palette import slice_colors
from hybridfusion_core.view.thumbnails import shrink

_SIDE = 64  # px at most: a report has up to 1536 of them inside


def picture(copies: Mapping[str, NDArray[Any]], slices: int) -> bytes:
    """Draw the first channel of a fused field, and beside it the decision in the colours of its labels.

    Args:
        copies: "fused" and, if it was made, "decision", C Y X each.
        slices: Z of the stack.

    Returns:
        JPEG of at most 64 px along Y.
    """
    factor = max(-(-max(copies["fused"].shape[1:]) // _SIDE), 1)
    grey = _stretched(shrink(copies["fused"][0].astype(np.float32), factor))
    parts = [np.repeat(grey[..., np.newaxis], 3, axis=2)]
    if "decision" in copies:
        colors = np.array(slice_colors(slices), np.uint8)[:, :3]
        parts.append(colors[np.minimum(shrink(copies["decision"][0], factor, labels=True), slices)])
    return bytes(jpeg_encode(np.ascontiguousarray(np.concatenate(parts, axis=1)), level=85))


def _stretched(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    known = pixels[np.isfinite(pixels)]
    low, high = np.quantile(known, (0.005, 0.995)) if known.size else (0.0, 1.0)
    return np.asarray(np.clip((np.nan_to_num(pixels) - low) / max(high - low, 1e-12), 0, 1) * 255, np.uint8)
