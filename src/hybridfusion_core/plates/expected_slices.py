"""How many slices every channel of a field must have, by what the whole plate shows.

What is expected follows from the evidence. An index says what was taken: all of it must be there. Names alone do not;
then every number between the first and the last of a field must be there, at every time point and in every channel
that has usually as many slices. A field that has fewer slices than others in all its channels may have been taken so:
it is fused, and a warning names it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

from hybridfusion_core.plates.plane_table import PlaneTable, Shot, Slot


class ExpectedSlices:
    """What the planes of a whole plate tell about a single field.

    Attributes:
        usual: numbers of the slices that most fields have, by channel.
    """

    def __init__(self, table: PlaneTable) -> None:
        self._table = table
        numbers: list[set[int]] = [set() for _ in table.channels]
        sets: list[Counter[frozenset[int]]] = [Counter() for _ in table.channels]
        shots: Counter[int] = Counter()
        for time, shot in table.shots():
            shots[time] += 1
            for channel, slot in shot.items():
                numbers[channel].update(slot)
                sets[channel][frozenset(slot)] += 1
        self._steps = [_step(each) for each in numbers]
        self.usual = [each.most_common(1)[0][0] if each else frozenset[int]() for each in sets]
        # A channel taken in the control wells only is expected nowhere else.
        self._common = [
            2 * sum(found.values()) > sum(shots[time] for time in taken)
            for found, taken in zip(sets, table.taken, strict=True)
        ]

    def gap(self, times: Mapping[int, Shot], time: int, channel: int, slot: Slot) -> tuple[int, int]:
        """Return how many slices of a channel are neither listed nor there, and the number of the first one.

        Args:
            times: planes of the field.
            time: at which.
            channel: index.
            slot: planes of the channel that are there or listed.
        """
        span = self._span(times, time, channel, slot)
        if span is None:
            return 0, 0
        # Counted, not listed: a damaged number may promise more slices than memory holds.
        low, high, step = *span, self._steps[channel]
        first = next((before + step for before, after in pairwise(sorted(slot)) if after - before > step), high)
        if not slot or min(slot) > low:
            first = low
        elif max(slot) < high and first == high:
            first = max(slot) + step
        return (high - low) // step + 1 - len(slot), first

    def _span(self, times: Mapping[int, Shot], time: int, channel: int, slot: Slot) -> tuple[int, int] | None:
        """Return first and last slice that a channel must have, or None if nothing is expected of it."""
        if self._table.findings.index is not None or not self._common[channel]:
            return (min(slot), max(slot)) if slot else None
        if time not in self._table.taken[channel]:
            return None
        alike = [
            other
            for other in range(len(self.usual))
            if self._common[other] and self.usual[other] == self.usual[channel]
        ]
        found = [z for shot in times.values() for other in alike for z in shot.get(other, ())] or self.usual[channel]
        return min(found), max(found)


def _step(numbers: Iterable[int]) -> int:
    """Return the largest step that reaches all numbers from the first one."""
    ordered = sorted(numbers)
    return math.gcd(*(after - before for before, after in pairwise(ordered))) or 1
