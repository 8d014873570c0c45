"""Fields and wells that are there already, looked at again: what is damaged is fused anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybridfusion_core.batch.output.verify import damage, damaged_wells
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.batch.result import Event
from hybridfusion_core.batch.task import Outcome
from hybridfusion_core.plates.plate import PlateField


def forget_damaged(paths: BatchPaths, units: Sequence[PlateField], report: Callable[[Event], None]) -> list[str]:
    """Forget that fields are finished whose pixels are damaged, and images of whole wells.

    Args:
        paths: of the batch.
        units: to look at.
        report: called with each field that was looked at.

    Returns:
        What was damaged, a sentence each.
    """
    damaged: list[str] = []
    for record, fault in damaged_wells(paths):
        record.unlink(missing_ok=True)
        damaged.append(f"The image of a whole well was damaged; --stitch makes it again: {fault}")
    fields: dict[FieldKey, list[PlateField]] = {}
    for unit in units:
        fields.setdefault(key_of(unit), []).append(unit)
    for done, (key, times) in enumerate(fields.items(), 1):
        found = damage(paths, key, [unit.t for unit in times])
        for unit in times if found else ():
            paths.record(key, unit.t).unlink(missing_ok=True)
        if found:
            damaged.append(f"{times[0].well} field {times[0].field} was damaged and is fused again: {found[0]}")
        report(Event("checking", times[0], Outcome("done"), done, len(fields), len(damaged)))
    return damaged
