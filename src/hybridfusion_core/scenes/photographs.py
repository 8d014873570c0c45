"""Pieces of the photographs that scikit-image itself carries (nothing is downloaded)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core.model.noise import luminance
from hybridfusion_core.scenes.draw import Draw

# Those inside the wheel of scikit-image 0.25 and later; its other pictures would be fetched.
_CARRIED = (
    *("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)


def photograph(draw: Draw, side: int) -> Tensor:
    """Cut a random piece, y x in [0, 1], shrunk by 1 to 4 where the picture is large enough, and turned."""
    picture = draw.choice([p for p in _photographs() if min(p.shape) >= side] or _photographs())
    scale = draw.choice([scale for scale in (1, 1, 2, 2, 3, 4) if scale * side <= min(picture.shape)] or [1])
    span = side * scale
    short = [(0, max(0, span - size)) for size in picture.shape]  # nothing, unless the scene outgrows every picture
    whole: Tensor = torch.from_numpy(np.pad(picture, short, mode="reflect"))
    top, left = draw.integer(0, whole.shape[0] - span), draw.integer(0, whole.shape[1] - span)
    piece = whole[top : top + span, left : left + span]
    # Shrinking takes away the noise and the blur that every photograph has at its own resolution.
    piece = torch.nn.functional.avg_pool2d(piece[None, None], scale)[0, 0] if scale > 1 else piece
    turned: Tensor = torch.rot90(piece, draw.integer(0, 3))
    return turned.flip(0) if draw.chance(0.5) else turned


@lru_cache(maxsize=1)
def _photographs() -> tuple[NDArray[np.float32], ...]:
    from skimage import data  # noqa: PLC0415 - slow to import, needed for training alone

    return tuple(_grey(np.asarray(getattr(data, name)())) for name in _CARRIED)


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = picture.astype(np.float32) / np.float32(255)
    if scaled.ndim == 3:
        scaled = luminance(np.moveaxis(scaled, 2, 0))
    return scaled
