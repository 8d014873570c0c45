"""Whether the light was the same in all slices and all over the field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, minimum_filter

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.looked_at import LookedAt

_FADED = 0.25  # of the light
_STEADY = 0.8  # share of the steps that go down
_ALIKE = 0.5  # how much the fading may differ over the field, in parts of itself
_UNEVEN = 0.3  # of the brightest
_SMOOTH = 16  # px
_EXPLAINED = 0.85  # of what is uneven, by a smooth fall-off
_FEWEST_SLICES = 4
_ROUNDS = 6


def judge_light(seen: LookedAt, found: Findings) -> None:
    """Look for light that fades from slice to slice, and for light that falls off over the field."""
    if len(seen.slices) >= _FEWEST_SLICES:
        _judge_fading(seen, found)
    _judge_field(seen, found)


def fading(seen: LookedAt) -> tuple[float, float, float]:
    """Share of the light that is gone in the last slice, share of steps downwards, and how unlike it is over the field.

    A specimen that leaves the focus keeps its light in widefield, so the logarithm of the light is followed place by
    place, in squares that are bright; what fades does so everywhere alike.
    """
    paths = np.concatenate([_paths(seen, index) for index in range(len(seen.tiles))], axis=1)  # Z n
    if not paths.shape[1]:
        return 0.0, 0.0, np.inf
    middle = np.median(paths, axis=1)
    change = float(middle[-1] - middle[0])
    steps = np.diff(middle) * np.sign(change)
    each = paths[-1] - paths[0]
    unlike = float(np.subtract(*np.percentile(each, (80, 20)))) / max(abs(change), 1e-9)
    return 1 - float(np.exp(-abs(change))), float(np.mean(steps > 0)), unlike


def _paths(seen: LookedAt, index: int) -> NDArray[np.float64]:
    tile, channel = seen.tiles[index], seen.decider.guide[0]
    model = seen.statistics.models[0]
    counts = tile.counts[channel].astype(np.float64)
    side = min(_SMOOTH, *counts.shape[1:])
    rows, columns = (size // side for size in counts.shape[1:])
    squares = (
        counts[:, : rows * side, : columns * side].reshape(len(counts), rows, side, columns, side).mean(axis=(2, 4))
    )
    squares = squares.reshape(len(counts), -1)
    dark = model.low - (model.variance / model.gain if model.gain > 0 else 0.0)
    light = squares - min(dark, float(squares.min()))
    bright = light.min(axis=0) > 0.2 * np.percentile(light, 95)
    return np.asarray(np.log(np.maximum(light[:, bright], 1e-9)))


def _judge_fading(seen: LookedAt, found: Findings) -> None:
    gone, steady, unlike = fading(seen)
    faded = steady >= _STEADY and unlike < _ALIKE
    shown = gone if faded else 0.0
    found.add(
        "fading",
        100 * shown,
        "% of the light",
        f"below {100 * _FADED:g}",
        f"From one end of the stack to the other {shown:.0%} of the light fades steadily and everywhere alike.",
    )
    if faded and gone > _FADED:
        found.warn(
            "bleaching",
            "fading",
            f"{gone:.0%} of the light fades from one end of the stack to the other, everywhere alike: the dye "
            "bleaches, or the "
            "specimen takes the light. Intensities at different heights cannot be compared; expose less, or correct "
            "them.",
        )


def fall_off(seen: LookedAt) -> tuple[float, float]:
    """By how much a smooth surface falls off over the field, and which part of the unevenness it explains."""
    places, levels = [], []
    channel, model = seen.decider.guide[0], seen.statistics.models[0]
    height, width = seen.stack.shape[3:]
    dark = model.low - (model.variance / model.gain if model.gain > 0 else 0.0)
    for tile in seen.tiles:
        mean = tile.counts[channel].mean(axis=0, dtype=np.float64)
        # Of dye the ground is followed, since what shines lies where it lies; of a lamp everything.
        ground = mean if seen.transmitted else minimum_filter(gaussian_filter(mean, 2), _SMOOTH)
        smooth = gaussian_filter(ground, _SMOOTH / 2)[::_SMOOTH, ::_SMOOTH]
        y, x = np.mgrid[0 : mean.shape[0] : _SMOOTH, 0 : mean.shape[1] : _SMOOTH]
        places.append(np.stack([(y + tile.rect.y.start) / height - 0.5, (x + tile.rect.x.start) / width - 0.5], -1))
        levels.append(smooth - dark)
    place = np.concatenate([each.reshape(-1, 2) for each in places])
    level = np.log(np.maximum(np.concatenate([each.ravel() for each in levels]), 1e-9))
    v, u = place.T
    surface = np.stack([np.ones_like(v), v, u, v * v, u * u, v * u], axis=1)
    if len(level) < 3 * surface.shape[1]:
        return 0.0, 0.0
    weights = np.ones_like(level)
    for _ in range(_ROUNDS if seen.transmitted else 1):  # before a lamp stands a specimen here and there
        fitted = surface @ np.linalg.lstsq(surface * weights[:, None], level * weights, rcond=None)[0]
        miss = level - fitted
        spread = 1.4826 * float(np.median(np.abs(miss))) + 1e-6
        counted = weights**2
        weights = np.sqrt(1 / (1 + np.square(miss / (2 * spread))))
    varied = float(np.average(np.square(level - np.average(level, weights=counted)), weights=counted))
    explained = 1 - float(np.average(np.square(miss), weights=counted)) / max(varied, 1e-12)
    return 1 - float(np.exp(fitted.min() - fitted.max())), explained


def _judge_field(seen: LookedAt, found: Findings) -> None:
    falls, explained = fall_off(seen)
    smooth = explained > _EXPLAINED
    shown = falls if smooth else 0.0
    found.add(
        "uneven_light", 100 * shown, "% of the brightest", f"below {100 * _UNEVEN:g}",
        f"A smooth fall-off takes {shown:.0%} of the light at the darkest place of the field."
        if smooth
        else "No smooth fall-off of the light over the field stands out of the specimen.",
    )  # fmt: skip
    if smooth and falls > _UNEVEN:
        found.warn(
            "uneven_light",
            "uneven_light",
            f"The light falls off by {falls:.0%} over the field. Brightness at different places cannot be compared: "
            "divide by "
            "an image of an even field (--flat-field).",
        )
