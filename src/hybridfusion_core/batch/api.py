"""A batch from Python: what is to be done with a plate, planned first, then run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hybridfusion_core.batch.choices import Choices, Stats
from hybridfusion_core.batch.handling import Handling
from hybridfusion_core.batch.offset_survey import with_offsets
from hybridfusion_core.batch.output.format import Format, OutputFormat, make_output_format
from hybridfusion_core.batch.records.failure_list import read_failures
from hybridfusion_core.batch.report.write import write_reports
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.run import Connect, run_plate
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.batch.shard import shard_of
from hybridfusion_core.batch.stitch.mosaic import Stitch, refuse_unplaceable
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.io.create import refuse_input_as_output
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.plates.acquired import with_acquired_times
from hybridfusion_core.plates.dropped_slices import without_missing_slices
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.plates.select import Selection, chosen_times, select
from hybridfusion_core.shading.profiles import AUTO


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is to do.

    Attributes:
        plate: all of it.
        units: fields × times to fuse; none if a list of failures was empty, or a shard has no well.
        choices: how.
        device: that was asked for.
        notes: what a person should be told of it, one sentence each.
    """

    plate: Plate
    units: tuple[PlateField, ...]
    choices: Choices
    device: str = "auto"
    notes: tuple[str, ...] = ()


def plan_batch(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    axes: str | None = None,
    missing: Literal["fail", "drop"] = "fail",
    absent: Absent = "refuse",
    wells: str | None = None,
    fields: str | None = None,
    times: str | None = None,
    pilot: int | None = None,
    only: str | os.PathLike[str] | None = None,
    shard: str | None = None,
    stats: Stats = "plate",
    stitch: Stitch = "none",
    z_step_um: float | None = None,
    pixel_size_um: float | None = None,
    format: Format = "ome-zarr",
    ngff: Ngff | None = None,
    name: str | None = None,
    **options: Any,
) -> BatchPlan:
    """Open a plate, choose from it and check what can be checked before anything is computed; nothing is written.

    Args:
        source: plate, its index file, or a folder of stacks; or a URL of an OME-Zarr plate.
        output: the plate to write, ending in ".zarr", or the folder of files.
        pattern: names of files, as `--pattern` of the command line.
        axes: of stacks, such as "ZYX", where the files do not say.
        missing: what becomes of fields with missing planes: they "fail", or are fused without these
            slices ("drop").
        absent: what becomes of fields whose OME-Zarr lacks whole slices: they fail ("refuse"), or these slices are read
            as the fill value ("fill").
        wells: such as "B02:C05,D07"; None takes all.
        fields: names, such as "1,3-5"; None takes all.
        times: indices from 0, such as "0:10"; None takes all.
        pilot: only so many wells, spread over the plate.
        only: a list of failures of an earlier batch, or what `verify --failures` wrote.
        shard: such as "2/8": one of several jobs that share the output.
        stats: whose statistics fields are normalised with: those of the plate, of their well, or their own.
        stitch: also make an image of each whole well, "stitched" beside its fields, placed by the "stage" or
            registered on their overlaps ("register").
        z_step_um: distance between slices in µm, in place of what the files say.
        pixel_size_um: side of a pixel in µm, in place of what the files say.
        format: of the results.
        ngff: version of the OME-Zarr; None takes 0.5.
        name: template of the names of files.
        **options: fields of `FuseRequest`, such as `method="tenengrad"`.

    Raises:
        UserInputError: something of it cannot be done.
        StoredDataError: the metadata of the plate are damaged.
    """
    request = _absolute(make_request(**options))
    failures = None if only is None else read_failures(Path(only))
    plate = open_plate(str(source), pattern=pattern, axes=axes, absent=absent)
    decides = None if request.focus_from in ("auto", "each", "joint") else request.focus_from
    plate = with_acquired_times(plate, request.channels, decides)
    if missing == "drop":
        plate = without_missing_slices(plate, request.channels)
    request, notes = with_offsets(request, plate, z_step_um)
    if is_url(str(output)):
        raise UserInputError(
            f"The output {output} is a URL; expected a path, because results are renamed into their place once they "
            "are whole, and locked, which stores of objects know nothing of. Write to a disk, and copy the plate when "
            "it is finished."
        )
    if not is_url(plate.folder):
        refuse_input_as_output(Path(output), plate.inputs)
    units: tuple[PlateField, ...] = ()
    if failures is None or failures:
        units = select(plate, Selection(wells, fields, times, pilot, failures))
    part = ""
    if shard is not None:
        units, part = shard_of(units, shard)
    output_format = make_output_format(format, ngff, name)
    if stitch != "none":
        _check_stitching(plate, units, output_format, pixel_size_um)
    choices = Choices(
        output=Path(output).absolute(),  # workers have another working directory
        request=request,
        stats=stats,
        times=chosen_times(plate, times),
        z_step_um=z_step_um,
        pixel_size_um=pixel_size_um,
        output_format=output_format,
        absent=absent,
        shard=part,
        stitch=stitch,
    )
    _ = choices.paths  # refuses a name that no result can have
    return BatchPlan(plate, units, choices, request.device, notes)


