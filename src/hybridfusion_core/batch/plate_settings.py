"""What all fields of a plate share, found before the first is fused: settings, workers, light and statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from distributed import Client, get_worker

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fit_workers import FitWorkers
from hybridfusion_core.batch.fuse_field import KILLS
from hybridfusion_core.batch.light import estimate_light
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.measuring import group_of, measured, named
from hybridfusion_core.batch.records.store import read_json, write_json
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.settings import new_record, settings_of, settle, statistics_of, with_statistics
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.plates.field_stack import defects_of, find_channels
from hybridfusion_core.plates.plate import Plate, PlateField

_DEPTHS = 8  # units to try when settings are resolved


class StopAsked(Exception):
    """The user has had enough before a field was begun."""


class PlateSettings:
    """Finds what all fields share.

    Args:
        plate: all of it: a pilot has the settings of the whole plate.
        choices: how it is fused.
        session: of this run.
        result: learns which workers took no part, and whether a disk is full.
        report: called when a field was measured.
        stop: whether the user wants it to stop.
    """

    def __init__(
        self,
        plate: Plate,
        choices: Choices,
        session: str,
        result: Result,
        report: Callable[[Event], None],
        stop: Callable[[], bool],
    ) -> None:
        self._plate, self._choices, self._paths = plate, choices, choices.paths
        self._session, self._result, self._report, self._stop = session, result, report, stop

    def settings(self, client: Client, stored: Mapping[str, Any] | None) -> Settings:
        """Take the settings of the run that began, or resolve and store them."""
        if stored is not None:
            return settings_of(stored, self._choices, self._session)
        bare = Settings(self._choices, self._session)
        deepest = sorted(self._sound(), key=lambda unit: -max(unit.frame.slices, default=0))[:_DEPTHS]
        outcomes: list[Outcome] = []
        loop = Loop(
            client,
            self.fit(client, bare),
            bare,
            Work(partial(_settled, deepest), lambda _, count: _DIED if count >= KILLS else ""),
            lambda _: None,
            lambda _, outcome: outcomes.append(outcome),
            self._stop,
        )
        if loop.run([Task(next(self._plate.fields()))]) or not outcomes:
            raise StopAsked
        (outcome,) = outcomes
        if outcome.status != "done":
            raise outcome.value or UserInputError(outcome.reason)
        record = new_record(self._choices.as_json(self._plate), outcome.value)
        write_json(self._paths.run_record, record, durable=True)
        return settings_of(record, self._choices, self._session)

    def fit(self, client: Client, settings: Settings) -> FitWorkers:
        """Return the workers that can take part, once there is one."""
        workers = FitWorkers(client, settings, self._plate.folder)
        self._result.refused = workers.refused
        if not workers.wait(self._stop):
            raise StopAsked
        return workers

    def light(self, client: Client, workers: FitWorkers, settings: Settings) -> None:
        """Estimate how evenly the plate is lit, if that was asked for and not done before."""

        def report(unit: PlateField, done: int, total: int) -> None:
            self._report(Event("measuring", unit, Outcome("done"), done, total, 0))

        if estimate_light(client, workers, settings, self._sound(), report, self._stop):
            raise StopAsked

    def statistics(self, client: Client, workers: FitWorkers, settings: Settings) -> Mapping[str, Any] | None:
        """Take the statistics that were stored; measure what is not there yet, and store it."""
        stats = self._choices.stats
        if stats == "field" or not METHODS[self._choices.request.method].decides:
            return None
        record = read_json(self._paths.run_record) or {}
        known = statistics_of(record, self._choices) or {}
        wanted = [unit for unit in self._sound() if group_of(unit, stats) not in known]
        if not wanted:
            return known

        def report(unit: PlateField, done: int, total: int) -> None:
            self._report(Event("measuring", unit, Outcome("done"), done, total, 0))

        found = measured(client, workers, settings, wanted, report, self._stop)
        if found.stopped:
            self._result.full = found.full
            raise StopAsked
        groups = {group_of(unit, stats) for unit in wanted}
        taken = [unit for unit in self._taken() if group_of(unit, stats) in groups]
        broken = [(unit, why) for unit in taken if (why := self.defects(unit))]
        left_out = named([*found.left_out, *broken])
        write_json(self._paths.run_record, with_statistics(record, found.statistics, left_out), durable=True)
        return {**known, **found.statistics}

    def _sound(self) -> list[PlateField]:
        """Return units of the whole plate without known defects: a pilot has the settings of the whole plate."""
        return [unit for unit in self._taken() if not self.defects(unit)]

    def _taken(self) -> list[PlateField]:
        return [unit for unit in self._plate.fields() if self._choices.takes(unit)]

    def defects(self, unit: PlateField) -> str:
        """Return what is wrong with a field's files, as far as that shows without its pixels."""
        channels = find_channels(unit, self._choices.request.channels) if unit.imaging.channels else ()
        return "; ".join(each.message for each in defects_of(unit, channels))


_DIED = (
    "Workers died while they opened a field and a model; expected memory for both. Free memory, or use fewer workers "
    "with more memory each, and run the batch again."
)


def _settled(units: Sequence[PlateField], _: Task, settings: Settings) -> Outcome:
    """Run `settle` on a worker, which may have less memory than its computer."""
    memory = getattr(get_worker().memory_manager, "memory_limit", None)
    try:
        return Outcome("done", value=settle(units, settings.choices, memory))
    except HybridFusionError as error:
        return Outcome("failed", str(error), value=error)
