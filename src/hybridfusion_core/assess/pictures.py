"""What a page shows of an assessment: one tile in pictures, and two curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridfusion_core.assess.content import least_apart, two_surfaces
from hybridfusion_core.assess.looked_at import LookedAt
from hybridfusion_core.assess.repeatability import Repeated
from hybridfusion_core.view.pixels import Picture, coloured, grey, limits

_TWO = np.array([230, 60, 60], dtype=np.uint8)


@dataclass(frozen=True)
class Curve:
    """Points of a diagram, all in [0, 1].

    Attributes:
        title: what it shows.
        across: what goes across.
        points: x, y and weight.
        bars: drawn as bars from below, otherwise as discs beside a diagonal.
    """

    title: str
    across: str
    points: tuple[tuple[float, float, float], ...]
    bars: bool

    @classmethod
    def of_promises(cls, repeated: Repeated) -> Curve:
        """What confidence promises, and what two halves of the photons kept."""
        most = max((count for count, *_ in repeated.curve), default=1)
        points = tuple((promised, kept, count / most) for count, promised, kept in repeated.curve)
        return cls("Decisions that two halves of the photons share (up)", "what the confidence promises", points, False)


def sharpest_by_slice(seen: LookedAt) -> Curve:
    """Which slices what is in focus lies in."""
    count = len(seen.slices)
    share = np.zeros(count)
    for tile in seen.tiles:
        share += np.bincount(tile.posterior.argmax(axis=0)[tile.in_focus], minlength=count)
    top = max(float(share.max()), 1.0)
    points = tuple(((index + 0.5) / count, float(value / top), 1 / count) for index, value in enumerate(share))
    return Curve("Where what is in focus is sharpest (up)", f"slices 1 to {count}", points, True)


def pictures_of(seen: LookedAt) -> tuple[Picture, ...]:
    """The tile with most in focus: a slice, the fused image, the decision, what is in focus and what has two layers."""
    tile = max(seen.tiles, key=lambda each: int(each.in_focus.sum()))
    kept = [seen.job.slices.index(int(index)) for index in seen.slices]
    counts = tile.counts[seen.decider.guide[0]][kept].astype(np.float32)
    low, high = limits(tile.fused)
    sharpest = int(tile.energy.sum(axis=(1, 2)).argmax())
    decision = np.where(tile.in_focus, tile.posterior.argmax(axis=0), np.nan)
    shown = np.repeat(grey(tile.fused, low, high - low)[..., None], 3, axis=-1)
    shown[~tile.in_focus] //= 3
    if len(seen.slices) > 3 and not seen.transmitted:
        shown[two_surfaces(tile, least_apart(seen)) & tile.in_focus & tile.structure] = _TWO
    place = f"y = {tile.rect.y.start}, x = {tile.rect.x.start}"
    return (
        Picture(
            f"slice {int(seen.slices[sharpest]) + 1}, the sharpest ({place})", grey(counts[sharpest], low, high - low)
        ),
        Picture("fused", grey(tile.fused, low, high - low)),
        Picture("maximum of the slices", grey(counts.max(axis=0), low, high - low)),
        Picture("decision: dark is the first slice", coloured(decision, max(len(seen.slices) - 1, 1))),
        Picture("in focus (dark: nothing is; red: two layers)", shown),
    )