def _absolute(request: FuseRequest) -> FuseRequest:
    """Return a request whose files workers find, whatever their working directory.

    Raises:
        UserInputError: it cannot be for a plate.
    """
    if request.align_frame == "crop" and (request.align != "none" or request.align_from):
        raise UserInputError(
            "--align-frame crop gives every field another size; expected keep, since the fields and time points of a "
            "plate have one. Leave it out."
        )

    def found(path: str | None) -> str | None:
        if path is None or path == AUTO:
            return path
        if not Path(path).exists():
            raise UserInputError(f"{path!r} does not exist; expected the path of a file. Check its spelling.")
        return str(Path(path).absolute())

    return replace(
        request,
        align_from=found(request.align_from),
        flat_field=found(request.flat_field),
        dark=found(request.dark),
    )


def _check_stitching(
    plate: Plate, units: tuple[PlateField, ...], output_format: OutputFormat, pixel_size_um: float | None
) -> None:
    if output_format.format != "ome-zarr":
        raise UserInputError(
            f"--stitch was given with --format {output_format.format}; expected it with an OME-Zarr plate, which the "
            "images of whole wells stand in beside its fields. Leave one of them out."
        )
    refuse_unplaceable(plate, units, pixel_size_um)


def run_batch(
    plan: BatchPlan,
    *,
    where: Where | None = None,
    overwrite: bool = False,
    recheck: bool = False,
    report: Callable[[Event], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    connect: Connect | None = None,
) -> Result:
    """Fuse what is missing of a plan, and write the reports.

    Args:
        plan: what `plan_batch` gave.
        where: to compute; None takes this computer.
        overwrite: remove what an earlier batch left at this output, once the first field is fused anew.
        recheck: read what was fused before, and fuse again what is damaged.
        report: called with each event.
        stop: whether to stop, asked every second.
        connect: gives a client for so many units, in place of `where`.

    Returns:
        How it ended. Fields that failed are in its `failures`; nothing is raised for them.

    Raises:
        UserInputError: the output cannot be written, or nobody can compute.
        StoredDataError: records of an earlier batch are damaged.
    """
    if overwrite and plan.choices.shard:
        raise UserInputError(
            "--overwrite was given to one of several shards; expected it from a run of the whole, because each shard "
            "would remove what the others wrote. Remove the output first, or leave it out."
        )
    asked = where or Where()
    if connect is None:
        asked.check()

    def computing(units: int) -> Any:
        return connected(asked, plan.device, units)

    return run_plate(
        plan.plate,
        plan.units,
        plan.choices,
        connect or computing,
        report,
        lambda result: write_reports(plan.plate, result),
        stop,
        Handling(overwrite=overwrite, recheck=recheck),
    )
