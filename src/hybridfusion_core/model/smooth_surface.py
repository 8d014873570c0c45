"""Smooth surfaces through a volume of evidence: one, or two that never cross.

A surface is a height for every cell of a plane. Its cost is what speaks against each height there, and the total
variation of the heights, which leaves steps as they are and evens out what the evidence does not tell. It is minimised
along eight directions through every cell at once (semi-global matching: Hirschmüller, IEEE TPAMI 30 (2008) 328, here
with the absolute difference of heights as penalty), in time proportional to cells × slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

Volume = NDArray[np.float32]  # Z Y X
Plane = NDArray[np.float64]  # Y X
_ROWS = 16  # at a time
_DOUBT = 0.02  # probability of every slice whatever the evidence: how wrong it may be
_ROUNDS = 3  # of telling two surfaces apart
_MERGED = 1.0  # slices apart at which two surfaces are one
_NEAR = 2.0  # slices apart at which one blurs into the other, so that there is no ridge between them
_CLEAR = 3.0  # slices apart from where there is one
_AROUND = 2.0  # cells, standard deviation of the surroundings that say how far surfaces are apart
_FLAT = 1e-3  # by which a cell that shows one surface alone holds the sheet between two
_STIFF = 2.0  # times as smooth as the surfaces is the sheet between them
_APART = 6.0  # cost of the wrong side of the sheet between two surfaces, in those of a slice without evidence


def costs(evidence: NDArray[Any], weight: NDArray[Any]) -> Volume:
    """What speaks against each slice.

    Args:
        evidence: Z Y X, ≥ 0, sums to one over Z: how probable each slice is.
        weight: Y X in [0, 1], how much the evidence counts.

    Returns:
        Z Y X: −log of the probability, as much as it counts; 0 for the best slice.
    """
    found: Volume = np.multiply(evidence, 1 - _DOUBT, dtype=np.float32)
    found += np.float32(_DOUBT / len(evidence))
    np.log(found, out=found)
    np.subtract(found.max(axis=0), found, out=found)
    found *= np.asarray(weight, np.float32)
    return found


def one_surface(cost: Volume, smooth: float) -> Plane:
    """Find one surface.

    Args:
        cost: Z Y X, see `costs`.
        smooth: cost of a step by one slice between neighbours, ≥ 0.

    Returns:
        Y X, slices with fraction, in [0, Z − 1].
    """
    return _lowest(aggregated(cost, smooth))


def two_surfaces(cost: Volume, smooth: float) -> tuple[Plane, Plane]:
    """Find two surfaces, of which the first lies nowhere above the second.

    Both follow the evidence from either side of a sheet between them, which is as smooth as they are, so that they
    cannot change places from one cell to the next. Where there is one surface only, both lie on it.

    Args:
        cost: as for `one_surface`.
        smooth: likewise.

    Returns:
        The one at low slice numbers, and the one at high ones.
    """
    low, high, told = _best_pair(aggregated(cost, smooth))
    number = np.arange(len(cost), dtype=np.float32)[:, None, None]
    penalty = _APART * (float(cost.max()) or 1.0)
    for _ in range(_ROUNDS):
        # The sheet between them, known where both are seen: a cell that shows one of them does not say which it is.
        seen = (told * np.clip(high - low - _MERGED, 0, 1)).astype(np.float32)
        away = np.abs(number - ((low + high) / 2).astype(np.float32))
        held = np.multiply(away, seen + np.float32(_FLAT), out=away)
        middle = gaussian_filter(one_surface(held, _STIFF * smooth), 2, mode="nearest")
        del away, held  # each as large as the evidence
        above = _highest(cost, low, high - low, middle, smooth, penalty)
        last = len(cost) - 1  # the same, seen from the other end
        low = last - _highest(cost[::-1], last - high, high - low, last - middle, smooth, penalty)
        high = above
    return np.minimum(low, high), np.maximum(low, high)


def _highest(cost: Volume, other: Plane, apart: Plane, middle: Plane, smooth: float, penalty: float) -> Plane:
    """Find the surface above a sheet.

    Evidence that only falls off from the surface below is that surface's blur: a cell that is dark on this side would
    be pulled there. So what counts is by how much slices are cheaper than the ridge between, nothing where there is
    none; of surfaces that are too near for a ridge, what all evidence says.

    Args:
        cost: Z Y X, see `costs`.
        other: Y X, height of the surface below.
        apart: Y X ≥ 0, how far both are apart as far as is known.
        middle: Y X, the sheet.
        smooth: as for `one_surface`.
        penalty: cost of lying below the sheet.
    """
    number = np.arange(len(cost), dtype=np.float32)[:, None, None]
    clear = ((gaussian_filter(apart, _AROUND) - _NEAR) / (_CLEAR - _NEAR)).clip(0, 1).astype(np.float32)
    own = np.empty(cost.shape, np.float32)
    for top in range(0, cost.shape[1], _ROWS):
        rows = slice(top, top + _ROWS)
        here, beyond = cost[:, rows], number >= np.round(other[rows])
        ridge = np.maximum.accumulate(np.where(beyond, here, -np.inf), axis=0)
        gain = np.where(beyond, ridge - here, 0)
        told, below = clear[rows], (middle[rows] - number).astype(np.float32).clip(0, 1)
        own[:, rows] = told * (gain.max(axis=0) - gain) + (1 - told) * here + np.float32(penalty) * below
    return _lowest(aggregated(own, smooth))


def _best_pair(total: Volume) -> tuple[Plane, Plane, Plane]:
    """Two cheap heights of every cell with a ridge of cost between them, and how sure that is, in [0, 1].

    The same height twice where there is no ridge.
    """
    best = total.argmin(axis=0)
    least = np.take_along_axis(total, best[None], axis=0)[0]
    second, gain = best.copy(), np.zeros(best.shape, np.float32)
    for direction in (1, -1):
        ridge, number = least.copy(), best.copy()
        for _ in range(len(total) - 1):
            number = number + direction
            inside = (number >= 0) & (number < len(total))
            here = np.take_along_axis(total, number.clip(0, len(total) - 1)[None], axis=0)[0]
            ridge = np.maximum(ridge, np.where(inside, here, ridge))
            deeper = inside & (ridge - here > gain)
            second, gain = np.where(deeper, number, second), np.where(deeper, ridge - here, gain)
    sure = gain / max(float(np.quantile(gain, 0.9)), 1e-12)
    low, high = np.minimum(best, second), np.maximum(best, second)
    return low.astype(np.float64), high.astype(np.float64), sure.clip(0, 1).astype(np.float64)


def aggregated(cost: Volume, smooth: float) -> Volume:
    """Sum over eight directions of the cheapest way to each cell and height."""
    total = np.zeros_like(cost)
    for volume, out in ((cost, total), (cost[:, ::-1], total[:, ::-1])):  # down, then up
        _swept(volume, out, smooth, (-1, 0, 1))
    turned, out = cost.transpose(0, 2, 1), total.transpose(0, 2, 1)
    _swept(turned, out, smooth, (0,))
    _swept(turned[:, ::-1], out[:, ::-1], smooth, (0,))
    return total


def _swept(cost: Volume, total: Volume, smooth: float, shifts: tuple[int, ...]) -> None:
    """Go from row to row, straight on and aslant, and add what each way costs."""
    depth, rows, columns = cost.shape
    ways = np.zeros((depth, len(shifts), columns), np.float32)
    slope = (smooth * np.arange(depth, dtype=np.float32))[:, None, None]
    for row in range(rows):
        came = np.empty_like(ways)
        for index, shift in enumerate(shifts):
            if shift == 0:
                came[:, index] = ways[:, index]
            elif shift > 0:
                came[:, index, shift:] = ways[:, index, :-shift]
                came[:, index, :shift] = 0  # from outside the plane
            else:
                came[:, index, :shift] = ways[:, index, -shift:]
                came[:, index, shift:] = 0
        # Least over all heights of cost + penalty, from below and from above (Felzenszwalb and Huttenlocher, 2006).
        came = np.minimum.accumulate(came - slope, axis=0) + slope
        came = (np.minimum.accumulate((came + slope)[::-1], axis=0) - slope[::-1])[::-1]
        ways = cost[:, row, None] + came - came.min(axis=0)
        total[:, row] += ways.sum(axis=1)


def _lowest(total: Volume) -> Plane:
    """Height of the least cost, with fraction by a parabola through its neighbours; lone outliers evened out."""
    best = total.argmin(axis=0)
    inner = best.clip(1, max(len(total) - 2, 1))
    if len(total) < 3:
        return np.asarray(best, np.float64)
    before, here, after = (np.take_along_axis(total, (inner + by)[None], axis=0)[0] for by in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.where((bend > 1e-6) & (inner == best), 0.5 * (before - after) / np.where(bend > 1e-6, bend, 1), 0)
    return np.asarray(median_filter(best + shift.clip(-0.5, 0.5), 3, mode="nearest"), np.float64)
