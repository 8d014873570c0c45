"""Turn single planes into wells, fields and time points, and name every plane that is not there.

What is expected follows from the evidence. An index says what was taken: all of it must be there. Names alone do not;
then every number between the first and the last of a field must be there, at every time point and in every channel
that has usually as many slices. A field that has fewer slices than others in all its channels may have been taken so:
it is fused, and a warning names it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from natsort import natsorted

from hybridfusion_core.plates.layouts.table import Layout
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Failure, Findings, Record
from hybridfusion_core.plates.plate import Defect, Field, Frame, Imaging, Plane, Plate, Well
from hybridfusion_core.plates.well_names import plate_size, row_letters
from hybridfusion_core.stack import Axis

Slot = dict[int, Record]  # by z
Shot = dict[int, Slot]  # by channel
FieldKey = tuple[int, int, str]  # row, column, field
_MOST_ABSENT_TIMES = 10_000  # time points that may be absent in one field; numbers beyond it are no time points
_SHOWN = 5


def assemble(findings: Findings, listing: Listing, layout: Layout) -> Plate:
    """Describe a plate whose planes have a file each.

    Args:
        findings: planes in any order.
        listing: of the folder.
        layout: of the plate.

    Returns:
        The plate, without the size and type of its planes.
    """
    table = _Table(findings, listing)
    wells: dict[tuple[int, int], list[Field]] = defaultdict(list)
    for row, column, name in natsorted(table.fields):
        wells[row, column].append(table.field((row, column, name)))
    rows, columns = plate_size(
        max(findings.rows, *(row + 1 for row, _ in wells)) if wells else findings.rows,
        max(findings.columns, *(column + 1 for _, column in wells)) if wells else findings.columns,
    )
    described = [
        Well(*findings.wells.get(at, (row_letters(at[0]), f"{at[1] + 1:02d}")), *at, tuple(fields))
        for at, fields in sorted(wells.items())
    ]
    channels = tuple(findings.channels[key] for key in table.channels)
    return Plate(
        folder=str(listing.root),
        layout=layout.name,
        name=findings.name,
        wells=tuple(described),
        imaging=Imaging(channels, t=findings.t, z=_z_step(described), y=findings.y, x=findings.x),
        rows=rows,
        columns=columns,
        acquisitions=findings.acquisitions,
        metadata=findings.metadata,
        warnings=(*findings.warnings, *table.warnings(described), *_aside(listing)),
    )


@dataclass
class _Table:
    """All planes by field, time, channel and z, and what the whole plate tells about a single field."""

    findings: Findings
    listing: Listing
    channels: list[str] = field(default_factory=list)
    fields: dict[FieldKey, dict[int, Shot]] = field(default_factory=dict)
    clashes: dict[tuple[FieldKey, int, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[tuple[FieldKey, int | None], list[Failure]] = field(default_factory=lambda: defaultdict(list))
    repeated: int = 0

    def __post_init__(self) -> None:
        self.channels = natsorted(self.findings.channels)
        self._fill()
        shots = [shot for times in self.fields.values() for shot in times.values()]
        numbers: list[set[int]] = [set() for _ in self.channels]
        sets: list[Counter[frozenset[int]]] = [Counter() for _ in self.channels]
        for shot in shots:
            for channel, slot in shot.items():
                numbers[channel].update(slot)
                sets[channel][frozenset(slot)] += 1
        self._z_steps = [_step(each) for each in numbers]
        self._usual = [each.most_common(1)[0][0] if each else frozenset() for each in sets]
        # A channel taken at every tenth time point, or in the control wells only, is expected nowhere else.
        self._common = [2 * sum(each.values()) > len(shots) for each in sets]
        self._t_step = _step({time for times in self.fields.values() for time in times})
        for failure in self.findings.failures if shots else ():
            self._place(failure)

    def _fill(self) -> None:
        order = {key: index for index, key in enumerate(self.channels)}
        owners: dict[str, tuple[FieldKey, int, int, int]] = {}
        for record in self.findings.records:
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
        first = min(time for times in self.fields.values() for time in times)
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

    def field(self, key: FieldKey) -> Field:
        """Describe one field."""
        times = self.fields[key]
        frames = tuple(self._frame(key, time, times) for time in self._expected_times(times))
        positions = [
            record for shot in times.values() for slot in shot.values() for record in slot.values() if record.file
        ]
        first = positions[0] if positions else None
        known = first is not None and first.y_um is not None and first.x_um is not None
        return Field(
            name=key[2],
            frames=frames,
            position_um=(first.y_um, first.x_um) if known else None,  # type: ignore[union-attr, arg-type]
            acquisition=None if first is None else first.acquisition,
        )

    def _expected_times(self, times: Mapping[int, Shot]) -> Sequence[int]:
        every = range(min(times), max(times) + 1, self._t_step)
        return every if len(every) - len(times) <= _MOST_ABSENT_TIMES else sorted(times)

    def _frame(self, key: FieldKey, time: int, times: Mapping[int, Shot]) -> Frame:
        shot = times.get(time, {})
        defects = [
            Defect("failed", _failure(each), self._index(each.channel))
            for each in (*self.failures.get((key, time), ()), *self.failures.get((key, None), ()))
        ]
        planes = []
        for channel in range(len(self.channels)):
            slot = shot.get(channel, {})
            defects += self._defects(key, time, times, channel, slot)
            good = (slot[z] for z in sorted(slot))
            planes.append(tuple(Plane(each.file, each.z, each.z_um) for each in good if each.file and not each.problem))
        slices = tuple(len(each) for each in planes)
        if not any(slices) and not defects:
            defects.append(Defect("missing", _no_plane(time)))
        return Frame(str(time), slices, tuple(planes), None, tuple(defects))

    def _defects(
        self, key: FieldKey, time: int, times: Mapping[int, Shot], channel: int, slot: Slot
    ) -> Iterator[Defect]:
        name = self.findings.channels[self.channels[channel]].name
        failed = [each for each in slot.values() if each.problem]
        if failed:
            first = failed[0]
            what = f"{first.named or first.file!r}" if first.named or first.file else "a plane without a file"
            yield Defect("failed", _failed(name, len(failed), what, first.problem), channel)
        refused = [each.file for each in slot.values() if each.file in self.listing.refused]
        if refused and refused[0]:
            yield Defect("refused", _refused(refused[0], self.listing.refused[refused[0]]), channel)
        for clash in self.clashes.get((key, time, channel), ())[:1]:
            yield Defect("duplicate", _duplicate(name, clash), channel)
        absent = [slot[z] for z in sorted(slot) if slot[z].file is None and not slot[z].problem]
        gap, first_gap = self._gap(times, channel, slot)
        if absent and gap == 0:
            listed = self.findings.index or "the names"
            yield Defect("missing", _listed(name, len(absent), len(slot), absent[0].named, listed), channel)
        elif absent or gap:
            first_z = min([each.z for each in absent] + ([first_gap] if gap else []))
            stray = self.findings.unlisted.get((*key, time, self.channels[channel], first_z))
            total = len(slot) + gap
            yield Defect(
                "missing", _absent(name, len(absent) + gap, total, first_z, stray, self.findings.index), channel
            )

    def _index(self, channel: str | None) -> int | None:
        return self.channels.index(channel) if channel in self.channels else None

    def _gap(self, times: Mapping[int, Shot], channel: int, slot: Slot) -> tuple[int, int]:
        """Return how many slices are neither listed nor there, and the number of the first one."""
        span = self._span(times, channel, slot)
        if span is None:
            return 0, 0
        # Counted, not listed: a damaged number may promise more slices than memory holds.
        low, high, step = *span, self._z_steps[channel]
        first = next((before + step for before, after in pairwise(sorted(slot)) if after - before > step), high)
        if not slot or min(slot) > low:
            first = low
        elif max(slot) < high and first == high:
            first = max(slot) + step
        return (high - low) // step + 1 - len(slot), first

    def _span(self, times: Mapping[int, Shot], channel: int, slot: Slot) -> tuple[int, int] | None:
        """Return first and last slice that a channel must have, or None if nothing is expected of it."""
        if self.findings.index is not None or not self._common[channel]:
            return (min(slot), max(slot)) if slot else None
        alike = [
            other
            for other in range(len(self.channels))
            if self._common[other] and self._usual[other] == self._usual[channel]
        ]
        found = [z for shot in times.values() for other in alike for z in shot.get(other, ())] or self._usual[channel]
        return min(found), max(found)

    def warnings(self, wells: Sequence[Well]) -> Iterator[str]:
        """Say what looks odd about the plate without being wrong."""
        index = self.findings.index
        if self.repeated:
            yield f"{self.repeated} planes are listed more than once under the same name; each is used once."
        if self.findings.unlisted:
            names = sorted(self.findings.unlisted.values())
            yield f"{len(names)} files look like planes and {index} does not list them, left out: {_some(names)}."
        unplaced = sorted(
            {f"{row_letters(each.row)}{each.column + 1:02d}" for each in self.findings.failures if each.field is None}
        )
        if unplaced:
            yield (
                f"The microscope reports errors in {_some(unplaced)} and does not say in which field; fields that these"
                " wells lack and others have count as failed."
            )
        if index is None:
            yield from _fewer_slices(wells, [len(each) for each in self._usual])
        yield from _fewer_fields(wells)


def _step(numbers: Iterable[int]) -> int:
    """Return the largest step that reaches all numbers from the first one."""
    ordered = sorted(numbers)
    return math.gcd(*(after - before for before, after in pairwise(ordered))) or 1


def _z_step(wells: Sequence[Well]) -> Axis:
    """Return the distance between slices that most channels of sound fields state; a field with gaps states another."""
    steps: Counter[float] = Counter()
    for frame in (frame for well in wells for each in well.fields for frame in each.frames):
        for planes in frame.planes if not frame.defects else ():
            heights = [plane.z_um for plane in planes if plane.z_um is not None]
            if len(heights) == len(planes) > 1 and heights[-1] != heights[0]:
                steps[float(f"{abs(heights[-1] - heights[0]) / (len(heights) - 1):.6g}")] += 1
    return Axis(steps.most_common(1)[0][0], "micrometer") if steps else Axis()


def _fewer_slices(wells: Sequence[Well], usual: Sequence[int]) -> Iterator[str]:
    odd = [
        f"{well.name} field {each.name}"
        for well in wells
        for each in well.fields
        if any(
            not frame.defects and any(0 < z != usually for z, usually in zip(frame.slices, usual, strict=True))
            for frame in each.frames
        )
    ]
    if odd:
        counts = "/".join(str(count) for count in usual)
        yield (
            f"{len(odd)} fields have other numbers of slices than the usual {counts}, in all their channels alike: "
            f"{_some(odd)}. Nothing says whether that was meant."
        )


def _fewer_fields(wells: Sequence[Well]) -> Iterator[str]:
    counts = Counter(len(well.fields) for well in wells)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [f"{well.name} ({len(well.fields)})" for well in wells if len(well.fields) != usual]
        yield f"{len(odd)} wells have more or fewer than the usual {usual} fields: {_some(odd)}."


def _aside(listing: Listing) -> Iterator[str]:
    if listing.aside:
        names = [path.rpartition("/")[2] for path in listing.aside[:2]]
        yield f"{len(listing.aside)} thumbnails and montages are left out, such as {' and '.join(names)}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _no_plane(time: int) -> str:
    return (
        f"No plane of time {time} is there, though earlier and later ones are; expected every time point between them. "
        "Copy the missing files into the folder."
    )


def _failure(failure: Failure) -> str:
    return (
        f"The microscope reports an error ({failure.reason}); expected planes that were recorded. Leave the field out, "
        "or take it again."
    )


def _failed(channel: str, count: int, first: str, problem: str) -> str:
    return (
        f"{count} planes of channel {channel!r} failed, the first {first}: {problem}; expected planes that were "
        "recorded. Leave the channel out, or take the field again."
    )


def _refused(file: str, reason: str) -> str:
    return f"{file!r} {reason}; expected a file inside the folder of the plate. Copy the image there."


def _duplicate(channel: str, clash: str) -> str:
    return (
        f"Planes of channel {channel!r} are not one file each: {clash}; expected one file for every plane and one "
        "plane for every file. Move the wrong ones away."
    )


def _listed(channel: str, count: int, total: int, first: str, index: str) -> str:
    return (
        f"{count} of {total} planes of channel {channel!r} are missing, the first {first!r}; expected all that {index} "
        "lists. Copy the missing files into the folder."
    )


def _absent(channel: str, count: int, total: int, z: int, stray: str | None, index: str | None) -> str:
    hint = f" ({stray!r} looks like it, but {index} does not list it)" if stray else ""
    return (
        f"{count} of {total} planes of channel {channel!r} are missing, the first at z {z}{hint}; expected every slice "
        "from the first to the last. Copy the missing files into the folder."
    )
