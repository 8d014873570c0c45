"""A stack in even light: every region is corrected when it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.region import normalised
from hybridfusion_core.shading.profiles import Profiles
from hybridfusion_core.stack import Stack


def evenly_lit(stack: Stack, profiles: Profiles) -> Stack:
    """Return a stack as even light would have shown it: (counts − dark) / flat + mean dark, in the pixels' own type.

    The camera's offset is put back as one number, so that noise around it is not cut off at zero.
    """
    if profiles.flat is None and profiles.dark is None:
        return stack
    return replace(stack, array=LitPlanes(stack, profiles), axes="TCZYX", closers=())


class LitPlanes:
    """An array T C Z Y X of corrected pixels.

    Args:
        stack: what to correct.
        profiles: that fit it.
    """

    def __init__(self, stack: Stack, profiles: Profiles) -> None:
        self._stack, self._profiles = stack, profiles
        self.shape: tuple[int, ...] = stack.shape
        self.dtype = stack.dtype

    @property
    def ndim(self) -> int:
        """Number of axes: five."""
        return 5

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        items = normalised(key, self.shape)
        ranges = [
            range(*each.indices(size)) if isinstance(each, slice) else range(each, each + 1)
            for each, size in zip(items, self.shape, strict=True)
        ]
        y, x = (slice(each.start, each.stop) for each in ranges[3:])
        made = np.empty([len(each) for each in ranges], self.dtype)
        for i, t in enumerate(ranges[0]):
            for j, c in enumerate(ranges[1]):
                counts = self._stack.read(t, c, list(ranges[2]), y, x)
                made[i, j] = self._corrected(counts, c, y, x)[:, :: ranges[3].step, :: ranges[4].step]
        return made[tuple(slice(None) if isinstance(each, slice) else 0 for each in items)]

    def _corrected(self, counts: NDArray[Any], c: int, y: slice, x: slice) -> NDArray[Any]:
        made = np.empty_like(counts)
        dark, level = self._dark(c, y, x)
        flat = self._profiles.flat
        gain = np.float32(1) if flat is None else 1 / flat[c if len(flat) > 1 else 0, y, x]
        for index, plane in enumerate(counts):  # a slice's share of memory, not a stack's
            values = (plane.astype(np.float32 if plane.dtype.itemsize <= 2 else np.float64) - dark) * gain + level
            if counts.dtype.kind in "iu":
                limits = np.iinfo(counts.dtype)
                values = np.clip(np.rint(values), limits.min, limits.max)
            made[index] = values
        return made

    def _dark(self, c: int, y: slice, x: slice) -> tuple[Any, Any]:
        dark = self._profiles.dark
        if dark is None:
            return np.float32(0), np.float32(0)
        own = dark[c if len(dark) > 1 else 0]
        return (own[y, x] if own.size > 1 else own), np.float32(own.mean())
