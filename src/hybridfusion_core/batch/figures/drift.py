"""What only the slices themselves tell: drift, what fusing did to intensities, counts heaped at either end.

All is measured in a few windows spread over the plane, each read once with all its slices, so that neither memory nor
time depends on the size of the plane. Nothing is corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import difference_of_gaussians
from skimage.registration import phase_cross_correlation

from hybridfusion_core.assess.heaped import piled
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.fusion.treated import is_treated
from hybridfusion_core.stack import Stack

_WINDOW = 256  # px, side
_WINDOWS = 3  # along Y and along X, at most
_BAND = (2.0, 8.0)  # px, standard deviations
_FINENESS = 10  # parts of a pixel
_AGREE = 1.0  # px
_FARTHEST = _WINDOW / 8  # px between neighbours; more is no drift, or none that can be measured
_ENOUGH = 1000  # pixels where nothing is in focus


@dataclass(frozen=True)
class SliceFigures:
    """What the slices tell.

    Attributes:
        drift_px: how far apart, at the least, two slices lie sideways, in pixels; None if it cannot be told.
        bias: how much brighter fusing made what is nowhere in focus, as a share of the mean of its slices, in the
            channel where that is largest; None if it cannot be told.
        saturated: share of the pixels that are heaped at the highest value; None if counts were changed before.
        clipped: likewise at the lowest value.
    """

    drift_px: float | None = None
    bias: float | None = None
    saturated: float | None = None
    clipped: float | None = None


def slice_figures(job: Job, stack: Stack, arrays: Mapping[str, Any]) -> SliceFigures:
    """Measure drift and bias of a stack that was fused.

    Args:
        job: how it was fused.
        stack: of one time point.
        arrays: the result, "fused" and perhaps "decision", T C 1 Y X each; read by region.
    """
    windows = list(_windows(stack.shape[3:]))
    guide = job.deciders[0].guide[0]
    moves, biases = [], {channel: _Sums() for channel in range(len(job.channels))}
    some = []  # of the guide's counts, a quarter
    for y, x in windows:
        for channel, index in enumerate(job.channels):
            counts = stack.read(0, index, job.slices, y, x)
            if index == guide or (channel == 0 and guide not in job.channels):
                moves.append(_moves(counts))
                some.append(counts[:, ::2, ::2].copy())
            quiet = _quiet(arrays, channel, y, x)
            biases[channel].add(counts, np.asarray(arrays["fused"][0, channel, 0, y, x]), quiet)
    known = (
        []
        if job.request.method == "sum" or job.projections
        else [each.bias for each in biases.values() if each.bias is not None]
    )
    as_recorded = bool(some) and some[0].dtype.kind in "ui" and not is_treated(job.request)
    ends = [piled(some, top=top) if as_recorded else None for top in (True, False)]
    return SliceFigures(_drift(np.array(moves)), max(known, key=abs, default=None), *ends)


def _windows(plane: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for y in _spread(plane[0]):
        for x in _spread(plane[1]):
            yield y, x


def _spread(length: int) -> list[slice]:
    """Cut windows out of a length; in a small plane two that overlap, since small windows see too little."""
    side = min(_WINDOW, max(length * 2 // 3, min(length, 32)))
    count = min(_WINDOWS, -(-length // side))
    return [slice(int(at), int(at) + side) for at in np.linspace(0, length - side, count).round()]


def _moves(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return how each slice lies to the one before it, Z − 1 × 2, y and x in pixels; Z Y X in.

    Structures of a few pixels are compared: finer ones are noise, and coarser ones grow and shrink with the focus.
    The peak of their cross-correlation is found to a tenth of a pixel (Guizar-Sicairos et al., Optics Letters 33
    (2008) 156). Not normalised to phases alone, as is usual: in noise that finds nothing.
    """
    taper = np.hanning(counts.shape[1])[:, np.newaxis] * np.hanning(counts.shape[2])
    ready = [difference_of_gaussians(np.nan_to_num(each.astype(np.float32)), *_BAND) * taper for each in counts]
    return np.array(
        [
            phase_cross_correlation(one, other, upsample_factor=_FINENESS, normalization=None)[0]
            if one.any() and other.any()
            else (0, 0)
            for one, other in pairwise(ready)
        ],
        np.float64,
    ).reshape(-1, 2)


def _drift(moves: NDArray[np.float64]) -> float | None:
    """Return how far slices lie apart; windows × steps × 2 in.

    A step counts where most windows agree about it: noise moves each of them elsewhere. What their scatter leaves open
    is taken off, since the errors of many steps add up.
    """
    if len(moves) < 3 or not moves.shape[1]:
        return None
    middle = np.median(moves, axis=0)
    away = np.linalg.norm(moves - middle, axis=2)
    agree = ((away <= _AGREE).mean(axis=0) >= 0.5) & (np.linalg.norm(middle, axis=1) <= _FARTHEST)
    if not agree.any():
        return None
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(np.where(agree[:, np.newaxis], middle, 0), axis=0)])
    # In a plane, half of the windows lie closer than 1.18 σ; the error of a median is 1.25 times that of a mean.
    error = np.cumsum([0, *np.where(agree, np.square(np.median(away, axis=0) / 1.18 * 1.25) / len(moves), 0)])
    apart = np.linalg.norm(path[:, np.newaxis] - path, axis=2) - 2 * np.sqrt(np.abs(error[:, np.newaxis] - error))
    return float(max(apart.max(), 0.0))


def _quiet(arrays: Mapping[str, Any], channel: int, y: slice, x: slice) -> NDArray[np.bool_] | None:
    """Say where nothing is in focus; None if nothing was decided."""
    decision = arrays.get("decision")
    if decision is None:
        return None
    return np.asarray(decision[0, channel if decision.shape[1] > 1 else 0, 0, y, x] == 0)


class _Sums:
    """Sums over pixels where nothing is in focus, of one channel."""

    def __init__(self) -> None:
        self._raw = self._fused = 0.0
        self._count = 0

    def add(self, counts: NDArray[Any], fused: NDArray[Any], quiet: NDArray[np.bool_] | None) -> None:
        """Take a window: Z Y X, Y X, Y X."""
        raw = counts.mean(axis=0, dtype=np.float64)
        known = np.isfinite(raw) & np.isfinite(fused) & (True if quiet is None else quiet)
        self._raw += float(raw[known].sum())
        self._fused += float(fused[known].sum(dtype=np.float64))
        self._count += int(known.sum())

    @property
    def bias(self) -> float | None:
        if self._count < _ENOUGH or self._raw <= 0:
            return None
        return self._fused / self._raw - 1
