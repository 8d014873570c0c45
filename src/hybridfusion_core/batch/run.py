"""The run: which units are missing, who fuses them, and what is written down however it ends."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from distributed import Client

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fuse_field import KILLS, fuse_unit, killed, write_failure
from hybridfusion_core.batch.groundwork import Groundwork, StopAsked
from hybridfusion_core.batch.handling import RESUME, Handling, as_stored, remove
from hybridfusion_core.batch.listed_fields import ListedFields
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.measuring import Statistics, group_of, lacking
from hybridfusion_core.batch.recheck import forget_damaged
from hybridfusion_core.batch.records.claim import alone, claimed
from hybridfusion_core.batch.records.paths import key_of
from hybridfusion_core.batch.records.store import (
    begin_session,
    end_session,
    note_asked,
    read_json,
    refuse_foreign,
    run_record,
    starts_in_run,
    unit_record,
)
from hybridfusion_core.batch.records.writing import written
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.task import Outcome, Task
from hybridfusion_core.batch.whole_wells import Stitcher
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plate import Plate, PlateField

_LOSSES = 5  # workers that may go with a unit that had not begun

Connect = Callable[[int], AbstractContextManager[Client]]


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
            if handling.overwrite:
                remove(paths)
            try:
                stored = run_record(paths, choices.as_json(plate))
                return _Run(plate, units, choices, report, stop).go(connect, stored, finish, recheck=handling.recheck)
            finally:
                end_session(paths)
                shutil.rmtree(paths.staging, ignore_errors=True)


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
        self._choices, self._paths = choices, choices.paths
        self._report, self._stop = report, stop
        self._session = uuid.uuid4().hex
        self._chosen = list(units)
        self._started = time.monotonic()
        self._left: Counter[str] = Counter()
        self._wells = len({unit.well for unit in units})
        self._damaged: list[str] = []
        self._fields = ListedFields(plate, choices)
        self.result = Result(self._paths, total=len(units), missing=self._fields.missing)
        self._groundwork = Groundwork(plate, choices, self._session, self.result, report, stop)
        wells = {unit.well for unit in units}
        self._stitcher = Stitcher(plate, choices, wells, self._fields.holes, self.result, report)

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
            self._damaged = forget_damaged(self._paths, self._chosen, self._report)
        self._fields.find()
        if not self._paths.shard:
            self._fields.publish()
        pending = [unit for unit in self._chosen if self._fields.lacks(unit)]
        self.result.kept = len(self._chosen) - len(pending)
        self._left.update(unit.well for unit in pending)
        pending = self._without_defects(pending)
        try:
            if pending or self._stitcher.stale():
                with connect(max(len(pending), 1)) as client:
                    self._compute(client, pending, stored)
        except StopAsked:
            self.result.interrupted = True
        finally:
            self._close(finish)
        return self.result

    def _close(self, finish: Callable[[Result], None]) -> None:
        """Bring metadata and reports up to date; of several shards, each does so for all that is finished by then."""
        shard, paths = self._paths.shard, self._paths
        with alone(paths.folder / "publish.lock", paths.output) if shard else nullcontext():
            if shard:
                self._fields.find()
            else:
                self._fields.list_partial()
            self._fields.publish()
            self.result.warnings = [*self._damaged, *self._fields.warnings, *self._remarks()]
            self.result.seconds = time.monotonic() - self._started
            finish(self.result)

    def _remarks(self) -> list[str]:
        record = read_json(self._paths.run_record) or {}
        lacks = lacking(record.get("left_out") or ())
        doubts = [str(each) for each in (record.get("settings") or {}).get("warnings") or ()]
        cut = self._fields.partial()
        gaps = (
            f"{len(cut)} fields lack time points that failed or are not fused yet; their metadata name them as "
            "missing_times, and they read as zeros."
        )
        workers = [f"The worker {address} took no part: {why}" for address, why in self.result.refused.items()]
        stitched = self._stitcher.remarks()
        return [*doubts, *([lacks] if lacks else []), *([gaps] if cut else []), *stitched, *workers]

    def _without_defects(self, units: list[PlateField]) -> list[PlateField]:
        """Write down what fails without a look at its pixels."""
        sound = []
        for unit in units:
            problems = self._groundwork.defects(unit)
            if problems:
                write_failure(self._paths, unit, problems)
                self._end(Task(unit), Outcome("failed", problems))
            else:
                sound.append(unit)
        return sound

    def _compute(self, client: Client, pending: list[PlateField], stored: Mapping[str, Any] | None) -> None:
        settle_lock = self._paths.folder / "settle.lock"
        with alone(settle_lock, self._paths.output, self._stop) if self._paths.shard else nullcontext():
            stored = stored or read_json(self._paths.run_record)  # another shard may have written it meanwhile
            workers, settings, statistics = self._groundwork.lay(client, stored)
        tasks = [self._task(unit, statistics) for unit in pending]
        work = Work(fuse_unit, self._lost, self._has_begun)
        loop = Loop(client, workers, settings, work, self._begin, self._end, self._stop)
        self.result.interrupted = loop.run(tasks)
        if not self.result.interrupted and not self.result.full:
            self._fields.list_partial()  # a mosaic is described as its fields are
            self.result.interrupted = self._stitcher.run(client, workers, settings, self._stop)

    def _task(self, unit: PlateField, statistics: Statistics | None) -> Task:
        # A group without any measurement has no sound field; the task will tell why.
        common = None if statistics is None else statistics.get(group_of(unit, self._choices.stats))
        return Task(unit, *self._fields.place(unit), common)

    def _lost(self, task: Task, count: int) -> str:
        """Say why a unit is given up after a worker was lost: only what had begun is at fault."""
        starts = starts_in_run(self._paths, key_of(task.unit), task.unit.t, self._session)
        return killed(max(starts, 1)) if starts >= KILLS or count > _LOSSES else ""

    def _has_begun(self, task: Task) -> bool:
        return bool(starts_in_run(self._paths, key_of(task.unit), task.unit.t, self._session))

    def _end(self, task: Task, outcome: Outcome) -> None:
        """Take note of how a unit ended."""
        unit, result = task.unit, self.result
        if outcome.status == "done":
            result.flagged.update(outcome.flags)
            result.fused += 1
            self._fields.finish(unit)
        elif outcome.status == "failed":
            result.failures.append((unit, outcome.reason))
            if (unit_record(self._paths, key_of(unit), unit.t) or {}).get("status") != "failed":
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
