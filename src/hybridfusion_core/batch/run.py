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
from hybridfusion_core.batch.earlier_output import EarlierOutput
from hybridfusion_core.batch.fuse_field import KILLS, fuse_unit, killed, write_failure
from hybridfusion_core.batch.handling import RESUME, Handling, as_stored
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.measuring import group_of, lacking
from hybridfusion_core.batch.missing_fields import MissingFields
from hybridfusion_core.batch.output.load_data import FileList
from hybridfusion_core.batch.output.plate import Publisher
from hybridfusion_core.batch.plate_settings import PlateSettings, StopAsked
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
_SHOWN = 3
_PUBLISH = 60.0  # s between two times that the metadata of the plate are brought up to date

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
            earlier = None if paths.shard else EarlierOutput(paths)
            if earlier is not None and handling.overwrite:
                earlier.set_aside()

            def told(event: Event) -> None:
                if earlier is not None and event.outcome is not None and event.stage == "fusing":
                    earlier.forget() if event.outcome.status == "done" else None
                report(event)

            try:
                stored = run_record(paths, choices.as_json(plate))
                run = _Run(plate, units, choices, told, stop)
                result = run.go(connect, stored, finish, recheck=handling.recheck)
            finally:
                end_session(paths)
                shutil.rmtree(paths.staging, ignore_errors=True)
                kept = earlier is not None and earlier.restore()
            if kept and result.failures:
                raise UserInputError(
                    f"None of {result.total} fields × times could be fused, so the earlier result at {paths.output} "
                    "stays as it was; expected one at least. The first reasons:",
                    list(dict.fromkeys(why for _, why in result.failures))[:_SHOWN],
                )
            return result


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
        self._missing = MissingFields(plate, choices, self._chosen, self._publisher)
        self._started = self._published = time.monotonic()
        self._left: Counter[str] = Counter()
        self._wells = len({unit.well for unit in units})
        self._damaged: list[str] = []
        self.result = Result(self._paths, total=len(units), missing=self._missing.by_field)
        self._stitcher = Stitcher(
            plate, choices, {unit.well for unit in units}, self._missing.holes, self.result, report
        )
        self._shared = PlateSettings(plate, choices, self._session, self.result, report, stop)

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
            self._damaged = self._missing.recheck(self._report)
        self._missing.look()
        if not self._paths.shard:
            self._publisher.publish()
        pending = [unit for unit in self._chosen if unit.t in self._missing.by_field[key_of(unit)]]
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
                self._missing.look()
            else:
                self._missing.list_partial()
            self._publisher.publish()
            self.result.warnings = [*self._damaged, *self._publisher.warnings.values(), *self._remarks()]
            self.result.seconds = time.monotonic() - self._started
            finish(self.result)

    def _remarks(self) -> list[str]:
        record = read_json(self._paths.run_record) or {}
        lacks = lacking(record.get("left_out") or ())
        doubts = [str(each) for each in (record.get("settings") or {}).get("warnings") or ()]
        cut = self._missing.partial()
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
            problems = self._shared.defects(unit)
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
            settings = self._shared.settings(client, stored)
            workers = self._shared.fit(client, settings)
            self._shared.light(client, workers, settings)
            statistics = self._shared.statistics(client, workers, settings)
        tasks = [self._task(unit, statistics) for unit in pending]
        work = Work(fuse_unit, self._lost, self._has_begun)
        loop = Loop(client, workers, settings, work, self._begin, self._end, self._stop)
        self.result.interrupted = loop.run(tasks)
        if not self.result.interrupted and not self.result.full:
            self._missing.list_partial()  # a mosaic is described as its fields are
            self.result.interrupted = self._stitcher.run(client, workers, settings, self._stop)

    def _task(self, unit: PlateField, statistics: Mapping[str, Any] | None) -> Task:
        index, count = self._missing.place(unit)
        # A group without any measurement has no sound field; the task will tell why.
        common = None if statistics is None else statistics.get(group_of(unit, self._choices.stats))
        return Task(unit, index, count, common)

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
            self._missing.finish(unit)
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


def _publisher(plate: Plate, choices: Choices) -> Publisher | FileList:
    paths = choices.paths
    return (
        FileList(plate, paths)
        if paths.files
        else Publisher(plate, paths, choices.output_format.ngff, choices.request.channels)
    )
