"""What a second look would have said, without any truth: two halves of the photons, and every other slice.

It shows what noise and sampling change, and nothing of an error that both looks make alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.looked_at import LookedAt, Tile
from hybridfusion_core.assess.thinning import halves, of_halves
from hybridfusion_core.fusion.block import Planes
from hybridfusion_core.fusion.device_settings import device_settings
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.fusion.window import score_window
from hybridfusion_core.model.arrays import to_numpy
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.progress import Progress

_TILES = 4  # with most in focus
_FEWEST_SLICES = 4
_FEW_SLICES = 4
_FEWEST_PIXELS = 200
_BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0001)  # of confidence
_SEED = 0


@dataclass(frozen=True)
class Looked:
    """One method's look at a tile, all Y X.

    Attributes:
        number: index of the sharpest slice in the file.
        height: in slices of the file.
        confidence: in [0, 1].
        fused: counts.
    """

    number: NDArray[np.intp]
    height: NDArray[np.float32]
    confidence: NDArray[np.float32]
    fused: NDArray[np.float32]


@dataclass(frozen=True)
class Repeated:
    """How one method repeats itself, on what is in focus.

    Attributes:
        agree: share of decisions of the two halves that lie no more than twice `reach` apart.
        promised: the share that their confidence promises at least.
        reach: slices around a decision that confidence counts: one, or none in a stack of few, where all are
            neighbours.
        height: median difference of the halves' heights in slices.
        noise: standard deviation of the halves' fused difference over √2, in that of one slice's noise.
        every_other: share of decisions from odd and even slices within one slice of each other.
        every_other_height: median difference of their heights, in slices.
        curve: by bin of promise: pixels, mean promise, share that agrees.
    """

    agree: float
    promised: float
    reach: int
    height: float
    noise: float
    every_other: float
    every_other_height: float
    curve: tuple[tuple[int, float, float], ...]


def repeat(seen: LookedAt, job: Job, tiles: int = _TILES) -> Iterator[Progress | Repeated | None]:
    """Look again by the method of a job; yields progress and, last, what was found (None: nothing to compare)."""
    chosen = sorted(seen.tiles, key=lambda tile: -int(tile.in_focus.sum()))[:tiles]
    random = np.random.default_rng(_SEED)
    pairs: list[tuple[Looked, Looked, NDArray[np.bool_], NDArray[np.float32]]] = []
    others: list[tuple[Looked, Looked, NDArray[np.bool_]]] = []
    for number, tile in enumerate(chosen):
        if tile.in_focus.any() and len(seen.slices) >= 2:
            first, second = _thinned(seen, job, tile, random)
            model = seen.statistics.models[0]
            noise = np.sqrt(model.variance + model.gain * np.maximum(tile.fused - model.low, 0))
            pairs.append((first, second, tile.in_focus, noise))
            if len(seen.slices) >= _FEWEST_SLICES:
                others.append((*_odd_and_even(seen, job, tile), tile.in_focus))
        yield Progress(f"looking again ({job.request.method})", number + 1, len(chosen))
    if sum(int(mask.sum()) for *_, mask, _ in pairs) < _FEWEST_PIXELS:
        yield None
        return
    yield _compared(pairs, others, _reach(seen))


def _reach(seen: LookedAt) -> int:
    return 1 if len(seen.slices) > _FEW_SLICES else 0


def _compared(
    pairs: list[tuple[Looked, Looked, NDArray[np.bool_], NDArray[np.float32]]],
    others: list[tuple[Looked, Looked, NDArray[np.bool_]]],
    reach: int,
) -> Repeated:
    apart = np.concatenate([np.abs(a.number - b.number)[mask] for a, b, mask, _ in pairs])
    promise = np.concatenate([(a.confidence * b.confidence)[mask] for a, b, mask, _ in pairs])
    heights = np.concatenate([np.abs(a.height - b.height)[mask] for a, b, mask, _ in pairs])
    noise = np.concatenate([((a.fused - b.fused) / (2 * sd))[mask] for a, b, mask, sd in pairs])
    same = apart <= 2 * reach
    places = np.digitize(promise, _BINS) - 1
    curve = tuple(
        (int((places == k).sum()), float(promise[places == k].mean()), float(same[places == k].mean()))
        for k in range(len(_BINS) - 1)
        if (places == k).sum() >= 20
    )
    every = np.concatenate([np.abs(a.number - b.number)[mask] for a, b, mask in others]) if others else np.zeros(0)
    every_height = np.concatenate([np.abs(a.height - b.height)[mask] for a, b, mask in others]) if others else every
    return Repeated(
        float(same.mean()),
        float(promise.mean()),
        reach,
        float(np.median(heights)),
        float(1.4826 * np.median(np.abs(noise - np.median(noise)))),
        float((every <= 1).mean()) if every.size else np.nan,
        float(np.median(every_height)) if every.size else np.nan,
        curve,
    )


def _thinned(seen: LookedAt, job: Job, tile: Tile, random: np.random.Generator) -> tuple[Looked, Looked]:
    split: tuple[Planes, Planes] = ({}, {})
    guides = seen.decider.guide
    for channel, counts in tile.planes.items():
        if channel in guides:
            model = seen.statistics.models[min(guides.index(channel), len(seen.statistics.models) - 1)]
            split[0][channel], split[1][channel] = halves(counts, model, random)
    statistics = of_halves(seen.statistics)
    return _look(seen, job, tile, split[0], statistics), _look(seen, job, tile, split[1], statistics)


def _odd_and_even(seen: LookedAt, job: Job, tile: Tile) -> tuple[Looked, Looked]:
    looks = []
    for first in (0, 1):
        slices = tuple(int(index) for index in seen.slices[first::2])
        positions = [job.slices.index(index) for index in slices]
        planes = {channel: counts[positions] for channel, counts in tile.planes.items()}
        looks.append(_look(seen, replace(job, slices=slices), tile, planes, seen.statistics))
    return looks[0], looks[1]


def _look(seen: LookedAt, job: Job, tile: Tile, planes: Planes, statistics: FieldStatistics) -> Looked:
    blank = tuple(number for number in statistics.blank if number in job.slices)
    measured = replace(statistics, blank=blank, blank_of=())
    kept = [position for position, number in enumerate(job.slices) if number not in blank]
    core = (slice(None), tile.rect.y.core_in_window, tile.rect.x.core_in_window)
    decider = next(each for each in job.deciders if each.guide == seen.decider.guide)
    with device_settings(job):
        window = score_window(job, seen.stack, decider, planes, measured)
    window = window.part(tile.rect.y.core_in_scores, tile.rect.x.core_in_scores)
    posterior, weights = to_numpy(window.posterior()), to_numpy(window.weights())
    slices = np.asarray(job.slices)[kept]
    best = posterior.argmax(axis=0)
    away = np.abs(np.arange(len(slices))[:, None, None] - best)
    near = posterior * (away <= 2)
    height = (near * slices[:, None, None]).sum(axis=0) / near.sum(axis=0)
    confidence = (posterior * (away <= _reach(seen))).sum(axis=0).clip(max=1)
    counts = planes[decider.guide[0]][core][kept]
    return Looked(slices[best], height, confidence, (weights * counts).sum(axis=0))


def judge_repeatability(seen: LookedAt, repeated: Repeated | None, found: Findings) -> None:
    """Write down how far the network repeats itself, and whether its confidence keeps what it promises."""
    if repeated is None:
        return
    step = seen.step_um
    unit, factor = ("slices", 1.0) if step is None else ("µm", step)
    near = "lie within two slices of each other" if repeated.reach else "are the same"
    found.add(
        "halves_agree",
        100 * repeated.agree,
        "% of what is in focus",
        f"at least {100 * repeated.promised:.0f}, which the confidence promises",
        f"With half of the photons each, {repeated.agree:.1%} of the decisions {near}; the confidence promises at "
        f"least {repeated.promised:.1%}"
        + (". It keeps its promise." if repeated.agree >= repeated.promised - 0.02 else ": it promises too much here."),
    )
    found.add(
        "halves_height",
        factor * repeated.height,
        unit,
        "well below the z step",
        f"Heights of the two halves differ by {factor * repeated.height:.2g} {unit} (median).",
    )
    found.add(
        "halves_noise",
        repeated.noise,
        "noise of one slice",
        "at most 1",
        f"Noise changes the fused image by {repeated.noise:.2f} of the noise of one slice.",
    )
    if np.isfinite(repeated.every_other):
        found.add(
            "odd_even_agree",
            100 * repeated.every_other,
            "% of what is in focus",
            "above 80",
            f"Fused from odd and from even slices alone, {repeated.every_other:.0%} of the decisions are neighbours.",
        )
        found.add(
            "odd_even_height",
            factor * repeated.every_other_height,
            unit,
            "below the z step",
            f"Heights from odd and from even slices differ by {factor * repeated.every_other_height:.2g} {unit} "
            "(median).",
        )
