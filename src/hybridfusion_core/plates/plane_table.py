"""All planes of a plate by field, time, channel and z, and what was acquired at all.

An index that promises the same planes for every field and time promises too much where a channel was taken at some time
points only, or where a run was ended early. What is there for no field at all was not acquired; what some fields have
and others lack is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from natsort import natsorted

from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Failure, Findings, Record

Slot = dict[int, Record]  # by z
Shot = dict[int, Slot]  # by channel
FieldKey = tuple[int, int, str]  # row, column, field


class PlaneTable:
    """All planes of a plate.

    Attributes:
        findings: that it was made from.
        listing: of the folder.
        channels: keys of the channels that were acquired, in natural order.
        never: keys of channels that the index promises and that no field has.
        fields: planes by field, time, channel and z.
        times: numbers of all time points that were acquired, in order.
        taken: times at which each channel was acquired, by its index.
        clashes: why planes are not one file each, by field, time and channel.
        failures: that the microscope reports, by field and time; None for all its times.
        repeated: how many planes are listed more than once under the same name.
    """

    def __init__(self, findings: Findings, listing: Listing) -> None:
        self.findings, self.listing = findings, listing
        self.fields: dict[FieldKey, dict[int, Shot]] = {}
        self.clashes: dict[tuple[FieldKey, int, int], list[str]] = defaultdict(list)
        self.failures: dict[tuple[FieldKey, int | None], list[Failure]] = defaultdict(list)
        self.repeated = 0
        records, self.channels, self.never = _acquired(findings)
        self._fill(records)
        self.times = sorted({time for times in self.fields.values() for time in times})
        self.taken: list[set[int]] = [set() for _ in self.channels]
        for time, shot in self.shots():
            for channel in shot:
                self.taken[channel].add(time)
        for failure in findings.failures if self.times else ():
            self._place(failure)
        self.times = sorted({time for times in self.fields.values() for time in times})

    def shots(self) -> Iterator[tuple[int, Shot]]:
        """Yield the time and the planes of every field at every time point."""
        for times in self.fields.values():
            yield from times.items()

    def not_acquired(self) -> Iterator[str]:
        """Say which channels and times are there for no field, in whole sentences."""
        index = self.findings.index
        if self.never:
            names = ", ".join(repr(self.findings.channels[key].name) for key in self.never)
            yield f"{index} lists {names}, and no file of it is there; left out, as a channel that was not acquired."
        promised = {record.time for record in self.findings.records} if index is not None else _between(self.times)
        absent = sorted(promised - set(self.times))
        if absent and self.times:
            yield (
                f"No file of time {_spans(absent)} is there for any field; left out, as time points that were not "
                "acquired. If they were, copy the missing files into the folder."
            )
        yield from self._absent_slices()
        for channel, times in enumerate(self.taken):
            if 0 < len(times) < len(self.times):
                name = self.findings.channels[self.channels[channel]].name
                yield (
                    f"Channel {name!r} was acquired at {len(times)} of {len(self.times)} time points: "
                    f"time {_spans(sorted(times))}."
                )

    def _absent_slices(self) -> Iterator[str]:
        if not self.findings.promised:
            return
        promised: dict[str, set[int]] = defaultdict(set)
        for record in self.findings.records:
            promised[record.channel].add(record.z)
        for channel, key in enumerate(self.channels):
            there = {z for _, shot in self.shots() for z in shot.get(channel, ())}
            absent = sorted(z for z in promised[key] if z > max(there, default=z))
            if absent:
                yield (
                    f"No file of z {_spans(absent)} of channel {self.findings.channels[key].name!r} is there for any "
                    "field; left out, as slices that were not acquired. If they were, copy the missing files into the "
                    "folder."
                )

    def _fill(self, records: Sequence[Record]) -> None:
        order = {key: index for index, key in enumerate(self.channels)}
        owners: dict[str, tuple[FieldKey, int, int, int]] = {}
        for record in records:
            key, channel = record[:3], order[record.channel]
            slot = self.fields.setdefault(key, {}).setdefault(record.time, {}).setdefault(channel, {})
            other = slot.setdefault(record.z, record)
            if other is not record:
                if other.file == record.file:
                    self.repeated += 1
                    continue
                both = sorted(each.file or each.named for each in (other, record))
                self.clashes[key, record.time, channel].append(f"{both[0]!r} and {both[1]!r} are both its z {record.z}")
            if record.file is not None:
                place = (key, record.time, channel, record.z)
                owner = owners.setdefault(record.file, place)
                if owner != place:
                    for each in (owner, place):
                        self.clashes[each[:3]].append(f"{record.file!r} is also another plane")

    def _place(self, failure: Failure) -> None:
        """Give a failure to its field; one that names no field, to those that other wells have and this one lacks."""
        row, column, name, time = failure[:4]
        first = self.times[0]
        if name is not None:
            times = self.fields.setdefault((row, column, name), {})
            if time is not None or not times:
                times.setdefault(first if time is None else time, {})
            self.failures[(row, column, name), time].append(failure)
            return
        for absent in {name for _, _, name in self.fields}:
            if (row, column, absent) not in self.fields:
                self.fields[row, column, absent] = {first: {}}
                self.failures[(row, column, absent), None].append(failure)


def _acquired(findings: Findings) -> tuple[list[Record], list[str], list[str]]:
    """Leave out what a general promise of the index names and no field has; return channels that are, and are not."""
    records, keys = findings.records, natsorted(findings.channels)
    if not findings.promised:
        return records, keys, []
    there = [record for record in records if record.file is not None]
    if not there:
        return records, keys, []
    shots = {(record.time, record.channel) for record in there}
    highest: dict[str, int] = {}
    for record in there:
        highest[record.channel] = max(record.z, highest.get(record.channel, record.z))
    # A stack may have been ended early, too; a slice between others was not left out in all fields alike.
    kept = [each for each in records if (each.time, each.channel) in shots and each.z <= highest[each.channel]]
    found = set(highest)
    return kept, [key for key in keys if key in found], [key for key in keys if key not in found]


def _between(times: Sequence[int]) -> set[int]:
    """Return the numbers from the first to the last time in their usual step; none where numbers are no counters."""
    steps = [after - before for before, after in pairwise(times)]
    if not steps or (times[-1] - times[0]) // min(steps) > 2 * len(times) + 10:
        return set(times)
    return set(range(times[0], times[-1] + 1, min(steps)))


def _spans(times: Sequence[int]) -> str:
    """List numbers, runs of them by their ends."""
    runs: list[list[int]] = []
    for time in times:
        if runs and time == runs[-1][-1] + 1:
            runs[-1].append(time)
        else:
            runs.append([time])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(parts[:5]) + (", …" if len(parts) > 5 else "")
