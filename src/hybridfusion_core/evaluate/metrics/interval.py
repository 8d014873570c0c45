"""What a difference between two methods is worth: its mean over stacks, an interval, and the worst tenth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Gain:
    """Paired differences over stacks.

    Attributes:
        mean: of the differences.
        low: lower end of the 95 % interval of the mean.
        high: its upper end.
        worst: the decile on the losing side.
        stacks: how many pairs there were.
    """

    mean: float
    low: float
    high: float
    worst: float
    stacks: int


def paired_gain(ours: NDArray[Any], theirs: NDArray[Any], *, more_is_better: bool = True, seed: int = 0) -> Gain | None:
    """Compare two methods stack by stack.

    The interval is the percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over stacks: pixels of one
    stack are no independent samples, stacks are.

    Args:
        ours: n, one figure per stack; stacks where either is NaN are left out.
        theirs: n, of the same stacks.
        more_is_better: on which side the worst decile lies.
        seed: of the resampling; the same numbers always give the same interval.

    Returns:
        None without any pair. From a single pair no interval follows: its ends are NaN.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    known = differences[np.isfinite(differences)]
    if not known.size:
        return None
    worst = float(np.quantile(known, 0.1 if more_is_better else 0.9))
    if known.size == 1:
        return Gain(float(known[0]), np.nan, np.nan, worst, 1)
    means = np.random.default_rng(seed).choice(known, (_RESAMPLES, known.size)).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Gain(float(known.mean()), float(low), float(high), worst, int(known.size))
