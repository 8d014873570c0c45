"""Turn single planes into wells, fields and time points, and name every plane that is not there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from natsort import natsorted

from hybridfusion_core.plates.expected_slices import ExpectedSlices
from hybridfusion_core.plates.layouts.table import Layout
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.missing_planes import frame_defects
from hybridfusion_core.plates.plane_records import Findings
from hybridfusion_core.plates.plane_table import FieldKey, PlaneTable, Shot
from hybridfusion_core.plates.plate import Field, Frame, Imaging, Plane, Plate, Projection, Well
from hybridfusion_core.plates.well_names import row_letters, stated_size
from hybridfusion_core.stack import Axis

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
    table = PlaneTable(findings, listing)
    expected = ExpectedSlices(table)
    fields: dict[tuple[int, int], list[Field]] = defaultdict(list)
    for row, column, name in natsorted(table.fields):
        fields[row, column].append(_field(table, expected, (row, column, name)))
    rows, columns = stated_size(fields, findings.rows, findings.columns)
    wells = tuple(
        Well(*findings.wells.get(at, (row_letters(at[0]), f"{at[1] + 1:02d}")), *at, tuple(found))
        for at, found in sorted(fields.items())
    )
    channels = tuple(findings.channels[key] for key in table.channels)
    return Plate(
        folder=str(listing.root),
        layout=layout.name,
        name=findings.name,
        wells=wells,
        imaging=Imaging(channels, t=findings.t, z=_z_step(wells, findings.z), y=findings.y, x=findings.x),
        rows=rows,
        columns=columns,
        acquisitions=findings.acquisitions,
        projections=tuple(_projections(table)),
        metadata=findings.metadata,
        warnings=(
            *findings.warnings,
            *table.not_acquired(),
            *_warnings(table, expected, wells),
            *_aside(listing, findings),
        ),
    )


def _field(table: PlaneTable, expected: ExpectedSlices, key: FieldKey) -> Field:
    times = table.fields[key]
    frames = tuple(_frame(table, expected, key, time, times) for time in _expected_times(table, times))
    records = (record for shot in times.values() for slot in shot.values() for record in slot.values() if record.file)
    first = next(records, None)
    position = None
    if first is not None and first.y_um is not None and first.x_um is not None:
        position = first.y_um, first.x_um
    return Field(key[2], frames, position, acquisition=None if first is None else first.acquisition)


def _expected_times(table: PlaneTable, times: Mapping[int, Shot]) -> Sequence[int]:
    """Return the times of a field: all of the plate from its own first to its own last one."""
    every = [time for time in table.times if min(times) <= time <= max(times)]
    return every if len(every) - len(times) <= _MOST_ABSENT_TIMES else sorted(times)


def _frame(table: PlaneTable, expected: ExpectedSlices, key: FieldKey, time: int, times: Mapping[int, Shot]) -> Frame:
    shot = times.get(time, {})
    slots = [shot.get(channel, {}) for channel in range(len(table.channels))]
    planes = tuple(
        tuple(Plane(slot[z].file or "", z, slot[z].z_um) for z in sorted(slot) if slot[z].file and not slot[z].problem)
        for slot in slots
    )
    defects = frame_defects(table, expected, key, time, times)
    return Frame(str(time), tuple(len(each) for each in planes), planes, defects=defects)


def _projections(table: PlaneTable) -> Iterator[Projection]:
    channels = {key: index for index, key in enumerate(table.channels)}
    for record in table.findings.projections:
        if record.channel in channels and record.file:
            yield Projection(
                record.row, record.column, record.field, str(record.time), channels[record.channel], record.file
            )


def _warnings(table: PlaneTable, expected: ExpectedSlices, wells: Sequence[Well]) -> Iterator[str]:
    """Say what looks odd about the plate without being wrong."""
    findings = table.findings
    if table.repeated:
        yield f"{table.repeated} planes are listed more than once under the same name; each is used once."
    if findings.unlisted:
        names = sorted(findings.unlisted.values())
        yield f"{len(names)} files look like planes and {findings.index} does not list them, left out: {_some(names)}."
    unplaced = sorted(
        {f"{row_letters(each.row)}{each.column + 1:02d}" for each in findings.failures if each.field is None}
    )
    if unplaced:
        yield (
            f"The microscope reports errors in {_some(unplaced)} and does not say in which field; fields that these"
            " wells lack and others have count as failed."
        )
    if findings.index is None:
        yield from _fewer_slices(wells, [len(each) for each in expected.usual])
    yield from _fewer_fields(wells)


def _z_step(wells: Sequence[Well], stated: Axis) -> Axis:
    """Return the distance between slices that most channels of sound fields state; a field with gaps states another."""
    steps: Counter[float] = Counter()
    for frame in (frame for well in wells for each in well.fields for frame in each.frames):
        for planes in frame.planes if not frame.defects else ():
            heights = [plane.z_um for plane in planes if plane.z_um is not None]
            if len(heights) == len(planes) > 1 and heights[-1] != heights[0]:
                steps[float(f"{abs(heights[-1] - heights[0]) / (len(heights) - 1):.6g}")] += 1
    return Axis(steps.most_common(1)[0][0], "micrometer") if steps else stated


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


def _aside(listing: Listing, findings: Findings) -> Iterator[str]:
    kept = {each.file for each in findings.projections}
    aside = [path for path in listing.aside if path not in kept]
    if aside:
        names = [path.rpartition("/")[2] for path in aside[:2]]
        yield f"{len(aside)} thumbnails and montages are left out, such as {' and '.join(names)}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
