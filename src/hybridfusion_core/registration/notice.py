"""A glance at a stack that nobody asked to align: whether its slices visibly drift."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hybridfusion_core.registration.measure import Guide
from hybridfusion_core.registration.overview import banded, peak
from hybridfusion_core.registration.sensor import without_hot_pixels

_SIDE, _BIN = 256, 2  # px
_WINDOWS = 2  # along Y and along X
_AGREE = 1.0  # px, in which most windows have to say the same
_TOLD = 1.5  # px between two slices


def visible_drift(guide: Guide) -> float | None:
    """Return how far slices lie apart, in pixels, if that is worth a word; a lower bound.

    Reads up to four windows of 256 × 256 px and halves them, so that it costs a few milliseconds a slice.
    """
    side = min(_SIDE, *(size // 2 for size in guide.plane))
    if side < 64 or len(guide.slices) < 2:
        return None
    binning = _BIN if side >= _SIDE else 1
    side -= side % binning
    moves = []
    for y in np.linspace(0, guide.plane[0] - side, _WINDOWS).astype(int):
        for x in np.linspace(0, guide.plane[1] - side, _WINDOWS).astype(int):
            counts = guide.read(guide.slices, slice(int(y), int(y) + side), slice(int(x), int(x) + side))
            small = without_hot_pixels(counts).reshape(len(counts), side // binning, binning, side // binning, binning)
            spectra = [banded(each) for each in small.mean(axis=(2, 4))]
            shape = (side // binning, side // binning)
            found = [peak(one, other, shape) for one, other in pairwise(spectra)]
            moves.append([(np.nan, np.nan) if each is None else each[0] * binning for each in found])
    steps = np.array(moves)  # W Z-1 2
    # A window without structures says nothing; where none says anything, nothing agrees.
    known = np.isfinite(steps).any(axis=0)
    middle = np.where(known, np.nanmedian(np.where(known, steps, 0), axis=0), np.nan)
    away = np.linalg.norm(steps - middle, axis=2)
    agree = (away <= _AGREE).sum(axis=0) >= 3  # of four
    path = np.cumsum(np.where(agree[:, None], middle, 0), axis=0)
    path = np.concatenate([np.zeros((1, 2)), path])
    apart = float(np.linalg.norm(path[:, None] - path, axis=2).max())
    return apart if apart > _TOLD else None
