"""The fields of a plate while they are fused: which time points each one lacks, and its place in the metadata."""

from __future__ import annotations

import time

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.output.load_data import FileList
from hybridfusion_core.batch.output.plate import Publisher
from hybridfusion_core.batch.records.finished import missing_times
from hybridfusion_core.batch.records.paths import FieldKey, key_of
from hybridfusion_core.batch.records.store import unit_record
from hybridfusion_core.plates.plate import Plate, PlateField

_PUBLISH = 60.0  # s between two times that the metadata of the plate are brought up to date


class ListedFields:
    """What of a plate is finished, and the metadata that say so.

    Args:
        plate: all of it.
        choices: of the user.

    Attributes:
        missing: time points of each field that are not fused, as `find` found them and `finish` took them out.
    """

    def __init__(self, plate: Plate, choices: Choices) -> None:
        self._plate, self._choices, self._paths = plate, choices, choices.paths
        self._publisher = _publisher(plate, choices)
        self._times: dict[FieldKey, dict[int, int]] = {}  # index among those that are fused, by time point
        self._published = time.monotonic()
        self.missing: dict[FieldKey, set[int]] = {}

    @property
    def warnings(self) -> list[str]:
        """What could not be kept of the metadata of the input."""
        return list(self._publisher.warnings.values())

    def find(self) -> None:
        """Find out which time points of the whole plate are finished, and list the fields that have any."""
        for unit in self._plate.fields():
            if self._choices.takes(unit):
                times = self._times.setdefault(key_of(unit), {})
                times.setdefault(unit.t, len(times))
        self.missing.update(missing_times(self._plate, self._paths, self._choices.takes))
        for key in self.missing:
            self._list(key)

    def lacks(self, unit: PlateField) -> bool:
        """Whether a field at a time point is not finished."""
        return unit.t in self.missing[key_of(unit)]

    def place(self, unit: PlateField) -> tuple[int, int]:
        """Return which of the time points that are fused a unit is, and how many there are."""
        times = self._times[key_of(unit)]
        return times[unit.t], len(times)

    def holes(self, key: FieldKey) -> tuple[int, ...] | None:
        """Return which time points of a field's image have no pixels; None if none of them has."""
        times, missing = self._times.get(key, {}), self.missing.get(key, set())
        return tuple(sorted(times[t] for t in missing)) if len(missing) < len(times) else None

    def partial(self) -> list[FieldKey]:
        """Return the fields that have some of their time points and lack others."""
        return [key for key, times in self.missing.items() if times and len(times) < len(self._times[key])]

    def finish(self, unit: PlateField) -> None:
        """Take note that a field at a time point was fused; a field that lacks nothing is listed at once."""
        key = key_of(unit)
        self.missing[key].discard(unit.t)
        if not self.missing[key]:
            self._list(key, fresh=True)
        if time.monotonic() - self._published > _PUBLISH and not self._paths.shard:
            self.publish()
            self._published = time.monotonic()

    def list_partial(self) -> None:
        """List the fields that lack some of their time points, as they stand now."""
        for key in self.partial():
            self._list(key)

    def publish(self) -> None:
        """Bring the metadata of the plate up to date."""
        self._publisher.publish()

    def _list(self, key: FieldKey, *, fresh: bool = False) -> None:
        """Have a field listed if any of its time points is finished; those that are not are named."""
        times, missing = self._times[key], self.missing[key]
        records = [unit_record(self._paths, key, t) for t in times if t not in missing]
        known = [record for record in records if record is not None]
        if known:
            self._publisher.add(key, known, missing=sorted(times[t] for t in missing), fresh=fresh)


def _publisher(plate: Plate, choices: Choices) -> Publisher | FileList:
    paths = choices.paths
    return (
        FileList(plate, paths)
        if paths.files
        else Publisher(plate, paths, choices.output_format.ngff, choices.request.channels)
    )
