"""Decisions corrected by hand: the painted slice where something was painted, and a soft border around it.

A corrected result says so of every pixel, in a map of its own, and never claims a confidence for what a person decided.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.fusion.products import PRODUCTS, Painted
from hybridfusion_core.fusion.projections import to_dtype
from hybridfusion_core.fusion.tiles import Rect, blocks
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack

UNTOUCHED = -1  # in `Correction.painted`
_BORDER = 8.0  # px over which a correction fades out


@dataclass(frozen=True)
class Correction:
    """What was painted on one decision of one time point.

    Attributes:
        t: time point.
        decision: index along C of the decision.
        y: first row of what was painted.
        x: its first column.
        painted: Y X, integers: number of the slice, counted from 1; 0 where nothing is in focus; `UNTOUCHED`
            where the decision stays as it is.
    """

    t: int
    decision: int
    y: int
    x: int
    painted: NDArray[np.integer[Any]]


def corrected_spec(job: Job, spec: ResultSpec, corrections: Sequence[Correction]) -> ResultSpec:
    """Say what a result is once it has been corrected: one more map for each decision, and what was painted.

    The map "corrected" is 1 where the painted slice stands, 0 where nothing was changed, and between them in the
    soft border the share of the painted slice.

    Raises:
        UserInputError: the result has no decision, or a slice was painted that was not fused.
    """
    _check(job, spec, corrections)
    several = len(spec.decision_channels) > 1
    more = [MapChannel("corrected", (0.0, 1.0), of=of if several else None) for of in spec.decision_channels]
    record = [
        {
            "t": each.t,
            "decision": spec.decision_channels[each.decision],
            "pixels": int(np.count_nonzero(each.painted != UNTOUCHED)),
            "slices": [int(number) for number in np.unique(each.painted) if number != UNTOUCHED],
        }
        for each in corrections
    ]
    return replace(
        spec,
        maps=(*spec.maps, *more),
        provenance={**spec.provenance, "corrections": {"border_px": _BORDER, "painted": record}},
    )


def correct(
    job: Job,
    stack: Stack,
    spec: ResultSpec,
    arrays: Mapping[str, Any],
    corrections: Sequence[Correction],
    into: Mapping[str, Any],
) -> Generator[Progress]:
    """Copy a result block by block, with its decisions corrected.

    A painted pixel is the pixel of the painted slice, bit for bit; its height is that slice's, its noise gain 1, its
    confidence NaN. Painted 0 takes decision, height and confidence away and leaves the fused pixel. In the border of
    8 px the fused pixel goes over smoothly, and what explains the rest stays.

    Args:
        job: as the result was made.
        stack: what it was made of.
        spec: of the result, with a decision.
        arrays: of the result, "fused", "decision" and, if it has any, "maps": T C 1 Y X, NumPy or dask.
        corrections: what was painted.
        into: arrays of `corrected_spec`; whole blocks are assigned to them.
    """
    made = [_faded(each) for each in corrections if (each.painted != UNTOUCHED).any()]
    positions = np.arange(stack.shape[2]) if stack.z_um is None else stack.z_um
    frames, plane = spec.shape[0], spec.shape[2:]
    done, total = 0, frames * plane[0] * plane[1] * len(job.slices)
    for t, core in itertools.product(range(frames), blocks(plane, job.plan.block, job.geometry)):
        at = (t, slice(None), 0, core.y.core, core.x.core)
        block = {name: np.array(array[at]) for name, array in arrays.items()}
        shape = block["decision"].shape[1:]
        shares = np.zeros((len(spec.decision_channels), *shape), dtype=np.float32)
        for fade in made:
            if fade.of.t == t and (overlap := fade.cut(core)) is not None:
                _apply(job, stack, spec, fade, overlap, positions, block, shares)
        block["maps"] = np.concatenate([block["maps"], shares]) if spec.maps else shares
        for name, values in block.items():
            into[name][at] = values
        done += shape[0] * shape[1] * len(job.slices)
        yield Progress("correcting", done, total)


@dataclass(frozen=True)
class _Overlap:
    """The same rectangle in the plane, in a block and in a fade."""

    plane: tuple[slice, slice]
    block: tuple[slice, slice]
    fade: tuple[slice, slice]


@dataclass(frozen=True)
class _Fade:
    """A correction with its border.

    Attributes:
        of: the correction, cut to what was painted.
        y: first row, may be negative.
        x: first column.
        share: Y X in [0, 1], of the nearest painted slice.
        number: Y X, of that slice; 0 where nothing is in focus.
    """

    of: Correction
    y: int
    x: int
    share: NDArray[np.float32]
    number: NDArray[np.integer[Any]]

    def cut(self, core: Rect) -> _Overlap | None:
        parts = []
        for span, first, length in zip((core.y, core.x), (self.y, self.x), self.share.shape, strict=True):
            low, high = max(span.start, first), min(span.stop, first + length)
            if low >= high:
                return None
            parts.append([slice(low - origin, high - origin) for origin in (0, span.start, first)])
        (y, x) = parts
        return _Overlap((y[0], x[0]), (y[1], x[1]), (y[2], x[2]))


def _faded(correction: Correction) -> _Fade:
    """Let a correction reach beyond what was painted, ever less."""
    reach = int(_BORDER)
    rows, columns = (np.flatnonzero((correction.painted != UNTOUCHED).any(axis=axis)) for axis in (1, 0))
    y, x = int(rows[0]), int(columns[0])
    painted = correction.painted[y : rows[-1] + 1, x : columns[-1] + 1]
    padded = np.pad(painted, reach, constant_values=UNTOUCHED)
    distance, nearest = distance_transform_edt(padded == UNTOUCHED, return_indices=True)
    number = padded[tuple(nearest)]
    linear = np.clip(1 - distance / _BORDER, 0, 1)
    share = np.asarray(linear * linear * (3 - 2 * linear), dtype=np.float32)
    cut = replace(correction, y=correction.y + y, x=correction.x + x, painted=painted)
    return _Fade(cut, cut.y - reach, cut.x - reach, share, number)


def _apply(
    job: Job,
    stack: Stack,
    spec: ResultSpec,
    fade: _Fade,
    overlap: _Overlap,
    positions: NDArray[Any],
    block: dict[str, NDArray[Any]],
    shares: NDArray[np.float32],
) -> None:
    """Change a block's arrays, C Y X each, where a correction reaches."""
    share, number = fade.share[overlap.fade], fade.number[overlap.fade]
    painted, here = share == 1, (fade.of.decision, *overlap.block)
    share = np.where(number > 0, share, 0)
    for position, channel in enumerate(job.channels):
        if job.decision_count == 1 or position == fade.of.decision:
            target = block["fused"][(position, *overlap.block)]
            for one in np.unique(number[share > 0]):
                counts = stack.read(fade.of.t, channel, [int(one) - 1], *overlap.plane)[0]
                _blend(target, counts, np.where(number == one, share, 0))
    shares[here] = np.maximum(shares[here], np.where(painted, 1, share))
    block["decision"][here][painted] = number[painted]
    # Position of every slice, and none for "nothing in focus".
    heights = np.array([np.nan, *positions])
    said = Painted(painted, share, heights[number])
    count = len(spec.decision_channels)
    for index, each in enumerate(spec.maps):
        if index % count == fade.of.decision and each.product in PRODUCTS:
            PRODUCTS[each.product].corrected(block["maps"][(index, *overlap.block)], said)


