"""A stack whose slices lie on each other: every region is resampled once, by cubic splines, when it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import lazy_loader
import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.region import ComputedPlanes
from hybridfusion_core.registration.placement import Placement, Rect, Slice, centre_of
from hybridfusion_core.stack import Stack

ndimage = lazy_loader.load("scipy.ndimage", suppress_warning=True)  # only where slices are aligned
Frame = Literal["keep", "crop"]

_MARGIN = 16  # px around what is read: a spline's memory of what lies farther away is below 1e-8
_EDGE = 1e-6  # px


def aligned(stack: Stack, placement: Placement, frame: Frame = "keep") -> Stack:
    """Return a stack with its slices where the reference has them.

    Slices that do not move are passed on bit for bit, and so are moves by whole pixels.

    Args:
        stack: read by region.
        placement: that fits it.
        frame: "keep" the reference's; where a slice does not reach, the nearest slice towards the reference that does
            stands in for it. "crop" to what all slices cover.
    """
    if not placement.moves:
        return stack
    whole = (slice(0, stack.shape[3]), slice(0, stack.shape[4]))
    array = AlignedPlanes(stack, placement, placement.covered() if frame == "crop" else whole)
    # Whoever opened the stack closes it; it was decoded before.
    return replace(stack, array=array, axes="TCZYX", decode_unit=None, closers=())


class AlignedPlanes(ComputedPlanes):
    """An array T C Z Y X of resampled slices.

    Args:
        stack: what to resample.
        placement: where its slices lie.
        window: rows and columns of the reference's frame that are shown.
    """

    def __init__(self, stack: Stack, placement: Placement, window: Rect) -> None:
        rows, columns = (each.stop - each.start for each in window)
        super().__init__((*stack.shape[:3], rows, columns), stack.dtype)
        self._stack, self._placement, self._window = stack, placement, window

    def _plane(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return a region of the window as one slice shows it."""
        y, x = (
            slice(each.start + own.start, each.stop + own.start) for each, own in zip((y, x), self._window, strict=True)
        )
        frame = self._placement.frame(t)
        place = frame.get(z, Slice())
        if not place.moves:
            plane: NDArray[Any] = self._stack.read(t, c, [z], y, x)[0]
            return plane
        found, known = self._resampled(t, c, z, place, y, x)
        if known is None:
            return found
        # One of them is the reference, which reaches everywhere.
        step = 1 if self._placement.reference > z else -1
        nearer = next((each for each in range(z + step, self._placement.reference, step) if each in frame), None)
        stand_in = self._plane(t, c, self._placement.reference if nearer is None else nearer, y, x)
        return np.where(known, found, stand_in)

    def _resampled(
        self, t: int, c: int, z: int, place: Slice, y: slice, x: slice
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return a region, and where the slice reaches; None if it does everywhere."""
        plane = self._stack.shape[3:]
        last = np.array(plane) - 1
        start, shape = np.array([y.start, x.start]), (y.stop - y.start, x.stop - x.start)
        corners = np.array([(row, column) for row in (y.start, y.stop - 1) for column in (x.start, x.stop - 1)])
        placed = place.at(corners.astype(np.float64), plane)
        inside = bool((placed >= -_EDGE).all() and (placed <= last + _EDGE).all())
        low = np.clip(np.floor(placed.min(axis=0)) - _MARGIN, 0, last).astype(int)
        high = np.clip(np.ceil(placed.max(axis=0)) + _MARGIN, 0, last).astype(int) + 1
        rows, columns = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
        counts = self._stack.read(t, c, [z], rows, columns)[0]
        offset = place.matrix @ (start - centre_of(plane)) + centre_of(plane) + (place.dy, place.dx) - low
        known = None if inside else _reached(place, offset + low, shape, last)
        if place.scale == 1 and not place.angle_deg and float(place.dy).is_integer() and float(place.dx).is_integer():
            index = [np.clip(np.rint(each).astype(int) + np.arange(size), 0, most - 1)
                     for each, size, most in zip(offset, shape, counts.shape, strict=True)]  # fmt: skip
            copied: NDArray[Any] = counts[np.ix_(*index)]
            return copied, known
        return _interpolated(counts, place, offset, shape), known


def _reached(
    place: Slice, offset: NDArray[np.float64], shape: tuple[int, int], last: NDArray[Any]
) -> NDArray[np.bool_]:
    """Say which pixels of a region lie within a slice."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    matrix, known = place.matrix, np.ones(shape, bool)
    for axis in (0, 1):
        at = matrix[axis, 0] * rows + matrix[axis, 1] * columns + offset[axis]
        known &= (at >= -_EDGE) & (at <= last[axis] + _EDGE)
    return known


def _interpolated(
    counts: NDArray[Any], place: Slice, offset: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[Any]:
    """Return what cubic splines give, in the pixels' own type; NaN and infinite pixels leave NaN where they count."""
    matrix: Any = np.diag(place.matrix) if place.angle_deg == 0 else place.matrix  # of two numbers is quicker
    values = counts.astype(np.float64 if counts.dtype.itemsize > (4 if counts.dtype.kind == "f" else 2) else np.float32)
    wrong = None
    if counts.dtype.kind == "f" and not np.isfinite(values).all():
        wrong = ~np.isfinite(values)
        values[wrong] = values[~wrong].mean() if not wrong.all() else 0
    made = ndimage.affine_transform(values, matrix, offset, shape, order=3, mode="mirror", output=values.dtype)
    if wrong is not None:
        share = ndimage.affine_transform(wrong.astype(np.float32), matrix, offset, shape, order=1, mode="nearest")
        made[share > 1e-3] = np.nan
    if counts.dtype.kind in "iu":
        limits = np.iinfo(counts.dtype)
        made = np.clip(np.rint(made), limits.min, limits.max)
    converted: NDArray[Any] = made.astype(counts.dtype)
    return converted
