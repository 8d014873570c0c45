"""In which slices each channel is in focus, at each time point: counted while the decision is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.result_spec import ResultSpec

_EDGE = 0.05  # of the pixels in focus may lie beyond either end of the range


class FocusRanges:
    """Arrays that pass everything on, and count the slices that were decided for.

    Args:
        arrays: where the result goes, T C Z Y X each.
        spec: of the result.
    """

    def __init__(self, arrays: Mapping[str, Any], spec: ResultSpec) -> None:
        self._names = spec.decision_channels
        self._counts = np.zeros((spec.shape[0], len(self._names), spec.slices + 1), np.int64)
        decision = {"decision": _Counted(arrays["decision"], self._counts)} if "decision" in arrays else {}
        self.arrays: dict[str, Any] = {**arrays, **decision}

    def found(self) -> list[dict[str, Any]]:
        """One entry for each time point and decision; plain JSON values.

        Returns:
            "time", "channel", "best_slice" (in which most pixels are in focus) and "first_slice" and "last_slice" (of
            all but 5 % at either end), counted from 1; None where nothing is in focus.
        """
        return [
            {"time": t, "channel": name, **focus_range(self._counts[t, index])}
            for t in range(len(self._counts))
            for index, name in enumerate(self._names)
        ]


def focus_range(counts: NDArray[Any]) -> dict[str, int | None]:
    """Say where most is in focus, and in which slices nearly all of it.

    Args:
        counts: pixels that were decided for each slice, 0 for nothing first.
    """
    decided = np.asarray(counts[1:], np.float64)
    if not decided.any():
        return {"best_slice": None, "first_slice": None, "last_slice": None}
    share = np.cumsum(decided) / decided.sum()
    return {
        "best_slice": int(decided.argmax()) + 1,
        "first_slice": int(np.searchsorted(share, _EDGE, side="right")) + 1,
        "last_slice": int(np.searchsorted(share, 1 - _EDGE, side="left")) + 1,
    }


def nothing_in_focus(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which channels show nothing in focus anywhere, so that a black result is no surprise; a sentence or none.

    Args:
        found: what `FocusRanges.found` returned.
    """
    empty = [each for each in found if each["best_slice"] is None]
    if not empty:
        return []
    names = ", ".join(dict.fromkeys(f"channel {each['channel']}" for each in empty))
    times = len({each["time"] for each in found})
    when = f", at {len({each['time'] for each in empty})} of {times} time points" if times > 1 else ""
    return [
        f"Nothing is in focus in any slice of {names}{when}: the slices are blank, or hold nothing but noise. Look at "
        "them before you use the result."
    ]


class _Counted:
    """The decision of `FocusRanges`."""

    def __init__(self, array: Any, counts: NDArray[np.int64]) -> None:
        self._array, self._counts = array, counts

    def __setitem__(self, key: tuple[int, int, int, slice, slice], values: NDArray[Any]) -> None:
        self._array[key] = values
        t, channel = key[:2]
        length = self._counts.shape[2]
        self._counts[t, channel] += np.bincount(np.minimum(values, length - 1).ravel(), minlength=length)
