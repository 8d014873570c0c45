"""What the detector did: counts cut off at either end, and pixels that say the same in every slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, median_filter

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.heaped import piled
from hybridfusion_core.assess.limits import CLIPPED, FEWEST_SLICES, SATURATED
from hybridfusion_core.assess.looked_at import LookedAt

_STANDS_OUT = 5.0  # noise standard deviations
_BAD_PER_MEGAPIXEL = 50.0
_FEWEST_BAD = 4
_ALONE = 3.0  # times as far as any of its neighbours
_BESIDE = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)


def judge_detector(seen: LookedAt, found: Findings) -> None:
    """Look for piles at both ends of the counts and for pixels that stand out alike in all slices."""
    channels = seen.decider.guide
    tops = [piled([tile.counts[channel] for tile in seen.tiles], top=True) for channel in channels]
    grounds = [piled([tile.counts[channel] for tile in seen.tiles], top=False) for channel in channels]
    top, ground = max(tops), max(grounds)
    found.add(
        "saturated", 100 * top, "% of the pixels", f"below {100 * SATURATED:g}",
        f"{top:.2%} of the pixels are at the highest value that there is, and heaped there.",
    )  # fmt: skip
    if top > SATURATED:
        found.warn(
            "saturated",
            "saturated",
            f"{top:.2%} of the pixels are saturated: the detail and the brightness there are lost, in the fused image "
            "too. "
            "Expose less, and leave such pixels out of measurements.",
        )
    found.add(
        "clipped", 100 * ground, "% of the pixels", f"below {100 * CLIPPED:g}",
        f"{ground:.1%} of the pixels are at the lowest value that there is, and heaped there.",
    )  # fmt: skip
    if ground > CLIPPED:
        found.warn(
            "clipped",
            "clipped",
            f"{ground:.0%} of the pixels are heaped at the lowest value: the ground was cut off (the detector's "
            "offset is too "
            "low, or a background was taken off before), so means of dim regions come out too bright. Raise the "
            "offset.",
        )
    if len(seen.slices) >= FEWEST_SLICES and not seen.stack.rgb:
        _judge_pixels(seen, found)


def _judge_pixels(seen: LookedAt, found: Findings) -> None:
    bad, area = 0, 0
    for tile in seen.tiles:
        for channel, model in zip(seen.decider.guide, seen.statistics.models, strict=True):
            bad += int(stuck(tile.counts[channel], model.variance, model.gain, model.low).sum())
        area += tile.in_focus.size * len(seen.decider.guide)
    rate = 1e6 * bad / area
    found.add(
        "bad_pixels", rate, "per megapixel", f"below {_BAD_PER_MEGAPIXEL:g}",
        f"{bad} of {area} pixels stand out from their neighbours alike in every slice.",
    )  # fmt: skip
    if rate > _BAD_PER_MEGAPIXEL and bad >= _FEWEST_BAD:
        found.warn(
            "bad_pixels",
            "bad_pixels",
            f"{bad} pixels ({rate:.0f} per megapixel) are hot or dead: they stand out alike in every slice and pass "
            "for detail. "
            "Take off a dark image, or repair them before fusing.",
        )


def stuck(counts: NDArray[Any], variance: float, gain: float, low: float) -> NDArray[np.bool_]:
    """Pixels that stand out from their neighbours by the same amount in all slices: Z Y X -> Y X.

    What is in focus somewhere is blurred elsewhere; a pixel of the detector is not.
    """
    values = counts.astype(np.float32)
    around = np.stack([median_filter(plane, 3) for plane in values])
    noise = np.sqrt(variance + gain * np.maximum(around - low, 0))
    off = (values - around) / noise
    middle = np.median(off, axis=0)
    least = np.quantile(off * np.sign(middle), 0.1, axis=0)
    # Its neighbours do not stand out: fine detail that is sharp in all slices is no single pixel.
    beside = maximum_filter(np.abs(middle), footprint=_BESIDE)
    alone = np.abs(middle) > np.maximum(_STANDS_OUT, _ALONE * beside)
    return np.asarray(alone & (least > 0.5 * np.abs(middle)))
