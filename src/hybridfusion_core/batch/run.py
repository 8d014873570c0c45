"""The run: which units are missing, who fuses them, and what is written down when it ends, in whatever way."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker, get_worker

from hybridfusion_core.batch.fuse_field import Outcome, Settings, Task, measure_unit, write_failure
from hybridfusion_core.batch.loop import Loop
from hybridfusion_core.batch.output.load_data import FileList
from hybridfusion_core.batch.output.plate import Publisher
from hybridfusion_core.batch.plate_statistics import common_statistics, sampled
from hybridfusion_core.batch.records.paths import FieldKey, Places, key_of
from hybridfusion_core.batch.records.store import (
    begin_session,
    end_session,
    read_json,
    run_record,
    unit_record,
    write_json,
)
from hybridfusion_core.batch.report.field_table import missing_times
from hybridfusion_core.batch.scheduler import Preparation, fit_workers
from hybridfusion_core.batch.settings import Choices, new_record, settings_of, settle, statistics_of, unfit
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.io.disk.lock import Lock
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.field_stack import defects_of, find_channels
from hybridfusion_core.plates.plate import Plate, PlateField

_DEPTHS = 8  # units to try when settings are resolved
_TICK = 1.0  # s between two looks at whether to stop
_PUBLISH = 60.0  # s between two times that the metadata of the plate are brought up to date

T = TypeVar("T")
Connect = Callable[[int], AbstractContextManager[Client]]


class _StopAsked(Exception):
    """The user has had enough before a field was begun."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a unit.

    Attributes:
        stage: "measuring" or "fusing".
        unit: which one.
        outcome: how it ended, or None: a worker has just begun it.
        done: units that ended so far in this stage of this run.
        total: units of this stage of this run.
        failed: how many of them failed.
        wells: how many wells are done, with all that was chosen of them, and how many there are; earlier runs count.
    """

    stage: str
    unit: PlateField
    outcome: Outcome | None
    done: int
    total: int
    failed: int
    wells: tuple[int, int] = (0, 0)


@dataclass
class Result:
    """How a run ended.

    Attributes:
        places: where everything stands.
        total: units that were chosen.
        fused: of them, in this run.
        kept: of them, in earlier runs.
        failures: units and why each failed.
        seconds: that the run took.
        interrupted: the user stopped it.
        full: what the system said when the disk was full.
        missing: time points of fields that are not in the plate, chosen or not.
        warnings: what was not kept of the input.
    """

    places: Places
    total: int = 0
    fused: int = 0
    kept: int = 0
    failures: list[tuple[PlateField, str]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    full: str = ""
    missing: Mapping[FieldKey, set[int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def run_batch(
    plate: Plate,
    units: Sequence[PlateField],
    choices: Choices,
    connect: Connect,
    report: Callable[[Event], None] = lambda _: None,
    finish: Callable[[Result], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Fuse the units of a plate that are missing or whose input has changed.

    Args:
        plate: all of it.
        units: of it, that are to be fused now.
        choices: how.
        connect: gives a client, for so many units.
        report: called when a unit has begun, as far as that is noticed, and when it has ended.
        finish: called with the result, while no other run can write.
        stop: whether the user wants it to stop, asked every second; for callers that Ctrl-C does not reach.

    Returns:
        How it ended; every unit that was fused is in the plate, whatever happened to the others.

    Raises:
        UserInputError: another run writes this output, or a run with other choices began it, or no worker is fit.
        StoredDataError: records are damaged.
        KeyboardInterrupt: for the second time.
    """
    started = time.monotonic()
    places = choices.places
    choices.check_names(plate)
    if not places.output.parent.is_dir():
        raise UserInputError(
            f"The folder {places.output.parent} does not exist; expected an existing folder for {places.output.name}. "
            "Create it or choose another one."
        )
    run_record(places, choices.as_json(plate))  # refuses before anything is written
    places.folder.mkdir(exist_ok=True)
    lock = Lock(places.lock, places.output)
    try:
        stored = run_record(places, choices.as_json(plate))
        run = _Run(plate, units, choices, places, report, stop)
        run.go(connect, stored)
        run.result.seconds = time.monotonic() - started
        finish(run.result)
        return run.result
    finally:
        end_session(places)
        shutil.rmtree(places.staging, ignore_errors=True)
        lock.release()


