"""A stack in even light: every region is corrected when it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.region import ComputedPlanes
from hybridfusion_core.shading.profiles import Profiles
from hybridfusion_core.stack import Stack


def evenly_lit(stack: Stack, profiles: Profiles) -> Stack:
    """Return a stack as even light would have shown it: (counts − dark) / flat + mean dark, in the pixels' own type.

    The camera's offset is put back as one number, so that noise around it is not cut off at zero.
    """
    if profiles.flat is None and profiles.dark is None:
        return stack
    return replace(stack, array=LitPlanes(stack, profiles), axes="TCZYX", closers=())


class LitPlanes(ComputedPlanes):
    """An array T C Z Y X of corrected pixels.

    Args:
        stack: what to correct.
        profiles: that fit it.
    """

    def __init__(self, stack: Stack, profiles: Profiles) -> None:
        super().__init__(stack.shape, stack.dtype)
        self._stack, self._profiles = stack, profiles

    def _plane(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        plane: NDArray[Any] = self._stack.read(t, c, [z], y, x)[0]
        dark, level = self._dark(c, y, x)
        flat = self._profiles.flat
        gain = np.float32(1) if flat is None else 1 / flat[c if len(flat) > 1 else 0, y, x]
        values = (plane.astype(np.float32 if plane.dtype.itemsize <= 2 else np.float64) - dark) * gain + level
        if plane.dtype.kind in "iu":
            limits = np.iinfo(plane.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        corrected: NDArray[Any] = values.astype(plane.dtype)
        return corrected

    def _dark(self, c: int, y: slice, x: slice) -> tuple[Any, Any]:
        dark = self._profiles.dark
        if dark is None:
            return np.float32(0), np.float32(0)
        own = dark[c if len(dark) > 1 else 0]
        return (own[y, x] if own.size > 1 else own), np.float32(own.mean())
