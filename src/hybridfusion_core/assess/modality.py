"""How the light was made, as the pixels show it: dye that shines, or a lamp that shines through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.looked_at import LookedAt

TRANSMITTED, _FLUORESCENCE = "transmitted light", "fluorescence"
_FINE, _WIDE = 1.5, 6.0  # px; contrast between them is looked at
_BRIGHT, _VERY_BRIGHT = 0.6, 0.85  # of the brightest light: as bright a ground has transmitted light
_INVERTED, _WHOLLY_INVERTED = -0.3, -0.6  # correlation of contrast on both sides of focus
_BRIGHT_MIDDLE, _LEANING = 0.75, 2.0  # the median in parts of the brightest, and how much further down the darkest lie
_DARKER = -0.5  # skewness of the contrast
_NOISE_LEFT = 1 / (4 * math.pi * _FINE**2)  # of the variance of white noise, after `_FINE`
_SHOWN = 1.3  # times as much contrast as noise has


@dataclass(frozen=True)
class Seen:
    """What tells lamp from dye.

    Attributes:
        ground: brightness of the darkest pixels over that of the brightest, above the dark: in [0, 1].
        inversion: smallest correlation of the contrast of two slices; −1 where contrast turns over through focus.
        middle: the median in parts of the brightest, above the dark, without what is exactly at the lowest value.
        leaning: how much further the darkest pixels lie from the median than the brightest.
        shown: variance of the contrast where it is strongest, over that of noise.
        darker: skewness of the contrast where it is strongest; below 0 where things are darker than what is around
        them.
    """

    ground: float
    inversion: float
    darker: float
    shown: float
    middle: float
    leaning: float

    @property
    def transmitted(self) -> bool:
        """Light that shines through: contrast turns over, or dark things lie on a bright ground."""
        if self.shown < _SHOWN:
            return False
        if self.inversion < _WHOLLY_INVERTED or (self.middle > _BRIGHT_MIDDLE and self.leaning > _LEANING):
            return True
        if self.ground < _BRIGHT:
            return False
        return self.inversion < _INVERTED or self.darker < _DARKER or (self.ground > _VERY_BRIGHT and self.darker < 0.3)


def judge_modality(seen: LookedAt, found: Findings) -> None:
    """Compare each channel that decides with what the file says of it."""
    if seen.stack.rgb or len(seen.slices) < 3:
        return
    for channel in seen.decider.guide:
        _judge(seen, channel, found)


def looks(seen: LookedAt, channel: int) -> Seen:
    """Measure what tells lamp from dye in one channel."""
    model = seen.statistics.models[seen.decider.guide.index(channel)]
    grounds, inversions, skews, shown = [], [], [], []
    # Where the noise would vanish there is no light, but for the noise of reading.
    dark = model.low - model.variance / model.gain if model.gain > 0 else min(0.0, model.low)
    for tile in seen.tiles:
        counts = tile.counts[channel].astype(np.float32)
        smooth = np.stack([gaussian_filter(plane, _FINE) for plane in counts])
        low, high = np.percentile(smooth, (1, 99.5))
        grounds.append((low - dark) / max(float(high - dark), 1e-9))
        contrast = smooth - np.stack([gaussian_filter(plane, _WIDE) for plane in counts])
        inversions.append(_inversion(contrast))
        strongest = contrast[int(np.square(contrast).mean(axis=(1, 2)).argmax())]
        skews.append(float((strongest**3).mean() / max(float((strongest**2).mean()), 1e-12) ** 1.5))
        noise = model.variance + model.gain * max(float(np.median(smooth)) - model.low, 0)
        shown.append(float((strongest**2).mean()) / (noise * _NOISE_LEFT))
    middle, leaning = _lie(np.concatenate([tile.counts[channel].ravel() for tile in seen.tiles]), dark)
    return Seen(
        float(np.median(grounds)), float(np.min(inversions)), float(np.median(skews)), max(shown), middle, leaning
    )


def _lie(counts: NDArray[Any], dark: float) -> tuple[float, float]:
    """Where the middle of the values lies between dark and bright, and to which side they lean.

    A border that was filled with one value is no part of the picture.
    """
    inside = counts[counts > counts.min()]
    if not inside.size:
        return 0.0, 0.0
    darkest, median, brightest = (float(each) for each in np.percentile(inside, (2, 50, 99.5)))
    middle = (median - dark) / max(brightest - dark, 1e-9)
    return middle, (median - darkest) / max(brightest - median, 1e-9)


def _inversion(contrast: NDArray[np.float32]) -> float:
    flat = contrast.reshape(len(contrast), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(flat).sum(axis=1)) + 1e-12
    return float(((flat @ flat.T) / np.outer(size, size)).min())


def _judge(seen: LookedAt, channel: int, found: Findings) -> None:
    described = seen.stack.channels[channel]
    light = looks(seen, channel)
    said = {True: TRANSMITTED, False: _FLUORESCENCE, None: "not stated"}[described.transmitted]
    shown = TRANSMITTED if light.transmitted else _FLUORESCENCE
    name = "modality" if len(seen.decider.guide) == 1 else f"modality_{channel}"
    found.add(
        name,
        shown,
        "",
        said if described.transmitted is not None else "what it was",
        f"Channel {described.name!r} looks like {shown} (its ground has {light.ground:.0%} of the brightest light, "
        "contrast "
        f"on both sides of focus correlates with {light.inversion:.2f}); the file says: {said}.",
    )
    if light.transmitted and not described.transmitted:
        says = "the file says fluorescence" if described.transmitted is False else "the file does not say so"
        found.warn(
            "modality",
            name,
            f"Channel {described.name!r} looks like transmitted light, and {says}. The sharpest slice of such light "
            "lies "
            "beside the specimen, not in it: fuse it with --model transmitted, and correct what the file says.",
        )
