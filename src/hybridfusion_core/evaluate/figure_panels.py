"""Pictures of a stack: crops in full resolution where the methods differ most, decision, height and confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from hybridfusion_core.evaluate.cases import Case
from hybridfusion_core.evaluate.methods import MEAN, NETWORK, TENENGRAD, Outcome
from hybridfusion_core.evaluate.scores import Scored
from hybridfusion_core.view.pixels import Picture, coloured, grey

_CROP = 128  # px
_SMOOTH = 1.0  # px
_WIDEST = 384  # px; side of a map, which is thinned out to fit
_KEPT = 3  # stacks of a group that are shown


@dataclass(frozen=True)
class Look:
    """One stack as it is shown.

    Attributes:
        name: of the stack.
        where: Y and X of the crops' first pixel.
        crops: one per method, the truth first, one grey scale for all.
        maps: decision, height and confidence of the network and of Tenengrad, the whole plane.
        difference: how much the methods differ there, in parts of the image's range.
    """

    name: str
    where: tuple[int, int]
    crops: tuple[Picture, ...]
    maps: tuple[Picture, ...]
    difference: float


def look_at(case: Case, scored: Scored) -> Look:
    """Draw a stack; of several channels the first."""
    images = {name: outcome.fused[0].astype(np.float64) for name, outcome in scored.outcomes.items()}
    if case.truth is not None:
        images = {"truth": case.truth[0].astype(np.float64), **images}
    low, high = np.percentile(images[NETWORK], (0.5, 99.8))
    span = float(high - low) or 1.0
    compared = [image for name, image in images.items() if name != MEAN]
    where, difference = _most_different(compared, _structure(case, scored))
    cut = tuple(slice(start, start + _CROP) for start in where)
    crops = [Picture(name, grey(image[cut], float(low), span)) for name, image in images.items()]
    maps = [picture for name in (NETWORK, TENENGRAD) for picture in _maps(name, scored.outcomes[name], case.slices)]
    if case.height is not None:
        maps.insert(0, Picture("true height", coloured(_thin(case.height), case.slices - 1)))
    return Look(case.name, where, tuple(crops), tuple(maps), difference / span)


def most_telling(looks: list[Look]) -> list[Look]:
    """The few stacks about which the methods differ most."""
    return sorted(looks, key=lambda look: -look.difference)[:_KEPT]


def _structure(case: Case, scored: Scored) -> NDArray[np.bool_]:
    """Where there is something to see: elsewhere methods differ by which slice's noise they keep."""
    if case.textured is not None:
        return case.textured
    decision = scored.outcomes[TENENGRAD].decision
    assert decision is not None  # noqa: S101 - Tenengrad always decides
    return np.asarray(decision > 0)


def _most_different(images: list[NDArray[np.float64]], structure: NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """Corner of the crop in which the images' standard deviation between each other is largest, and its mean there.

    Images are smoothed a little first, because keeping the noise of one slice or averaging that of many is no
    difference worth a look; only structure counts.
    """
    apart = np.std([gaussian_filter(image, _SMOOTH) for image in images], axis=0) * structure
    smooth = uniform_filter(apart, _CROP, mode="constant") if min(apart.shape) >= _CROP else apart
    # Crops that reach beyond the plane are moved inwards.
    y, x = np.unravel_index(int(smooth.argmax()), smooth.shape)
    corner = [max(0, min(int(at) - _CROP // 2, size - _CROP)) for at, size in zip((y, x), apart.shape, strict=True)]
    cut = tuple(slice(start, start + _CROP) for start in corner)
    return (corner[0], corner[1]), float(apart[cut].mean())


def _maps(name: str, outcome: Outcome, slices: int) -> list[Picture]:
    found = []
    if outcome.decision is not None:
        decision = outcome.decision.astype(np.float64) - 1
        decision[outcome.decision == 0] = np.nan
        found.append(Picture(f"{name}: decision", coloured(_thin(decision), slices - 1)))
    if outcome.height is not None:
        found.append(Picture(f"{name}: height", coloured(_thin(outcome.height), slices - 1)))
    # In a pair every slice is a neighbour of the chosen one: the sum over neighbours is always 1.
    if outcome.confidence is not None and slices > 2:
        found.append(Picture(f"{name}: confidence", coloured(_thin(outcome.confidence), 1, "magma")))
    return found


def _thin(plane: NDArray[Any]) -> NDArray[Any]:
    step = -(-max(plane.shape) // _WIDEST)
    return plane[::step, ::step]
