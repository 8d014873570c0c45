"""A stack whose slices got the same light: every region is matched when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.region import ComputedPlanes
from hybridfusion_core.model.slice_light import SliceLight
from hybridfusion_core.stack import Stack

Lights = Mapping[tuple[int, int], SliceLight]  # by T and C, of all slices of the stack


def matched(stack: Stack, lights: Lights) -> Stack:
    """Return a stack whose slices got the same light: (counts − dark) · gain + dark, in the pixels' own type.

    Args:
        stack: read by region.
        lights: of the channels that differ; the others are passed on bit for bit.
    """
    return replace(stack, array=MatchedPlanes(stack, lights), axes="TCZYX", closers=()) if lights else stack


class MatchedPlanes(ComputedPlanes):
    """An array T C Z Y X of matched pixels.

    Args:
        stack: what to match.
        lights: of channels and time points that differ.
    """

    def __init__(self, stack: Stack, lights: Lights) -> None:
        super().__init__(stack.shape, stack.dtype)
        self._stack, self._lights = stack, lights

    def _plane(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        plane: NDArray[Any] = self._stack.read(t, c, [z], y, x)[0]
        light = self._lights.get((t, c))
        if light is None or light.gains[z] == 1:
            return plane
        wide = np.dtype(np.float32 if plane.dtype.itemsize <= 2 or plane.dtype == np.float32 else np.float64)
        dark, gain = np.asarray(light.dark, wide), np.asarray(light.gains[z], wide)
        values: NDArray[Any] = (plane.astype(wide) - dark) * gain + dark
        if plane.dtype.kind in "iu":
            limits = np.iinfo(plane.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        made: NDArray[Any] = values.astype(plane.dtype)
        return made
