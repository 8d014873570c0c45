"""Slices that got more or less light than their neighbours: lamps that flicker, dyes that bleach.

A specimen, too, is brighter in some slices than in others, and that is what focus is about. So light is compared in
large squares of the field, and a difference between two slices is that of the lamp only if all squares share it,
bright and dim ones alike: y = a · x + (1 − a) · dark, with one a for all of them. And only if it comes back (a slice
dimmer than those on both sides, which no single specimen is), or if it goes on at one rate through the whole stack, as
bleaching does. Whatever is anything else, or in doubt, stays as it is: a lone bright slice may be where the specimen
lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.model.slice_light import SliceLight

Floats = NDArray[np.float64]

_SQUARES = 4, 8  # along Y and along X; few in small planes, where light that leaves the focus crosses their borders
_SIDE = 40  # px, of a square, where there are more than the fewest
_SMALLEST = 64  # px, of a plane
_LOOKED_AT = 1 << 17  # px of a slice, in whole rows spread evenly
_SLICES = 5  # fewer do not tell a lamp from a specimen
_LEAST = 0.02  # of the light; less is nothing to match
_MOST = math.log(1.6)  # more than a lamp does
_SURE = 4.0  # standard errors
_ALIKE = 0.2  # of all changes, by which squares may differ about them
_EACH = 0.5  # of each change
_WHITE = 1.2  # Durbin and Watson's statistic: 2 for what differs from slice to slice by chance, 0 for what is smooth
_BACK = 0.5  # of the largest change, that has to come back
_STRAIGHT = 0.12  # of a fall, by which it may depart from one rate
_EMPTY = 1e-5  # of the brightest square, by which those of a slice differ that shows anything
_DARKS = 17  # that are tried
_AS_GOOD = 1.3  # times the least misfit
_DECIMALS = 4  # so that the order of sums changes nothing


class LightCollector:
    """Gathers the light of the squares of a field, region by region; how regions are cut changes nothing.

    Args:
        channels: how many.
        plane: Y and X of the whole field.
        slices: how many.
    """

    def __init__(self, channels: int, plane: tuple[int, int], slices: int) -> None:
        counts = [min(max(size // _SIDE, _SQUARES[0]), _SQUARES[1]) for size in plane]
        self._usable = min(plane) >= _SMALLEST and slices >= _SLICES
        self._edges = [
            np.linspace(0, size, count + 1).round().astype(int) for size, count in zip(plane, counts, strict=True)
        ]
        self._every = max(1, math.prod(plane) // _LOOKED_AT)
        shape = (channels, slices, *(len(edges) - 1 for edges in self._edges))
        self._sums, self._pixels = np.zeros(shape), np.zeros(shape)

    def add(self, channel: int, number: int, counts: NDArray[np.generic], y: int, x: int) -> None:
        """Take a region into account.

        Args:
            channel: index among the channels.
            number: of the slice.
            counts: Y X.
            y: row of its first pixel in the plane.
            x: column of its first pixel.
        """
        if not self._usable:
            return
        rows = np.arange(-y % self._every, counts.shape[0], self._every)
        if not rows.size:
            return
        across = np.clip(self._edges[1][:-1] - x, 0, counts.shape[1])
        inside = np.flatnonzero((self._edges[1][1:] > x) & (self._edges[1][:-1] < x + counts.shape[1]))
        columns = across[inside]
        sums = np.add.reduceat(counts[rows], columns, axis=1, dtype=np.float64)
        wide = np.diff(np.append(columns, min(counts.shape[1], self._edges[1][-1] - x)))
        square = np.searchsorted(self._edges[0], rows + y, side="right") - 1
        np.add.at(self._sums[channel, number], (square[:, None], inside[None, :]), sums)
        np.add.at(self._pixels[channel, number], (square[:, None], inside[None, :]), wide[None, :].astype(np.float64))

    def found(self, kept: Sequence[int] | None = None, dark: float | None = None) -> tuple[SliceLight, ...]:
        """Return the light of the slices of every channel; () if all of them got the same.

        Args:
            kept: numbers of the slices that are asked about; None asks about all.
            dark: counts without light, if that is known.
        """
        if not self._usable:
            return ()
        places = list(range(self._sums.shape[1]) if kept is None else kept)
        means = self._sums[:, places] / np.maximum(self._pixels[:, places], 1)  # C Z y x
        lights = [slice_light(each.reshape(len(places), -1), dark) for each in means]
        if all(light is None for light in lights):
            return ()
        return tuple(light or SliceLight((1.0,) * len(places), 0.0) for light in lights)


def slice_light(means: Floats, dark: float | None = None) -> SliceLight | None:
    """Tell light that changes from slice to slice from a specimen that does.

    Args:
        means: Z × squares, mean counts.
        dark: counts without light; None finds it.

    Returns:
        What makes the slices alike; None if they got the same light, or if that is in doubt.
    """
    full = np.ptp(means, axis=1) > _EMPTY * np.abs(means).max(initial=0)  # others are blank or saturated
    if full.sum() < _SLICES or not np.isfinite(means).all():
        return None
    means = means[full]
    dark = _dark(means) if dark is None else dark
    light = means - dark
    if (np.median(light, axis=1) <= 0).any():
        return None
    steps = np.array([_change(one, other) for one, other in pairwise(light)])
    path = np.append(0, np.cumsum(steps[:, 0]))
    jumps = np.abs(steps[:, 0]) > np.maximum(_LEAST, _SURE * steps[:, 2])
    z = np.arange(len(path), dtype=np.float64)
    rate, start = np.polyfit(z, path, 1)
    line = start + rate * z
    off = path - line
    gains = np.zeros(len(path))
    if jumps.any() and _are_alike(steps[jumps]) and _comes_back(steps[jumps, 0]) and _is_white(off):
        gains = -off
        path = line
    if _is_fading(path, light, rate):
        gains = gains + path.mean() - path
    if not gains.any() or np.abs(gains - gains.mean()).max() > _MOST:
        return None
    values = np.ones(len(full))
    values[full] = np.exp(gains - gains.mean()).round(_DECIMALS)
    return SliceLight(tuple(float(each) for each in values), round(float(dark), 2))


def _change(one: Floats, other: Floats) -> tuple[float, float, float]:
    """Return by how much light changes (a logarithm), how unlike squares are about it, and its standard error."""
    base = np.maximum(one, 1e-9)
    ratio = float(_weighted_median(other / base, base))
    if ratio <= 0:
        return 0.0, math.inf, math.inf
    miss = 1.4826 * float(np.median(np.abs(other - ratio * base)))
    change = abs(ratio - 1) * float(np.median(base))
    error = 1.25 * miss / (float(np.median(base)) * math.sqrt(len(base)))
    return math.log(ratio), miss / max(change, 1e-12), error


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, 0.5 * share[-1])])


def _dark(means: Floats) -> float:
    """Return what squares would count without light: where all agree best about how light changes."""
    tried = np.linspace(0, 1, _DARKS) * float(means.min())
    misses = []
    for dark in tried:
        light = np.maximum(means - dark, 1e-9)
        miss = [np.median(np.abs(other - _weighted_median(other / one, one) * one)) for one, other in pairwise(light)]
        misses.append(float(np.sum(miss)))
    # Where nearly all agree as well, none has to be taken for dark that may be light.
    return float(tried[int(np.argmax(np.array(misses) <= _AS_GOOD * min(misses)))])


def _are_alike(jumps: Floats) -> bool:
    """Whether all squares share the changes, N × 3 as `_change` gives them."""
    sizes, unlike = np.abs(np.expm1(jumps[:, 0])), jumps[:, 1]
    return bool((unlike <= _EACH).all() and (sizes * unlike).sum() <= _ALIKE * sizes.sum())


def _comes_back(changes: Floats) -> bool:
    """Whether light falls and rises again: one specimen in focus is bright in the middle, and not at both ends."""
    most = _BACK * np.abs(changes).max()
    falls = np.flatnonzero(changes <= -most)
    return bool(falls.size and (changes[falls[0] :] >= most).any())


def _is_white(off: Floats) -> bool:
    return bool(np.square(np.diff(off)).sum() >= _WHITE * np.square(off).sum())


def _is_fading(path: Floats, light: Floats, rate: float) -> bool:
    """Whether light falls or rises at one rate through the whole stack, and everywhere alike."""
    total = abs(rate) * (len(path) - 1)
    z = np.arange(len(path))
    straight = np.abs(path - (path.mean() + rate * (z - z.mean()))).max() <= _STRAIGHT * total
    few = max(1, len(path) // 4)
    _, alike, _ = _change(np.median(light[:few], axis=0), np.median(light[-few:], axis=0))
    return bool(total > 2 * _LEAST and straight and alike <= _ALIKE)
