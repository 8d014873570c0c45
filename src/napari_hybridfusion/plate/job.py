"""A plate as the widget's form describes it: looked at, and fused by the functions that the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.choices import Choices, Stats
from hybridfusion_core.batch.output.format import Format, make_output_format
from hybridfusion_core.batch.records.failure_list import read_failures
from hybridfusion_core.batch.records.finished import missing_times
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.batch.records.store import run_record
from hybridfusion_core.batch.report.field_table import field_rows
from hybridfusion_core.batch.report.write import write_reports
from hybridfusion_core.batch.result import Result
from hybridfusion_core.batch.run import run_plate
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import find_slices
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.io.create import refuse_input_as_output
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.forecast import forecast
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.plates.select import Selection, chosen_times, select, select_fields, select_wells
from hybridfusion_core.plates.summary import plate_warnings, summary, table
from napari_hybridfusion.job.task import FieldError, blame, checked_request
from napari_hybridfusion.job.worker import Calling
from napari_hybridfusion.plate.states import PlateStates


@dataclass(frozen=True)
class PlateChoices:
    """What the form says.

    Attributes:
        folder: the plate, or the index file in its folder.
        pattern: what the files are called, where no layout knows their names.
        output: the plate to write.
        wells: such as "B02:C05,D07"; None for all.
        fields: such as "1,3-5"; None for all.
        times: such as "0:10"; None for all.
        pilot: so many wells, spread over the plate; None for all.
        only: a failures.csv that names what is to be tried again; None for all.
        stats: whose statistics fields are normalised with.
        workers: processes on this computer; None as it has room for.
        scheduler: address of a Dask cluster that computes instead.
        scheduler_file: of one.
        format: of the results.
        ngff: version of the OME-Zarr; None for files.
        name: what files are called; None takes the usual name.
        z_step_um: replaces the distance between slices.
        pixel_size_um: replaces the distance between pixels.
        options: further fields of `FuseRequest`.
    """

    folder: Path | None = None
    pattern: str | None = None
    output: Path | None = None
    wells: str | None = None
    fields: str | None = None
    times: str | None = None
    pilot: int | None = None
    only: Path | None = None
    stats: Stats = "plate"
    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None
    format: Format = "ome-zarr"
    ngff: Ngff | None = None
    name: str | None = None
    z_step_um: float | None = None
    pixel_size_um: float | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def where(self) -> Where:
        """Who does the work."""
        return Where(self.workers, self.scheduler, self.scheduler_file)


@dataclass(frozen=True)
class Seen:
    """A plate, and what is known of its output.

    Attributes:
        plate: all of it.
        states: of all its fields.
        paths: of the output; None as long as it cannot be one.
        problem: of the output, for its field.
    """

    plate: Plate
    states: PlateStates
    paths: BatchPaths | None = None
    problem: FieldError | None = None


@dataclass(frozen=True)
class Look:
    """What a plate holds and fusing it would take.

    Attributes:
        seen: the plate.
        table: what people want to know, as `hybridfusion batch --dry-run` says it.
        warnings: about the plate.
        failing: units that cannot be fused, and why, as far as it is known before their files are opened.
    """

    seen: Seen
    table: dict[str, str]
    warnings: list[str]
    failing: tuple[tuple[PlateField, str], ...]


def looking(choices: PlateChoices) -> Generator[Seen, None, Look]:
    """Find out what a plate holds; what an earlier run has fused is found again.

    Yields:
        The plate, as soon as it is open, and again with what is fused of it.

    Returns:
        (on exhaustion) what to expect.

    Raises:
        FieldError: a choice does not fit the plate.
    """
    plate, units, request = _asked(choices)
    yield Seen(plate, PlateStates(plate, units))
    seen = _seen(choices, plate, units, request)
    yield seen
    _check_cluster(choices)
    with blame("focus_from"):
        found = forecast(units, request, z_step_um=choices.z_step_um, pixel_size_um=choices.pixel_size_um)
    about = summary(plate, units, found, choices.output or Path(plate.folder))
    return Look(seen, table(plate, about), plate_warnings(plate), found.failing)


def fusing_plate(choices: PlateChoices) -> Calling:
    """Return what fuses a plate, reports a `Seen` and then an `Event` for each unit, and returns a `Result`."""

    def call(report: Callable[[Any], None], stop: Callable[[], bool]) -> Result:
        plate, units, request = _asked(choices)
        seen = _seen(choices, plate, units, request)
        if seen.problem is not None:
            raise seen.problem
        _check_cluster(choices)
        seen.states.begin()
        report(seen)
        return run_plate(
            plate,
            units,
            _batch(choices, plate, request),
            lambda count: connected(choices.where, request.device, count),
            report,
            lambda found: write_reports(plate, found),
            stop,
        )

    return call


def _asked(choices: PlateChoices) -> tuple[Plate, tuple[PlateField, ...], FuseRequest]:
    plate, units = _opened(choices)
    request = checked_request(dict(choices.options))
    with blame("channels"):
        find_channels(units[0], request.channels)
    if depth := max(units[0].frame.slices, default=0):
        with blame("z"):
            find_slices(request.z, depth)
    return plate, units, request


def _opened(choices: PlateChoices) -> tuple[Plate, tuple[PlateField, ...]]:
    if choices.folder is None:
        raise FieldError("folder", "There is no plate to fuse; expected its folder. Choose it.")
    with blame("folder" if choices.pattern is None else "pattern"):
        plate = open_plate(choices.folder, pattern=choices.pattern)
    # One after the other, so that each is told what is wrong with it.
    if choices.wells is not None:
        with blame("wells"):
            select_wells(plate.wells, choices.wells)
    if choices.fields is not None:
        with blame("fields"):
            select_fields({field.name for well in plate.wells for field in well.fields}, choices.fields)
    with blame("times"):
        chosen_times(plate, choices.times)
    with blame("only"):
        only = None if choices.only is None else read_failures(choices.only)
    with blame("wells" if only is None else "only"):
        units = select(plate, Selection(choices.wells, choices.fields, choices.times, choices.pilot, only))
    return plate, units


def _check_cluster(choices: PlateChoices) -> None:
    with blame("scheduler" if choices.scheduler is not None else "scheduler_file"):
        choices.where.check()


def _batch(choices: PlateChoices, plate: Plate, request: FuseRequest) -> Choices:
    if choices.output is None:
        raise UserInputError("There is no output; expected the name of a plate that ends in .ome.zarr. Choose one.")
    times = chosen_times(plate, choices.times)
    with blame("name"):
        output_format = make_output_format(choices.format, choices.ngff, choices.name)
    batch = Choices(
        choices.output.absolute(),
        request,
        stats=choices.stats,
        times=times,
        z_step_um=choices.z_step_um,
        pixel_size_um=choices.pixel_size_um,
        output_format=output_format,
    )
    with blame("name"):
        batch.check_names(plate)
    return batch


def _seen(choices: PlateChoices, plate: Plate, units: tuple[PlateField, ...], request: FuseRequest) -> Seen:
    """Look at the output: what is there already, or why it cannot be written."""
    try:
        with blame("output"):
            batch = _batch(choices, plate, request)
            paths = batch.paths
            refuse_input_as_output(batch.output, plate.inputs)
            if not batch.output.parent.is_dir():
                raise UserInputError(
                    f"The folder {batch.output.parent} does not exist; expected an existing one. Create it."
                )
            run_record(paths, batch.as_json(plate))
            rows = field_rows(plate, paths, missing_times(plate, paths, batch.takes)) if paths.folder.is_dir() else ()
            return Seen(plate, PlateStates(plate, units, rows), paths)
    except FieldError as problem:
        return Seen(plate, PlateStates(plate, units), None, problem)
