"""Which warnings of `assess` a batch can give from what it has at hand: no field is looked at a second time.

The limits are those of `assess`. What needs another look is not asked: sampling, kind of light, two surfaces,
bleaching, hot pixels, uneven light.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.assess.finding import Kind
from hybridfusion_core.assess.limits import (
    CLIPPED,
    DRIFT_PX,
    END,
    END_DETAIL,
    END_TRANSMITTED,
    FEWEST_PIXELS,
    FEWEST_SLICES,
    LEAST_IN_FOCUS,
    SATURATED,
)
from hybridfusion_core.batch.figures.drift import SliceFigures
from hybridfusion_core.fusion.job import Job


def assessed(
    job: Job, fused: NDArray[np.generic], decision: NDArray[np.integer] | None, seen: SliceFigures, *, transmitted: bool
) -> list[Kind]:
    """Return the warnings about a fused field, in the order of `assess`.

    Args:
        job: how it was fused.
        fused: Y X, a copy of the channel that stands for all.
        decision: Y X, of that channel, 0 where nothing is in focus, else the slice counted from 1; None if nothing was
            decided.
        seen: what the slices told.
        transmitted: the file says so of the channel.
    """
    empty = decision is not None and float(np.mean(decision > 0)) < LEAST_IN_FOCUS
    at_start, at_end = (False, False) if decision is None or empty else _ends(job, fused, decision, transmitted)
    said: dict[Kind, bool] = {
        "cut_at_start": at_start,
        "cut_at_end": at_end,
        "drift": not empty and (seen.drift_px or 0) > DRIFT_PX,
        "saturated": (seen.saturated or 0) > SATURATED,
        "clipped": not transmitted and (seen.clipped or 0) > CLIPPED,  # a dark border of a bright field is no ground
        "nothing_in_focus": empty,
    }
    return [kind for kind, found in said.items() if found]


def _ends(job: Job, fused: NDArray[np.generic], decision: NDArray[np.integer], transmitted: bool) -> tuple[bool, bool]:
    """Say whether much of what is in focus, and of its detail, lies in the first or the last slice."""
    if len(job.slices) < FEWEST_SLICES or (decision > 0).sum() < FEWEST_PIXELS or min(fused.shape) < 2:
        return False, False
    pixels = fused.astype(np.float64)
    energy = np.nan_to_num(sum(np.square(slope) for slope in np.gradient(pixels)))
    most = END_TRANSMITTED if transmitted else END
    inside = decision > 0

    def cut(number: int) -> bool:
        there = decision == number + 1
        detail = float(energy[there].sum() / max(float(energy[inside].sum()), 1e-12))
        return float(there.sum() / inside.sum()) >= most and detail >= END_DETAIL

    return cut(job.slices[0]), cut(job.slices[-1])
