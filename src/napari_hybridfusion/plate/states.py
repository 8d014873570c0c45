"""How far every well of a plate has come: what the map shows and a click needs to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hybridfusion_core.batch.report.field_table import Row
from hybridfusion_core.batch.task import Outcome
from hybridfusion_core.plates.plate import Plate, PlateField

Status = Literal["failed", "flagged", "fused", "running", "waiting", "left"]
STATUSES: tuple[Status, ...] = get_args(Status)  # the worst first
LEFT = "not chosen"
_NOTES = 3  # in a tooltip


@dataclass(frozen=True)
class WellState:
    """One well.

    Attributes:
        name: as written, such as "B02".
        row: from 0.
        column: from 0.
        counts: how many fields, at every time point, have each status; "left" were not chosen.
        notes: reasons of failures and flags, the first ones.
    """

    name: str
    row: int
    column: int
    counts: Mapping[Status, int]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Return a line with the counts, and one for each note."""
        total = sum(self.counts.values())
        words = {"left": LEFT, "flagged": "fused and flagged"}
        parts = [f"{count} {words.get(status, status)}" for status in STATUSES if (count := self.counts.get(status, 0))]
        return "\n".join([f"{self.name}: {', '.join(parts)} of {total}", *self.notes])


class PlateStates:
    """Every field of a plate at every time point.

    Args:
        plate: all of it.
        units: of it, that were chosen.
        rows: how those ended that were fused or failed before.
    """

    def __init__(self, plate: Plate, units: Sequence[PlateField], rows: Iterable[Row] = ()) -> None:
        self.plate = plate
        self._units: dict[str, list[PlateField]] = {well.name: [] for well in plate.wells}
        for unit in plate.fields():
            self._units[unit.well].append(unit)
        self._chosen = {_key(unit) for unit in units}
        self._ended: dict[tuple[str, str, int], tuple[Status, str]] = {}
        self._running: set[tuple[str, str, int]] = set()
        self._wells: dict[str, WellState] = {}
        for row in rows:
            if row.status != "missing":
                self._end(row.unit, row.status == "failed", row.reason, row.figures.flags)

    def wells(self) -> list[WellState]:
        """Return all wells that have images."""
        return [self.well(name) for name in self._units]

    def well(self, name: str) -> WellState:
        """Return one well."""
        if name not in self._wells:
            self._wells[name] = self._counted(name)
        return self._wells[name]

    def begin(self) -> None:
        """What failed and was chosen is tried again; nothing runs yet."""
        self._running.clear()
        again = {key for key, (status, _) in self._ended.items() if status == "failed" and key in self._chosen}
        for key in again:
            del self._ended[key]
        self._wells.clear()

    def take(self, unit: PlateField, outcome: Outcome | None) -> None:
        """Take note of how a unit ended, or, without an outcome, that it has begun."""
        if outcome is None:
            self._running.add(_key(unit))
            self._wells.pop(unit.well, None)
        elif outcome.status in ("done", "failed"):
            self._end(unit, outcome.status == "failed", outcome.reason, outcome.flags)
            self._wells.pop(unit.well, None)

    def end(self) -> None:
        """Nothing runs any more; what had begun and did not end waits for the next run."""
        self._running.clear()
        self._wells.clear()

    def failures(self) -> list[tuple[PlateField, str]]:
        """Return the units that failed, and why."""
        units = (unit for units in self._units.values() for unit in units)
        ended = ((unit, self._ended.get(_key(unit))) for unit in units)
        return [(unit, state[1]) for unit, state in ended if state is not None and state[0] == "failed"]

    def fields(self, well: str) -> dict[str, str]:
        """Return the fields of a well by name, each with what has become of it, in words."""
        words: dict[str, str] = {}
        for field, units in self._fields(well).items():
            status = min((self.status(unit) for unit in units), key=STATUSES.index)
            why = next((self._ended.get(_key(unit), ("", ""))[1] for unit in units if self.status(unit) == status), "")
            words[field] = f"{LEFT if status == 'left' else status}{f': {why}' if why else ''}"
        return words

    def first_fused(self, well: str, field: str | None = None) -> PlateField | None:
        """Return the first field of a well that is fused, at all time points that can be; or a certain one."""
        for name, units in self._fields(well).items():
            if field not in (None, name):
                continue
            states = [self.status(unit) for unit in units]
            fused = [unit for unit, status in zip(units, states, strict=True) if status in ("fused", "flagged")]
            # Time points that nobody asked for are no part of the image of the field.
            if fused and not {"waiting", "running", "failed"} & set(states):
                return fused[0]
        return None

    def first(self, well: str, field: str | None = None) -> PlateField | None:
        """Return the first field of a well, or a certain one, at its first time point."""
        return next((unit for unit in self._units.get(well, ()) if field in (None, unit.field)), None)

    def _fields(self, well: str) -> dict[str, list[PlateField]]:
        fields: dict[str, list[PlateField]] = {}
        for unit in self._units.get(well, ()):
            fields.setdefault(unit.field, []).append(unit)
        return fields

    def status(self, unit: PlateField) -> Status:
        """Return the status of a unit."""
        key = _key(unit)
        if key in self._ended:
            return self._ended[key][0]
        return "running" if key in self._running else "waiting" if key in self._chosen else "left"

    def _end(self, unit: PlateField, failed: bool, reason: str, flags: Sequence[str]) -> None:
        status: Status = "failed" if failed else "flagged" if flags else "fused"
        self._running.discard(_key(unit))
        self._ended[_key(unit)] = status, reason if failed else ", ".join(flags)

    def _counted(self, name: str) -> WellState:
        well = next(each for each in self.plate.wells if each.name == name)
        units = self._units[name]
        notes = [
            f"field {unit.field} time {unit.t}: {note}"
            for unit in units
            if (note := self._ended.get(_key(unit), ("", ""))[1])
        ]
        more = [f"… and {len(notes) - _NOTES} more"] if len(notes) > _NOTES else []
        counts = Counter(self.status(unit) for unit in units)
        return WellState(name, well.row_index, well.column_index, counts, (*notes[:_NOTES], *more))


def _key(unit: PlateField) -> tuple[str, str, int]:
    return unit.well, unit.field, unit.t
