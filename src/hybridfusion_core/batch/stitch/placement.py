"""Where fields lie in the mosaic: as the stage says, or as their overlaps say, weighed against each other.

Neighbours are compared where the stage says that they overlap, by phase correlation (Guizar-Sicairos et al. 2008,
doi:10.1364/OL.33.000156, as in scikit-image), and all offsets together are met by least squares. An overlap that holds
nothing to compare says nothing: its fields stay where the stage puts them, relative to each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

_NARROWEST = 12  # px of an overlap that is compared
_LARGEST = 1024  # px of an overlap that is compared along each axis: its middle
_CORRELATED = 0.4  # of what two fields show of the same place, without slow and pixel-wise changes
_UPSAMPLED = 10  # steps in a pixel
_OUTLIER = 3.0  # px between an offset and what all others say together
_STAGE, _ANCHOR = 1e-2, 1e-4  # weights of what the stage says, where an overlap says nothing, and of its zero

Region = tuple[slice, slice]
Read = Callable[[int, Region], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Placement:
    """Where fields lie.

    Attributes:
        corners: of each field, its first pixel: N (y, x), whole pixels counted from the corner of the mosaic.
        shape: of the mosaic, Y X.
        overlaps: how many pairs of neighbours were compared.
        registered: how many of them told where they lie.
        moved: of each field, how far it lies from where the stage puts it, pixels.
    """

    corners: NDArray[np.int64]
    shape: tuple[int, int]
    overlaps: int
    registered: int
    moved: tuple[float, ...]


def by_stage(corners: NDArray[np.float64], sizes: Sequence[tuple[int, int]]) -> Placement:
    """Place fields where the stage says.

    Args:
        corners: first pixel of each field, N (y, x), pixels.
        sizes: of each field, Y X.
    """
    return _placement(corners, corners, sizes, 0, 0)


def by_overlaps(corners: NDArray[np.float64], sizes: Sequence[tuple[int, int]], read: Read) -> Placement:
    """Place fields so that they agree where they overlap.

    Args:
        corners: first pixel of each field as the stage says, N (y, x), pixels.
        sizes: of each field, Y X.
        read: returns a region Y X of a field, by its number.
    """
    pairs = [pair for pair in itertools.combinations(range(len(sizes)), 2) if _overlap(corners, sizes, *pair)]
    offsets = {pair: found for pair in pairs if (found := _offset(corners, sizes, read, *pair)) is not None}
    while True:
        solved = _solve(corners, pairs, offsets)
        wrong = {
            pair: float(np.abs(solved[pair[1]] - solved[pair[0]] - found).max()) for pair, found in offsets.items()
        }
        worst = max(wrong, key=lambda pair: wrong[pair], default=None)
        if worst is None or wrong[worst] <= _OUTLIER:
            return _placement(solved, corners, sizes, len(pairs), len(offsets))
        del offsets[worst]


def _placement(
    solved: NDArray[np.float64], stage: NDArray[np.float64], sizes: Sequence[tuple[int, int]], pairs: int, known: int
) -> Placement:
    corners = np.rint(solved - solved.min(axis=0)).astype(np.int64)
    shape = (corners + np.asarray(sizes)).max(axis=0)
    difference = (solved - solved.mean(axis=0)) - (stage - stage.mean(axis=0))
    moved = tuple(round(float(each), 2) for each in np.hypot(*difference.T))
    return Placement(corners, (int(shape[0]), int(shape[1])), pairs, known, moved)


def _overlap(
    corners: NDArray[np.float64], sizes: Sequence[tuple[int, int]], one: int, other: int
) -> tuple[Region, Region] | None:
    """Return the overlap of two fields as a region of each, or None if it is too narrow; its middle if it is large."""
    regions: tuple[list[slice], list[slice]] = [], []
    for axis in (0, 1):
        shift = round(float(corners[other, axis] - corners[one, axis]))
        start, stop = max(shift, 0), min(shift + sizes[other][axis], sizes[one][axis])
        if stop - start < _NARROWEST:
            return None
        cut = max(stop - start - _LARGEST, 0) // 2
        start, stop = start + cut, stop - cut
        regions[0].append(slice(start, stop))
        regions[1].append(slice(start - shift, stop - shift))
    return (regions[0][0], regions[0][1]), (regions[1][0], regions[1][1])


def _offset(
    corners: NDArray[np.float64], sizes: Sequence[tuple[int, int]], read: Read, one: int, other: int
) -> NDArray[np.float64] | None:
    """Return how far the second field lies from the first, (y, x) in pixels; None if their overlap says nothing."""
    stage = corners[other] - corners[one]
    tried = np.rint(stage)
    best, offset = _CORRELATED, None
    for _ in range(2):  # what is seen of both after the first look is more
        found = None
        for normalization in ("phase", None):
            seen = _seen(tried, sizes, read, one, other)
            if seen is None:
                continue
            shift, *_ = phase_cross_correlation(
                *map(_tapered, seen), upsample_factor=_UPSAMPLED, normalization=normalization
            )
            moved = tried + shift
            again = _seen(np.rint(moved), sizes, read, one, other)
            correlation = -1.0 if again is None else float(np.corrcoef(again[0].ravel(), again[1].ravel())[0, 1])
            if correlation > best:
                best, found = correlation, moved
        if found is None:
            break
        offset, tried = found, np.rint(found)
    return offset


def _seen(
    offset: NDArray[np.float64], sizes: Sequence[tuple[int, int]], read: Read, one: int, other: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return what two fields show of the place that they share, without slow and pixel-wise changes."""
    pair = np.stack([np.zeros(2), offset])
    regions = _overlap(pair, (sizes[one], sizes[other]), 0, 1)
    if regions is None:
        return None
    first, second = (_structure(read(number, region)) for number, region in zip((one, other), regions, strict=True))
    return None if not first.any() or not second.any() else (first, second)


def _structure(pixels: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    found = gaussian_filter(pixels, 1.0) - gaussian_filter(pixels, 10.0)
    spread = found.std()
    return found / spread if spread > 0 else np.zeros_like(found)


def _tapered(pixels: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Lower both ends of each axis: their difference would be taken for an edge that never moves."""
    y, x = (np.hanning(length + 2)[1:-1] for length in pixels.shape)
    return np.asarray(pixels * np.sqrt(y)[:, None] * np.sqrt(x))


def _solve(
    stage: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    offsets: dict[tuple[int, int], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return corners that meet all offsets as well as they can together."""
    count = len(stage)
    rows = np.zeros((len(pairs) + count, count))
    wanted = np.zeros((len(pairs) + count, 2))
    for number, (one, other) in enumerate(pairs):
        weight = 1.0 if (one, other) in offsets else _STAGE
        rows[number, [one, other]] = -weight, weight
        wanted[number] = weight * offsets.get((one, other), stage[other] - stage[one])
    rows[len(pairs) :] = _ANCHOR * np.eye(count)
    wanted[len(pairs) :] = _ANCHOR * stage
    return np.asarray(np.linalg.lstsq(rows, wanted, rcond=None)[0])
