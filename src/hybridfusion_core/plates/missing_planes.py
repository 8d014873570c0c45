"""What is wrong with a field at one time point, plane by plane, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hybridfusion_core.plates.expected_slices import ExpectedSlices
from hybridfusion_core.plates.plane_records import Failure
from hybridfusion_core.plates.plane_table import FieldKey, PlaneTable, Shot, Slot
from hybridfusion_core.plates.plate import Defect


def frame_defects(
    table: PlaneTable, expected: ExpectedSlices, key: FieldKey, time: int, times: Mapping[int, Shot]
) -> tuple[Defect, ...]:
    """Return what is wrong with a field at one time point.

    Args:
        table: of the plate.
        expected: what a field must have.
        key: of the field.
        time: number of the time point.
        times: planes of the field.
    """
    shot = times.get(time, {})
    reported = (*table.failures.get((key, time), ()), *table.failures.get((key, None), ()))
    defects = [Defect("failed", _failure(each), _index(table, each.channel)) for each in reported]
    for channel in range(len(table.channels)):
        slot = shot.get(channel, {})
        defects += _of_slot(table, key, time, channel, slot)
        defects += _absent_planes(table, expected, key, time, times, channel, slot)
    if not defects and not any(shot.values()):
        defects.append(Defect("missing", _no_plane(time)))
    return tuple(defects)


def _of_slot(table: PlaneTable, key: FieldKey, time: int, channel: int, slot: Slot) -> Iterator[Defect]:
    """Yield what is wrong with planes that are listed or there."""
    name = table.findings.channels[table.channels[channel]].name
    failed = [each for each in slot.values() if each.problem]
    if failed:
        first = failed[0]
        what = f"{first.named or first.file!r}" if first.named or first.file else "a plane without a file"
        yield Defect("failed", _failed(name, len(failed), what, first.problem), channel)
    refused = next((each.file for each in slot.values() if each.file in table.listing.refused), None)
    if refused is not None:
        yield Defect("refused", _refused(refused, table.listing.refused[refused]), channel)
    for clash in table.clashes.get((key, time, channel), ())[:1]:
        yield Defect("duplicate", _duplicate(name, clash), channel)


def _absent_planes(
    table: PlaneTable,
    expected: ExpectedSlices,
    key: FieldKey,
    time: int,
    times: Mapping[int, Shot],
    channel: int,
    slot: Slot,
) -> Iterator[Defect]:
    """Yield how many planes of a channel are missing, if any are."""
    findings = table.findings
    name = findings.channels[table.channels[channel]].name
    absent = [slot[z] for z in sorted(slot) if slot[z].file is None and not slot[z].problem]
    gap, first_gap = expected.gap(times, time, channel, slot)
    if absent and gap == 0:
        listed = findings.index or "the names"
        yield Defect("missing", _listed(name, len(absent), len(slot), absent[0].named, listed), channel)
    elif absent or gap:
        first_z = min([each.z for each in absent] + ([first_gap] if gap else []))
        stray = findings.unlisted.get((*key, time, table.channels[channel], first_z))
        count, total = len(absent) + gap, len(slot) + gap
        yield Defect("missing", _absent(name, count, total, first_z, stray, findings.index), channel)


def _index(table: PlaneTable, channel: str | None) -> int | None:
    return table.channels.index(channel) if channel in table.channels else None


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
