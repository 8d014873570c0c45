"""`hybridfusion batch`: what a plate holds, which of it is chosen, and what fusing it would take."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.output.format import make_form
from hybridfusion_core.batch.settings import Choices
from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.io.create import refuse_input_as_output
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.plates.acquired import with_acquired_times
from hybridfusion_core.plates.dropped_slices import without_missing_slices
from hybridfusion_core.plates.forecast import Forecast, forecast
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.plates.select import Selection, chosen_times, read_failures, select
from hybridfusion_core.plates.summary import plate_warnings, summary, table
from hybridfusion_core.plates.well_names import row_letters

_SHOWN = 10  # failures, in the text
_LARGEST_MAP = (48, 72)


def dry_run(
    plate: Plate, units: Sequence[PlateField], request: FuseRequest, options: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """Say what a batch would do, as a summary and as text.

    Args:
        plate: as it was opened.
        units: that were chosen.
        request: how they would be fused.
        options: for the output and the scale.
    """
    choices = choices_of(plate, request, options)
    choices.check_names(plate)
    found = forecast(units, request, z_step_um=options.z_step, pixel_size_um=options.pixel_size)
    about = summary(plate, units, found, Path(options.output))
    about |= {f"{name}_um": value for name in ("z_step", "pixel_size") if (value := getattr(options, name))}
    rows = (f"{key:>18}: {value}" for key, value in table(plate, about).items())
    return about, "\n".join([*rows, "", *plate_map(plate, units, found), *_failures(found)])


def choices_of(plate: Plate, request: FuseRequest, options: argparse.Namespace) -> Choices:
    """Return what a batch is asked for; its output is called like what it will be.

    Args:
        plate: as it was opened.
        request: how each field is fused.
        options: for the rest.
    """
    if is_url(options.output):
        raise UserInputError(
            f"The output {options.output} is a URL; expected a path, because results are renamed into their place once "
            "they are whole, and locked, which stores of objects know nothing of. Write to a disk, and copy the plate "
            "when it is finished."
        )
    choices = Choices(
        # Workers stand in other folders.
        output=Path(options.output).absolute(),
        request=request,
        stats=options.stats,
        times=chosen_times(plate, options.times),
        z_step_um=options.z_step,
        pixel_size_um=options.pixel_size,
        form=make_form(options.format, options.ngff, options.name),
    )
    _ = choices.places  # refuses what no result can be called
    return choices


def open_selection(options: argparse.Namespace) -> tuple[Plate, tuple[PlateField, ...]]:
    """Open the plate that was named and choose from it; what is odd about it goes to stderr."""
    only = None if options.only is None else read_failures(Path(options.only))
    plate = with_acquired_times(open_plate(options.input, pattern=options.pattern, axes=options.axes), options.channels)
    if options.missing == "drop":
        plate = without_missing_slices(plate, options.channels)
    if not is_url(plate.folder):
        refuse_input_as_output(Path(options.output), plate.inputs)
    for warning in plate_warnings(plate):
        print(f"hybridfusion: warning: {warning}", file=sys.stderr)
    chosen = Selection(options.wells, options.fields, options.times, options.pilot, only)
    return plate, select(plate, chosen)


def plate_map(plate: Plate, units: Sequence[PlateField], found: Forecast) -> Iterator[str]:
    """Draw the plate: the number of chosen fields in each well, with "!" where some of them will fail."""
    at = {well.name: (well.row_index, well.column_index) for well in plate.wells}
    counts = Counter(at[well] for well, _ in {(unit.well, unit.field) for unit in units})
    broken = {at[unit.well] for unit, _ in found.failing}
    rows, columns = range(plate.rows), range(plate.columns)
    if plate.rows > _LARGEST_MAP[0] or plate.columns > _LARGEST_MAP[1]:
        rows, columns = (sorted({place[axis] for place in at.values()}) for axis in (0, 1))  # type: ignore[assignment]
    width = max(3, 2 + max(len(str(count)) for count in counts.values()))
    yield "   " + "".join(f"{column + 1:>{width - 1}} " for column in columns).rstrip()
    for row in rows:
        cells = ((counts.get((row, column)), (row, column) in broken) for column in columns)
        line = "".join(f"{count or '.':>{width - 1}}{'!' if bad else ' '}" for count, bad in cells)
        yield f"{row_letters(row):>2} {line}".rstrip()
    yield f"fields to fuse in each well{'; ! some of them will fail' if broken else ''}"


def _failures(found: Forecast) -> Iterator[str]:
    if found.failing:
        yield ""
        for unit, reason in found.failing[:_SHOWN]:
            yield printable(f"{unit.name}: {reason}")
        if len(found.failing) > _SHOWN:
            yield f"… and {len(found.failing) - _SHOWN} more"