def _blend(fused: NDArray[Any], counts: NDArray[Any], share: NDArray[np.floating[Any]]) -> None:
    """Let a slice have its share of a fused image in place, Y X each; NaN and infinite pixels have none."""
    mixed = (share > 0) & np.isfinite(counts)
    old, new, part = (values[mixed].astype(np.float64) for values in (fused, counts, share))
    whole = part == 1
    fused[mixed] = np.where(whole, counts[mixed].astype(fused.dtype), to_dtype(old + part * (new - old), fused.dtype))


def _check(job: Job, spec: ResultSpec, corrections: Sequence[Correction]) -> None:
    if not spec.decision_channels:
        raise UserInputError(
            "This result has no decision to correct; expected one. Fuse again, with the decision among its products."
        )
    if spec.depth > 1:
        raise UserInputError(
            f"This result has {spec.depth} planes along Z, of slabs or of two surfaces; expected one, to correct its "
            "decision by hand. Fuse without --slab, and with one surface."
        )
    known = {0, UNTOUCHED, *(index + 1 for index in job.slices)}
    for each in corrections:
        unknown = sorted({int(number) for number in np.unique(each.painted)} - known)
        if unknown:
            numbers = [index + 1 for index in job.slices]
            raise UserInputError(
                f"Slice {unknown[0]} was painted; expected one of those that were fused, {numbers[0]} to "
                f"{numbers[-1]}, or 0 for nothing in focus. Paint over it with another number."
            )
