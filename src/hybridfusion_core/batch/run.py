"""The run: which units are missing, who fuses them, and what is written down however it ends."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from distributed import Client, get_worker

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fit_workers import FitWorkers
from hybridfusion_core.batch.fuse_field import KILLS, fuse_unit, killed, write_failure
from hybridfusion_core.batch.handling import RESUME, Handling, SetAside, as_stored, recover
from hybridfusion_core.batch.light import estimate_light
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.measuring import group_of, lacking, measured, named
from hybridfusion_core.batch.output.load_data import FileList
from hybridfusion_core.batch.output.plate import Publisher
from hybridfusion_core.batch.output.verify import damage, damaged_wells
from hybridfusion_core.batch.records.claim import alone, claimed
from hybridfusion_core.batch.records.finished import missing_times
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.batch.records.store import (
    begin_session,
    end_session,
    note_asked,
    read_json,
    refuse_foreign,
    run_record,
    starts_in_run,
    unit_record,
    write_json,
)
from hybridfusion_core.batch.records.writing import written
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.settings import new_record, settings_of, settle, statistics_of, with_statistics
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.batch.whole_wells import Stitcher
from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.plates.field_stack import defects_of, find_channels
from hybridfusion_core.plates.plate import Plate, PlateField

_DEPTHS = 8  # units to try when settings are resolved
_LOSSES = 5  # workers that may go with a unit that had not begun
_PUBLISH = 60.0  # s between two times that the metadata of the plate are brought up to date

Connect = Callable[[int], AbstractContextManager[Client]]


class _StopAsked(Exception):
    """The user has had enough before a field was begun."""


def run_plate(
    plate: Plate,
    units: Sequence[PlateField],
    choices: Choices,
    connect: Connect,
    report: Callable[[Event], None] = lambda _: None,
    finish: Callable[[Result], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    handling: Handling = RESUME,
) -> Result:
    """Fuse the units of a plate that are missing or whose input has changed.

    Args:
        plate: all of it.
        units: of it, that are to be fused now; none only brings metadata and reports up to date.
        choices: how.
        connect: gives a client, for so many units.
        report: called when a unit has begun, as far as that is noticed, and when it has ended.
        finish: called with the result, while no other run can write, also when the cluster is lost.
        stop: whether the user wants it to stop, asked every second; for callers that Ctrl-C does not reach.
        handling: of an output that is there already.

    Returns:
        How it ended; every unit that was fused is in the plate, whatever happened to the others.

    Raises:
        UserInputError: another run writes this output, a run with other choices began it, it cannot be written, or no
            worker is fit.
        StoredDataError: records are damaged.
        KeyboardInterrupt: for the second time.
    """
    paths = choices.paths
    choices.check_names(plate)
    if not paths.output.parent.is_dir():
        raise UserInputError(
            f"The folder {paths.output.parent} does not exist; expected an existing folder for {paths.output.name}. "
            "Create it or choose another one."
        )
    if handling.overwrite:
        refuse_foreign(paths)
    else:
        plate, units = as_stored(plate, units, paths)
        run_record(paths, choices.as_json(plate))  # refuses before anything is written
    with written(paths.output):
        paths.folder.mkdir(exist_ok=True)
        with claimed(paths):
            recover(paths)
            with _begun_anew(paths, report) if handling.overwrite else nullcontext(report) as told:
                try:
                    stored = run_record(paths, choices.as_json(plate))
                    run = _Run(plate, units, choices, told, stop)
                    result = run.go(connect, stored, finish, recheck=handling.recheck)
                finally:
                    end_session(paths)
                    shutil.rmtree(paths.staging, ignore_errors=True)
    if handling.overwrite and not result.fused:
        result.warnings.append(_NOTHING_NEW)
    return result


@contextmanager
def _begun_anew(paths: BatchPaths, report: Callable[[Event], None]) -> Iterator[Callable[[Event], None]]:
    """Set an earlier result aside; it goes with the first field of the new one, and comes back without any.

    Yields:
        What to report events to, so that this is noticed.
    """
    old = SetAside(paths)

    def told(event: Event) -> None:
        fused = event.stage == "fusing" and event.outcome is not None and event.outcome.status == "done"
        if fused and old.is_there:
            old.drop()
        report(event)

    try:
        yield told
    finally:
        if old.is_there:
            old.restore()


class _Run:
    """What is known while a run goes on."""

    def __init__(
        self,
        plate: Plate,
        units: Sequence[PlateField],
        choices: Choices,
        report: Callable[[Event], None],
        stop: Callable[[], bool],
    ) -> None:
        self._plate, self._choices, self._paths = plate, choices, choices.paths
        self._report, self._stop = report, stop
        self._session = uuid.uuid4().hex
        self._publisher = _publisher(plate, choices)
        self._chosen = list(units)
        self._missing: dict[FieldKey, set[int]] = {}
        self._times: dict[FieldKey, dict[int, int]] = {}  # index among those that are fused, by time point
        self._started = self._published = time.monotonic()
        self._left: Counter[str] = Counter()
        self._wells = len({unit.well for unit in units})
        self._damaged: list[str] = []
        self.result = Result(self._paths, total=len(units), missing=self._missing)
        self._stitcher = Stitcher(plate, choices, {unit.well for unit in units}, self._holes, self.result, report)

    def go(
        self,
        connect: Connect,
        stored: Mapping[str, Any] | None,
        finish: Callable[[Result], None],
        *,
        recheck: bool,
    ) -> Result:
        begin_session(self._paths, self._session)
        shutil.rmtree(self._paths.staging, ignore_errors=True)  # of a run that was killed
        self._paths.staging.mkdir()
        note_asked(self._paths, self._chosen)
        if recheck:
            self._recheck()
        self._look()
        if not self._paths.shard:
            self._publisher.publish()
        pending = [unit for unit in self._chosen if unit.t in self._missing[key_of(unit)]]
        self.result.kept = len(self._chosen) - len(pending)
        self._left.update(unit.well for unit in pending)
        pending = self._without_defects(pending)
        try:
            if pending or self._stitcher.stale():
                with connect(max(len(pending), 1)) as client:
                    self._compute(client, pending, stored)
        except _StopAsked:
            self.result.interrupted = True
        finally:
            self._close(finish)
        return self.result

    def _close(self, finish: Callable[[Result], None]) -> None:
        """Bring metadata and reports up to date; of several shards, each does so for all that is finished by then."""
        shard, paths = self._paths.shard, self._paths
        with alone(paths.folder / "publish.lock", paths.output) if shard else nullcontext():
            if shard:
                self._look()
            else:
                self._list_partial()
            self._publisher.publish()
            self.result.warnings = [*self._damaged, *self._publisher.warnings.values(), *self._remarks()]
            self.result.seconds = time.monotonic() - self._started
            finish(self.result)

    def _remarks(self) -> list[str]:
        record = read_json(self._paths.run_record) or {}
        lacks = lacking(record.get("left_out") or ())
        doubts = [str(each) for each in (record.get("settings") or {}).get("warnings") or ()]
        cut = [key for key, times in self._missing.items() if times and len(times) < len(self._times[key])]
        gaps = (
            f"{len(cut)} fields lack time points that failed or are not fused yet; their metadata name them as "
            "missing_times, and they read as zeros."
        )
        workers = [f"The worker {address} took no part: {why}" for address, why in self.result.refused.items()]
        stitched = self._stitcher.remarks()
        return [*doubts, *([lacks] if lacks else []), *([gaps] if cut else []), *stitched, *workers]

    def _recheck(self) -> None:
        """Forget that fields are finished whose pixels are damaged, and images of whole wells."""
        for record, fault in damaged_wells(self._paths):
            record.unlink(missing_ok=True)
            self._damaged.append(f"The image of a whole well was damaged; --stitch makes it again: {fault}")
        fields: dict[FieldKey, list[PlateField]] = {}
        for unit in self._chosen:
            fields.setdefault(key_of(unit), []).append(unit)
        for done, (key, units) in enumerate(fields.items(), 1):
            found = damage(self._paths, key, [unit.t for unit in units])
            for unit in units if found else ():
                self._paths.record(key, unit.t).unlink(missing_ok=True)
            if found:
                where = f"{units[0].well} field {units[0].field}"
                self._damaged.append(f"{where} was damaged and is fused again: {found[0]}")
            self._report(Event("checking", units[0], Outcome("done"), done, len(fields), len(self._damaged)))

    def _look(self) -> None:
        """Find out which units of the whole plate are finished, and list the fields that have any."""
        for unit in self._plate.fields():
            if self._choices.takes(unit):
                times = self._times.setdefault(key_of(unit), {})
                times.setdefault(unit.t, len(times))
        self._missing.update(missing_times(self._plate, self._paths, self._choices.takes))
        for key in self._missing:
            self._list(key)

    def _list_partial(self) -> None:
        for key, missing in self._missing.items():
            if missing and len(missing) < len(self._times[key]):
                self._list(key)

    def _holes(self, key: FieldKey) -> tuple[int, ...] | None:
        """Return which time points of a field's image have no pixels; None if none of them has."""
        times, missing = self._times.get(key, {}), self._missing.get(key, set())
        return tuple(sorted(times[t] for t in missing)) if len(missing) < len(times) else None

    def _list(self, key: FieldKey, *, fresh: bool = False) -> None:
        """Have a field listed if any of its time points is finished; those that are not are named."""
        times, missing = self._times[key], self._missing[key]
        records = [unit_record(self._paths, key, t) for t in times if t not in missing]
        known = [record for record in records if record is not None]
        if known:
            self._publisher.add(key, known, missing=sorted(times[t] for t in missing), fresh=fresh)

    def _without_defects(self, units: list[PlateField]) -> list[PlateField]:
        """Write down what fails without a look at its pixels."""
        sound = []
        for unit in units:
            problems = self._defects(unit)
            if problems:
                write_failure(self._paths, unit, problems)
                self._end(Task(unit), Outcome("failed", problems))
            else:
                sound.append(unit)
        return sound

    def _defects(self, unit: PlateField) -> str:
        channels = find_channels(unit, self._choices.request.channels) if unit.imaging.channels else ()
        return "; ".join(each.message for each in defects_of(unit, channels))

    def _compute(self, client: Client, pending: list[PlateField], stored: Mapping[str, Any] | None) -> None:
        settle_lock = self._paths.folder / "settle.lock"
        with alone(settle_lock, self._paths.output, self._stop) if self._paths.shard else nullcontext():
            stored = stored or read_json(self._paths.run_record)  # another shard may have written it meanwhile
            settings = self._settings(client, stored)
            workers = self._fit(client, settings)
            self._light(client, workers, settings)
            statistics = self._statistics(client, workers, settings)
        tasks = [self._task(unit, statistics) for unit in pending]
        work = Work(fuse_unit, self._lost, self._has_begun)
        loop = Loop(client, workers, settings, work, self._begin, self._end, self._stop)
        self.result.interrupted = loop.run(tasks)
        if not self.result.interrupted and not self.result.full:
            self._list_partial()  # a mosaic is described as its fields are
            self.result.interrupted = self._stitcher.run(client, workers, settings, self._stop)

    def _fit(self, client: Client, settings: Settings) -> FitWorkers:
        workers = FitWorkers(client, settings, self._plate.folder)
        self.result.refused = workers.refused
        if not workers.wait(self._stop):
            raise _StopAsked
        return workers

    def _settings(self, client: Client, stored: Mapping[str, Any] | None) -> Settings:
        """Take the settings of the run that began, or resolve and store them."""
        if stored is not None:
            return settings_of(stored, self._choices, self._session)
        bare = Settings(self._choices, self._session)
        deepest = sorted(self._sound(), key=lambda unit: -max(unit.frame.slices, default=0))[:_DEPTHS]
        outcomes: list[Outcome] = []
        loop = Loop(
            client,
            self._fit(client, bare),
            bare,
            Work(partial(_settled, deepest), lambda _, count: _DIED if count >= KILLS else ""),
            lambda _: None,
            lambda _, outcome: outcomes.append(outcome),
            self._stop,
        )
        if loop.run([Task(next(self._plate.fields()))]) or not outcomes:
            raise _StopAsked
        (outcome,) = outcomes
        if outcome.status != "done":
            raise outcome.value or UserInputError(outcome.reason)
        record = new_record(self._choices.as_json(self._plate), outcome.value)
        write_json(self._paths.run_record, record, durable=True)
        return settings_of(record, self._choices, self._session)

    def _sound(self) -> list[PlateField]:
        """Return units of the whole plate without known defects: a pilot has the settings of the whole plate."""
        return [unit for unit in self._taken() if not self._defects(unit)]

    def _taken(self) -> list[PlateField]:
        return [unit for unit in self._plate.fields() if self._choices.takes(unit)]

    def _light(self, client: Client, workers: FitWorkers, settings: Settings) -> None:
        """Estimate how evenly the plate is lit, if that was asked for and not done before."""

        def report(unit: PlateField, done: int, total: int) -> None:
            self._report(Event("measuring", unit, Outcome("done"), done, total, 0))

        if estimate_light(client, workers, settings, self._sound(), report, self._stop):
            raise _StopAsked

    def _statistics(self, client: Client, workers: FitWorkers, settings: Settings) -> Mapping[str, Any] | None:
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
            self.result.full = found.full
            raise _StopAsked
        groups = {group_of(unit, stats) for unit in wanted}
        taken = [unit for unit in self._taken() if group_of(unit, stats) in groups]
        broken = [(unit, why) for unit in taken if (why := self._defects(unit))]
        left_out = named([*found.left_out, *broken])
        write_json(self._paths.run_record, with_statistics(record, found.statistics, left_out), durable=True)
        return {**known, **found.statistics}

    def _task(self, unit: PlateField, statistics: Mapping[str, Any] | None) -> Task:
        times = self._times[key_of(unit)]
        # A group without any measurement has no sound field; the task will tell why.
        common = None if statistics is None else statistics.get(group_of(unit, self._choices.stats))
        return Task(unit, times[unit.t], len(times), common)

    def _lost(self, task: Task, count: int) -> str:
        """Say why a unit is given up after a worker was lost: only what had begun is at fault."""
        starts = starts_in_run(self._paths, key_of(task.unit), task.unit.t, self._session)
        return killed(max(starts, 1)) if starts >= KILLS or count > _LOSSES else ""

    def _has_begun(self, task: Task) -> bool:
        return bool(starts_in_run(self._paths, key_of(task.unit), task.unit.t, self._session))

    def _end(self, task: Task, outcome: Outcome) -> None:
        """Take note of how a unit ended."""
        unit, result, key = task.unit, self.result, key_of(task.unit)
        if outcome.status == "done":
            result.flagged.update(outcome.flags)
            result.fused += 1
            self._missing[key].discard(unit.t)
            if not self._missing[key]:
                self._list(key, fresh=True)
            if time.monotonic() - self._published > _PUBLISH and not self._paths.shard:
                self._publisher.publish()
                self._published = time.monotonic()
        elif outcome.status == "failed":
            result.failures.append((unit, outcome.reason))
            if (unit_record(self._paths, key, unit.t) or {}).get("status") != "failed":
                write_failure(self._paths, unit, outcome.reason)  # its worker could not
        elif outcome.status == "full":
            result.full = outcome.reason
        if outcome.status in ("done", "failed"):
            self._left[unit.well] -= 1
            if not self._left[unit.well]:
                del self._left[unit.well]
            self._tell(unit, outcome)

    def _begin(self, task: Task) -> None:
        self._tell(task.unit, None)

    def _tell(self, unit: PlateField, outcome: Outcome | None) -> None:
        result = self.result
        failed = len(result.failures)
        wells = self._wells - len(self._left), self._wells
        self._report(Event("fusing", unit, outcome, result.fused + failed, result.total - result.kept, failed, wells))


_NOTHING_NEW = "No field was fused, so that nothing was overwritten: what an earlier batch left is there as it was."
_DIED = (
    "Workers died while they opened a field and a model; expected memory for both. Free memory, or use fewer workers "
    "with more memory each, and run the batch again."
)


def _publisher(plate: Plate, choices: Choices) -> Publisher | FileList:
    paths = choices.paths
    return (
        FileList(plate, paths)
        if paths.files
        else Publisher(plate, paths, choices.output_format.ngff, choices.request.channels)
    )


def _settled(units: Sequence[PlateField], _: Task, settings: Settings) -> Outcome:
    """Run `settle` on a worker, which may have less memory than its computer."""
    memory = getattr(get_worker().memory_manager, "memory_limit", None)
    try:
        return Outcome("done", value=settle(units, settings.choices, memory))
    except HybridFusionError as error:
        return Outcome("failed", str(error), value=error)
