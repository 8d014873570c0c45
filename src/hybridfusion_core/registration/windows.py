"""Windows spread over a plane, read of every slice where its structures lie, and what they say of pairs of slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.registration.chain import LAGS, Pair, pairs_of
from hybridfusion_core.registration.likeness import Frequencies, Windows, jacobians_of, likelihood, relate
from hybridfusion_core.registration.overview import Read
from hybridfusion_core.registration.placement import centre_of
from hybridfusion_core.registration.sensor import without_hot_pixels

Floats = NDArray[np.float64]
Relations = dict[Pair, tuple[Floats, Floats]]

_SIDES = (256, 192, 128, 96, 64, 48, 32)  # px, of windows; quick to transform
_MOST = 4  # along Y and along X
_FEW = (1, 2)  # between slices that are compared where it is only asked whether anything improves


class View:
    """Windows of a plane.

    Args:
        plane: Y and X.
        places: Z × 4, where slices lie, to a pixel or so.
        shift: scale and angle stay as they are.
    """

    def __init__(self, plane: tuple[int, int], places: Floats, *, shift: bool) -> None:
        self._plane, self.places, self._shift = plane, places, shift
        low, high = _inside(plane, places)
        room = int((high - low).min())
        side = next((each for each in _SIDES if 2 * each <= room), _SIDES[-1])
        self._frequencies = Frequencies(side)
        starts = [_spread(int(first), int(last), side) for first, last in zip(low, high, strict=True)]
        self._corners = np.array([(y, x) for y in starts[0] for x in starts[1]])
        offsets = self._corners + (side - 1) / 2 - centre_of(plane)
        self._jacobians = jacobians_of(offsets, plane)
        self._windows: list[Windows] = []

    def reading(self, read: Read, slices: Sequence[int]) -> Iterator[float]:
        """Read all windows of all slices, yielding the share that is done."""
        side, count = self._frequencies.side, len(self._corners)
        # Whole pixels: windows are read, not resampled. W Z 2
        at = np.rint(np.einsum("wcp,zp->wzc", self._jacobians, self.places)).astype(int)
        limit = np.array(self._plane) - side
        at = np.clip(self._corners[:, None] + at, 0, limit) - self._corners[:, None]
        spectra = []
        for number, corner in enumerate(self._corners):
            low, high = corner + at[number].min(axis=0), corner + at[number].max(axis=0) + side
            counts = read(slices, slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
            counts = without_hot_pixels(counts)
            cut = [
                plane[y : y + side, x : x + side]
                for plane, (y, x) in zip(counts, corner + at[number] - low, strict=True)
            ]
            spectra.append(self._frequencies.of(np.stack(cut)))  # Z K
            yield (number + 1) / count
        for z in range(len(slices)):
            own = np.stack([each[z] for each in spectra])  # W K
            power = self._frequencies.by_ring(own.real**2 + own.imag**2)
            self._windows.append(Windows(own, power, at[:, z].astype(np.float64)))

    def folds(self) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Return which windows to measure in and which to judge by, once for each quarter of the plane.

        Those of the quarter judge. No window that is measured in reaches into any that is judged by.
        """
        first, side = self._corners, self._frequencies.side
        middle = (first.min(axis=0) + first.max(axis=0) + side) / 2
        folds = []
        for low in ((True, True), (True, False), (False, True), (False, False)):
            own = np.where(low, first + side <= middle, first >= middle).all(axis=1)
            meet = (np.abs(first[:, None] - first[own]) < side).all(axis=2).any(axis=1)
            if own.any() and not meet.all():
                folds.append((np.flatnonzero(~meet), np.flatnonzero(own)))
        return folds

    def relations(self, places: Floats, reference: int, chosen: NDArray[np.intp] | None = None) -> Relations:
        """Return how slices lie to one another, by pair.

        Args:
            places: Z × 4, near it.
            reference: the slice that stays.
            chosen: numbers of the windows; None takes all.
        """
        windows, jacobians = self._chosen(chosen)
        found: Relations = {}
        lags = LAGS if chosen is None else _FEW
        for one, other in pairs_of(len(windows), reference, lags):
            start = places[other] - places[one]
            relation = relate(self._frequencies, windows[one], windows[other], jacobians, start, shift=self._shift)
            found[one, other] = (relation.place, relation.information)
        return found

    def chance(self, places: Floats) -> float:
        """Return by how much noise alone changes the sum of `agreement` over all quarters: a standard deviation.

        Each ring of frequencies varies by one half; but as long as places differ by less than a pixel, the same noise
        is in both.
        """
        rings, judges = len(self._frequencies.counts), [number for _, judging in self.folds() for number in judging]
        apart = [self._jacobians[judges] @ (places[other] - places[one]) for one, other in self._judges()]
        share = np.minimum(np.linalg.norm(apart, axis=2), 1.0)
        return float(np.sqrt(rings * np.square(share).sum() / 2))

    def agreement(self, places: Floats, chosen: NDArray[np.intp]) -> float:
        """Return how well slices agree where they lie so: a log-likelihood without its constant."""
        windows, jacobians = self._chosen(chosen)
        return sum(
            likelihood(self._frequencies, windows[one], windows[other], jacobians, places[other] - places[one])
            for one, other in self._judges()
        )

    def _judges(self) -> list[Pair]:
        # Neighbours share most; slow drifts show in slices that lie far apart.
        count = len(self._windows)
        return pairs_of(count, count // 2, lags=(1,))

    def _chosen(self, chosen: NDArray[np.intp] | None) -> tuple[list[Windows], Floats]:
        if chosen is None:
            return self._windows, self._jacobians
        some = [Windows(each.spectra[chosen], each.power[chosen], each.at[chosen]) for each in self._windows]
        return some, self._jacobians[chosen]


def restricted(relations: Relations) -> Relations:
    """Return what relations say of shifts if there is nothing else: scale and angle at zero."""
    found: Relations = {}
    for pair, (place, info) in relations.items():
        own, mixed = info[:2, :2], info[:2, 2:]
        fixed = np.zeros(4)
        fixed[:2] = place[:2] + np.linalg.pinv(own) @ mixed @ place[2:]
        kept = np.zeros((4, 4))
        kept[:2, :2] = own
        found[pair] = (fixed, kept)
    return found


def _inside(plane: tuple[int, int], places: Floats) -> tuple[Floats, Floats]:
    """Return first and last (exclusive) rows and columns that all slices cover."""
    corners = np.array([(y, x) for y in (0, plane[0] - 1) for x in (0, plane[1] - 1)], np.float64)
    moved = np.einsum("wcp,zp->wzc", jacobians_of(corners - centre_of(plane), plane), places)
    low = np.ceil(np.maximum(-moved.min(axis=(0, 1)), 0))
    high = np.array(plane) - np.ceil(np.maximum(moved.max(axis=(0, 1)), 0))
    return low, high


def _spread(low: int, high: int, side: int) -> list[int]:
    """Return where windows start along an axis: half a window apart, or spread evenly if that were too many."""
    room = max(high - low - side, 0)
    count = min(_MOST, 1 + 2 * room // side)
    return [low + round(at) for at in np.linspace(0, room, count)]
