"""What is in the picture: what is in focus, what is not, and where there are two surfaces behind each other."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.limits import LEAST_IN_FOCUS
from hybridfusion_core.assess.looked_at import LookedAt, Tile
from hybridfusion_core.assess.sampling import sharpness_left

_TWO = 0.15  # share of what is in focus above which two surfaces are warned of
_LEAST_ASKED = 0.02  # of the pixels; rings around a lone bead are no layer
_APART = 3  # slices between two surfaces, at least
_PEAKS = 2.5  # standard deviations of a pixel's own focus curve, likewise
_SECOND = 0.3  # of the first one's sharpness
_VALLEY = 0.6  # of the second one's sharpness, between them


def judge_content(seen: LookedAt, found: Findings) -> None:
    """Count what is in focus, in nothing and in two surfaces."""
    focused = float(np.mean(np.concatenate([tile.in_focus.ravel() for tile in seen.tiles])))
    found.add(
        "in_focus",
        100 * focused,
        "% of the pixels",
        "what the specimen covers",
        f"Something is in focus in {focused:.1%} of the pixels; elsewhere is background or blur, which has no height.",
    )
    if focused < LEAST_IN_FOCUS:
        found.warn(
            "nothing_in_focus",
            "in_focus",
            "Nothing is in focus in any slice: the field is empty, or the focus was elsewhere. There is nothing to "
            "fuse.",
        )
        return
    if seen.transmitted or len(seen.slices) <= _APART:
        return  # contrast of transmitted light is strong on both sides of one focus
    doubled, all_of_them, apart = 0, 0, least_apart(seen)
    for tile in seen.tiles:
        asked = tile.in_focus & tile.structure
        doubled += int((two_surfaces(tile, apart) & asked).sum())
        all_of_them += int(asked.sum())
    if all_of_them < _LEAST_ASKED * sum(tile.in_focus.size for tile in seen.tiles):
        return
    share = doubled / all_of_them
    found.add(
        "two_surfaces",
        100 * share,
        "% of what is in focus",
        f"below {100 * _TWO:g}",
        f"{share:.0%} of what is in focus has a second sharp layer at another height.",
    )
    if share > _TWO:
        found.warn(
            "two_surfaces",
            "two_surfaces",
            f"{share:.0%} of what is in focus has a second sharp layer behind the first. One picture and one height "
            "show one "
            "of them: fuse each layer from its own slices (--z), or measure in 3-D.",
        )


def least_apart(seen: LookedAt) -> int:
    """Slices between two surfaces that are two: more where slices lie close, from how fast sharpness falls."""
    left = sharpness_left(seen)
    if left is None:
        return _APART
    width = math.sqrt(-0.5 / math.log(min(max(left, 1e-3), 0.99)))
    return max(_APART, math.ceil(_PEAKS * width))


def two_surfaces(tile: Tile, apart: int) -> NDArray[np.bool_]:
    """Where sharpness has two peaks along Z, so many slices apart, with a valley between them: Y X."""
    energy = tile.energy
    best = energy.argmax(axis=0)
    peak = energy.max(axis=0)
    found = np.zeros(best.shape, dtype=bool)
    for direction in (1, -1):
        along = energy if direction == 1 else energy[::-1]
        first = best if direction == 1 else len(energy) - 1 - best
        valley = np.full(best.shape, np.inf, dtype=np.float32)
        for z in range(len(along)):
            beyond = z >= first + apart
            found |= beyond & (along[z] > _SECOND * peak) & (valley < _VALLEY * along[z])
            valley = np.where(z > first, np.minimum(valley, along[z]), valley)
    return found
