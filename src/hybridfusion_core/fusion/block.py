"""A block's pixels as the loop takes them: read with their surroundings, and made into the guide that decides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.tiles import Rect, reflected
from hybridfusion_core.model.noise import CELL, luminance
from hybridfusion_core.stack import Stack

Planes = dict[int, NDArray[Any]]  # channel -> Z Y X


def read_planes(
    job: Job, stack: Stack, t: int, decider: Decider, core: Rect, slices: tuple[int, ...], *, with_halo: bool
) -> Planes:
    """Read a block with its surroundings once, reflected at the plane's edges.

    Args:
        job: says what to do with NaN and infinite pixels.
        stack: where from.
        t: time point.
        decider: says which channels.
        core: the block.
        slices: their indices.
        with_halo: read the block's whole window; otherwise its core, a tiny plane grown to one noise cell.

    Returns:
        Z Y X of every channel that decides or is fused.
    """
    indices = []
    for span, size in zip((core.y, core.x), stack.shape[3:], strict=True):
        low, high = (span.low, span.high) if with_halo else (span.start, max(span.stop, CELL))
        indices.append(reflected(low, high, size))
    y, x = (slice(int(index.min()), int(index.max()) + 1) for index in indices)
    planes = {}
    for channel in sorted({*decider.guide, *decider.serves}):
        counts = stack.read(t, channel, slices, y, x)
        _refuse_nan(job, stack, counts, (t, channel), slices, (y.start, x.start))
        for axis, (index, start) in enumerate(zip(indices, (y.start, x.start), strict=True), 1):
            if len(index) != counts.shape[axis] or index[0] != start:
                counts = counts.take(index - start, axis=axis)
        planes[channel] = counts
    return planes


def _refuse_nan(
    job: Job,
    stack: Stack,
    counts: NDArray[Any],
    plane: tuple[int, int],
    slices: tuple[int, ...],
    origin: tuple[int, int],
) -> None:
    if counts.dtype.kind != "f" or job.request.nan == "ignore":
        return
    wrong = ~np.isfinite(counts)
    if wrong.any():
        z, y, x = np.argwhere(wrong)[0]
        place = f"t={plane[0]}, c={plane[1]}, z={slices[z]}, y={y + origin[0]}, x={x + origin[1]}"
        raise UserInputError(
            f"{stack.name}: the pixel at {place} is {counts[z, y, x]}; expected finite numbers everywhere. "
            'Repair the file, or give such pixels no weight with --nan ignore (Python: nan="ignore").'
        )


def guide_planes(stack: Stack, decider: Decider, planes: Planes) -> list[NDArray[Any]]:
    """Channels that decide; a colour image decides by its luminance."""
    if not stack.rgb:
        return [planes[channel] for channel in decider.guide]
    return [luminance([planes[channel] for channel in decider.guide])]


def fill(guide: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Replace NaN and infinity by the mean of the other slices there; also says where that was. Z Y X."""
    invalid = ~np.isfinite(guide)
    if not invalid.any():
        return guide, None
    count = (~invalid).sum(axis=0)
    mean = np.where(invalid, 0, guide).sum(axis=0) / np.maximum(count, 1)
    return np.where(invalid, mean, guide).astype(np.float32), invalid
