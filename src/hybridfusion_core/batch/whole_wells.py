"""Whole wells after their fields: which images are missing or out of date, and who makes them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from distributed import Client, get_worker

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fit_workers import FitWorkers
from hybridfusion_core.batch.fitness import unfit
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.preparation import prepared
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.batch.records.store import FORMAT, in_session, read_json, unit_record, write_json
from hybridfusion_core.batch.records.writing import unwritable
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.stitch.image import write_mosaic
from hybridfusion_core.batch.stitch.mosaic import Mosaic, marked, mosaics
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.plates.plate import Plate, PlateField

_LOSSES = 5  # workers that may go while they stitch one well

Holes = Callable[[FieldKey], tuple[int, ...] | None]


class Stitcher:
    """Makes the images of whole wells that a run was asked for.

    Args:
        plate: all of it.
        choices: of the user.
        wells: names of those that were chosen.
        holes: which time points of a field's image have no pixels; None if none has any.
        result: of the run; wells that could not be stitched are added to it.
        report: called with each event.
    """

    def __init__(
        self,
        plate: Plate,
        choices: Choices,
        wells: set[str],
        holes: Holes,
        result: Result,
        report: Callable[[Event], None],
    ) -> None:
        self._plate, self._choices, self._wells, self._holes = plate, choices, wells, holes
        self._result, self._report = result, report

    def stale(self) -> list[Mosaic]:
        """Return what is not there, or was made of other fields."""
        return [each for each in self._wanted() if each.fields and not _stands(each, self._choices.paths)]

    def run(self, client: Client, workers: FitWorkers, settings: Settings, stop: Callable[[], bool]) -> bool:
        """Make all that is missing; each well is a task.

        Returns:
            Whether the user stopped it.
        """
        first: dict[str, PlateField] = {}
        for unit in self._plate.fields():
            first.setdefault(unit.well, unit)
        tasks = [Task(first[each.well], mosaic=each) for each in self.stale()]
        done = 0

        def ended(task: Task, outcome: Outcome) -> None:
            nonlocal done
            done += 1
            if outcome.status == "failed":
                self._result.unstitched.append((task.unit.well, outcome.reason))
            elif outcome.status == "full":
                self._result.full = outcome.reason
            failed = len(self._result.unstitched)
            self._report(Event("stitching", task.unit, outcome, done, len(tasks), failed))

        work = Work(stitch_well, _lost)
        return bool(tasks) and Loop(client, workers, settings, work, lambda _: None, ended, stop).run(tasks)

    def remarks(self) -> Iterator[str]:
        """Yield what the user should know of the images of whole wells."""
        for well, reason in self._result.unstitched:
            yield f"The well {well} could not be stitched: {reason}"
        loose, partial_ = [], []
        for each in self._wanted():
            about = _record(each, self._choices.paths).get("stitch", {})
            if about.get("how") == "register" and about.get("registered", 0) < len(about.get("fields", ())) - 1:
                loose.append(f"{each.well} ({about['registered']} of {about['overlaps']} overlaps)")
            partial_ += [each.well] if about.get("lacking") else []
        if loose:
            yield (
                f"{len(loose)} wells have fields that no overlap ties to their neighbours, because it is too narrow or "
                f"shows too little; these lie where the stage puts them: {', '.join(loose[:5])}"
            )
        if partial_:
            yield f"{len(partial_)} images of whole wells lack fields that are not fused: {', '.join(partial_[:5])}"

    def _wanted(self) -> Iterator[Mosaic]:
        if self._choices.stitch == "none":
            return
        paths = self._choices.paths
        found = mosaics(self._plate, self._wells, self._choices.stitch, self._choices.pixel_size_um, self._holes)
        units: dict[FieldKey, list[PlateField]] = {}
        for unit in filter(self._choices.takes, self._plate.fields()):
            units.setdefault(key_of(unit), []).append(unit)
        for each in found:
            yield replace(each, mark=marked(each, lambda key: [_print(paths, unit) for unit in units[key]]))


def stitch_well(task: Task, settings: Settings) -> Outcome:
    """Make the image of a well, and write down of what.

    Args:
        task: with a mosaic.
        settings: of the run.
    """
    mosaic, paths = task.mosaic, settings.paths
    reason = unfit(settings, task.unit.folder)
    if reason is not None:
        return Outcome("refused", reason, worker=get_worker().address)
    assert mosaic is not None  # noqa: S101  (for mypy)
    steps = write_mosaic(mosaic, paths, settings.choices.output_format.ngff)
    try:
        with prepared(settings.request.threads or 1):
            about = _to_its_end(steps, paths, settings.session)
        if about is None:
            return Outcome("stopped")
        write_json(paths.mosaic(mosaic.key), {"format": FORMAT, "mark": mosaic.mark, "stitch": about})
    except (HybridFusionError, OSError, MemoryError, ValueError) as error:
        full = unwritable(error, paths.output)
        told = str(error) if isinstance(error, HybridFusionError) else f"{type(error).__name__}: {error}"
        return Outcome("full", full) if full else Outcome("failed", told)
    return Outcome("done")


def _to_its_end(steps: Generator[None, None, dict[str, Any]], paths: BatchPaths, session: str) -> dict[str, Any] | None:
    while in_session(paths, session):
        try:
            next(steps)
        except StopIteration as end:
            return dict(end.value)
    return None


def _stands(mosaic: Mosaic, paths: BatchPaths) -> bool:
    folder = paths.output.joinpath(*mosaic.key)
    return _record(mosaic, paths).get("mark") == mosaic.mark and folder.is_dir()


def _record(mosaic: Mosaic, paths: BatchPaths) -> dict[str, Any]:
    try:
        return read_json(paths.mosaic(mosaic.key)) or {}
    except StoredDataError:
        return {}


def _print(paths: BatchPaths, unit: PlateField) -> Any:
    return (unit_record(paths, key_of(unit), unit.t) or {}).get("fingerprint")


def _lost(_: Task, count: int) -> str:
    return "" if count < _LOSSES else f"{count} workers were lost while they stitched it; expected one to last."
