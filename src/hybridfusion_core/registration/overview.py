"""A first look at small copies of whole planes: how far slices lie apart, to about a pixel of the copy.

Structures of a few pixels are compared, since finer ones are noise and coarser ones grow and shrink with the focus; the
peak of their cross-correlation, of either sign, says how they lie. Not normalised to phases alone, as is usual: in
noise that finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.registration.chain import pairs_of, solve, without_detours
from hybridfusion_core.registration.sensor import without_hot_pixels

_SIDE = 256  # px, of a small copy at most
_BAND = (1.2, 5.0)  # px, standard deviations of the Gaussians that structures lie between
_CLEAR = 6.0  # standard deviations by which a peak stands out; the highest of noise alone are at 4 to 5
_BYTES = 1 << 26  # that are read at a time

Read = Callable[[Sequence[int], slice, slice], NDArray[np.float32]]  # slices, rows, columns -> Z Y X


def binning(plane: tuple[int, int]) -> int:
    """Return how many pixels a side becomes one of a small copy."""
    return max(1, -(-max(plane) // _SIDE))


def small_copies(
    read: Read, slices: Sequence[int], plane: tuple[int, int]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read a stack in bands of rows, and yield after each one how many rows are done, and the copies Z Y X so far."""
    side = binning(plane)
    rows, columns = plane[0] // side, plane[1] // side
    copies = np.zeros((len(slices), rows, columns), np.float32)
    band = max(1, _BYTES // (len(slices) * plane[1] * 4 * side))
    for first in range(0, rows, band):
        last = min(first + band, rows)
        counts = read(slices, slice(first * side, last * side), slice(0, columns * side))
        counts = without_hot_pixels(counts)
        copies[:, first:last] = counts.reshape(len(slices), last - first, side, columns, side).mean(axis=(2, 4))
        yield last * side, copies


def first_places(copies: NDArray[np.float32], reference: int) -> NDArray[np.float64]:
    """Return where slices lie, Z × 2 in pixels of the copies, to about one of them.

    Args:
        copies: Z Y X.
        reference: the slice that stays.
    """
    spectra = [banded(each) for each in copies]
    relations = {}
    for one, other in pairs_of(len(copies), reference, lags=(1, 2, 3)):
        found = peak(spectra[one], spectra[other], copies.shape[1:])
        if found is not None:
            relations[one, other] = found
    relations = without_detours(relations)
    return solve(len(copies), reference, relations) if relations else np.zeros((len(copies), 2))


def peak(
    one: NDArray[np.complex64], other: NDArray[np.complex64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return how `other` lies to `one`, y and x in pixels, and how sure that is; None if nothing stands out.

    How sure: the inverse of a covariance, 2 × 2, that grows with the correlation.

    Args:
        one: spectrum of structures, as `rfft2` gives it.
        other: likewise.
        shape: of the images, Y and X.
    """
    correlation = np.fft.irfft2(other * one.conj(), s=shape)
    spread = float(correlation.std())
    strength = np.abs(correlation)
    at = np.unravel_index(int(strength.argmax()), correlation.shape)
    if not spread or strength[at] < _CLEAR * spread:
        return None
    found = [_vertex(strength, at, axis) for axis in (0, 1)]
    place = np.array([value - size if value > size / 2 else value for value, size in zip(found, shape, strict=True)])
    alike = min(float(strength[at]) * shape[0] * shape[1] / 2, 0.99) ** 2  # half: of the spectrum, `rfft2` has one
    return place, np.eye(2) * 4 * (alike / (1 - alike)) ** 2


def _vertex(strength: NDArray[np.floating], at: tuple[np.intp, ...], axis: int) -> float:
    """Return the place of a peak along an axis by the parabola through it and its neighbours."""
    size = strength.shape[axis]
    line = strength.take([(int(at[axis]) + step) % size for step in (-1, 0, 1)], axis=axis)
    before, middle, after = np.asarray(line.take(int(at[1 - axis]), axis=1 - axis), np.float64).tolist()
    bend = before - 2 * middle + after
    return int(at[axis]) + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def banded(plane: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Return the spectrum of the structures of a plane, of unit power."""
    rows, columns = plane.shape
    taper = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[1:-1]
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)) ** 2
    fine, coarse = (np.exp(-2 * np.pi**2 * sigma**2 * radius) for sigma in _BAND)
    spectrum = np.fft.rfft2((plane - plane.mean()) * taper) * (fine - coarse)
    spectrum[0] = 0  # rows and columns of a sensor are the same in all slices
    spectrum[:, 0] = 0
    power = float(np.sqrt((np.abs(spectrum) ** 2).sum()))
    unit: NDArray[np.complex64] = (spectrum / power if power else spectrum).astype(np.complex64)
    return unit