class _Run:
    """What is known while a run goes on."""

    def __init__(
        self,
        plate: Plate,
        units: Sequence[PlateField],
        choices: Choices,
        places: Places,
        report: Callable[[Event], None],
        stop: Callable[[], bool],
    ) -> None:
        self._plate, self._choices, self._places = plate, choices, places
        self._report, self._stop = report, stop
        self._session = uuid.uuid4().hex
        self._publisher = _publisher(plate, choices)
        self._workers: list[str] | None = None
        self._chosen = list(units)
        self._missing: dict[FieldKey, set[int]] = {}
        self._times: dict[FieldKey, dict[int, int]] = {}  # index among those that are fused, by time point
        self._published = time.monotonic()
        self._left: Counter[str] = Counter()
        self._wells = len({unit.well for unit in units})
        self.result = Result(places, total=len(units), missing=self._missing)

    def go(self, connect: Connect, stored: Mapping[str, Any] | None) -> None:
        begin_session(self._places, self._session)
        shutil.rmtree(self._places.staging, ignore_errors=True)  # of a run that was killed
        self._places.staging.mkdir()
        self._look()
        pending = [unit for unit in self._chosen if unit.t in self._missing[key_of(unit)]]
        self.result.kept = len(self._chosen) - len(pending)
        self._left.update(unit.well for unit in pending)
        pending = self._without_defects(pending)
        try:
            if pending:
                with connect(len(pending)) as client:
                    self._compute(client, pending, stored)
        except _StopAsked:
            self.result.interrupted = True
        finally:
            self._publisher.publish()
            self.result.warnings = list(self._publisher.warnings.values())

    def _look(self) -> None:
        """Find out which units of the whole plate are finished, and list those fields that are."""
        for unit in self._plate.fields():
            if self._choices.takes(unit):
                times = self._times.setdefault(key_of(unit), {})
                times[unit.t] = len(times)
        self._missing.update(missing_times(self._plate, self._choices))
        for key in self._missing:
            self._list(key)
        self._publisher.publish()

    def _list(self, key: FieldKey, *, fresh: bool = False) -> None:
        """Have a field listed if all its time points are finished."""
        if not self._missing[key]:
            records = [unit_record(self._places, key, t) for t in self._times[key]]
            self._publisher.add(key, [record for record in records if record is not None], fresh=fresh)

    def _without_defects(self, units: list[PlateField]) -> list[PlateField]:
        """Write down what fails without a look at its pixels."""
        sound = []
        for unit in units:
            channels = find_channels(unit, self._choices.request.channels) if unit.imaging.channels else ()
            problems = defects_of(unit, channels)
            if problems:
                reason = "; ".join(each.message for each in problems)
                write_failure(self._places, unit, reason)
                self._end(unit, Outcome("failed", reason))
            else:
                sound.append(unit)
        return sound

    def _compute(self, client: Client, pending: list[PlateField], stored: Mapping[str, Any] | None) -> None:
        settings = self._settings(client, stored)
        client.register_plugin(Preparation(settings.request.threads or 1))
        statistics = statistics_of(read_json(self._places.run_record) or {}, self._choices)
        tasks = [self._task(unit, statistics) for unit in pending]
        loop = Loop(client, self._workers, self._places, settings, self._begin, self._end, self._stop)
        self.result.interrupted = loop.run(tasks)

    def _settings(self, client: Client, stored: Mapping[str, Any] | None) -> Settings:
        """Take the settings of the run that began, or resolve and store them."""
        if stored is not None:
            settings = settings_of(stored, self._choices, self._session)
            self._workers = fit_workers(client, unfit, settings, self._plate.folder, ALGORITHM_VERSION)
            return settings
        bare = Settings(str(self._choices.output), self._session, self._choices.request, 1, 1, form=self._choices.form)
        self._workers = fit_workers(client, unfit, bare, self._plate.folder, ALGORITHM_VERSION)
        deepest = sorted(self._sound(), key=lambda unit: -max(unit.frame.slices, default=0))[:_DEPTHS]
        try:
            settled = self._value(client.submit(_settle, deepest, self._choices, workers=self._workers, pure=False))
        except (KilledWorker, CancelledError) as error:
            raise UserInputError(
                f"A worker died while it opened a field and a model ({type(error).__name__}); expected memory for "
                "both. Free memory, or use fewer workers with more memory each, and run the batch again."
            ) from error
        settings = settings_of({"settings": settled}, self._choices, self._session)
        statistics = self._measured(client, settings)
        record = new_record(self._choices.as_json(self._plate), settled, statistics)
        write_json(self._places.run_record, record, durable=True)
        return settings

    def _sound(self) -> list[PlateField]:
        """Return units of the whole plate without known defects: a pilot has the settings of the whole plate."""
        channels = self._choices.request.channels
        return [
            unit
            for unit in self._plate.fields()
            if unit.t in self._times.get(key_of(unit), ())
            and not defects_of(unit, find_channels(unit, channels) if unit.imaging.channels else ())
        ]

    def _measured(self, client: Client, settings: Settings) -> dict[str, tuple[FieldStatistics, ...]] | None:
        """Measure fields spread over the plate, or over each well."""
        if self._choices.stats == "field" or not METHODS[self._choices.request.method].decides:
            return None
        groups: dict[str, list[PlateField]] = {}
        for unit in self._sound():
            groups.setdefault(unit.well if self._choices.stats == "well" else "", []).append(unit)
        chosen = [(name, unit) for name, group in groups.items() for unit in sampled(group)]
        found: dict[str, list[tuple[FieldStatistics, ...]]] = {}
        client.register_plugin(Preparation(settings.request.threads or 1))
        futures = {
            client.submit(measure_unit, unit, settings, workers=self._workers, pure=False): (name, unit)
            for name, unit in chosen
        }
        for done, (future, (name, unit)) in enumerate(futures.items(), 1):
            try:
                measured = self._value(future)
            except (KilledWorker, CancelledError):  # too large to be measured; fusing it will tell
                measured = None
            if measured is not None:
                found.setdefault(name, []).append(measured)
            self._report(Event("measuring", unit, Outcome("done"), done, len(chosen), 0))
        return {name: common_statistics(fields) for name, fields in found.items()}

    def _value(self, future: Future[T]) -> T:
        """Wait for what a worker finds out before anything is fused."""
        while True:
            if self._stop():
                end_session(self._places)
                raise _StopAsked
            try:
                return future.result(timeout=_TICK)
            except TimeoutError:
                if future.done():  # by now: it has a value, or raises what it ended with
                    return future.result()

    def _task(self, unit: PlateField, statistics: Mapping[str, tuple[FieldStatistics, ...]] | None) -> Task:
        times = self._times[key_of(unit)]
        common = None if statistics is None else statistics.get(unit.well) or statistics.get("")
        return Task(unit, times[unit.t], len(times), common)

    def _end(self, unit: PlateField, outcome: Outcome) -> None:
        """Take note of how a unit ended."""
        result, key = self.result, key_of(unit)
        if outcome.status == "done":
            result.fused += 1
            self._missing[key].discard(unit.t)
            self._list(key, fresh=True)
            if time.monotonic() - self._published > _PUBLISH:
                self._publisher.publish()
                self._published = time.monotonic()
        elif outcome.status == "failed":
            result.failures.append((unit, outcome.reason))
        elif outcome.status == "full":
            result.full = outcome.reason
        if outcome.status in ("done", "failed"):
            self._left[unit.well] -= 1
            if not self._left[unit.well]:
                del self._left[unit.well]
            self._tell(unit, outcome)

    def _begin(self, unit: PlateField) -> None:
        self._tell(unit, None)

    def _tell(self, unit: PlateField, outcome: Outcome | None) -> None:
        result = self.result
        failed = len(result.failures)
        wells = self._wells - len(self._left), self._wells
        self._report(Event("fusing", unit, outcome, result.fused + failed, result.total - result.kept, failed, wells))


def _publisher(plate: Plate, choices: Choices) -> Publisher | FileList:
    places, form = choices.places, choices.form
    return FileList(plate, places) if places.files else Publisher(plate, places, form.ngff)


def _settle(units: Sequence[PlateField], choices: Choices) -> dict[str, Any]:
    """Run `settle` on a worker, which may have less memory than its computer."""
    return settle(units, choices, getattr(get_worker().memory_manager, "memory_limit", None))
