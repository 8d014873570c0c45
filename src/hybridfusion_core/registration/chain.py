"""From how slices lie to one another to where each one lies: neighbours chained, far slices where they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pair = tuple[int, int]

LAGS = (1, 2, 3, 5, 8)  # between slices that are compared; each one with the reference besides
_STILL = 20.0  # px, standard deviation of what is expected of a slice that shows nothing: to lie as its neighbour
_ROUNDS = 8
_OUTLIER = 3.0  # standard deviations, from which on a pair counts less


def pairs_of(count: int, reference: int, lags: Sequence[int] = LAGS) -> list[Pair]:
    """Return which slices are compared, by their place among those that are fused."""
    found = {(first, first + lag) for lag in lags for first in range(count - lag)}
    found |= {(min(each, reference), max(each, reference)) for each in range(count) if each != reference}
    return sorted(found)


def without_detours(relations: Mapping[Pair, tuple[Floats, Floats]]) -> dict[Pair, tuple[Floats, Floats]]:
    """Leave out far pairs that agree worse than the neighbours between them, who say the same better."""

    def doubt(one: int, other: int) -> float:
        known = relations.get((one, other))
        return float("inf") if known is None else 1 / (float(np.trace(known[1][:2, :2])) + 1e-9)

    return {
        (one, other): relation
        for (one, other), relation in relations.items()
        if other - one == 1 or doubt(one, other) < sum(doubt(z, z + 1) for z in range(one, other))
    }


def solve(
    count: int, reference: int, relations: Mapping[Pair, tuple[Floats, Floats]], *, breathing: bool = False
) -> Floats:
    """Return where slices lie by weighted least squares; pairs that contradict the others count less.

    Args:
        count: of slices.
        reference: the one that stays.
        relations: by pair, how the second lies to the first (N numbers), and the inverse of its covariance, N × N.
        breathing: let the third number, the scale, grow by the same amount from slice to slice, and the fourth, the
            angle, be zero: one number for a stack in place of two for each slice.

    Returns:
        Z × N.
    """
    free = len(next(iter(relations.values()))[0])
    still = np.eye(free) / _STILL**2
    places = _along_the_surest(count, reference, relations)
    for _ in range(_ROUNDS):
        weights = {
            (one, other): _trust(places[other] - places[one] - value, info)
            for (one, other), (value, info) in relations.items()
        }
        normal, right = np.zeros((count, free, count, free)), np.zeros((count, free))
        edges = [(pair, weights[pair] * info, value) for pair, (value, info) in relations.items()]
        edges += [((z, z + 1), still, np.zeros(free)) for z in range(count - 1)]
        for (one, other), info, value in edges:
            for first, second, sign in ((one, one, 1), (other, other, 1), (one, other, -1), (other, one, -1)):
                normal[first, :, second] += sign * info
            right[other] += info @ value
            right[one] -= info @ value
        ways = _ways(count, reference, free, breathing=breathing)
        matrix = ways.T @ normal.reshape(count * free, -1) @ ways
        places = (ways @ np.linalg.solve(matrix, ways.T @ right.reshape(-1))).reshape(count, free)
    return places


def _ways(count: int, reference: int, free: int, *, breathing: bool) -> Floats:
    """Return in which ways slices may lie elsewhere than the reference, one to a column."""
    single = np.eye(count * free).reshape(count, free, -1)
    kept = [z * free + number for z in range(count) if z != reference for number in range(2 if breathing else free)]
    ways = single[:, :, kept]
    if breathing:
        scale = np.zeros((count, free, 1))
        scale[:, 2, 0] = np.arange(count) - reference
        ways = np.concatenate([ways, scale], axis=2)
    return ways.reshape(count * free, -1)


def _trust(miss: Floats, info: Floats) -> float:
    return 1 / (1 + float(miss @ info @ miss) / (len(miss) * _OUTLIER**2))


def _along_the_surest(count: int, reference: int, relations: Mapping[Pair, tuple[Floats, Floats]]) -> Floats:
    """Return where slices lie if each is reached by the pairs that are surest: what later rounds correct."""
    from scipy.sparse import lil_array  # noqa: PLC0415 - slow to import, and every fusion looks for drift
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree  # noqa: PLC0415

    cost = lil_array((count, count))
    for (one, other), (_, info) in relations.items():
        cost[one, other] = 1 / (float(np.trace(info[:2, :2])) + 1e-9)
    order, before = breadth_first_order(minimum_spanning_tree(cost.tocsr()), reference, directed=False)
    places = np.zeros((count, len(next(iter(relations.values()))[0])))
    for each in (int(z) for z in order[1:]):
        last = int(before[each])
        forth = (last, each) in relations
        value = relations[(last, each) if forth else (each, last)][0]
        places[each] = places[last] + (value if forth else -value)
    return places
