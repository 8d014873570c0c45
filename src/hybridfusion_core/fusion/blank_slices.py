"""Slices that hold nothing: constant or saturated throughout, as a camera error or a closed shutter leaves them.

A small weight times a huge value shines through an average, so such slices get none, in every method that decides. A
projection (mean, max, sum) is what it says, of all slices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.tiles import blocks
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.stack import Stack

_TOLERANCE = 1e-5  # of a slice's pixels may be darker than the rest: pixels that never saturate
_GLANCE = 32  # px around the middle
_BITS = (8, 10, 12, 14, 16)  # of cameras


class BlankSlices:
    """Watches the pixels of one time point while they are read.

    Args:
        area: pixels of a plane.
    """

    def __init__(self, area: int) -> None:
        self._allowed = area * _TOLERANCE
        self._value: dict[tuple[int, int], float] = {}
        self._darker: dict[tuple[int, int], float] = {}

    def add(self, channel: int, number: int, counts: NDArray[Any]) -> None:
        """Look at a part of a slice.

        Args:
            channel: index of C.
            number: index of Z.
            counts: Y X.
        """
        key = channel, number
        if self.settled(channel, number):  # as nearly every slice is after its first block
            return
        darker = self._darker.get(key, 0.0)
        top = counts.max()
        value = self._value.setdefault(key, top)
        self._darker[key] = darker + np.count_nonzero(counts != value) if top <= value else np.inf

    def settled(self, channel: int, number: int) -> bool:
        """Whether a slice is known to hold something."""
        return self._darker.get((channel, number), 0.0) > self._allowed

    def applied(self, job: Job, decider: Decider, statistics: FieldStatistics) -> FieldStatistics:
        """Write down which slices get no weight; never all of them."""
        dropped = self.without_guide(job, decider)
        also = [
            (channel, number)
            for channel in decider.serves
            for number in self._saturated(channel, job)
            if number not in dropped
        ]
        return replace(statistics, blank=tuple(sorted(dropped)), blank_of=tuple(sorted(also)))

    def without_guide(self, job: Job, decider: Decider, *, in_any: bool = False) -> frozenset[int]:
        """Indices of Z of the slices that are blank in all channels that decide, or in any; never all slices."""
        blank = [{number for number in job.slices if self._is_blank(channel, number)} for channel in decider.guide]
        found = frozenset(set.union(*blank) if in_any else set.intersection(*blank))
        return found if len(found) < len(job.slices) else frozenset()

    def _saturated(self, channel: int, job: Job) -> frozenset[int]:
        """Slices of one channel at the most that a camera counts: a black one may well be right there."""
        found = {
            number
            for number in job.slices
            if self._is_blank(channel, number) and is_saturation(self._value[channel, number])
        }
        return frozenset(found) if len(found) < len(job.slices) else frozenset()

    def _is_blank(self, channel: int, number: int) -> bool:
        return self._darker.get((channel, number), np.inf) <= self._allowed


def with_blank_slices(
    job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]]
) -> list[list[FieldStatistics]]:
    """Add the blank slices of a stack to statistics that were measured on other fields.

    Few pixels are read: the middle of a slice nearly always shows that it holds something.

    Args:
        job: what to do.
        stack: what will be fused.
        statistics: for each time point, one for each decider.
    """
    found = []
    for t, of_frame in enumerate(statistics):
        pairs = zip(job.deciders, of_frame, strict=False)  # none of a projection
        found.append([_seen(job, stack, t, decider).applied(job, decider, known) for decider, known in pairs])
    return found


def _seen(job: Job, stack: Stack, t: int, decider: Decider) -> BlankSlices:
    plane = stack.shape[3:]
    blank = BlankSlices(math.prod(plane))
    middle = tuple(slice(max(0, size // 2 - _GLANCE), size // 2 + _GLANCE) for size in plane)
    places = [middle, *((core.y.core, core.x.core) for core in blocks(plane, job.plan.block, job.geometry))]
    for channel, number in itertools.product(sorted({*decider.guide, *decider.serves}), job.slices):
        for y, x in places:
            blank.add(channel, number, stack.read(t, channel, [number], y, x)[0])
            if blank.settled(channel, number):
                break
    return blank


def is_saturation(value: Any) -> bool:
    """Whether a value is the most that a camera of some bits, or its integer type, can count."""
    dtype = np.asarray(value).dtype
    return dtype.kind in "iu" and (int(value) in {2**bits - 1 for bits in _BITS} or value == np.iinfo(dtype).max)


def kept_slices(job: Job, statistics: FieldStatistics) -> list[int]:
    """Positions in the job's slices of those that take part in a decision."""
    return [position for position, number in enumerate(job.slices) if number not in statistics.blank]


def blank_warnings(job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]]) -> list[str]:
    """Say which slices get no weight, one sentence for each decision and time point."""
    said = []
    for t, of_frame in enumerate(statistics):
        when = f" at time point {t}" if stack.shape[0] > 1 else ""
        for decider, found in zip(job.deciders, of_frame, strict=False):
            by_channel = {
                channel: {number for of, number in found.blank_of if of == channel} for channel in decider.serves
            }
            groups = [(decider.guide, found.blank), *(((channel,), numbers) for channel, numbers in by_channel.items())]
            for channels, numbers in groups:
                if numbers:
                    said.append(_sentence(stack, channels, numbers, when))
    return said


def _sentence(stack: Stack, channels: Sequence[int], numbers: Collection[int], when: str) -> str:
    listed = ", ".join(str(number + 1) for number in sorted(numbers))
    of = "" if stack.rgb or stack.shape[1] == 1 else f" of {', '.join(stack.channels[each].name for each in channels)}"
    one = len(numbers) == 1
    return (
        f"Slice{'' if one else 's'} {listed}{of}{when} (counted from 1) {'is' if one else 'are'} constant or saturated "
        f"throughout and {'gets' if one else 'get'} no weight."
    )


def blank_of(job: Job, statistics: FieldStatistics, channel: int) -> list[int]:
    """Positions in the job's slices of those that are blank in one channel alone."""
    return [job.slices.index(number) for of, number in statistics.blank_of if of == channel]
