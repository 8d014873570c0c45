"""Figures and flags of a fused field, from a small copy of its products and a look at its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.batch.figures.assessed import assessed
from hybridfusion_core.batch.figures.drift import SliceFigures
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.view.thumbnails import sharpest_slice

EMPTY_BELOW = 0.01  # of the pixels are in focus anywhere
UNSURE_BELOW = 0.5  # median confidence
SATURATED_ABOVE = 0.001  # of the pixels of a channel
DRIFT_ABOVE = 1.0  # px between two slices
BIAS_ABOVE = 0.05  # of the mean of the slices
_BITS = (8, 10, 12, 14, 16)  # of cameras
FLAGS = ("out of range", "empty", "low confidence", "saturated", "drift", "intensity bias", "missing slices")


def figures(
    job: Job,
    spec: ResultSpec,
    copies: Mapping[str, NDArray[Any]],
    seen: SliceFigures | None = None,
    *,
    first: int = 0,
    dropped: Sequence[int] = (),
) -> dict[str, Any]:
    """Describe a fused field.

    Args:
        job: how it was fused.
        spec: of the result.
        copies: "fused", "decision" and "maps" as far as they were made, C Y X each, binned to at most 1024 px.
        seen: what the slices told, if they were looked at.
        first: index of the channel that stands for all of them.
        dropped: numbers of slices that were left out, because planes of them are missing.

    Returns:
        "in_focus": share of the pixels with a decision; "median_confidence"; "height": 1 % and 99 % quantile in the
        unit of "height_unit"; "sharpest_slice" from 1; "drift_px" and "bias" as in `SliceFigures`; "drift_taken_px",
        what alignment took back; "dropped"; "flags", some of `FLAGS`;
        "assess", kinds of the warnings of `assess` that can be told. None for what is not known. Plain JSON values.
    """
    decisions = copies.get("decision")
    decision = None if decisions is None else decisions[min(first, len(decisions) - 1)]
    in_focus = None if decision is None else float(np.mean(decision > 0))
    confidence = _map(spec, copies, "confidence", first)
    median = None if confidence is None else _finite(np.nanmedian(confidence) if _any(confidence) else np.nan)
    height = _map(spec, copies, "height", first)
    spread = (
        None if height is None or not _any(height) else [float(each) for each in np.nanquantile(height, (0.01, 0.99))]
    )
    unit = next((each.quantity.removeprefix("height_") for each in spec.maps if each.product == "height"), None)
    decided = decision is not None and bool(decision.any())
    sharpest = sharpest_slice(copies["fused"][first], decision, job.slices) if decided else None
    empty = in_focus is not None and in_focus < EMPTY_BELOW
    seen = seen or SliceFigures()
    drift = None if empty else seen.drift_px  # noise may seem to move
    flags = {
        # With two slices, each is one of the outermost.
        "out of range": sharpest is not None and len(job.slices) > 2 and sharpest in (job.slices[0], job.slices[-1]),
        "empty": empty,
        "low confidence": median is not None and median < UNSURE_BELOW,
        "saturated": any(_saturated(channel) for channel in copies["fused"]),
        "drift": drift is not None and drift > DRIFT_ABOVE,
        "intensity bias": seen.bias is not None and abs(seen.bias) > BIAS_ABOVE,
        "missing slices": bool(dropped),
    }
    return {
        "in_focus": in_focus,
        "median_confidence": median,
        "height": spread,
        "height_unit": unit,
        "sharpest_slice": None if sharpest is None else sharpest + 1,
        "slices": spec.slices,
        "drift_px": drift,
        "drift_taken_px": _taken(spec),
        "bias": seen.bias,
        "dropped": list(dropped),
        "assess": assessed(
            job, copies["fused"][first], decision, seen, transmitted=bool(spec.channels[first].transmitted)
        ),
        "flags": [flag for flag in FLAGS if flags[flag]],
    }


def _taken(spec: ResultSpec) -> float | None:
    """Return how far alignment moved any pixel; None if nobody looked."""
    alignment = spec.provenance.get("treatment", {}).get("alignment")
    return None if alignment is None else float(alignment["farthest_px"])


def _map(spec: ResultSpec, copies: Mapping[str, NDArray[Any]], kind: str, first: int) -> NDArray[Any] | None:
    found = [index for index, each in enumerate(spec.maps) if each.product == kind]
    return copies["maps"][found[min(first, len(found) - 1)]] if found else None


def _any(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).any())


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _saturated(pixels: NDArray[Any]) -> bool:
    """Say whether many pixels stand at the most that a camera of some bits can count."""
    if pixels.dtype.kind not in "iu":
        return False
    largest = int(pixels.max())
    full = largest in {2**bits - 1 for bits in _BITS} or largest == np.iinfo(pixels.dtype).max
    return full and float(np.mean(pixels == largest)) > SATURATED_ABOVE
