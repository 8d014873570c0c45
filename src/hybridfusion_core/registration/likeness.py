"""How two slices lie to each other, measured on the structures that both of them show.

Blur differs from slice to slice, and so does noise: of each frequency counts what the two share. In a field whose
structures are as good as random, the cross-spectrum C of two windows weighted by γ² / ((1 − γ²) |S|), with the
coherence γ and the shared power S of its ring of frequencies, gives the most likely displacement (Hannan and Thomson,
Biometrika 58 (1971) 469; for images, Carter, Proc. IEEE 75 (1987) 236). Where blur or noise leaves nothing in common, γ
and with it the weight is zero; where contrast inverts between two slices, as transmitted light does, S is negative, and
so is the weight.

A window's displacement is a linear function of the four numbers (dy, dx, m, n) of a similarity, of which shift keeps
the first two: d(u) = (dy, dx) + [[m, n], [−n, m]] · u, u in half diagonals of the plane. So all windows are
asked together, in Newton steps on the sum of their likelihoods, and no window that shows nothing can be wrong by
itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HIGHEST = 0.36  # cycles per pixel: finer is mostly noise, and what resampling changes
_LOWEST = 1.6  # cycles per window: coarser is the window's taper
_RING = 1.5  # cycles per window, width
_PRIOR = 30  # frequencies that the mean over windows counts as in the coherence of one
_TAPERED = 3.78  # times more frequencies than independent ones under a Hann window of two dimensions
_STEPS = 4
_STEP = 0.75  # px, at most

Complexes = NDArray[np.complex64]
Floats = NDArray[np.float64]


class Frequencies:
    """The frequencies of a square window that are looked at: half a plane of them, in rings.

    Args:
        side: of the window, pixels.
    """

    def __init__(self, side: int) -> None:
        y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
        radius = np.hypot(y, x)
        # Rows and columns of a sensor lie on the axes, the same in all slices; they say that nothing moves.
        wanted = (radius * side >= _LOWEST) & (radius <= _HIGHEST) & (np.abs(y) * side > 0.5) & (x * side > 0.5)
        self.side = side
        self._wanted = wanted
        self.k = (
            2 * np.pi * np.stack([np.broadcast_to(y, wanted.shape)[wanted], np.broadcast_to(x, wanted.shape)[wanted]])
        )
        ring = (radius[wanted] * side / _RING).astype(np.intp)
        _, self.ring = np.unique(ring, return_inverse=True)
        self.counts: Floats = np.bincount(self.ring).astype(np.float64)
        order = np.argsort(self.ring, kind="stable")
        self.k, self.ring = self.k[:, order], self.ring[order]
        self._order = order
        self._starts = np.searchsorted(self.ring, np.arange(len(self.counts)))
        self._taper = np.hanning(side + 2)[1:-1].astype(np.float32)

    def of(self, windows: NDArray[np.float32]) -> Complexes:
        """Return the spectra of windows W S S as W K."""
        level = windows - windows.mean(axis=(1, 2), keepdims=True)
        spectra = np.fft.rfft2(level * self._taper[:, None] * self._taper)
        found: Complexes = spectra[:, self._wanted][:, self._order].astype(np.complex64)
        return found

    def by_ring(self, values: NDArray[np.floating]) -> Floats:
        """Return means over rings, W K -> W R."""
        sums: Floats = np.add.reduceat(values, self._starts, axis=1, dtype=np.float64)
        return sums / self.counts


@dataclass(frozen=True)
class Relation:
    """How one slice lies to another.

    Attributes:
        place: 4, the difference of their (dy, dx, m, n).
        information: 4 × 4, the inverse of its covariance.
    """

    place: Floats
    information: Floats


@dataclass(frozen=True)
class Windows:
    """The same windows of one slice, as spectra.

    Attributes:
        spectra: W K.
        power: W R, by ring.
        at: W × 2, how far from their place in the reference's frame they were read, whole pixels.
    """

    spectra: Complexes
    power: Floats
    at: Floats


def jacobians_of(offsets: Floats, plane: tuple[int, int]) -> Floats:
    """Return how windows W × 2 (y, x from the field's centre, pixels) move by the four numbers, W × 2 × 4."""
    y, x = (offsets / half_diagonal(plane)).T
    one, none = np.ones_like(y), np.zeros_like(y)
    return np.stack([np.stack([one, none, y, x], axis=1), np.stack([none, one, x, -y], axis=1)], axis=1)


def half_diagonal(plane: tuple[int, int]) -> float:
    """Return how far the corners of a plane lie from its centre, pixels."""
    return float(np.hypot(*plane)) / 2


def relate(
    frequencies: Frequencies, one: Windows, other: Windows, jacobians: Floats, start: Floats, *, shift: bool
) -> Relation:
    """Find how `other` lies to `one`.

    Args:
        frequencies: of the windows.
        one: W windows.
        other: the same W of another slice.
        jacobians: W × 2 × 4, displacement of each window by the four numbers.
        start: 4, near it.
        shift: leave m and n at zero.
    """
    free = 2 if shift else 4
    jacobian, place = jacobians[:, :, :free], start.copy()
    if shift:
        place[2:] = 0
    cross = other.spectra * one.spectra.conj()
    cross /= np.sqrt(one.power * other.power + 1e-20).astype(np.float32)[:, frequencies.ring]
    apart = other.at - one.at
    information = np.zeros((4, 4))
    for _ in range(_STEPS):
        turned = _turned(frequencies, cross, jacobians @ place - apart)
        weights = _weights(frequencies, turned)
        slope = np.einsum("wk,ck->wc", weights * turned.imag, frequencies.k)
        curve = np.einsum("wk,ck,dk->wcd", weights * turned.real, frequencies.k, frequencies.k, optimize=True)
        curve = _positive(curve)
        normal = np.einsum("wci,wcd,wdj->ij", jacobian, curve, jacobian)
        change = np.linalg.lstsq(normal, -np.einsum("wci,wc->i", jacobian, slope), rcond=1e-9)[0]
        farthest = float(np.linalg.norm(jacobian @ change, axis=1).max(initial=0))
        place[:free] += change * min(1.0, _STEP / max(farthest, 1e-12))
        information[:free, :free] = 2 * normal / _TAPERED
        if farthest < 1e-3:
            break
    return Relation(place, information)


def likelihood(frequencies: Frequencies, one: Windows, other: Windows, jacobians: Floats, place: Floats) -> float:
    """Return how well two slices agree where `other` lies at `place` to `one`: a log-likelihood without its constant.

    −Σ n ln(1 − γ²) over the rings of all windows, n being the number of their independent frequencies: the likelihood
    of two Gaussian fields, highest over all spectra.
    """
    cross = other.spectra * one.spectra.conj()
    cross /= np.sqrt(one.power * other.power + 1e-20).astype(np.float32)[:, frequencies.ring]
    turned = _turned(frequencies, cross, jacobians @ place - (other.at - one.at))
    coherence = np.clip(frequencies.by_ring(turned.real), -0.999, 0.999)
    return float(-(frequencies.counts * np.log1p(-(coherence**2))).sum() / _TAPERED)


def _turned(frequencies: Frequencies, cross: Complexes, displacement: Floats) -> Complexes:
    """Return cross-spectra as they would be had `other` been read where it lies."""
    phase = (displacement @ frequencies.k).astype(np.float32)
    turned: Complexes = cross * np.exp(1j * phase)
    return turned


def _weights(frequencies: Frequencies, turned: Complexes) -> NDArray[np.float32]:
    """Return the weight of every frequency of every window, W K, for cross-spectra of unit power."""
    count = frequencies.counts
    own = frequencies.by_ring(turned.real)
    common = own.mean(axis=0)
    coherence = (count * own + _PRIOR * common) / (count + _PRIOR)
    # What noise alone would give is taken off; 0.98: interpolation and taper leave no pair more alike.
    known = np.clip(coherence**2 - _TAPERED / (2 * (count + _PRIOR)) * (1 - coherence**2), 0, 0.96)
    weights = np.sign(coherence) * known / ((1 - known) * np.maximum(np.abs(coherence), 1e-3))
    spread: NDArray[np.float32] = weights.astype(np.float32)[:, frequencies.ring]
    return spread


def _positive(curve: Floats) -> Floats:
    """Return the curvature of each window, W 2 2, with what points the wrong way left out."""
    values, vectors = np.linalg.eigh(curve)
    kept: Floats = np.einsum("wij,wj,wkj->wik", vectors, np.maximum(values, 0), vectors)
    return kept
