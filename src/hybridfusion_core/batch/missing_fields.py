"""Which fields and time points of a plate are not fused yet, and the listing of those that are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.output.load_data import FileList
from hybridfusion_core.batch.output.plate import Publisher
from hybridfusion_core.batch.output.verify import damage, damaged_wells
from hybridfusion_core.batch.records.finished import missing_times
from hybridfusion_core.batch.records.paths import FieldKey, key_of
from hybridfusion_core.batch.records.store import unit_record
from hybridfusion_core.batch.result import Event
from hybridfusion_core.batch.stitch.image import mosaic_folders
from hybridfusion_core.batch.task import Outcome
from hybridfusion_core.plates.plate import Plate, PlateField


class MissingFields:
    """What of a plate is not fused yet.

    Args:
        plate: all of it.
        choices: how it is fused.
        chosen: what is to be fused in this run.
        publisher: is told of every field that has a finished time point.

    Attributes:
        by_field: time points that are not in the output, chosen or not.
    """

    def __init__(
        self, plate: Plate, choices: Choices, chosen: Sequence[PlateField], publisher: Publisher | FileList
    ) -> None:
        self._plate, self._choices, self._paths, self._chosen = plate, choices, choices.paths, chosen
        self._publisher = publisher
        self.by_field: dict[FieldKey, set[int]] = {}
        self._times: dict[FieldKey, dict[int, int]] = {}  # index among those that are fused, by time point

    def look(self) -> None:
        """Find out which units of the whole plate are finished, and list the fields that have any."""
        for unit in self._plate.fields():
            if self._choices.takes(unit):
                times = self._times.setdefault(key_of(unit), {})
                times.setdefault(unit.t, len(times))
        self.by_field.update(missing_times(self._plate, self._paths, self._choices.takes))
        for key in self.by_field:
            self.list_field(key)

    def recheck(self, report: Callable[[Event], None]) -> list[str]:
        """Forget fields whose pixels are damaged, and remove such images of wells; return what was damaged."""
        damaged: list[str] = []
        for key, fault in damaged_wells(self._paths):
            self._paths.mosaic(key).unlink(missing_ok=True)
            for folder in mosaic_folders(self._paths, key):
                shutil.rmtree(folder)
            what = "was removed; --stitch makes it again" if self._choices.stitch == "none" else "is made again"
            damaged.append(f"The image of a whole well was damaged and {what}: {fault}")
        fields: dict[FieldKey, list[PlateField]] = {}
        for unit in self._chosen:
            fields.setdefault(key_of(unit), []).append(unit)
        for done, (key, units) in enumerate(fields.items(), 1):
            found = damage(self._paths, key, [unit.t for unit in units])
            for unit in units if found else ():
                self._paths.record(key, unit.t).unlink(missing_ok=True)
            if found:
                where = f"{units[0].well} field {units[0].field}"
                damaged.append(f"{where} was damaged and is fused again: {found[0]}")
            report(Event("checking", units[0], Outcome("done"), done, len(fields), len(damaged)))
        return damaged

    def list_partial(self) -> None:
        """Have fields listed of which some time points are finished and some are not."""
        for key in self.partial():
            self.list_field(key)

    def list_field(self, key: FieldKey, *, fresh: bool = False) -> None:
        """Have a field listed if any of its time points is finished; those that are not are named."""
        times, missing = self._times[key], self.by_field[key]
        records = [unit_record(self._paths, key, t) for t in times if t not in missing]
        known = [record for record in records if record is not None]
        if known:
            self._publisher.add(key, known, missing=sorted(times[t] for t in missing), fresh=fresh)

    def holes(self, key: FieldKey) -> tuple[int, ...] | None:
        """Return which time points of a field's image have no pixels; None if none of them has."""
        times, missing = self._times.get(key, {}), self.by_field.get(key, set())
        return tuple(sorted(times[t] for t in missing)) if len(missing) < len(times) else None

    def place(self, unit: PlateField) -> tuple[int, int]:
        """Return which of a field's fused time points this is, and how many there are."""
        times = self._times[key_of(unit)]
        return times[unit.t], len(times)

    def finish(self, unit: PlateField) -> None:
        """Take note that a time point is fused, and list its field once all of them are."""
        key = key_of(unit)
        self.by_field[key].discard(unit.t)
        if not self.by_field[key]:
            self.list_field(key, fresh=True)

    def partial(self) -> list[FieldKey]:
        """Fields of which some time points are finished and some are not."""
        return [key for key, times in self.by_field.items() if times and len(times) < len(self._times[key])]
