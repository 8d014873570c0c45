"""Is the new model better? Measurements that no loss was trained on; without one of them it is not shown to be better.

Each compares the start and the new model on the same pixels, in units that can be told apart: stacks, or blocks of one
field that are further apart than the network sees. The figures of one kind decide when there are at least five pairs
and the 95 % interval of their mean difference leaves zero out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hybridfusion_core.evaluate.metrics.interval import Gain, paired_gain
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.model.focus_measures import SMOOTHING, has_structure, tenengrad
from hybridfusion_core.train.finetune.blind import BlindScore
from hybridfusion_core.train.finetune.crops import Crop

Word = Literal["better", "worse", "not shown to be better"]
Fuse = Callable[[Crop, slice], FuseResult]  # some slices of a crop, by one model

LEAST_PAIRS = 5
LEAST_SLICES = 7  # of a stack of which every other slice is left out
_LEAST_PIXELS = 400
_BLOCK = 96  # px; three times what the network sees to either side
_SPREAD_KEPT = 0.9  # of the heights' spread; a surface that is flattened is easily reproduced


@dataclass(frozen=True)
class Finding:
    """Figures of one kind, the start's and the new model's, pair by pair.

    Attributes:
        title: of the table.
        meaning: what is measured, and what it cannot tell.
        unit: of the figures.
        more_is_better: which way is good.
        names: of the pairs.
        before: figures of the start.
        after: figures of the new model.
        doubt: why the figures cannot speak for the new model; "" if nothing is odd.
    """

    title: str
    meaning: str
    unit: str
    more_is_better: bool
    names: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    doubt: str = ""

    @property
    def gain(self) -> Gain | None:
        """Paired difference, after − before."""
        return paired_gain(np.array(self.after), np.array(self.before), more_is_better=self.more_is_better)

    @property
    def word(self) -> Word:
        """What these figures say alone."""
        gain = self.gain
        if gain is None or gain.stacks < LEAST_PAIRS or gain.low <= 0 <= gain.high:
            return "not shown to be better"
        if (gain.mean > 0) != self.more_is_better:
            return "worse"
        return "not shown to be better" if self.doubt else "better"


@dataclass(frozen=True)
class Verdict:
    """One word and why.

    Attributes:
        word: "better" if some evidence says so and none the contrary; "worse" if some says so and none "better".
        reasons: a sentence for each kind of evidence, or for the lack of any.
    """

    word: Word
    reasons: tuple[str, ...] = field(default=())


def verdict(findings: Sequence[Finding], blind: BlindScore | None = None) -> Verdict:
    """Weigh all evidence; without any the model is not shown to be better, whatever the losses say."""
    words: set[Word] = {finding.word for finding in findings}
    reasons = tuple(f"{finding.title}: {_sentence(finding)}" for finding in findings)
    if blind is not None:
        words.add(blind.word)
        reasons = (*reasons, f"Blind comparison: {blind.sentence}")
    if not reasons:
        return Verdict("not shown to be better", ("Nothing outside the training's own losses was measured.",))
    if "better" in words and "worse" not in words:
        return Verdict("better", reasons)
    if "worse" in words and "better" not in words:
        return Verdict("worse", reasons)
    return Verdict("not shown to be better", reasons)


def left_out_slices(crops: Sequence[Crop], before: Fuse, after: Fuse) -> Finding | None:
    """Fuse every other slice, and compare with slices that were left out, where these are the sharpest.

    Counted are the pixels where something is in focus and the slice of most Tenengrad energy among *all* slices is one
    that was left out, between two that were not. There the left-out slice is a measurement of what the fused image
    should show: sharp, and with a noise of its own that neither model has seen. The figure is
    −10 log₁₀ mean (g − x)², in units of the stabilised guide, whose contrast is one. Which pixels count does not
    depend on either model; but a classical measure chose them, so this is no evidence in transmitted light.

    Args:
        crops: of held-out stacks.
        before: the start.
        after: the new model.

    Returns:
        None if no stack has slices enough.
    """
    rows = []
    for crop in (each for each in crops if len(each.counts) >= LEAST_SLICES):
        sharpest, where = _sharpest_left_out(crop)
        if where.sum() < _LEAST_PIXELS:
            continue
        reference = np.take_along_axis(crop.guide, sharpest[np.newaxis], axis=0)[0][where]
        figures = []
        for model in (before, after):
            fused = crop.statistics.guide([_plane(model(crop, slice(None, None, 2)).fused)])[where]
            figures.append(-10 * np.log10(np.square(fused - reference, dtype=np.float64).mean()))
        rows.append((crop.name, *figures))
    return _finding(
        "Left-out slices",
        "Every other slice of held-out stacks was fused. Where a slice that was left out is the sharpest of all, it "
        "was compared with the fused image. Stacks are the pairs.",
        "dB",
        True,
        rows,
    )


def repeats(pairs: Sequence[tuple[Crop, Crop]], before: Fuse, after: Fuse) -> Finding | None:
    """Compare heights of two acquisitions of the same field: noise and focus drift are all that changed.

    The figure is the root mean square difference of the heights after their median difference, the drift, is taken
    off; in blocks of 96 px, where all four heights are known.
    """
    rows: list[tuple[str, float, float]] = []
    doubts = []
    for first, second in pairs:
        heights = [[_height(model(crop, slice(None))) for crop in (first, second)] for model in (before, after)]
        known = _known(each for two in heights for each in two)
        doubts.append(_flattened([each[0] for each in heights], known))
        apart = [two[0] - two[1] for two in heights]
        apart = [each - np.median(each[known]) if known.any() else each for each in apart]
        rows += _blocks(first.name, apart, known)
    return _finding(
        "Repeat acquisitions",
        "The same field was taken twice. Compared are the heights of both, in blocks of 96 px of the fields named; "
        "what this says is about these fields.",
        _height_unit([first for first, _ in pairs]),
        False,
        rows,
        next((doubt for doubt in doubts if doubt), ""),
    )


def height_standard(crop: Crop, before: Fuse, after: Fuse) -> Finding | None:
    """Measure how flat the heights of a flat standard are, or of beads on a flat glass.

    The figure is the root mean square distance from the plane that fits best, in blocks of 96 px. Tilt is no error.
    """
    heights = [_height(model(crop, slice(None))) for model in (before, after)]
    known = _known(heights)
    if known.sum() < _LEAST_PIXELS:
        return None
    flat = [each - _plane_through(each, known) for each in heights]
    tilts = [float(np.ptp(_plane_through(each, known))) for each in heights]
    odd = abs(tilts[1] - tilts[0]) > max(0.2 * tilts[0], 0.5 * _step(crop))
    doubt = f"the tilt changed from {tilts[0]:.3g} to {tilts[1]:.3g}, so one of the two is wrong" if odd else ""
    return _finding(
        "Height standard",
        "A flat standard, or beads on glass: distance of the heights from the best plane, in blocks of 96 px. What "
        "this says is about this field.",
        _height_unit([crop]),
        False,
        list(_blocks(crop.name, flat, known)),
        doubt,
    )


def fuser(model: str, device: str) -> Fuse:
    """Return what fuses a crop with a model, normalised with the statistics of the whole field."""

    def fused(crop: Crop, slices: slice) -> FuseResult:
        return fuse(crop.as_stack(slices), model=model, device=device, stats=crop.statistics)

    return fused


def _sharpest_left_out(crop: Crop) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Index of the sharpest slice, Y X, and where it is one that is left out, between two that are not."""
    guide = torch.from_numpy(crop.guide)[None]
    energy = torch.cat([tenengrad(plane, SMOOTHING) for plane in guide.unbind(dim=1)])  # Z Y X
    sharpest = energy.argmax(dim=0).numpy()
    structure = has_structure(guide, torch.tensor([crop.statistics.noise]))[0].numpy()
    return sharpest, structure & (sharpest % 2 == 1) & (sharpest < len(crop.counts) - 1)


