"""Whether confidence means what it says: reliability, its summary, and how well it finds mistakes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

TOLERANCE = 1.0  # slices; a decision nearer than this to the true height is right
_BINS = 20


@dataclass(frozen=True)
class Reliability:
    """Pixels sorted into bins of equal width by their confidence; those of several stacks add up.

    Attributes:
        count: pixels in each bin.
        confidence: their confidences' sum.
        right: how many of their decisions are right.
    """

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def pooled(cls, parts: Iterable[Reliability]) -> Reliability:
        """Add the bins of several stacks, every pixel alike."""
        empty = np.zeros(_BINS)
        total = cls(empty, empty, empty)
        for part in parts:
            total = cls(total.count + part.count, total.confidence + part.confidence, total.right + part.right)
        return total

    @property
    def expected_error(self) -> float:
        """Expected calibration error: |share that is right − mean confidence|, averaged over pixels.

        Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602, equation 1, with 20 bins of equal width. NaN without pixels.
        """
        total = float(self.count.sum())
        return float(np.abs(self.right - self.confidence).sum()) / total if total else np.nan

    @property
    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean confidence and share that is right, of every bin that has pixels."""
        used = self.count > 0
        return self.confidence[used] / self.count[used], self.right[used] / self.count[used]


def reliability(confidence: NDArray[Any], wrong: NDArray[np.bool_]) -> Reliability:
    """Sort pixels by their confidence.

    Args:
        confidence: n, in [0, 1]; NaN and infinite pixels are left out.
        wrong: n, whether the decision is wrong.
    """
    known = np.isfinite(confidence)
    sure, right = np.asarray(confidence[known], dtype=np.float64), ~wrong[known]
    place = np.minimum((sure * _BINS).astype(np.intp), _BINS - 1)
    return Reliability(
        np.bincount(place, minlength=_BINS).astype(np.float64),
        np.bincount(place, sure, minlength=_BINS).astype(np.float64),
        np.bincount(place, right.astype(np.float64), minlength=_BINS).astype(np.float64),
    )


def auroc(confidence: NDArray[Any], wrong: NDArray[np.bool_]) -> float:
    """Probability that a wrong decision is less sure than a right one, ties counted half.

    The area under the receiver operating characteristic as the Mann–Whitney statistic (Hanley & McNeil 1982,
    doi:10.1148/radiology.143.1.7063747).

    Args:
        confidence: n; NaN and infinite pixels are left out.
        wrong: n.

    Returns:
        1 if every mistake is less sure than everything right, 0.5 if confidence says nothing; NaN if all are right
        or all are wrong.
    """
    known = np.isfinite(confidence)
    sure, bad = confidence[known], wrong[known]
    wrongs = int(bad.sum())
    rights = bad.size - wrongs
    if not wrongs or not rights:
        return np.nan
    rank_sum = float(rankdata(sure)[~bad].sum())
    return float((rank_sum - rights * (rights + 1) / 2) / (rights * wrongs))
