"""A blind comparison: crops fused by both models, side by side in an order that nobody knows, for a person to choose.

Makes the crops and scores the answers; the caller must show nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import binomtest

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.view.pixels import grey

Answer = Literal["left", "right", "same"]

CROPS = 20
_SIDE = 128  # px
_APART = 1e-6  # of the range; crops that differ less show nothing


@dataclass(frozen=True)
class BlindCrop:
    """Two pictures of the same place.

    Attributes:
        left: Y X, uint8, one grey scale for both.
        right: likewise.
        new_is_left: which one the new model made.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    new_is_left: bool


@dataclass(frozen=True)
class BlindScore:
    """How often the new model was preferred.

    Attributes:
        preferred: answers for the new model.
        decided: answers for either.
        shown: all answers, "same" among them.
        low: lower end of the exact 95 % interval of the share (Clopper & Pearson 1934).
        high: its upper end.
    """

    preferred: int
    decided: int
    shown: int
    low: float
    high: float

    @property
    def word(self) -> Literal["better", "worse", "not shown to be better"]:
        """What the answers say: chance is one half."""
        if self.low > 0.5:
            return "better"
        return "worse" if self.high < 0.5 else "not shown to be better"

    @property
    def sentence(self) -> str:
        """The answers in words."""
        if not self.decided:
            return "no pair was decided: not shown to be better."
        return (
            f"the new model was preferred in {self.preferred} of {self.decided} pairs that were decided (95 % interval "
            f"{100 * self.low:.0f} % to {100 * self.high:.0f} %; 50 % is chance): {self.word}."
        )


def blind_crops(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], generator: Generator, count: int = CROPS
) -> tuple[BlindCrop, ...]:
    """Cut crops where the two differ most, in a random order and on random sides.

    Args:
        pairs: of the same stack, fused by the start and by the new model, Y X each.
        generator: source of all randomness; the person who answers must not know its seed.
        count: of crops, at most.

    Returns:
        As many as there are places that differ, at most `count`; no two overlap.
    """
    places = [(change, index, y, x) for index, pair in enumerate(pairs) for change, y, x in _places(*pair)]
    chosen = sorted(places, reverse=True)[:count]
    crops = []
    for place in generator.permutation(len(chosen)):
        _, index, y, x = chosen[place]
        cut = slice(y, y + _SIDE), slice(x, x + _SIDE)
        before, after = (image[cut] for image in pairs[index])
        low, high = (float(each) for each in np.percentile(before, (0.5, 99.8)))
        start, new = (grey(image.astype(np.float64), low, (high - low) or 1.0) for image in (before, after))
        left = bool(generator.integers(2))
        crops.append(BlindCrop(new if left else start, start if left else new, left))
    return tuple(crops)


def score_answers(crops: Sequence[BlindCrop], answers: Sequence[Answer]) -> BlindScore:
    """Count the answers; "same" decides nothing.

    Raises:
        UserInputError: not one answer for each crop.
    """
    if len(answers) != len(crops):
        raise UserInputError(
            f"There are {len(answers)} answers for {len(crops)} pairs of pictures; expected one for each. Answer the "
            "others too; 'same' is an answer."
        )
    decided = [(crop, answer) for crop, answer in zip(crops, answers, strict=True) if answer != "same"]
    preferred = sum((answer == "left") == crop.new_is_left for crop, answer in decided)
    if not decided:
        return BlindScore(0, 0, len(answers), 0.0, 1.0)
    interval = binomtest(preferred, len(decided)).proportion_ci(0.95, method="exact")
    return BlindScore(preferred, len(decided), len(answers), float(interval.low), float(interval.high))


def _places(before: NDArray[Any], after: NDArray[Any]) -> list[tuple[float, int, int]]:
    """Change and corner of every crop of a grid in which the pictures differ, in parts of the range."""
    span = float(np.ptp(before)) or 1.0
    change = np.abs(after.astype(np.float64) - before.astype(np.float64)) / span
    change = uniform_filter(change, 3)  # single pixels are noise
    height, width = change.shape
    found = []
    for y in range(0, max(height - _SIDE, 0) + 1, _SIDE):
        for x in range(0, max(width - _SIDE, 0) + 1, _SIDE):
            mean = float(change[y : y + _SIDE, x : x + _SIDE].mean())
            if mean > _APART:
                found.append((mean, y, x))
    return found