def _blocks(name: str, values: Sequence[NDArray[Any]], known: NDArray[np.bool_]) -> Iterator[tuple[str, float, float]]:
    """Yield the root mean square of both models' values, Y X each, in every block that is known well enough."""
    height, width = known.shape
    for y, x in itertools.product(range(0, height, _BLOCK), range(0, width, _BLOCK)):
        here = slice(y, y + _BLOCK), slice(x, x + _BLOCK)
        if known[here].sum() >= _LEAST_PIXELS:
            before, after = (float(np.sqrt(np.square(each[here][known[here]]).mean())) for each in values)
            yield f"{name}, y {y}, x {x}", before, after


def _known(heights: Iterable[NDArray[Any]]) -> NDArray[np.bool_]:
    """Where all heights are numbers."""
    return np.asarray(np.logical_and.reduce([np.isfinite(each) for each in heights]))


def _flattened(heights: Sequence[NDArray[Any]], known: NDArray[np.bool_]) -> str:
    before, after = (float(np.std(each[known])) if known.any() else 0.0 for each in heights)
    if after >= _SPREAD_KEPT * before:
        return ""
    return f"the heights spread less than before ({after:.3g} for {before:.3g}), and a flat surface is easily repeated"


def _plane_through(heights: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Least-squares plane, Y X."""
    y, x = np.indices(heights.shape)
    terms = np.stack([np.ones(heights.shape), y, x], axis=-1)
    solution = np.linalg.lstsq(terms[known], heights[known], rcond=None)[0]
    return np.asarray(terms @ solution, dtype=np.float64)


def _height(result: FuseResult) -> NDArray[Any]:
    height = result.height_um if result.z_um is not None else result.height_slices
    assert height is not None  # noqa: S101 - among the default products
    return _plane(height)


def _plane(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array.reshape(array.shape[-2:]))  # T C 1 Y X of one channel -> Y X


def _height_unit(crops: Sequence[Crop]) -> str:
    return "µm" if crops and all(crop.z_um is not None for crop in crops) else "slices"


def _step(crop: Crop) -> float:
    return 1.0 if crop.z_um is None else float(np.abs(np.diff(crop.z_um)).mean())


def _finding(
    title: str,
    meaning: str,
    unit: str,
    more_is_better: bool,
    rows: Sequence[tuple[str, float, float]],
    doubt: str = "",
) -> Finding | None:
    if not rows:
        return None
    names, before, after = zip(*rows, strict=True)
    return Finding(title, meaning, unit, more_is_better, names, before, after, doubt)


def _sentence(finding: Finding) -> str:
    gain = finding.gain
    assert gain is not None  # noqa: S101 - a finding has rows
    change = f"{gain.mean:+.3g} {finding.unit}"
    if gain.stacks < LEAST_PAIRS:
        return f"{change} over {gain.stacks} pair(s); {LEAST_PAIRS} are needed to tell."
    text = f"{change} (95 % interval {gain.low:+.3g} to {gain.high:+.3g}, {gain.stacks} pairs)"
    return f"{text}; it does not count, because {finding.doubt}." if finding.doubt else f"{text}: {finding.word}."
