"""Where the slices of a stack lie: measured on the channels that decide, and kept only where that improves the stack.

First on small copies of whole planes, which finds large drifts; then at full resolution in windows spread over the
plane, each read where the first look says that its structures are. What is measured in three quarters of the
plane has to make slices agree better in the fourth, each in turn; otherwise nothing is moved.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.progress import Progress
from hybridfusion_core.registration.chain import solve
from hybridfusion_core.registration.likeness import half_diagonal
from hybridfusion_core.registration.overview import Read, binning, first_places, small_copies
from hybridfusion_core.registration.placement import Kind, Placement, Slice, is_drift
from hybridfusion_core.registration.windows import Relations, View, restricted

Floats = NDArray[np.float64]

_LEAST = 32  # px, of the shorter side of a small copy
_GAIN = 4.0  # standard deviations of chance by which the log-likelihood outside has to grow
_LEAST_CHANCE = 8.0  # however small the places are: blur that is not even seems to move things by parts of a pixel
_FINER = 4.0  # by which it has to grow to take more numbers for each slice
_SHARE = 0.25  # of the field, that slices may lie apart
_PASSES = 2


@dataclass(frozen=True)
class Guide:
    """What is looked at.

    Attributes:
        read: gives the guide of slices, rows and columns, Z Y X float32 without NaN.
        slices: that are fused.
        plane: Y and X.
        name: of the stack.
    """

    read: Read
    slices: tuple[int, ...]
    plane: tuple[int, int]
    name: str


def measure_placement(guides: Sequence[Guide], kind: Kind, depth: int) -> Generator[Progress, None, Placement]:
    """Measure where slices lie, yielding between reads.

    Args:
        guides: one for each time point.
        kind: what to take back: "shift", or "similarity", which becomes "shift" where that is as good.
        depth: how many slices the stack has.

    Returns:
        (on exhaustion) the placement; of kind "none" if no correction improved anything.

    Raises:
        UserInputError: slices lie more than a quarter of the field apart.
    """
    found: list[_Found] = []
    pixels = math.prod(guides[0].plane) * len(guides[0].slices)
    for t, guide in enumerate(guides):
        measured = _measured(guide, kind)
        while True:
            try:
                share = next(measured)
            except StopIteration as end:
                found.append(end.value)
                break
            yield Progress("aligning", round(pixels * (t + share)), pixels * len(guides))
    kinds = {each.kind for each in found}
    taken: Kind = next((name for name in ("similarity", "shift") if name in kinds), "none")
    slices = guides[0].slices
    return Placement(
        taken,
        depth,
        guides[0].plane,
        slices[len(slices) // 2],
        tuple(each.slices for each in found),
        sum(each.gain for each in found),
    )


@dataclass(frozen=True)
class _Found:
    kind: Kind
    slices: dict[int, Slice]
    gain: float


def _measured(guide: Guide, kind: Kind) -> Generator[float, None, _Found]:
    """Measure one time point, yielding the share that is done."""
    count, middle = len(guide.slices), len(guide.slices) // 2
    copies = None
    for rows, copies in small_copies(guide.read, guide.slices, guide.plane):  # noqa: B007 - the last one is whole
        yield 0.5 * rows / guide.plane[0]
    if copies is None or min(copies.shape[1:]) < _LEAST or count < 2:
        return _still(guide)
    places = np.zeros((count, 4))
    places[:, :2] = first_places(copies, middle) * binning(guide.plane)
    _refuse_far(guide, places)
    for number in range(_PASSES):  # the second one reads where the first one found
        view = View(guide.plane, places, shift=kind == "shift")
        for share in view.reading(guide.read, guide.slices):
            yield 0.5 + (number + share) / (2 * _PASSES)
        relations = view.relations(places, middle)
        places = solve(count, middle, relations)
        _refuse_far(guide, places)
    return _best(view, guide, relations, kind)


def _still(guide: Guide) -> _Found:
    return _Found("none", {z: Slice() for z in guide.slices}, 0.0)


def _best(view: View, guide: Guide, relations: Relations, kind: Kind) -> _Found:
    """Choose what improves the quarters of the plane in which it was not measured; the fewer numbers, where as good."""
    count, middle = len(guide.slices), len(guide.slices) // 2
    models = ("shift",) if kind == "shift" else ("shift", "breathing", "similarity")

    def solved(model: str, found: Relations) -> Floats:
        if model == "shift":
            return solve(count, middle, restricted(found))
        return solve(count, middle, found, breathing=model == "breathing")

    scores = dict.fromkeys(("none", *models), 0.0)
    for inside, outside in view.folds():
        found = view.relations(view.places, middle, inside)
        scores["none"] += view.agreement(np.zeros((count, 4)), outside)
        for model in models:
            scores[model] += view.agreement(solved(model, found), outside)
    taken = models[0]
    for model in models[1:]:
        taken = model if scores[model] > scores[taken] + _FINER else taken
    places = solved(taken, relations)
    if scores[taken] < scores["none"] + _GAIN * max(view.chance(places), _LEAST_CHANCE):
        return _still(guide)
    slices = {z: _slice(each, guide.plane) for z, each in zip(guide.slices, places, strict=True)}
    if not any(is_drift(each, guide.plane) for each in slices.values()):
        return _still(guide)
    slices[guide.slices[middle]] = Slice()
    return _Found("shift" if taken == "shift" else "similarity", slices, scores[taken] - scores["none"])


def _slice(place: Floats, plane: tuple[int, int]) -> Slice:
    dy, dx, m, n = (float(each) for each in place)
    m, n = 1 + m / half_diagonal(plane), n / half_diagonal(plane)
    scale, angle = (math.hypot(m, n), math.degrees(math.atan2(n, m))) if place[2:].any() else (1.0, 0.0)
    return Slice(round(dy, 4), round(dx, 4), round(scale, 7), round(angle, 6))


def _refuse_far(guide: Guide, places: Floats) -> None:
    apart = np.ptp(places[:, :2], axis=0)
    if (apart > _SHARE * np.array(guide.plane)).any():
        z = guide.slices[int(np.abs(places[:, :2]).max(axis=1).argmax())]
        raise UserInputError(
            f"{guide.name}: slices seem to lie up to {apart.max():.0f} px apart, slice {z} farthest; expected at most "
            "a quarter of the field, beyond which too little is shared to measure it. Leave slices of another place "
            "out with --z, or fuse with --align none."
        )
